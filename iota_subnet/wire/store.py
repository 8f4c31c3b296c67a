"""Where blobs lie: in memory or in a folder, under one contract.

Law: a blob is named by its content, so a name that is held always means the same bytes; a store never holds more than
its limits; the oldest unpinned blob goes first; what is pinned goes only when it is forgotten by name.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from iota_subnet.spec import BlobRef
from iota_subnet.wire.digests import digest_of, is_digest


class StoreFull(Exception):
    """The blob does not fit even after everything unpinned was thrown out; the message says what to raise."""


class NotStored(KeyError):
    """A blob that should be pinned is not here. `digest` names it."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


class BlobShelf(Protocol):
    """Content-addressed bytes to read. Methods may be called from any thread.

    `on_disk` says that reading blocks: an event loop then reads through a thread.
    """

    on_disk: bool

    def get(self, digest: str) -> bytes | None:
        """The blob, or None when it is not held."""

    def open(self, digest: str) -> BinaryIO | None:
        """The blob as a file to read from; it stays readable while open, even if the store drops it meanwhile."""

    def has(self, digest: str) -> bool:
        """Whether the blob is held."""

    def size(self, digest: str) -> int | None:
        """Bytes of the blob, or None when it is not held."""


class BlobStore(BlobShelf, Protocol):
    """A shelf with a limit, to put things on."""

    def put(self, data: bytes, *, pin: bool = False, digest: str = "") -> BlobRef:
        """Keep `data`; its reference, without URLs. Putting it again makes it the newest. Raises StoreFull.

        `digest` is for who has computed it of these very bytes, as a fetcher has; else it is computed here.
        """

    def forget(self, digests: Iterable[str]) -> int:
        """Drop these, pinned or not; how many were held."""

    def pin(self, digests: Iterable[str]) -> None:
        """Keep these until unpinned or forgotten. Raises NotStored before pinning any if one is not held."""

    def unpin(self, digests: Iterable[str]) -> None:
        """Let these be evicted again."""

    @property
    def used(self) -> int:
        """Bytes held."""

    def digests(self) -> list[str]:
        """What is held, oldest first."""


class _Shelf:
    """Order, limits and pins, for whichever way the bytes are kept (`_write`, `_read`, `_remove`, `_mark`)."""

    on_disk = False

    def __init__(self, max_bytes: int, max_blobs: int) -> None:
        if max_bytes < 1 or max_blobs < 1:
            raise ValueError(f"a store needs max_bytes >= 1 and max_blobs >= 1, not {max_bytes} and {max_blobs}")
        self.max_bytes = max_bytes
        self.max_blobs = max_blobs
        self._lock = threading.RLock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._pinned: set[str] = set()
        self._used = self._pinned_bytes = 0

    def put(self, data: bytes, *, pin: bool = False, digest: str = "") -> BlobRef:
        digest, nbytes = digest or digest_of(data), len(data)
        with self._lock:
            if digest in self._sizes and self._intact(digest, nbytes):
                self._sizes.move_to_end(digest)
                self._touch(digest)
            else:
                self._discard(digest)
                self._make_room(nbytes)
                self._write(digest, data)
                self._sizes[digest] = nbytes
                self._used += nbytes
            if pin:
                self.pin([digest])
        return BlobRef(digest, nbytes)

    def get(self, digest: str) -> bytes | None:
        with self._lock:
            return self._read(digest) if digest in self._sizes else None

    def has(self, digest: str) -> bool:
        return digest in self._sizes

    def size(self, digest: str) -> int | None:
        return self._sizes.get(digest)

    def forget(self, digests: Iterable[str]) -> int:
        with self._lock:
            return sum(self._discard(digest) for digest in digests)

    def pin(self, digests: Iterable[str]) -> None:
        wanted = list(digests)
        with self._lock:
            for digest in wanted:
                if digest not in self._sizes:
                    raise NotStored(digest)
            for digest in wanted:
                if digest not in self._pinned:
                    self._pinned.add(digest)
                    self._pinned_bytes += self._sizes[digest]
                self._mark(digest, True)

    def unpin(self, digests: Iterable[str]) -> None:
        with self._lock:
            for digest in digests:
                if digest in self._pinned:
                    self._pinned.discard(digest)
                    self._pinned_bytes -= self._sizes[digest]
                    self._mark(digest, False)

    @property
    def used(self) -> int:
        return self._used

    def digests(self) -> list[str]:
        with self._lock:
            return list(self._sizes)

    def _make_room(self, nbytes: int) -> None:
        """Evict the oldest unpinned until `nbytes` more fit; StoreFull, with nothing evicted, if they never will."""
        if self._pinned_bytes + nbytes > self.max_bytes:
            raise StoreFull(
                f"{nbytes} bytes do not fit into a store of {self.max_bytes} with {self._pinned_bytes} pinned; "
                "raise its max_bytes or unpin what is no longer needed"
            )
        if len(self._pinned) >= self.max_blobs:
            raise StoreFull(f"all {self.max_blobs} places are pinned; raise max_blobs or unpin")
        self._shrink(self.max_bytes - nbytes, self.max_blobs - 1)

    def _shrink(self, max_bytes: int, max_blobs: int) -> None:
        """Evict the oldest unpinned until within these limits, or nothing unpinned is left."""
        loose = (digest for digest in list(self._sizes) if digest not in self._pinned)
        while self._used > max_bytes or len(self._sizes) > max_blobs:
            digest = next(loose, None)
            if digest is None:
                return
            self._discard(digest)

    def _discard(self, digest: str) -> bool:
        """Drop one blob and its pin; whether it was held."""
        if digest not in self._sizes:
            return False
        self.unpin([digest])
        self._used -= self._sizes.pop(digest)
        self._remove(digest)
        return True

    def _write(self, digest: str, data: bytes) -> None:
        raise NotImplementedError

    def _read(self, digest: str) -> bytes | None:
        raise NotImplementedError

    def _remove(self, digest: str) -> None:
        raise NotImplementedError

    def _intact(self, digest: str, nbytes: int) -> bool:
        return True

    def _touch(self, digest: str) -> None:
        """Remember that this blob is now the newest."""

    def _mark(self, digest: str, pinned: bool) -> None:
        """Remember that this blob is pinned or no longer so."""


