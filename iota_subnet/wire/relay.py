"""The validator as a relay: here readers get what a miner without an open port would serve itself.

    GET    /v1/relay/{hotkey}/v1/blobs/{digest}   with a ticket, as from a blob server: 200, 206, 401 to 416, 50x
    PUT    /v1/relay/{token}                      the miner's bytes: 204, 403, 411, 413, 422, 503
    DELETE /v1/relay/{token}                      the miner does not have it: 204, 403

Law: nothing is taken that no reader with a ticket waits for. Only then is the miner asked, over its work channel, and
given a token that is good for one upload. Bytes go on to the readers as they come; what has come whole stays for other
readers until its room is needed. Memory is bounded by `max_bytes`, questions by `MAX_ASKED`.

Refusals: away (its work channel is closed), late (it did not begin in time), missing, busy, relay_full, cut, unasked,
length_needed, too_big, wrong_digest.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web
from blake3 import blake3

from iota_subnet.wire.digests import is_digest
from iota_subnet.wire.limits import within
from iota_subnet.wire.places import RELAYED
from iota_subnet.wire.server import BadRange, Refused, parse_range, ticket_text
from iota_subnet.wire.stats import ByteCounter

#: Where all of it lies.
PREFIX = RELAYED.rstrip("/")

#: Uploads that are waited for at once.
MAX_ASKED = 1024

#: Seconds until an upload begins, less than a fetcher waits for a first byte; and, beside what `THIN_BYTES_S` allows
#: for its size, until it is whole.
ASK_S = 8.0
UPLOAD_S = 20.0
THIN_BYTES_S = 64e3

#: Seconds that a reader may stall.
STALL_S = 20.0


class Passing:
    """One blob on its way through, and whoever waits for more of it."""

    def __init__(self, hotkey: str, digest: str) -> None:
        self.hotkey, self.digest = hotkey, digest
        self.nbytes = -1
        self.chunks: list[bytes] = []
        self.got = 0
        self.readers = 0
        self.refusal: tuple[int, str] | None = None
        self._changed = asyncio.Event()

    @property
    def whole(self) -> bool:
        """Whether all its bytes are here and nothing was wrong with them."""
        return self.got == self.nbytes and self.refusal is None

    async def change(self) -> None:
        """Wait until more has come, or it is over."""
        await self._changed.wait()

    def begin(self, nbytes: int) -> None:
        """Its upload has begun, and says that it has so many bytes."""
        self.nbytes = nbytes
        self._wake()

    def take(self, chunk: bytes) -> None:
        """The next bytes have come."""
        self.chunks.append(chunk)
        self.got += len(chunk)
        self._wake()

    def fail(self, status: int, reason: str) -> None:
        """Nothing more will come: readers are told the first such HTTP status and reason."""
        self.refusal = self.refusal or (status, reason)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Relay:
    """Passes blobs on. `ask(hotkey, digest, token)` tells the miner, False when it is not connected; `admit(digest,
    ticket)` raises Refused. No blob may have more than `max_blob_bytes`; `max_bytes` 0 relays nothing."""

    def __init__(
        self,
        ask: Callable[[str, str, str], bool],
        admit: Callable[[str, str], None],
        max_bytes: int,
        max_blob_bytes: int,
        ask_s: float = ASK_S,
    ) -> None:
        self.bytes_in, self.bytes_out = ByteCounter(), ByteCounter()
        self.max_bytes = max_bytes
        self._ask = ask
        self._admit = admit
        self._max_blob_bytes = max_blob_bytes
        self._ask_s = ask_s
        self._asked: dict[str, Passing] = {}
        self._coming: dict[tuple[str, str], Passing] = {}
        self._kept: OrderedDict[str, Passing] = OrderedDict()
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes held, those included that are on their way."""
        return self._used

    def routes(self) -> list[web.AbstractRouteDef]:
        """To be given to `BlobServer(extra_routes=...)`, whose middleware answers refusals."""
        if not self.max_bytes:
            return []
        return [
            web.get(PREFIX + "/{hotkey}/v1/blobs/{digest}", self._get, allow_head=False),
            web.put(PREFIX + "/{token}", self._put),
            web.delete(PREFIX + "/{token}", self._delete),
        ]

    def lost(self, hotkey: str) -> None:
        """The miner's work channel has ended: what it has not begun will not come."""
        for token, passing in list(self._asked.items()):
            if passing.hotkey == hotkey:
                self._give_up(token, 503, "away")

    # Readers

    async def _get(self, request: web.Request) -> web.StreamResponse:
        hotkey, digest = request.match_info["hotkey"], request.match_info["digest"]
        if not is_digest(digest):
            raise Refused(404, "not_a_digest")
        self._admit(digest, ticket_text(request))
        passing = self._kept.get(digest) or self._coming.get((hotkey, digest)) or self._request(hotkey, digest)
        passing.readers += 1
        try:
            while passing.nbytes < 0 and passing.refusal is None:
                await passing.change()
            if passing.refusal is not None:
                status, reason = passing.refusal
                raise Refused(status, reason, **({"Retry_After": "1"} if status == 503 else {}))
            return await self._pass_on(request, passing)
        finally:
            passing.readers -= 1

    def _request(self, hotkey: str, digest: str) -> Passing:
        """Ask the miner for it, once for all readers."""
        if len(self._asked) >= MAX_ASKED:
            raise Refused(503, "busy", Retry_After="1")
        token = secrets.token_urlsafe(16)
        if not self._ask(hotkey, digest, token):
            raise Refused(503, "away", Retry_After="1")
        passing = Passing(hotkey, digest)
        self._asked[token] = self._coming[hotkey, digest] = passing
        asyncio.get_running_loop().call_later(self._ask_s, self._give_up, token, 503, "late")
        return passing

    async def _pass_on(self, request: web.Request, passing: Passing) -> web.StreamResponse:
        if passing.digest in self._kept:
            self._kept.move_to_end(passing.digest)
        asked, nbytes = request.headers.get("Range"), passing.nbytes
        try:
            start, stop = (0, nbytes) if asked is None else parse_range(asked, nbytes)
        except BadRange:
            raise Refused(416, "bad_range", Content_Range=f"bytes */{nbytes}") from None
        response = web.StreamResponse(status=200 if asked is None else 206)
        response.content_type, response.content_length = "application/octet-stream", stop - start
        response.headers["X-Content-Type-Options"] = "nosniff"
        if asked is not None:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{nbytes}"
        await response.prepare(request)
        index = at = 0
        try:
            while at < stop:
                if index == len(passing.chunks):
                    if passing.refusal is not None:
                        raise ConnectionResetError
                    await passing.change()
                    continue
                chunk = memoryview(passing.chunks[index])[max(0, start - at) : stop - at]
                index, at = index + 1, at + len(passing.chunks[index])
                if chunk:
                    async with within(STALL_S):
                        await response.write(chunk)
                    self.bytes_out.add("relay", len(chunk))
        except (asyncio.TimeoutError, ConnectionError):
            # A short body could pass for a whole one.
            if request.transport is not None:
                request.transport.abort()
            response.force_close()
        return response

    # The miner

    async def _put(self, request: web.Request) -> web.Response:
        passing = self._asked.pop(request.match_info["token"], None)
        if passing is None:
            raise Refused(403, "unasked")
        try:
            self._make_room(request.content_length)
        except Refused as error:
            self._end(passing, error.status if error.status == 503 else 502, error.reason)
            raise
        passing.begin(request.content_length or 0)
        self._used += passing.nbytes
        hasher = blake3()
        try:
            async with within(UPLOAD_S + passing.nbytes / THIN_BYTES_S):
                async for chunk in request.content.iter_any():
                    hasher.update(chunk)
                    if passing.got + len(chunk) == passing.nbytes and hasher.hexdigest() != passing.digest:
                        raise Refused(422, "wrong_digest")
                    passing.take(chunk)
                    self.bytes_in.add("relay", len(chunk))
        except Refused as error:
            self._end(passing, 502, error.reason)
            raise
        finally:
            # A connection that broke comes out here, too.
            self._end(passing, 503, "cut")
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        if token not in self._asked:
            raise Refused(403, "unasked")
        self._give_up(token, 404, "missing")
        return web.Response(status=204)

    def _give_up(self, token: str, status: int, reason: str) -> None:
        passing = self._asked.pop(token, None)
        if passing is not None:
            self._end(passing, status, reason)

    def _end(self, passing: Passing, status: int, reason: str) -> None:
        """It is no longer on its way: kept if it is whole, else refused for this reason."""
        if self._coming.get((passing.hotkey, passing.digest)) is not passing:
            return
        del self._coming[passing.hotkey, passing.digest]
        if not passing.whole:
            self._used -= max(0, passing.nbytes)
            passing.fail(status, reason)
        elif passing.digest in self._kept:
            self._used -= passing.nbytes
        else:
            self._kept[passing.digest] = passing

    def _make_room(self, nbytes: int | None) -> None:
        """Let go of the oldest that nobody reads until `nbytes` more fit. Raises Refused."""
        if nbytes is None:
            raise Refused(411, "length_needed")
        if nbytes > min(self._max_blob_bytes, self.max_bytes) or nbytes == 0:
            raise Refused(413, "too_big")
        for digest in [digest for digest, kept in self._kept.items() if not kept.readers]:
            if self._used + nbytes <= self.max_bytes:
                break
            self._used -= self._kept.pop(digest).nbytes
        if self._used + nbytes > self.max_bytes:
            raise Refused(503, "relay_full", Retry_After="1")
