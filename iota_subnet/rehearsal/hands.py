"""The validator's hands: feed, reductions, held-out loss, audits, and the scores that it would write on chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from iota_subnet.core import actions as a
from iota_subnet.core.events import (
    BatchPublished,
    EffectFailed,
    Evaluated,
    Manifest,
    MinerAudited,
    RunStarted,
    ShardRecomputed,
    ShardRef,
    WeightsSet,
)
from iota_subnet.spec import BlobRef
from iota_subnet.train.codec import BadPayload, digest
from iota_subnet.train.data import Feed
from iota_subnet.train.replay import replay
from iota_subnet.validator import compute
from iota_subnet.validator.compute import Shard
from iota_subnet.validator.inspector import order_of

if TYPE_CHECKING:
    from iota_subnet.rehearsal.world import Rehearsal

#: Virtual seconds that each takes.
FEED_S, REDUCE_S, EVALUATE_S, AUDIT_S, CHAIN_S = 0.01, 0.5, 1.0, 5.0, 1.0

#: Epochs whose manifests are kept.
KEEP_EPOCHS = 3

#: Held-out microbatches that are measured; the first of those that the feed holds.
HELD_OUT = 8


class Hands:
    """Does what the core asks of the validator itself. `cpu` and `audit_cpu` are processor seconds; `difficulty` says
    how hard a microbatch is, which a real validator tells the core and rehearsals leave out unless they are asked."""

    def __init__(self, world: Rehearsal, feed: Feed) -> None:
        self.world = world
        self.held_out: list[float] = []
        self.verdicts: list[MinerAudited] = []
        self.cpu = self.audit_cpu = 0.0
        self.audited = self.audit_passes = 0
        self.feed = feed
        self.difficulty: Callable[[bytes], float] = lambda tokens: 0.0
        self._blobs: dict[str, bytes] = {}
        self._kept: dict[int, dict[str, None]] = {}

    def get(self, wanted: str) -> bytes | None:
        """What the validator serves."""
        return self._blobs.get(wanted)

    def birth(self) -> RunStarted:
        """The first event: the manifests of epoch 0 are the validator's own."""
        spec = self.world.spec
        states = compute.initial_states(spec.to_json())
        manifests = tuple(
            Manifest(stage, 0, (ShardRef(0, size, self._pin(0, weights), self._pin(0, momentum)),))
            for stage, (size, weights, momentum) in enumerate(states)
        )
        sizes = tuple(size for size, _, _ in states)
        secret = f"secret {spec.seed}"
        return RunStarted(at=0.0, spec_digest=spec.digest(), secret=secret, sizes=sizes, manifests=manifests)

    def perform(self, action: a.Action) -> bool:
        """Whether the action was one of ours."""
        match action:
            case a.PublishBatch():
                self._soon(FEED_S, lambda: self._publish(action.batch))
            case a.ForgetBatch():
                self._blobs.pop(digest(self.feed.batch(action.batch)), None)
            case a.RecomputeShard():
                self._soon(REDUCE_S, lambda: self._recompute(action))
            case a.Evaluate():
                self._soon(EVALUATE_S, lambda: self._evaluate(action))
            case a.AuditMiner():
                self._soon(AUDIT_S, lambda: self._audit(action))
            case a.PublishScores():
                epoch = action.epoch
                done = "kept for the result"
                self._soon(
                    CHAIN_S,
                    lambda: self.world.post(WeightsSet(at=self.world.now, epoch=epoch, ok=True, message=done)),
                )
            case _:
                return False
        return True

    def audit(self, action: a.AuditMiner) -> MinerAudited:
        """Compute one miner's epoch again, from what it shows and from what the validator knows."""
        player = self.world.players[action.hotkey]

        def blob(wanted: str) -> bytes | None:
            found = self.get(wanted)
            if found is None:
                shown = player.serve(wanted)
                found = shown if shown is not None and digest(shown) == wanted else None
            return found

        found = replay(order_of(self.world.spec.to_json(), action), blob, threads=1)
        self.audited += 1
        self.audit_passes += found.passes
        return MinerAudited(
            at=self.world.now,
            hotkey=action.hotkey,
            stage=action.stage,
            epoch=action.epoch,
            verdict=found.verdict,
            reason=found.reason,
            passes=found.passes,
            losses=found.passes if any(entry[5] for entry in action.leases) else 0,
            auditor=action.auditor,
            batches=found.batches,
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _soon(self, seconds: float, act: Callable[[], None]) -> None:
        def run() -> None:
            # Whatever threads the miner before had.
            self.world.threads(1)
            act()

        self.world.at(self.world.now + seconds, run)

    def _pin(self, epoch: int, data: bytes) -> BlobRef:
        """Keep what belongs to the manifest of `epoch`."""
        name = digest(data)
        self._blobs[name] = data
        self._kept.setdefault(epoch, {})[name] = None
        return BlobRef(name, len(data))

    def _publish(self, batch: int) -> None:
        data = self.feed.batch(batch)
        name = digest(data)
        self._blobs[name] = data
        tokens, hard = BlobRef(name, len(data)), self.difficulty(data)
        self.world.post(BatchPublished(at=self.world.now, batch=batch, tokens=tokens, difficulty=hard))

    def _audit(self, action: a.AuditMiner) -> None:
        began = time.thread_time()
        event = self.audit(action)
        self.audit_cpu += time.thread_time() - began
        self.verdicts.append(event)
        self.world.post(event)

    def _state(self, manifest: Manifest, lo: int, hi: int) -> list[Shard] | None:
        """The bytes of what a manifest says of [lo, hi), kept."""
        shards: list[Shard] = []
        for shard in manifest.shards:
            if shard.lo >= hi or shard.hi <= lo:
                continue
            weights, momentum = (self.world.fetch(ref, None) for ref in (shard.weights, shard.momentum))
            if weights is None or momentum is None:
                return None
            self._pin(manifest.epoch, weights)
            self._pin(manifest.epoch, momentum)
            shards.append((shard.lo, shard.hi, weights, momentum))
        return shards

    def _evaluate(self, action: a.Evaluate) -> None:
        began, world = time.thread_time(), self.world
        sizes = world.core.state.sizes
        states = [self._state(manifest, 0, sizes[manifest.stage]) for manifest in action.manifests]
        held = [state for state in states if state is not None]
        if len(held) < len(states):
            world.post(EffectFailed(at=world.now, action="Evaluate", hotkey="", reason="nobody serves it"))
            return
        loss = compute.held_out_loss(world.spec.to_json(), sizes, held, self.feed.heldout()[:HELD_OUT])
        # A manifest that replaces another of its epoch is measured again.
        self.held_out[action.epoch :] = [loss]
        for old in [epoch for epoch in self._kept if epoch <= action.epoch - KEEP_EPOCHS]:
            gone = self._kept.pop(old)
            for name in gone:
                if not any(name in names for names in self._kept.values()):
                    self._blobs.pop(name, None)
        self.cpu += time.thread_time() - began
        names = tuple(manifest.name for manifest in action.manifests)
        world.post(Evaluated(at=world.now, epoch=action.epoch, loss=loss, manifests=names))

    def _recompute(self, action: a.RecomputeShard) -> None:
        began, world = time.thread_time(), self.world
        base = self._state(action.base, action.lo, action.hi)
        if base is None:
            world.post(EffectFailed(at=world.now, action="RecomputeShard", hotkey="", reason="nobody serves it"))
            return
        fetched = [(c, world.fetch(c.blob, None)) for c in action.contributions]
        given = [(c, data) for c, data in fetched if data is not None]
        try:
            made = self._reduce(action, base, given)
        except BadPayload:
            given, made = self._sound(action, base, given)
        mean, weights, momentum = (self._pin(action.epoch + 1, part) if part else None for part in made)
        assert weights is not None and momentum is not None
        self.cpu += time.thread_time() - began
        world.post(
            ShardRecomputed(
                at=world.now,
                stage=action.stage,
                epoch=action.epoch,
                shard=action.shard,
                mean=mean,
                weights=weights,
                momentum=momentum,
                contributors=tuple(c.hotkey for c, _ in given),
            )
        )

    def _reduce(
        self, action: a.RecomputeShard, base: list[Shard], given: list[tuple[a.Contribution, bytes]]
    ) -> tuple[bytes, bytes, bytes]:
        parts = [(c.weight, data) for c, data in given]
        spec = self.world.spec.to_json()
        return compute.reduce_shard(spec, action.epoch, action.lo, action.hi, base, parts)

    def _sound(
        self, action: a.RecomputeShard, base: list[Shard], given: list[tuple[a.Contribution, bytes]]
    ) -> tuple[list[tuple[a.Contribution, bytes]], tuple[bytes, bytes, bytes]]:
        """As the validator does: add one after the other, leave out what spoils the sum."""
        sound: list[tuple[a.Contribution, bytes]] = []
        made = self._reduce(action, base, sound)
        for item in given:
            try:
                made = self._reduce(action, base, [*sound, item])
                sound.append(item)
            except BadPayload:
                continue
        return sound, made
