"""What the validator computes itself: shards that twins could not settle, held-out loss, and its copy of the model.

The tensors are touched by `compute` in another process; here are the bytes' ways to it and back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from loguru import logger

from iota_subnet.core.actions import Contribution, Evaluate, RecomputeShard
from iota_subnet.core.events import Evaluated, Event, Manifest, ShardRecomputed
from iota_subnet.messages import Blob
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.train.codec import BadPayload
from iota_subnet.validator import compute
from iota_subnet.validator.checkpoints import Checkpoints, checkpoint
from iota_subnet.validator.compute import Compute, Shard
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobFetcher, BlobStore, FetchFailed
from iota_subnet.wire.signing import Clock

#: Epochs whose manifests are kept at least; a joiner needs the newest, a dispute the one before.
KEEP_EPOCHS = 3

#: A contribution and its bytes.
Given = tuple[Contribution, bytes]


class Auditor:
    """Fetches what is needed, has it computed, posts the result. The states of the newest `keep` epochs stay, and with
    `checkpoints` a file of each."""

    def __init__(
        self,
        spec: RunSpec,
        hotkey: str,
        sizes: Callable[[], tuple[int, ...]],
        held_out: list[bytes],
        pool: Compute,
        fetcher: BlobFetcher,
        store: BlobStore,
        outgoing: Outgoing,
        post: Callable[[Event], object],
        clock: Clock,
        checkpoints: Checkpoints | None = None,
        keep: int = KEEP_EPOCHS,
    ) -> None:
        self._spec = spec
        self._checkpoints = checkpoints
        self._keep_epochs = max(keep, KEEP_EPOCHS)
        self._hotkey = hotkey
        self._sizes = sizes
        self._held_out = held_out
        self._pool = pool
        self._fetcher = fetcher
        self._store = store
        self._outgoing = outgoing
        self._post = post
        self._clock = clock
        self._kept: dict[int, set[str]] = {}

    async def recompute(self, action: RecomputeShard) -> None:
        """Reduce one shard from the contributions that can be fetched; bytes that are wrong count as not there."""
        base = await self.state(action.base, action.lo, action.hi)
        fetched = await asyncio.gather(*(self._contribution(c) for c in action.contributions))
        given = [(c, data) for c, data in zip(action.contributions, fetched, strict=True) if data is not None]
        try:
            result = await self._reduce(action, base, given)
        except BadPayload as error:
            logger.warning("stage {} shard {}: {}", action.stage, action.shard, error)
            given, result = await self._reduce_sound(action, base, given)
        refs = [await self._pin(action.epoch + 1, part) if part else None for part in result]
        mean, weights, momentum = refs
        assert weights is not None and momentum is not None
        self._post(
            ShardRecomputed(
                at=self._clock(),
                stage=action.stage,
                epoch=action.epoch,
                shard=action.shard,
                mean=mean,
                weights=weights,
                momentum=momentum,
                contributors=tuple(c.hotkey for c, _ in given),
            )
        )

    async def evaluate(self, action: Evaluate) -> None:
        """Copy the manifests' bytes, so that a model is never only in miners' hands, and measure held-out loss."""
        states = [await self.state(manifest) for manifest in action.manifests]
        self._keep(action.epoch)
        loss = await self._pool.run(compute.held_out_loss, self._spec.to_json(), self._sizes(), states, self._held_out)
        logger.info("epoch {}: held-out loss {:.4f} nats per token", action.epoch, loss)
        if self._checkpoints is not None:
            made = checkpoint(action.epoch, loss, self._clock(), self._spec.digest(), action.manifests)
            await asyncio.to_thread(self._checkpoints.save, made)
        names = tuple(manifest.name for manifest in action.manifests)
        self._post(Evaluated(at=self._clock(), epoch=action.epoch, loss=loss, manifests=names))

    async def _reduce(
        self, action: RecomputeShard, base: Sequence[Shard], given: Sequence[Given]
    ) -> tuple[bytes, bytes, bytes]:
        return await self._pool.run(
            compute.reduce_shard,
            self._spec.to_json(),
            action.epoch,
            action.lo,
            action.hi,
            base,
            [(contribution.weight, data) for contribution, data in given],
        )

    async def _reduce_sound(
        self, action: RecomputeShard, base: Sequence[Shard], given: Sequence[Given]
    ) -> tuple[list[Given], tuple[bytes, bytes, bytes]]:
        """One bad contribution must not cost the others theirs: add one after the other, leave out what spoils it."""
        sound: list[Given] = []
        result = await self._reduce(action, base, sound)
        for item in given:
            try:
                result = await self._reduce(action, base, [*sound, item])
                sound.append(item)
            except BadPayload as error:
                logger.warning("stage {} shard {}: left out {}: {}", action.stage, action.shard, item[0].hotkey, error)
        return sound, result

    async def _contribution(self, contribution: Contribution) -> bytes | None:
        try:
            return await self._fetch(contribution.blob, "audit")
        except FetchFailed as error:
            logger.warning("pseudo-gradient of {}: {}", contribution.hotkey, error)
            return None

    async def state(self, manifest: Manifest, lo: int = 0, hi: int = sys.maxsize) -> list[Shard]:
        """The bytes of what a manifest says of [lo, hi), from our store or from a miner, kept and pinned."""
        shards: list[Shard] = []
        touched = tuple(shard for shard in manifest.shards if shard.lo < hi and lo < shard.hi)
        for shard in self._outgoing.shards(replace(manifest, shards=touched), self._hotkey):
            weights, momentum = await asyncio.gather(
                self._bytes(shard.weights, "manifest"), self._bytes(shard.momentum, "manifest")
            )
            await self._pin(manifest.epoch, weights)
            await self._pin(manifest.epoch, momentum)
            shards.append((shard.lo, shard.hi, weights, momentum))
        return shards

    async def _pin(self, epoch: int, data: bytes) -> BlobRef:
        """Keep what belongs to the manifest of `epoch`. Where it lies is not written down: we may move."""
        ref = await asyncio.to_thread(self._store.put, data, pin=True)
        self._kept.setdefault(epoch, set()).add(ref.digest)
        return ref

    def remember(self, manifests: Iterable[Manifest]) -> None:
        """What a process before this one has pinned, to be let go in its time."""
        for manifest in manifests:
            digests = (digest for shard in manifest.shards for digest in shard.digests if digest)
            self._kept.setdefault(manifest.epoch, set()).update(digests)

    def _keep(self, epoch: int) -> None:
        """Let go of manifests that nobody will ask for; a blob that a newer manifest names stays."""
        for old in [number for number in self._kept if number <= epoch - self._keep_epochs]:
            if self._checkpoints is not None:
                self._checkpoints.drop(old)
            gone = self._kept.pop(old)
            self._store.forget(gone.difference(*self._kept.values()))

    async def _fetch(self, ref: BlobRef, label: str) -> bytes:
        return await self._bytes(self._outgoing.blob(ref, self._hotkey), label)

    async def _bytes(self, blob: Blob, label: str) -> bytes:
        return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, label)
