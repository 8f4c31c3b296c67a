"""From the core's references to messages: where the bytes lie now, and a signed ticket for the one who reads them."""

from __future__ import annotations

from collections.abc import Callable

from iota_subnet.core.actions import Duty
from iota_subnet.core.events import Manifest
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
from iota_subnet.wire.signing import Clock, Signer
from iota_subnet.wire.tickets import Ticket, encode

#: Seconds that a ticket opens its blob: longer than any phase of localnet, shorter than a grudge.
TICKET_S = 900.0


class Outgoing:
    """Makes the payloads of one validator's messages."""

    def __init__(
        self, run: str, sign: Signer, clock: Clock, store: BlobStore, server: Callable[[], BlobServer]
    ) -> None:
        self._run = run
        self._sign = sign
        self._clock = clock
        self._store = store
        self._server = server

    def blob(self, ref: BlobRef, reader: str) -> Blob:
        """`ref` for `reader`. A copy that the validator holds is named last: peers first, so that bytes flow between
        miners and the validator is the one who still has them when a miner is gone."""
        urls = [url for url in ref.urls if url]
        if self._store.has(ref.digest):
            own = self._server().url_of(ref.digest)
            urls = [*[url for url in urls if url != own][:3], own]
        ticket = encode(Ticket(ref.digest, reader, self._clock() + TICKET_S), self._sign)
        return Blob(ref.digest, ref.nbytes, tuple(urls[:4]), ticket)

    def manifest(self, manifest: Manifest, reader: str) -> StageManifest:
        shards = tuple(
            ManifestShard(s.lo, s.hi, self.blob(s.weights, reader), self.blob(s.momentum, reader))
            for s in manifest.shards
        )
        parts = tuple((s.lo, s.hi, s.weights.digest, s.momentum.digest) for s in manifest.shards)
        line = manifest_line(self._run, manifest.stage, manifest.epoch, parts)
        return StageManifest(manifest.stage, manifest.epoch, shards, self._sign(line).hex())

    def duty(self, duty: Duty, reader: str) -> PlannedDuty:
        contributions = tuple(
            PlannedContribution(c.hotkey, c.weight, self.blob(c.blob, reader)) for c in duty.contributions
        )
        return PlannedDuty(duty.shard, duty.lo, duty.hi, contributions)
