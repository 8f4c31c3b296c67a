"""Signed calls between neurons over the SDK's Synapse, Axon and Dendrite.

A subnet declares `class Ask(SignedSynapse)`, attaches an async handler to a `SignedAxon` and calls it through a
`SignedDendrite`. Law: nothing of a request is parsed before its size, signature, receiver, freshness and sequence are
checked, and nothing of a reply is believed before its signature is. `envelope.py` has the rules, `server.py` the axon.

What the SDK (bittensor 10.5) leaves open and this closes: bodies are unsigned unless fields are listed by hand, replies
are never signed, freshness obeys unsigned headers and has no upper bound, nonces die with the process, a body has no
size limit, and making a Dendrite asks public web sites for our address. It also rebuilds a JSON schema on every call.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar, get_type_hints

import aiohttp
import bittensor as bt
from bittensor.core import dendrite as sdk_dendrite
from bittensor.core.settings import version_as_int
from bittensor.core.synapse import TerminalInfo
from bittensor_wallet import Wallet
from pydantic import ConfigDict, ValidationError
from pydantic_core import from_json

from template.envelope import AXON, NS, STALE_SESSION, reply_digest, request_digest, signed_line
from template.errors import BadReply, Refused, Unreachable
from template.logs import adopt_bittensor, short
from template.server import Limits, Listener, Route, SignedApp
from template.wallet import verify

adopt_bittensor()

MAX_BODY_BYTES = 1 << 20
SESSIONS_MAX = 4096

T = TypeVar("T", bound="SignedSynapse")


class SignedSynapse(bt.Synapse):  # type: ignore[misc, unused-ignore]
    """Base of a subnet's messages. Every field a subclass declares travels in the body and is signed, both ways.

    Unknown fields, NaN and infinity are refused; `bytes` travel as base64.
    """

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64", validate_assignment=True
    )
    required_hash_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.required_hash_fields = tuple(name for name in cls.model_fields if name not in bt.Synapse.model_fields)

    def body(self) -> bytes:
        """The declared fields as JSON, in the order of declaration: the exact bytes that are sent and signed."""
        text: str = self.model_dump_json(include=set(self.required_hash_fields))
        return text.encode()

    @classmethod
    def from_body(cls: type[T], body: bytes) -> T:
        """Parse a body. Raises ValueError, in words fit for the sender, for anything but the declared fields."""
        try:
            if body[:1] != b"{":
                raise ValueError("the body is not a JSON object")
            # The SDK's own validator runs first and assumes a dict, hence the check above.
            synapse: T = cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])[:80] or "body"
            raise ValueError(f"{where}: {first['msg'][:120]}") from None
        foreign = synapse.model_fields_set - set(cls.required_hash_fields) - {"name"}
        if foreign:
            raise ValueError(f"{sorted(foreign)[0]}: not a field of {cls.__name__}")
        return synapse

    @property
    def body_hash(self) -> str:
        """What the SDK signs with a request; here it covers the class, the receiver's session and the whole body."""
        session = self.axon.uuid if self.axon is not None else None
        return request_digest(type(self).__name__, session or "", self.body())

    def set_terminals(self, dendrite: dict[str, Any], axon: dict[str, Any]) -> None:
        """Say who called and who answered, once it is verified; not through the fields' slow validation."""
        self.__dict__.update(dendrite=TerminalInfo(**dendrite), axon=TerminalInfo(**axon))

    def get_required_fields(self) -> list[str]:
        """None: the SDK would put a dummy of each required field into the headers, from a schema built per call."""
        return []

    def get_total_size(self) -> int:
        """Size of the body in bytes; the SDK walks the object recursively instead, for a number nobody reads."""
        self.__dict__["total_size"] = len(self.body())
        return len(self.body())


class _Dendrite(bt.Dendrite):  # type: ignore[misc, unused-ignore]
    """The SDK's dendrite, minus the questions to public sites and the histories without bound."""

    def __init__(self, wallet: Wallet, clock: Callable[[], float]) -> None:
        # Not super().__init__(): it calls get_external_ip(), which asks six web sites and raises offline.
        sdk_dendrite.BaseModel.__init__(self)  # type: ignore[operator, unused-ignore]
        self.uuid = uuid.uuid4().hex
        self.external_ip = ""
        self.keypair = wallet.hotkey
        self.clock = clock
        self.synapse_history: Any = deque(maxlen=100)
        self._session: aiohttp.ClientSession | None = None

    def preprocess_synapse_for_request(
        self, target_axon_info: Any, synapse: bt.Synapse, timeout: float = 12.0
    ) -> bt.Synapse:
        """Fill in who calls whom, and sign. As the SDK's, but with a fresh id per request and the axon's session."""
        synapse.__dict__["timeout"] = timeout
        hotkey = self.keypair.ss58_address
        me = TerminalInfo(version=version_as_int, nonce=int(self.clock() * NS), uuid=uuid.uuid4().hex, hotkey=hotkey)
        synapse.__dict__.update(dendrite=me, axon=target_axon_info)
        line = signed_line(me.nonce, me.hotkey, target_axon_info.hotkey, me.uuid, synapse.body_hash)  # type: ignore[arg-type, unused-ignore]
        me.__dict__["signature"] = f"0x{self.keypair.sign(line).hex()}"
        return synapse

    def open_session(self) -> aiohttp.ClientSession:
        """The one HTTP session, made on first use, inside the running loop."""
        if self._session is None:
            # No cookies to grow, no decompression to explode: a peer decides what it sends, not what it costs us.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=20),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),  # `call` has the only clock
            )
        return self._session

    def __del__(self) -> None:
        """The SDK would start an event loop here; `SignedDendrite.close` does it in order."""


