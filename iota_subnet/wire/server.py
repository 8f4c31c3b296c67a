"""Who hands out blobs: one HTTP server that gives a stored blob to whoever shows a ticket for it.

    GET /v1/blobs/{digest}   Authorization: Ticket <text>   (or ?ticket=<text>)   200, 206, 401, 403, 404, 416, 503
    GET /v1/blobs            Authorization: Ticket <text>, <text> ...             200, 401, 403, 404, 503
    GET /v1/health           200 {"ok": true, "blobs": n, "bytes": n, "active": n}

Refusals are JSON `{"error": reason}`. Ranges follow RFC 9110 section 14 (one range; several are refused, which it
allows). Without a digest the blobs of all tickets come one behind the other, whole and in that order, or none of them.
The ticket is a bearer token, see `tickets`. Existence is told only to holders of a ticket. What strangers can
hold is bounded: connections, seconds before a request is complete, transfers, seconds a reader may stall.
"""

from __future__ import annotations

import asyncio
import errno
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import BinaryIO

from aiohttp import web

from iota_subnet.spec import BlobRef
from iota_subnet.wire.digests import is_digest
from iota_subnet.wire.outflow import Outflow, read
from iota_subnet.wire.signing import Clock, Verifier
from iota_subnet.wire.stats import ByteCounter
from iota_subnet.wire.store import BlobShelf, BlobStore
from iota_subnet.wire.tickets import MAX_TOGETHER, BadTicket, check, names

#: 18 digits: no size in the world needs more, and int() of a long text is slow.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


#: Bytes to send: kind of the blob, where it lies, first byte and the one past the last.
Part = tuple[str, "bytes | BinaryIO", int, int]


class Refused(Exception):
    """A request that is answered with `refusal`."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class CannotListen(OSError):
    """The address cannot be listened on; the message says why and what to do."""


class PortInUse(CannotListen):
    """Another program listens on this port; the message says which port and what to do."""


class BadRange(ValueError):
    """A Range header that cannot be served."""


def parse_range(header: str, nbytes: int) -> tuple[int, int]:
    """(start, stop) in bytes of the one range in `header` over a blob of `nbytes`; BadRange if there is none.

    RFC 9110 section 14.1.2: "a-b" is inclusive, "a-" runs to the end, "-n" is the last n bytes.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise BadRange("one range of the form bytes=a-b, bytes=a- or bytes=-n is served")
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else nbytes, nbytes)
        if last and int(last) < int(first):
            raise BadRange("the range ends before it starts")
    elif last:
        start, stop = max(0, nbytes - int(last)), nbytes
    else:
        raise BadRange("the range names no byte")
    if start >= stop:
        raise BadRange(f"the range lies outside the {nbytes} bytes of the blob")
    return start, stop


