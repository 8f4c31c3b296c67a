"""From the core's references to messages: where the bytes lie now, and a signed ticket for the one who reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from blake3 import blake3

from iota_subnet.core.actions import Duty
from iota_subnet.core.events import Manifest
from iota_subnet.core.pairs import turned
from iota_subnet.core.state import Miner
from iota_subnet.messages import (
    Blob,
    ManifestShard,
    PlannedContribution,
    PlannedDuty,
    StageManifest,
    manifest_line,
)
from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobServer, BlobStore
from iota_subnet.wire.places import BLOBS, RELAYED, keeper
from iota_subnet.wire.signing import Clock, Signer
from iota_subnet.wire.tickets import Ticket, encode

#: Seconds that a ticket opens its blob: longer than any phase of localnet, shorter than a grudge.
TICKET_S = 900.0

#: Places that are named for one blob.
MAX_URLS = 4


class Outgoing:
    """Makes the payloads of one validator's messages. `elsewhere` is the data URL of another validator that has what we
    do not; "" for none."""

    def __init__(
        self,
        run: str,
        sign: Signer,
        clock: Clock,
        store: BlobStore,
        server: Callable[[], BlobServer],
        miners: Callable[[], Iterable[Miner]] = tuple,
        elsewhere: Callable[[], str] = str,
    ) -> None:
        self._run = run
        self._sign = sign
        self._clock = clock
        self._store = store
        self._server = server
        self._miners = miners
        self._elsewhere = elsewhere

    def blob(self, ref: BlobRef, reader: str, holders: Sequence[str] = ()) -> Blob:
        """`ref` for `reader`. A copy that the validator holds is named last: peers first, so that bytes flow between
        miners and the validator is the one who still has them when a miner is gone. `holders` are the data
        URLs of others who have them. What a miner has, but not in its bucket (any more), the validator relays."""
        urls = [f"{holder}{BLOBS}/{ref.digest}" for holder in holders if not keeper(holder)]
        urls += [url for url in ref.urls if url and url not in urls]
        urls += self._relays({keeper(place): None for place in (*holders, *ref.urls)}, ref.digest)
        if self._store.has(ref.digest):
            own = self._server().url_of(ref.digest)
            urls = [*[url for url in urls if url != own][: MAX_URLS - 1], own]
        elif self._elsewhere():
            urls = [*urls[: MAX_URLS - 1], f"{self._elsewhere()}/v1/blobs/{ref.digest}"]
        ticket = encode(Ticket(ref.digest, reader, self._clock() + TICKET_S), self._sign)
        return Blob(ref.digest, ref.nbytes, tuple(urls[:MAX_URLS]), ticket)

    def _relays(self, hotkeys: Iterable[str], digest: str) -> list[str]:
        named = [hotkey for hotkey in hotkeys if hotkey]
        root = (self._elsewhere() or self._server().url) if named else ""
        return [f"{root}{RELAYED}{hotkey}{BLOBS}/{digest}" for hotkey in named]

    def shards(self, manifest: Manifest, reader: str) -> tuple[ManifestShard, ...]:
        """A global state for `reader`. Whoever has installed it serves it too; readers are spread over them."""
        holders = self._holders(manifest, reader)
        start = int(blake3(reader.encode()).hexdigest()[:8], 16)
        replicas = sorted((m.hotkey, m.data_url) for m in self._miners() if m.stage == manifest.stage)
        ranks = {url: rank for rank, (_, url) in enumerate(replicas)}
        rank = next((rank for rank, (hotkey, _) in enumerate(replicas) if hotkey == reader), start)
        shards = []
        for index, s in enumerate(manifest.shards):
            first = (start + index) % max(1, len(holders))
            near = [*holders, *holders][first : first + min(2, len(holders))]
            mean = (
                self.blob(_turned(s.mean, ranks, rank, index), reader) if manifest.base and s.mean is not None else None
            )
            weights, momentum = self.blob(s.weights, reader, near), self.blob(s.momentum, reader, near)
            shards.append(ManifestShard(s.lo, s.hi, weights, momentum, mean))
        return tuple(shards)

    def manifest(self, manifest: Manifest, reader: str) -> StageManifest:
        """A manifest as one miner gets it: signed, with addresses and tickets for this reader."""
        signature = self._sign(manifest_line(self._run, manifest.name)).hex()
        shards = self.shards(manifest, reader)
        return StageManifest(manifest.stage, manifest.epoch, manifest.revision, shards, signature, manifest.base)

    def _holders(self, manifest: Manifest, reader: str) -> list[str]:
        return [
            miner.data_url
            for miner in self._miners()
            if miner.stage == manifest.stage
            and miner.installed == manifest.epoch
            and miner.connected
            and miner.data_url
            and miner.hotkey != reader
        ]

    def duty(self, duty: Duty, reader: str) -> PlannedDuty:
        """A merge duty as one miner gets it, with addresses and tickets for this reader."""
        contributions = tuple(
            PlannedContribution(c.hotkey, c.weight, self.blob(c.blob, reader)) for c in duty.contributions
        )
        return PlannedDuty(duty.shard, duty.lo, duty.hi, contributions)


def _turned(ref: BlobRef, ranks: dict[str, int], reader: int, shard: int) -> BlobRef:
    homes = [url.rpartition("/v1/blobs/")[0] for url in ref.urls]
    makers = [ranks[home] for home in homes if home in ranks]
    return BlobRef(ref.digest, ref.nbytes, turned(ref.urls, makers, reader, shard))
