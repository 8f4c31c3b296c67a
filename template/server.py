"""The receiving half of a signed call: checks in the order of their cost, then the handler, then a signed reply.

Order: route, shape of the headers, announced size, receiver, session, freshness | signature | membership (`who`),
replay, load | body read under its size and time limits, digest | parse | handler under its time limit. Nothing behind
a bar is done for a request that fails before it. Handlers run on the event loop that called `start`.

This file knows ASGI and uvicorn but not the SDK; `synapse.SignedAxon` puts it under a real `bt.Axon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from loguru import logger
from uvicorn.protocols.http.h11_impl import H11Protocol

from template import envelope
from template.envelope import (
    AXON,
    BODY_HASH,
    DENDRITE,
    NS,
    STALE_SESSION,
    TOO_LARGE,
    ReplayGuard,
    RequestHead,
)
from template.errors import PortInUse, Refused
from template.logs import short
from template.wallet import verify

if TYPE_CHECKING:
    from bittensor_wallet import Wallet

    from template.synapse import SignedSynapse

Handler = Callable[[Any], Awaitable[Any]]
Who = Callable[[str], "str | None"]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HEADER_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stranger, one member and all members together can cost us."""

    max_body_bytes: int = 1 << 20
    body_timeout_s: float = 10.0
    handler_timeout_s: float = 30.0
    in_flight_max: int = 64
    in_flight_per_caller_max: int = 16
    window_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Route:
    """One attached class and its handler."""

    synapse_type: type[SignedSynapse]
    handler: Handler


class SignedApp:
    """The ASGI application. `session` is drawn anew by each instance: one instance is one life of the axon."""

    def __init__(self, wallet: Wallet, who: Who, limits: Limits, clock: Callable[[], float]) -> None:
        self.wallet = wallet
        self.hotkey: str = wallet.hotkey.ss58_address
        self.who = who
        self.limits = limits
        self.clock = clock
        self.session = uuid.uuid4().hex
        self.routes: dict[str, Route] = {}
        self.guard = ReplayGuard(limits.window_s)
        self.in_flight: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head: RequestHead | None = None
        try:
            route = self._route(scope)
            head, length = envelope.parse_head(scope["path"][1:], scope["headers"])
            self._check_head(head, length)
            with self._admitted(head):
                body = await self._checked_body(head, receive)
                synapse = self._parse(route, head, body, scope)
                status, reply = 200, await self._handle(route, head, synapse)
        except Refused as refusal:
            status, reply = refusal.status, _message(refusal.reason)
        except Exception:
            # A defect of ours: the caller learns that it happened and where to look, nothing else.
            incident = uuid.uuid4().hex[:8]
            logger.exception("request {} failed, incident {}", scope["path"][:60], incident)
            status, reply = 500, _message(f"internal error, incident {incident}")
        await send({"type": "http.response.start", "status": status, "headers": self._headers(head, status, reply)})
        await send({"type": "http.response.body", "body": reply})

    def _route(self, scope: dict[str, Any]) -> Route:
        route = self.routes.get(scope["path"][1:])
        if route is None:
            raise Refused("no such synapse here", 404)
        if scope["method"] != "POST":
            raise Refused("use POST", 405)
        return route

    def _check_head(self, head: RequestHead, length: int | None) -> None:
        """All that the headers alone can tell. Raises Refused."""
        if length is not None and length > self.limits.max_body_bytes:
            raise Refused(f"the body is larger than {self.limits.max_body_bytes} bytes", TOO_LARGE)
        if head.receiver != self.hotkey:
            raise Refused(f"this is the axon of {self.hotkey}, not of {head.receiver}", 401)
        self.guard.check_fresh(head.issued_ns, self._now_ns())
        if head.session != self.session:
            raise Refused("meant for another session of this axon; this reply names the present one", STALE_SESSION)
        if not verify(head.caller, head.line, bytes.fromhex(head.signature[2:])):
            raise Refused("the signature is not the caller's", 401)

    @contextlib.contextmanager
    def _admitted(self, head: RequestHead) -> Iterator[None]:
        """Membership, replay and load; holds one slot of the load while inside. Raises Refused."""
        # Only now is `caller` a fact: asked earlier, a stranger could spend a member's allowance in its name.
        reason = self.who(head.caller)
        if reason is not None:
            raise Refused(reason, 403)
        if self.in_flight.total() >= self.limits.in_flight_max:
            raise Refused("busy, try again", 503)
        if self.in_flight[head.caller] >= self.limits.in_flight_per_caller_max:
            raise Refused("too many of your requests are open, wait for one to end", 429)
        self.guard.admit(head.caller, head.request_id, head.issued_ns, self._now_ns())
        self.in_flight[head.caller] += 1
        try:
            yield
        finally:
            self.in_flight[head.caller] -= 1
            if self.in_flight[head.caller] <= 0:
                del self.in_flight[head.caller]

    async def _checked_body(self, head: RequestHead, receive: Receive) -> bytes:
        """The body, whose digest is the signed one. Raises Refused."""
        try:
            body = await asyncio.wait_for(_read(receive, self.limits.max_body_bytes), self.limits.body_timeout_s)
        except asyncio.TimeoutError:
            raise Refused(f"the body did not arrive within {self.limits.body_timeout_s:g} s", 408) from None
        if envelope.request_digest(head.name, self.session, body) != head.digest:
            raise Refused("the body, the synapse or the session is not what the caller signed", 401)
        return body

    def _parse(self, route: Route, head: RequestHead, body: bytes, scope: dict[str, Any]) -> SignedSynapse:
        try:
            synapse = route.synapse_type.from_body(body)
        except ValueError as error:
            raise Refused(f"bad {head.name}: {error}", 422) from None
        ip, port = scope.get("client") or ("", 0)
        caller = {"hotkey": head.caller, "nonce": head.issued_ns, "uuid": head.request_id, "ip": ip, "port": port}
        synapse.set_terminals(caller, {"hotkey": self.hotkey, "uuid": self.session})
        return synapse

    async def _handle(self, route: Route, head: RequestHead, synapse: SignedSynapse) -> bytes:
        limit_s = self.limits.handler_timeout_s
        try:
            result = await asyncio.wait_for(route.handler(synapse), limit_s)
        except asyncio.TimeoutError:
            logger.warning("{} for {} took longer than {:g} s", head.name, short(head.caller), limit_s)
            raise Refused(f"not done within {limit_s:g} s", 504) from None
        if type(result) is not route.synapse_type:
            raise TypeError(f"the handler of {head.name} returned {type(result).__name__}")
        return result.body()

    def _headers(self, head: RequestHead | None, status: int, body: bytes) -> list[tuple[bytes, bytes]]:
        """Headers of a reply in the SDK's names, signed whenever the request said whom and what to answer."""
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        headers[f"{AXON}status_code"] = str(status)
        if head is not None:
            issued_ns = self._now_ns()
            digest = envelope.reply_digest(head.name, head.digest, status, self.session, body)
            line = envelope.signed_line(issued_ns, self.hotkey, head.caller, head.request_id, digest)
            headers |= {
                "name": head.name,
                BODY_HASH: digest,
                f"{AXON}hotkey": self.hotkey,
                f"{AXON}uuid": self.session,
                f"{AXON}nonce": str(issued_ns),
                f"{AXON}signature": f"0x{self.wallet.hotkey.sign(line).hex()}",
                f"{DENDRITE}hotkey": head.caller,
                f"{DENDRITE}uuid": head.request_id,
            }
        return [(key.encode(), value.encode()) for key, value in headers.items()]

    def _now_ns(self) -> int:
        return int(self.clock() * NS)


