"""Publishes microbatches: tokens from the feed, into the validator's store, as an event. Head and tail get the same.

A stream can only be read on. So where it stands, and what was read of it and is still needed, is written to a file
before anybody hears of a microbatch: a validator that comes back gives out the same tokens and goes on from there.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from pathlib import Path

from iota_subnet.core.events import BatchPublished, Event
from iota_subnet.spec import BlobRef
from iota_subnet.train.data import DataError, Feed
from iota_subnet.wire.blobs import BlobStore
from iota_subnet.wire.signing import Clock


class Publisher:
    """`effects.Tokens` over a `Feed`. Raises DataError when the file at `path` is damaged."""

    def __init__(self, feed: Feed, store: BlobStore, path: Path, post: Callable[[Event], object], clock: Clock) -> None:
        self._feed = feed
        self._store = store
        self._path = path
        self._post = post
        self._clock = clock
        self._digests: dict[int, str] = {}
        self._wanted: set[int] = set()
        # Streams are read in order, and a feed is not made for several threads.
        self._lock = asyncio.Lock()
        self._load()

    async def publish(self, batch: int) -> None:
        """Make microbatch `batch` available and say so."""
        self._wanted.add(batch)
        async with self._lock:
            ref = self._held(batch)
            if ref is None:
                ref = await asyncio.to_thread(self._read, batch, dict(self._digests))
                self._digests[batch] = ref.digest
        if batch in self._wanted:
            data = await asyncio.to_thread(self._store.get, ref.digest)
            self._post(BatchPublished(at=self._clock(), batch=batch, tokens=ref, difficulty=difficulty(data or b"")))
        else:
            # It was given up while its tokens were read.
            self.forget(batch)

    def forget(self, batch: int) -> None:
        """The tokens of a retired microbatch are not needed any more."""
        self._wanted.discard(batch)
        digest = self._digests.pop(batch, None)
        if digest is not None and digest not in self._digests.values():
            self._store.forget([digest])

    def _held(self, batch: int) -> BlobRef | None:
        digest = self._digests.get(batch, "")
        nbytes = self._store.size(digest)
        return None if nbytes is None else BlobRef(digest, nbytes)

    def _read(self, batch: int, known: dict[int, str]) -> BlobRef:
        """In a thread: read, keep, write down."""
        ref = self._store.put(self._feed.batch(batch), pin=True)
        state = self._feed.state()
        if state:
            draft = self._path.with_suffix(".tmp")
            document = {"feed": state, "digests": known | {batch: ref.digest}}
            draft.write_text(json.dumps(document), encoding="utf-8")
            draft.replace(self._path)
        return ref

    def _load(self) -> None:
        if not self._path.is_file():
            return
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self._digests = {int(batch): str(digest) for batch, digest in found["digests"].items()}
            state = found["feed"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self._path} cannot be read ({error}); choose another run directory") from None
        self._feed.restore(state)


def difficulty(tokens: bytes) -> float:
    """Bits per byte to which a microbatch compresses: text that repeats itself is easy before anybody has learnt it."""
    return round(8 * len(zlib.compress(tokens)) / len(tokens), 6) if tokens else 0.0
