"""What a miner made and others may fetch, by the thing it was made for, so that it can go when that is over."""

from __future__ import annotations

from collections.abc import Hashable

from iota_subnet.messages import Made
from iota_subnet.wire.blobs import BlobStore


class Outbox:
    """Keeps blobs under a topic (a microbatch, an epoch's merge) until the topic is dropped."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._topics: dict[Hashable, list[str]] = {}

    def put(self, topic: Hashable, data: bytes, digest: str = "") -> Made:
        """Keep `data` for `topic`; `digest` is given by who knows it already."""
        ref = self._store.put(data, pin=True, digest=digest)
        self._topics.setdefault(topic, []).append(ref.digest)
        return Made(ref.digest, ref.nbytes)

    def has(self, digest: str) -> bool:
        """Whether it is kept."""
        return self._store.has(digest)

    def drop(self, topic: Hashable) -> None:
        """Let go of what was kept for `topic`, unless another topic needs the same bytes."""
        digests = self._topics.pop(topic, [])
        others = {digest for kept in self._topics.values() for digest in kept}
        self._store.forget([digest for digest in digests if digest not in others])

    def topics(self) -> list[Hashable]:
        return list(self._topics)
