"""One URL of a blob: what it gave so far, and whether what it answers can be the rest.

Law: nothing is kept beyond the `nbytes` of the reference; what is given on is those bytes with that digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from blake3 import blake3

from iota_subnet.blank import Blank
from iota_subnet.spec import BlobRef
from iota_subnet.wire.plain import Head

#: unreachable: no connection, cut, or busy. refused: it will not give it to us, or the reference is no good.
#: missing: it does not have it. corrupt: it gave other bytes. too_big: it gave or declared more than `nbytes`, or
#: `nbytes` is above our limit. timeout: bytes came too slowly or not at all.
Kind = Literal["unreachable", "refused", "missing", "corrupt", "too_big", "timeout"]


class Fault(Exception):
    """Why one try failed."""

    def __init__(self, kind: Kind, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry_after_s = retry_after_s


class Source:
    """One URL and what it gave so far. Bytes of two URLs are never mixed: a wrong digest has one author."""

    def __init__(self, url: str, nbytes: int) -> None:
        self.url = url
        self._nbytes = nbytes
        self._whole: Blank | None = None
        self.restart()

    def restart(self) -> None:
        """Begin from the first byte again."""
        self.got = 0
        self._hasher = blake3()

    def room(self) -> memoryview:
        """The part of the blob's memory that is still to be filled."""
        if self._whole is None:
            # Memory grows with what arrives, not with what was promised.
            self._whole = Blank(self._nbytes)
        return self._whole.view()[self.got :]

    def took(self, nbytes: int) -> None:
        """The first `nbytes` of the room were filled."""
        with self.room() as room:
            self._hasher.update(room[:nbytes])
        self.got += nbytes

    def take(self, chunk: bytes) -> None:
        """Copy `chunk` into the room."""
        if self.got + len(chunk) > self._nbytes:
            raise self.spilt()
        with self.room() as room:
            room[: len(chunk)] = chunk
        self.took(len(chunk))

    def spilt(self) -> Fault:
        """It gave more than it should."""
        self.restart()
        return Fault("too_big", f"sent more than the {self._nbytes} bytes of the reference")

    def finish(self, digest: str) -> bytes:
        """The blob; a Fault when this is another one."""
        got, found, whole = self.got, self._hasher.hexdigest(), self._whole
        if got != self._nbytes or found != digest:
            self.restart()
            raise Fault("corrupt", f"{got} of {self._nbytes} bytes, with another digest")
        self._whole = None
        return whole.finish() if whole is not None else b""


class Intake:
    """Takes an answer of the plain client for a source."""

    def __init__(self, source: Source, ref: BlobRef, count: Callable[[int], object]) -> None:
        self._source, self._ref, self._count = source, ref, count

    def room(self, head: Head) -> memoryview:
        """Where the first bytes of the body may go. Raises Fault when the answer's head is not that of the blob."""
        judge(head.status, head.headers, head.content_length, self._source, self._ref)
        return self._source.room()

    def took(self, nbytes: int) -> None:
        """So many bytes were put where `room` said."""
        self._source.took(nbytes)
        self._count(nbytes)

    def more(self) -> memoryview:
        """No room: the blob's body is all that is wanted."""
        return memoryview(b"")

    def spilt(self, nbytes: int) -> None:
        """More came than there was room for. Raises Fault."""
        raise self._source.spilt()


def judge(status: int, headers: Mapping[str, str], declared: int | None, source: Source, ref: BlobRef) -> None:
    """Whether the body that follows can be (the rest of) the blob; else a Fault. Nothing of the body was read yet."""
    if status in (429, 503):
        hint = headers.get("retry-after", "")
        raise Fault("unreachable", f"busy ({status})", float(hint) if hint.isdecimal() and len(hint) < 6 else 0.0)
    if status >= 500:
        raise Fault("unreachable", f"the server failed ({status})")
    if status in (404, 410):
        raise Fault("missing", f"it does not have the blob ({status})")
    if 300 <= status < 400:
        raise Fault("refused", f"redirects are not followed ({status})")
    if status == 416 and source.got:
        source.restart()
        raise Fault("unreachable", "it would not go on where it was cut (416)")
    if status not in (200, 206) or (status == 206 and not source.got):
        raise Fault("refused", f"it refused ({status})")
    if status == 200:
        source.restart()
    else:
        expected = f"bytes {source.got}-{ref.nbytes - 1}/{ref.nbytes}"
        if headers.get("content-range", "") != expected:
            source.restart()
            raise Fault("corrupt", "it went on with another range than the one asked for")
    wanted = ref.nbytes - source.got
    if declared is not None and declared > wanted:
        raise Fault("too_big", f"declares {declared} bytes where {wanted} are due")
    if declared is not None and declared < wanted:
        raise Fault("corrupt", f"declares {declared} bytes where {wanted} are due")
