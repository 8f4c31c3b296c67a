"""What a miner made and others may fetch, by the thing it was made for, so that it can go when that is over."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from iota_subnet.messages import Made
from iota_subnet.wire.blobs import BlobStore, Bucket


class Outbox:
    """Keeps blobs under a topic (a microbatch, an epoch's merge) until the topic is dropped.

    Where there is a `bucket`, others read there and not here: what is told of has to be there first, as `shelf`, which
    is `store` unless said otherwise, hands it out. `order` is held from waiting for that until it is told, by whoever's
    words count by their order: uploads take different times.
    """

    def __init__(self, store: BlobStore, bucket: Bucket | None = None, shelf: BlobStore | None = None) -> None:
        self.order = asyncio.Lock()
        self._store = store
        self._bucket = bucket
        self._shelf = shelf or store
        self._topics: dict[Hashable, list[str]] = {}

    def put(self, topic: Hashable, data: bytes, digest: str = "") -> Made:
        """Keep `data` for `topic`; `digest` is given by who knows it already."""
        ref = self._store.put(data, pin=True, digest=digest)
        self._topics.setdefault(topic, []).append(ref.digest)
        return Made(ref.digest, ref.nbytes)

    def upload(self, *made: Made) -> None:
        """Begin to bring these to where others read, if that is not here."""
        if self._bucket is None:
            return
        for one in made:
            data = self._shelf.get(one.digest)
            if data is not None:
                self._bucket.begin(one.digest, data)

    async def uploaded(self, *made: Made) -> None:
        """Wait until others can read these. Raises BucketFailed."""
        if self._bucket is not None:
            await self._bucket.ready(one.digest for one in made)

    def has(self, digest: str) -> bool:
        """Whether it is kept."""
        return self._store.has(digest)

    def drop(self, topic: Hashable) -> None:
        """Let go of what was kept for `topic`, unless another topic needs the same bytes."""
        digests = self._topics.pop(topic, [])
        others = {digest for kept in self._topics.values() for digest in kept}
        gone = [digest for digest in digests if digest not in others]
        self._store.forget(gone)
        if self._bucket is not None:
            self._bucket.drop(gone)

    def topics(self) -> list[Hashable]:
        """What something is kept for, in the order in which it came."""
        return list(self._topics)
