"""What the validator computes itself: shards that twins could not settle, held-out loss, and its copy of the model.

The tensors are touched by `compute` in another process; here are the bytes' ways to it and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from loguru import logger

from iota_subnet.core.actions import Contribution, Evaluate, RecomputeShard
from iota_subnet.core.events import Evaluated, Event, Manifest, ShardRecomputed
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.train.codec import BadPayload
from iota_subnet.validator import compute
from iota_subnet.validator.compute import Compute, Shard
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, BlobStore, FetchFailed
from iota_subnet.wire.signing import Clock

#: Epochs whose manifests are kept; a joiner needs the newest, a dispute the one before.
KEEP_EPOCHS = 3


class Auditor:
    """Fetches what is needed, has it computed, posts the result."""

    def __init__(
        self,
        spec: RunSpec,
        hotkey: str,
        sizes: Callable[[], tuple[int, ...]],
        held_out: list[bytes],
        pool: Compute,
        fetcher: BlobFetcher,
        store: BlobStore,
        server: Callable[[], BlobServer],
        outgoing: Outgoing,
        post: Callable[[Event], object],
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._hotkey = hotkey
        self._sizes = sizes
        self._held_out = held_out
        self._pool = pool
        self._fetcher = fetcher
        self._store = store
        self._server = server
        self._outgoing = outgoing
        self._post = post
        self._clock = clock
        self._kept: dict[int, list[str]] = {}

    async def recompute(self, action: RecomputeShard) -> None:
        """Reduce one shard from the contributions that can be fetched; bytes that are wrong count as not there."""
        base = await self._state(action.base)
        fetched = await asyncio.gather(*(self._contribution(c) for c in action.contributions))
        given = [(c, data) for c, data in zip(action.contributions, fetched, strict=True) if data is not None]
        result: tuple[bytes, bytes] | None = None
        while result is None:
            try:
                result = await self._pool.run(
                    compute.reduce_shard,
                    self._spec.to_json(),
                    action.epoch,
                    action.lo,
                    action.hi,
                    self._sizes()[action.stage],
                    base,
                    [(c.weight, data) for c, data in given],
                )
            except BadPayload as error:
                # One malformed contribution must not cost the others theirs: find it by trying each alone.
                logger.warning("stage {} shard {}: {}", action.stage, action.shard, error)
                given = [item for item in given if await self._is_sound(action, base, *item)]
        weights, momentum = (self._server().located(self._store.put(part, pin=True)) for part in result)
        self._post(
            ShardRecomputed(
                at=self._clock(),
                stage=action.stage,
                epoch=action.epoch,
                shard=action.shard,
                weights=weights,
                momentum=momentum,
                contributors=tuple(c.hotkey for c, _ in given),
            )
        )

    async def evaluate(self, action: Evaluate) -> None:
        """Copy the manifests' bytes, so that a model is never only in miners' hands, and measure held-out loss."""
        states = [await self._state(manifest) for manifest in action.manifests]
        self._keep(action.epoch, action.manifests)
        loss = await self._pool.run(compute.held_out_loss, self._spec.to_json(), self._sizes(), states, self._held_out)
        logger.info("epoch {}: held-out loss {:.4f} nats per token", action.epoch, loss)
        self._post(Evaluated(at=self._clock(), epoch=action.epoch, loss=loss))

    async def _is_sound(
        self, action: RecomputeShard, base: Sequence[Shard], contribution: Contribution, data: bytes
    ) -> bool:
        size = self._sizes()[action.stage]
        given = [(contribution.weight, data)]
        try:
            await self._pool.run(
                compute.reduce_shard, self._spec.to_json(), action.epoch, action.lo, action.hi, size, base, given
            )
        except BadPayload:
            return False
        return True

    async def _contribution(self, contribution: Contribution) -> bytes | None:
        try:
            return await self._fetch(contribution.blob, "audit")
        except FetchFailed as error:
            logger.warning("pseudo-gradient of {}: {}", contribution.hotkey, error)
            return None

    async def _state(self, manifest: Manifest) -> list[Shard]:
        """The bytes of a manifest, from our store or from a miner, kept and pinned."""
        shards: list[Shard] = []
        for shard in manifest.shards:
            weights, momentum = await asyncio.gather(
                self._fetch(shard.weights, "manifest"), self._fetch(shard.momentum, "manifest")
            )
            self._store.put(weights, pin=True)
            self._store.put(momentum, pin=True)
            shards.append((shard.lo, shard.hi, weights, momentum))
        return shards

    def _keep(self, epoch: int, manifests: Sequence[Manifest]) -> None:
        """Let go of manifests that nobody will ask for; a blob that a newer manifest names stays."""
        names = [ref.digest for mf in manifests for s in mf.shards for ref in (s.weights, s.momentum)]
        self._kept[epoch] = names
        for old in [number for number in self._kept if number <= epoch - KEEP_EPOCHS]:
            newer = {name for number, kept in self._kept.items() if number != old for name in kept}
            self._store.forget([name for name in self._kept.pop(old) if name not in newer])

    async def _fetch(self, ref: BlobRef, label: str) -> bytes:
        blob = self._outgoing.blob(ref, self._hotkey)
        return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, label)
