"""Publishes microbatches: tokens from the feed, into the validator's store, as an event. Head and tail get the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from iota_subnet.core.events import BatchPublished, Event
from iota_subnet.train.data import Feed
from iota_subnet.wire.blobs import BlobServer, BlobStore
from iota_subnet.wire.signing import Clock


class Publisher:
    """`effects.Tokens` over a `Feed`."""

    def __init__(
        self,
        feed: Feed,
        store: BlobStore,
        server: Callable[[], BlobServer],
        post: Callable[[Event], object],
        clock: Clock,
    ) -> None:
        self._feed = feed
        self._store = store
        self._server = server
        self._post = post
        self._clock = clock
        self._digests: dict[int, str] = {}
        # Streams are read in order, and a feed is not made for several threads.
        self._lock = asyncio.Lock()

    async def publish(self, batch: int) -> None:
        """Make microbatch `batch` available and say so."""
        async with self._lock:
            data = await asyncio.to_thread(self._feed.batch, batch)
        ref = self._store.put(data, pin=True)
        self._digests[batch] = ref.digest
        self._post(BatchPublished(at=self._clock(), batch=batch, tokens=self._server().located(ref)))

    def forget(self, batch: int) -> None:
        """The tokens of a retired microbatch are not needed any more."""
        digest = self._digests.pop(batch, None)
        if digest is not None:
            self._store.forget([digest])