class MemoryStore(_Shelf):
    """Blobs in memory, at most `max_bytes` bytes and `max_blobs` blobs."""

    def __init__(self, max_bytes: int, max_blobs: int = 100_000) -> None:
        super().__init__(max_bytes, max_blobs)
        self._blobs: dict[str, bytes] = {}

    def open(self, digest: str) -> BinaryIO | None:
        """The blob as a file that can be read; None when it is not held."""
        data = self.get(digest)
        return None if data is None else io.BytesIO(data)

    def _write(self, digest: str, data: bytes) -> None:
        self._blobs[digest] = bytes(data)

    def _read(self, digest: str) -> bytes | None:
        return self._blobs[digest]

    def _remove(self, digest: str) -> None:
        del self._blobs[digest]


class DirStore(_Shelf):
    """Blobs as files of one folder, which one process owns. Survives a restart, pins and order included.

    A blob appears by rename, so a crash leaves either the whole blob or none. Nothing is fsynced: after a power cut a
    file may hold other bytes, therefore `get` checks the digest and drops what is damaged. `put` and `get` block on
    the disk: from an event loop call them through a thread.
    """

    on_disk = True

    def __init__(self, path: Path | str, max_bytes: int, max_blobs: int = 100_000) -> None:
        super().__init__(max_bytes, max_blobs)
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._newest_ns = 0
        self._load()

    def open(self, digest: str) -> BinaryIO | None:
        """The blob's file, for reading; None when it is not held or was deleted by somebody."""
        with self._lock:
            if digest not in self._sizes:
                return None
            try:
                return self._file(digest).open("rb")
            except FileNotFoundError:
                self._discard(digest)
                return None

    def _load(self) -> None:
        """Index the folder; drop half-written files, and pins without a blob. Other people's files are left alone."""
        found: list[tuple[int, str, int]] = []
        pins: list[str] = []
        for entry in os.scandir(self.path):
            if entry.name.startswith(".tmp-"):
                os.unlink(entry.path)
            elif entry.name.endswith(".pin") and is_digest(entry.name[:-4]):
                pins.append(entry.name[:-4])
            elif is_digest(entry.name) and entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                found.append((stat.st_mtime_ns, entry.name, stat.st_size))
        for mtime_ns, digest, nbytes in sorted(found):
            self._newest_ns = max(self._newest_ns, mtime_ns)
            self._sizes[digest] = nbytes
            self._used += nbytes
        for digest in pins:
            if digest in self._sizes:
                self._pinned.add(digest)
                self._pinned_bytes += self._sizes[digest]
            else:
                self._mark(digest, False)
        self._shrink(self.max_bytes, self.max_blobs)

    def _file(self, digest: str) -> Path:
        if not is_digest(digest):
            raise ValueError(f"{digest[:80]!r} is not the name of a blob")
        return self.path / digest

    def _write(self, digest: str, data: bytes) -> None:
        draft = self.path / f".tmp-{digest}"
        try:
            draft.write_bytes(data)
            os.replace(draft, self._file(digest))
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        self._touch(digest)

    def _read(self, digest: str) -> bytes | None:
        try:
            data = self._file(digest).read_bytes()
        except FileNotFoundError:
            data = b""
        if len(data) == self._sizes[digest] and digest_of(data) == digest:
            return data
        self._discard(digest)
        return None

    def _remove(self, digest: str) -> None:
        self._file(digest).unlink(missing_ok=True)

    def _intact(self, digest: str, nbytes: int) -> bool:
        try:
            return self._file(digest).stat().st_size == nbytes
        except FileNotFoundError:
            return False

    def _touch(self, digest: str) -> None:
        # The kernel stamps files some milliseconds coarsely; the order after a restart must still be the order of puts.
        self._newest_ns = max(time.time_ns(), self._newest_ns + 1)
        os.utime(self._file(digest), ns=(self._newest_ns, self._newest_ns))

    def _mark(self, digest: str, pinned: bool) -> None:
        marker = self.path / f"{digest}.pin"
        if pinned:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)
