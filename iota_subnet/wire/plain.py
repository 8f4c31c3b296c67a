"""HTTP/1.1 GET from an IP address, the body received straight into the memory where it stays (RFC 9112).

Miners and validators name each other by address, without TLS: the digest guards the bytes. For such URLs a general
client spends more on buffers than the kernel on the bytes. Law: a body is received into the room that the caller gives
after it has seen the head, and nowhere else; a head is bounded; what is not plain (`NotPlain`) is for a general client.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import SplitResult

HEAD_BYTES = 16 << 10
MAX_FIELDS = 64

_STATUS = re.compile(rb"HTTP/1\.([01]) ([2-5]\d\d)(?: [^\r\n\0]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\r\n\0]*")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_TARGET = re.compile(r"/[!-~]*", re.ASCII)
_TOKEN = re.compile(r"[ -~]*", re.ASCII)

#: Seconds that an open connection is kept for the next request; less than a blob server keeps it.
IDLE_S = 10.0


class NotPlain(Exception):
    """An answer that only a general client reads: chunked, or an interim response. Nothing of the body was taken."""


class BadAnswer(ValueError):
    """Not an HTTP answer."""


class Silent(Exception):
    """Nothing came for so long."""


class NoConnection(ConnectionError):
    """No connection within the time for it."""


class Cut(ConnectionError):
    """The connection ended before the answer did."""


class Head:
    """Status, fields by lower-case name, and the length of the body; None when it ends with the connection."""

    def __init__(self, raw: bytes) -> None:
        first, *lines = raw.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            if first.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                raise NotPlain(first[:80])
            raise BadAnswer("no status line")
        if len(lines) > MAX_FIELDS:
            raise BadAnswer("too many fields")
        self.status = int(status[2])
        self.headers: dict[str, str] = {}
        for line in lines:
            key, colon, value = line.partition(b":")
            if not colon or _NAME.fullmatch(key) is None or _VALUE.fullmatch(value) is None:
                raise BadAnswer("a field that is none")
            name = key.decode("ascii").lower()
            if name == "content-length" and name in self.headers:
                raise BadAnswer("two lengths")
            self.headers[name] = value.strip(b" \t").decode("latin-1")
        if "transfer-encoding" in self.headers:
            raise NotPlain("transfer-encoding")
        length = self.headers.get("content-length")
        if length is not None and _LENGTH.fullmatch(length) is None:
            raise BadAnswer("a length that is none")
        self.content_length = None if length is None else int(length)
        said = self.headers.get("connection", "").lower()
        self.lasting = status[1] == b"1" and "close" not in said and length is not None


class Taker(Protocol):
    """Who takes an answer."""

    def room(self, head: Head) -> memoryview:
        """Where the body goes. Raises when it is not wanted, which ends the connection."""

    def took(self, nbytes: int) -> None:
        """So many more bytes are in the room."""

    def more(self) -> memoryview:
        """The room is full: where what follows goes. Nothing follows: an empty view."""

    def spilt(self, nbytes: int) -> None:
        """The body is larger than the room. Raises."""


def is_plain(parts: SplitResult, ticket: str) -> bool:
    """Whether a URL is one for this client: http, an address, nothing that would have to be quoted."""
    target = f"{parts.path or '/'}?{parts.query}"
    try:
        ipaddress.ip_address(parts.hostname or "")
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return False
    return parts.scheme == "http" and bool(_TARGET.fullmatch(target)) and bool(_TOKEN.fullmatch(ticket))


class Plain:
    """Keeps connections open between requests, at most `most` of them idle."""

    def __init__(self, connect_s: float, read_s: float, most: int) -> None:
        self._connect_s = connect_s
        self._read_s = read_s
        self._most = most
        self._idle: list[_Line] = []

    async def get(self, parts: SplitResult, headers: Mapping[str, str], taker: Taker) -> None:
        """One request.

        Raises:
            NotPlain, BadAnswer, Silent, NoConnection, Cut: as they say.
            OSError: the address cannot be connected to.
            Whatever `taker` raises.
        """
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n{fields}\r\n".encode("ascii")
        where = (parts.hostname or "", parts.port or 80)
        line = self._reuse(where)
        if line is not None:
            try:
                return await self._ask(line, request, taker)
            except Cut:
                # It was closed while nobody used it; only an answer that has begun is its sender's affair.
                if line.answered:
                    raise
        await self._ask(await self._connect(where), request, taker)

    def close(self) -> None:
        """Close what is idle."""
        idle, self._idle = self._idle, []
        for line in idle:
            line.abort()

    def _reuse(self, where: tuple[str, int]) -> _Line | None:
        now = asyncio.get_running_loop().time()
        for line in reversed(self._idle):
            if line.where == where and now < line.idle_since + IDLE_S:
                self._idle.remove(line)
                return line
        return None

    async def _connect(self, where: tuple[str, int]) -> _Line:
        loop = asyncio.get_running_loop()
        making = loop.create_connection(lambda: _Line(loop, where, self._read_s, self._lost), *where)
        try:
            return (await asyncio.wait_for(making, self._connect_s))[1]
        except asyncio.TimeoutError:
            raise NoConnection(f"none within {self._connect_s:.3g} s") from None

    async def _ask(self, line: _Line, request: bytes, taker: Taker) -> None:
        try:
            lasting = await line.ask(request, taker)
        except BaseException:
            line.abort()
            raise
        if not lasting or not line.open:
            line.abort()
            return
        line.idle_since = asyncio.get_running_loop().time()
        self._idle.append(line)
        if len(self._idle) > self._most:
            self._idle.pop(0).abort()

    def _lost(self, line: _Line) -> None:
        if line in self._idle:
            self._idle.remove(line)


class _Line(asyncio.BufferedProtocol):
    """One connection: at most one request at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        where: tuple[str, int],
        read_s: float,
        lost: Callable[[_Line], object],
    ) -> None:
        self.where = where
        self.idle_since = 0.0
        self.answered = False
        self._loop = loop
        self._read_s = read_s
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._taker: Taker | None = None
        self._done: asyncio.Future[bool] | None = None
        self._raw = bytearray(HEAD_BYTES)
        self._filled = 0
        self._head: Head | None = None
        self._room = memoryview(b"")
        self._left = 0
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, taker: Taker) -> bool:
        """Send, and receive the whole answer; whether the connection can be used again."""
        self.answered, self._taker, self._head, self._filled = False, taker, None, 0
        if self.idle_since:
            # The loop looks at the socket once: what came behind the last answer must not begin this one.
            await asyncio.sleep(0)
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Cut("closed")
        self._done = self._loop.create_future()
        self._heard = self._loop.time()
        self._watch = self._loop.call_at(self._heard + self._read_s, self._look)
        transport.write(request)
        try:
            return await self._done
        finally:
            self._watch.cancel()
            self._taker = self._done = None
            self._room.release()
            self._room = memoryview(b"")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._head is not None and self._left:
            return self._room[-self._left :]
        return memoryview(self._raw)[self._filled if self._head is None else 0 :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._done is None or self._done.done():
            # Nobody asked, or nobody waits any more.
            self.abort()
            return
        self._heard = self._loop.time()
        self.answered = True
        try:
            self._take(nbytes)
        except Exception as error:
            self._fail(error)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)
        self._transport = None
        if self._done is None or self._done.done():
            return
        if self._head is not None and self._head.content_length is None and (exc is None or not self._left):
            self._done.set_result(False)
        elif self._head is None and self._filled and not b"HTTP/1.".startswith(self._raw[: min(self._filled, 7)]):
            self._fail(BadAnswer("no HTTP"))
        else:
            self._fail(Cut("cut"))

    # Inside

    def _take(self, nbytes: int) -> None:
        """`nbytes` more lie in what `get_buffer` gave."""
        taker = self._taker
        assert taker is not None
        if self._head is None:
            self._filled += nbytes
            end = self._raw.find(b"\r\n\r\n", max(0, self._filled - nbytes - 3), self._filled)
            if end < 0:
                if self._filled == HEAD_BYTES:
                    raise BadAnswer("a head without an end")
                return
            self._head = Head(bytes(self._raw[:end]))
            self._enter(taker.room(self._head))
            at = end + 4
            while self._left and at < self._filled:
                fits = min(self._filled - at, self._left)
                start = len(self._room) - self._left
                self._room[start : start + fits] = self._raw[at : at + fits]
                at += fits
                self._took(taker, fits)
            spilt = self._filled - at
        elif self._left:
            spilt = 0
            self._took(taker, nbytes)
        else:
            spilt = nbytes
        if self._head.content_length is None:
            if spilt:
                taker.spilt(spilt)
        elif not self._left and self._done is not None:
            # Bytes behind the end of an answer belong to nothing.
            self._done.set_result(self._head.lasting and not spilt)

    def _took(self, taker: Taker, nbytes: int) -> None:
        self._left -= nbytes
        taker.took(nbytes)
        if not self._left:
            self._enter(taker.more())

    def _enter(self, room: memoryview) -> None:
        self._room.release()
        self._room, self._left = room, len(room)

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        self.abort()

    def _look(self) -> None:
        """The reminder: has anything been heard since?"""
        due = self._heard + self._read_s
        if self._loop.time() >= due:
            self._fail(Silent(f"nothing for {self._read_s:.3g} s"))
        else:
            self._watch = self._loop.call_at(due, self._look)