class SignedDendrite:
    """Calls SignedAxons. One per process; safe for many concurrent calls on one event loop."""

    def __init__(
        self, wallet: Wallet, *, max_body_bytes: int = MAX_BODY_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.dendrite = _Dendrite(wallet, clock)
        self.hotkey: str = wallet.hotkey.ss58_address
        self.max_body_bytes = max_body_bytes
        self._sessions: OrderedDict[str, str] = OrderedDict()

    async def call(self, hotkey: str, ip: str, port: int, synapse: T, timeout_s: float = 12.0) -> T:
        """Send `synapse` to the axon of `hotkey` and return its reply, a new object of the same class.

        Raises Refused (the axon's own, signed reason), Unreachable (no connection, or no reply within `timeout_s`
        seconds in all) or BadReply (not signed by `hotkey`, larger than `max_body_bytes`, or not of the class).
        """
        where = f"{short(hotkey)} at {ip}:{port}"
        try:
            return await asyncio.wait_for(self._call(hotkey, ip, port, synapse, timeout_s), timeout_s)
        except asyncio.TimeoutError:
            raise Unreachable(f"{where} did not answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{where} cannot be reached: {type(error).__name__} {error}") from None

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self.dendrite.aclose_session()

    async def _call(self, hotkey: str, ip: str, port: int, synapse: T, timeout_s: float) -> T:
        reply, status, stale = await self._exchange(hotkey, ip, port, synapse, timeout_s)
        if stale:
            # A first call, or the axon restarted: its signed refusal has told us the session, so ask once more.
            # Nothing was done the first time: the session is checked long before the handler.
            reply, status, _ = await self._exchange(hotkey, ip, port, synapse, timeout_s)
        if status != 200:
            raise Refused(_reason(reply), status)
        try:
            result = type(synapse).from_body(reply)
        except ValueError as error:
            raise BadReply(f"{short(hotkey)} sent a reply that is no {type(synapse).__name__}: {error}") from None
        result.set_terminals(
            {"hotkey": self.hotkey, "status_code": 200},
            {"hotkey": hotkey, "ip": ip, "port": port, "uuid": self._sessions[hotkey], "status_code": 200},
        )
        return result

    def prepare(self, hotkey: str, ip: str, port: int, synapse: T, timeout_s: float) -> tuple[T, str, dict[str, str]]:
        """A signed copy of `synapse`, the URL and the headers: all of a request but the sending."""
        request = synapse.model_copy()
        target = TerminalInfo(ip=ip, port=port, hotkey=hotkey, uuid=self._sessions.get(hotkey))
        self.dendrite.preprocess_synapse_for_request(target, request, timeout_s)
        host = f"[{ip}]" if ":" in ip else ip
        headers = {key: value for key, value in request.to_headers().items() if value is not None}
        headers["content-type"] = "application/json"
        return request, f"http://{host}:{port}/{type(synapse).__name__}", headers

    async def _exchange(
        self, hotkey: str, ip: str, port: int, synapse: SignedSynapse, timeout_s: float
    ) -> tuple[bytes, int, bool]:
        """One HTTP request; return the verified reply body, the status, and whether it named a stale session."""
        request, url, headers = self.prepare(hotkey, ip, port, synapse, timeout_s)
        http = self.dendrite.open_session()
        async with http.post(url, data=request.body(), headers=headers, allow_redirects=False) as response:
            body = await _read_capped(response, self.max_body_bytes)
            session = self._check_reply(request, response, body)
        assert request.axon is not None
        # A handler may refuse with the same status; then the session was right, and asking again would repeat its work.
        return body, response.status, response.status == STALE_SESSION and session != request.axon.uuid

    def _check_reply(self, request: SignedSynapse, response: aiohttp.ClientResponse, body: bytes) -> str:
        """Check the axon's signature over the whole reply; return and remember the session it answered from."""
        me, axon = request.dendrite, request.axon
        assert me is not None and axon is not None and me.uuid and axon.hotkey
        session = response.headers.get(f"{AXON}uuid", "")
        nonce = response.headers.get(f"{AXON}nonce", "")
        signature = response.headers.get(f"{AXON}signature", "")
        digest = reply_digest(type(request).__name__, request.body_hash, response.status, session, body)
        try:
            line = signed_line(int(nonce), axon.hotkey, self.hotkey, me.uuid, digest)
            genuine = verify(axon.hotkey, line, bytes.fromhex(signature.removeprefix("0x")))
        except ValueError:
            genuine = False
        if not genuine:
            raise BadReply(f"the reply from {axon.ip}:{axon.port} is not signed by {short(axon.hotkey)}")
        self._sessions[axon.hotkey] = session
        self._sessions.move_to_end(axon.hotkey)
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return session


class SignedAxon(bt.Axon):  # type: ignore[misc, unused-ignore]
    """Serves attached SignedSynapse classes, and nothing else, on exactly the address given.

    `who(hotkey)` returns None to admit a caller, else the reason for refusing it; it is called with verified hotkeys
    only, on the event loop, so it must be a lookup. `start` and `stop` are coroutines, unlike the SDK's: handlers run
    on the event loop that awaited `start`, no thread is made. `port` 0 picks a free one (read `.port` after `start`);
    `max_body_bytes` is short for that limit. Each `start` begins a new session: what was signed before it is refused.
    """

    def __init__(
        self,
        wallet: Wallet,
        ip: str = "127.0.0.1",
        port: int = 8091,
        external_ip: str | None = None,
        external_port: int | None = None,
        *,
        who: Callable[[str], str | None],
        max_body_bytes: int | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.signed: SignedApp | None = None
        # An external ip is always passed, or the SDK asks public sites for one; the port is checked by ourselves.
        super().__init__(wallet=wallet, ip=ip, port=8091, external_ip=external_ip or ip)
        self.ip, self.port = ip, port
        self._external_port = external_port
        self.external_port = external_port or port
        self.full_address = f"{ip}:{port}"
        limits = limits or Limits()
        self._limits = limits if max_body_bytes is None else replace(limits, max_body_bytes=max_body_bytes)
        self._who, self._clock = who, clock
        self._routes: dict[str, Route] = {}
        self._listener: Listener | None = None

    def attach(
        self,
        forward_fn: Callable[[Any], Awaitable[Any]],
        blacklist_fn: None = None,
        priority_fn: None = None,
        verify_fn: None = None,
        *,
        synapse_type: type[SignedSynapse] | None = None,
    ) -> SignedAxon:
        """Serve the class that `forward_fn`'s first argument is annotated with (or `synapse_type`); return self.

        The SDK's three hooks are refused: `who` decides on callers, and verification is not for a subnet to replace.
        Raises TypeError for a hook, for a class that is no SignedSynapse, and for a handler that is not async.
        """
        if not hasattr(self, "_routes"):
            return self  # the SDK's constructor attaches an unsigned ping, which must not be served
        if blacklist_fn or priority_fn or verify_fn:
            raise TypeError("SignedAxon has no blacklist_fn, priority_fn or verify_fn; pass who= to the constructor")
        if not inspect.iscoroutinefunction(forward_fn):
            raise TypeError("a handler must be an async function")
        chosen = synapse_type or _annotated_type(forward_fn)
        name = chosen.__name__
        self._routes[name] = Route(chosen, forward_fn)
        self.forward_class_types[name] = chosen  # type: ignore[assignment, unused-ignore]
        self.forward_fns[name] = forward_fn
        return self

    async def start(self) -> SignedAxon:  # type: ignore[override, unused-ignore]
        """Listen. Raises PortInUse."""
        if self._listener is not None:
            return self
        self.signed = SignedApp(self.wallet, self._who, self._limits, self._clock)
        self.signed.routes = self._routes
        listener = Listener(self.signed, self.ip, self.port)
        self.port = await listener.start()
        self._listener = listener
        self.uuid = self.signed.session
        self.external_port = self._external_port or self.port
        self.full_address = f"{self.ip}:{self.port}"
        self.started = True
        return self

    async def stop(self) -> SignedAxon:  # type: ignore[override, unused-ignore]
        """Stop listening; open requests get two seconds. Idempotent."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
        self.started = False
        return self

    def __del__(self) -> None:
        """The SDK stops its thread here; there is none."""


def _annotated_type(handler: Callable[..., Any]) -> type[SignedSynapse]:
    """The SignedSynapse subclass in the first annotation; unlike the SDK, annotations may be text."""
    first = next(iter(inspect.signature(handler).parameters), None)
    if first is None:
        raise TypeError("a handler takes the synapse as its first argument")
    try:
        found = get_type_hints(handler).get(first)
    except NameError as error:
        raise TypeError(f"cannot resolve the handler's annotations ({error}); pass synapse_type=") from None
    if not (isinstance(found, type) and issubclass(found, SignedSynapse)):
        raise TypeError(f"annotate the handler's first argument with a SignedSynapse subclass, not {found}")
    return found


async def _read_capped(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or BadReply as soon as it exceeds `limit` bytes."""
    chunks: list[bytes] = []
    total = 0
    async for chunk in response.content.iter_any():
        total += len(chunk)
        if total > limit:
            response.close()
            raise BadReply(f"the reply is larger than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _reason(body: bytes) -> str:
    """The `message` of a refusal, made safe to print: one line, printable, at most 300 characters."""
    try:
        parsed = from_json(body)
        message = parsed.get("message") if isinstance(parsed, dict) else None
    except ValueError:
        message = None
    text = message if isinstance(message, str) else "no reason given"
    return "".join(char if char.isprintable() else " " for char in text[:300])