def _message(reason: str) -> bytes:
    return json.dumps({"message": reason[:300]}).encode()


async def _read(receive: Receive, limit: int) -> bytes:
    """The request body. Raises Refused(413) at the first byte beyond `limit`, whether or not a length was announced."""
    chunks: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused("the caller hung up", 400)
        chunk: bytes = message.get("body", b"")
        total += len(chunk)
        if total > limit:
            raise Refused(f"the body is larger than {limit} bytes", TOO_LARGE)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


class _ImpatientProtocol(H11Protocol):
    """uvicorn's protocol, but a connection must finish its request headers within HEADER_TIMEOUT_S seconds.

    uvicorn 0.54 has no such limit: a few hundred sockets that send one byte a minute would hold every connection.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waiting_for_headers = self.conn.their_state is h11.IDLE
        if self._deadline is not None and not waiting_for_headers:
            self._deadline.cancel()
            self._deadline = None
        elif self._deadline is None and waiting_for_headers and self.conn.trailing_data[0]:
            self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the neuron's run loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


class Listener:
    """Serves one ASGI application on exactly one address, as a task of the running event loop."""

    def __init__(self, app: Any, ip: str, port: int) -> None:
        self.app = app
        self.ip = ip
        self.port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; return the port (the one chosen by the system when 0 was asked). Raises PortInUse."""
        sock = bind(self.ip, self.port)
        self.port = int(sock.getsockname()[1])
        config = uvicorn.Config(
            self.app, http=_ImpatientProtocol, ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, date_header=False, limit_concurrency=CONNECTIONS_MAX, timeout_keep_alive=30,
            timeout_graceful_shutdown=2, h11_max_incomplete_event_size=16 * 1024,
        )  # fmt: skip
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name=f"axon {self.ip}:{self.port}")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task
            raise PortInUse(self.ip, self.port, "the server ended at once")
        return self.port

    async def stop(self) -> None:
        """Stop listening, give open requests two seconds, close. Idempotent."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task})
        self._server = self._task = None


def bind(ip: str, port: int) -> socket.socket:
    """A socket that listens on exactly this address. Raises PortInUse, with the system's reason when it is another."""
    # The protocol must be named: asyncio turns Nagle's algorithm off only for sockets that say TCP, and with it on,
    # head and body of a reply leave 40 ms apart.
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        # Listen at once: on Linux two sockets may both bind with SO_REUSEADDR as long as neither listens.
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(ip, port) from None
        raise PortInUse(ip, port, error.strerror or str(error)) from None
    return sock