def ticket_text(request: web.Request) -> str:
    """The ticket, or the tickets, that a request shows; Refused without."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    found = text.strip() if scheme.lower() == "ticket" else request.query.get("ticket")
    if found is None:
        raise Refused(401, "ticket_needed", WWW_Authenticate="Ticket")
    return found


def refusal(status: int, reason: str, **headers: str) -> web.Response:
    """`{"error": reason}`. The connection is closed: who was refused has no claim on an open one."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = web.json_response({"error": reason}, status=status, headers=named)
    response.force_close()
    return response


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return refusal(error.status, error.reason, **error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return refusal(error.status, error.reason.lower())


class _TurnedAway(asyncio.Protocol):
    """What a caller meets when all connections are taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class BlobServer:
    """Serves `store` on exactly `host:port` (port 0: a free one) to holders of tickets signed by `issuer`.

    `issuer` is an attribute because another validator may take over; so is `auditors`, who may sign for themselves.
    `advertise` is the base URL that others can reach when it is not `http://host:port` (a router or a container in
    between). What is not in `store` is looked for in `archive`, a slower shelf. `label_of(digest)` names the kind of a
    blob for `bytes_out`. `extra_routes` share the port: the validator hosts its work channel and dashboard here.
    """

    def __init__(
        self,
        store: BlobStore,
        host: str,
        port: int,
        issuer: str,
        verify: Verifier,
        clock: Clock = time.time,
        *,
        max_concurrent: int = 64,
        max_connections: int = 1024,
        idle_s: float = 15.0,
        stall_s: float = 20.0,
        chunk_bytes: int = 1 << 20,
        retry_after_s: int = 1,
        advertise: str | None = None,
        label_of: Callable[[str], str] = lambda digest: "blob",
        extra_routes: Iterable[web.AbstractRouteDef] = (),
        archive: BlobShelf | None = None,
    ) -> None:
        self.issuer = issuer
        self.auditors: Callable[[str], bool] = lambda hotkey: False
        self.host = host
        self.port = port
        self.bytes_out = ByteCounter()
        self._store = store
        self._archive = archive
        self._verify = verify
        self._clock = clock
        self._max_concurrent = max_concurrent
        self._max_connections = max_connections
        self._idle_s = idle_s
        self._stall_s = stall_s
        self._chunk_bytes = chunk_bytes
        self._retry_after_s = retry_after_s
        self.advertise = advertise
        self._label_of = label_of
        self._extra_routes = list(extra_routes)
        self._active = 0
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises PortInUse, or CannotListen for any other trouble with the address."""
        app = web.Application(middlewares=[_errors_as_json])
        app.add_routes(
            [
                web.get("/v1/blobs/{digest}", self._get, allow_head=False),
                web.get("/v1/blobs", self._get_several, allow_head=False),
                web.get("/v1/health", self._health, allow_head=False),
                *self._extra_routes,
            ]
        )
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=self._idle_s, shutdown_timeout=1.0)
        await runner.setup()
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(lambda: self._answer(runner), self.host, self.port, backlog=256)
        except OSError as error:
            await runner.cleanup()
            raise self._explain(error) from None
        self._runner, self._listener = runner, listener
        self.port = int(listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut what is open. Safe to call twice."""
        listener, runner = self._listener, self._runner
        self._listener = self._runner = None
        if listener is not None:
            listener.close()
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> BlobServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Base URL that others use, without a slash at the end."""
        if self.advertise is not None:
            return self.advertise.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def active(self) -> int:
        """Transfers under way."""
        return self._active

    @property
    def connections(self) -> int:
        """Open connections, those of extra routes included."""
        server = self._runner.server if self._runner is not None else None
        return 0 if server is None else len(server.connections)

    def url_of(self, digest: str) -> str:
        """Where this server serves `digest`."""
        return f"{self.url}/v1/blobs/{digest}"

    def located(self, ref: BlobRef) -> BlobRef:
        """`ref` with this server as its only URL."""
        return BlobRef(ref.digest, ref.nbytes, (self.url_of(ref.digest),))

    def _answer(self, runner: web.AppRunner) -> asyncio.Protocol:
        server = runner.server
        if server is None or len(server.connections) >= self._max_connections:
            return _TurnedAway()
        return server()

    def _explain(self, error: OSError) -> CannotListen:
        where = f"{self.host}:{self.port}"
        if error.errno == errno.EADDRINUSE:
            return PortInUse(errno.EADDRINUSE, f"{where} is in use by another program; stop it or choose another port")
        if error.errno == errno.EACCES:
            return CannotListen(errno.EACCES, f"not allowed to listen on {where}; choose a port above 1023")
        return CannotListen(error.errno or 0, f"cannot listen on {where}: {error.strerror or error}; check the host")

    async def _health(self, request: web.Request) -> web.Response:
        """Whether it serves, how many blobs and bytes it holds, and how many transfers are under way; JSON."""
        held = len(self._store.digests())
        return web.json_response({"ok": True, "blobs": held, "bytes": self._store.used, "active": self._active})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        """One blob, or a range of it, to who shows a ticket for it."""
        digest = request.match_info["digest"]
        if not is_digest(digest):
            raise Refused(404, "not_a_digest")
        store, nbytes = self._allowed(digest, ticket_text(request))
        asked = request.headers.get("Range")
        try:
            span = (0, nbytes) if asked is None else parse_range(asked, nbytes)
        except BadRange:
            raise Refused(416, "bad_range", Content_Range=f"bytes */{nbytes}") from None
        response = web.StreamResponse(status=200 if asked is None else 206)
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["ETag"] = f'"{digest}"'
        if asked is not None:
            response.headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{nbytes}"
        return await self._send(request, response, [(digest, store, *span)])

    async def _get_several(self, request: web.Request) -> web.StreamResponse:
        """Several blobs in one body, to who shows a ticket for each."""
        texts = [text.strip() for text in ticket_text(request).split(",")]
        if len(texts) > MAX_TOGETHER:
            raise Refused(403, "too_many")
        parts: list[tuple[str, BlobShelf, int, int]] = []
        for text in texts:
            try:
                digest = names(text)
            except BadTicket as error:
                raise Refused(403, error.reason) from None
            store, nbytes = self._allowed(digest, text)
            parts.append((digest, store, 0, nbytes))
        return await self._send(request, web.StreamResponse(), parts)

    def admit(self, digest: str, text: str) -> None:
        """Nothing, for who has a ticket for the blob; else Refused."""
        try:
            check(text, self.issuer, self._verify, self._clock(), digest, self.auditors)
        except BadTicket as error:
            raise Refused(403, error.reason) from None

    def _allowed(self, digest: str, text: str) -> tuple[BlobShelf, int]:
        """Where a blob lies, and its bytes, for who has a ticket."""
        self.admit(digest, text)
        store: BlobShelf = self._store
        if self._archive is not None and not store.has(digest):
            store = self._archive
        nbytes = store.size(digest)
        if nbytes is None:
            raise Refused(404, "missing")
        return store, nbytes

    async def _send(
        self, request: web.Request, response: web.StreamResponse, parts: list[tuple[str, BlobShelf, int, int]]
    ) -> web.StreamResponse:
        """Bytes [start, stop) of one blob after another."""
        if self._active >= self._max_concurrent:
            raise Refused(503, "busy", Retry_After=str(self._retry_after_s))
        opened: list[Part] = []
        self._active += 1
        try:
            for digest, store, start, stop in parts:
                source = store.open(digest) if store.on_disk else store.get(digest)
                if source is None:
                    raise Refused(404, "missing")
                opened.append((self._label_of(digest), source, start, stop))
            return await self._stream(request, response, opened)
        finally:
            self._active -= 1
            for _, source, _, _ in opened:
                if not isinstance(source, bytes):
                    source.close()

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, parts: list[Part]
    ) -> web.StreamResponse:
        """Send; cuts the connection when the reader stalls or a file is too short."""
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.content_type = "application/octet-stream"
        response.content_length = sum(stop - start for _, _, start, stop in parts)
        try:
            await response.prepare(request)
        except ConnectionError:
            return self._cut(request, response)
        out = Outflow(request, response, self._stall_s)
        try:
            for label, source, start, stop in parts:
                at = start
                while at < stop:
                    want = min(stop - at, self._chunk_bytes)
                    if isinstance(source, bytes):
                        chunk = memoryview(source)[at : at + want]
                    else:
                        chunk = memoryview(await asyncio.to_thread(read, source, at, want))
                    if not chunk:
                        return self._cut(request, response)
                    await out.send(chunk)
                    at += len(chunk)
                    self.bytes_out.add(label, len(chunk))
        except (asyncio.TimeoutError, ConnectionError):
            # The reader stalls, or has hung up: its own affair, no traceback of ours.
            return self._cut(request, response)
        finally:
            out.close()
        return response

    @staticmethod
    def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """End a response whose promise cannot be kept: a short body could pass for a whole one."""
        if request.transport is not None:
            request.transport.abort()
        response.force_close()
        return response
