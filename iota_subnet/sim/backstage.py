"""The validator's other hands, scripted: feed, auditor, evaluation, chain writer, and the subnet's owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from iota_subnet.books import Line, disagreement
from iota_subnet.core.actions import (
    Action,
    AuditMiner,
    Evaluate,
    ForgetBatch,
    PublishBatch,
    PublishScores,
    RecomputeShard,
)
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
from iota_subnet.sim.miners import reduced_digests
from iota_subnet.sim.network import tokens_of
from iota_subnet.sim.plans import Trait
from iota_subnet.sim.watch import need
from iota_subnet.spec import BlobRef

if TYPE_CHECKING:
    from iota_subnet.sim.world import World

#: How often the owner looks after the subnet, and how long an audit and a transaction take (simulated seconds).
OWNER_S = 15.0
AUDIT_S = 0.5
REPLAY_S = 3.0
CHAIN_S = 1.0

#: How often a failing effect is tried, as by the real shell.
TRIES = 3


class Backstage:
    """Answers what the core asks of the validator itself, after simulated seconds, and fails as the plan says."""

    def __init__(self, world: World) -> None:
        self.world = world
        #: When the tokens of a microbatch were last asked for, by the core's clock.
        self.asked: dict[int, float] = {}

    def birth(self) -> RunStarted:
        """The first event: the manifests of epoch 0 are the validator's own."""
        world = self.world
        sizes = tuple(101 + 36 * stage for stage in range(world.spec.model.stages))
        manifests = []
        for stage, size in enumerate(sizes):
            weights, momentum = (BlobRef(f"init/{what}/{stage}", 4 * size, ("validator",)) for what in "wm")
            world.network.hold(weights, "validator")
            world.network.hold(momentum, "validator")
            manifests.append(Manifest(stage, 0, (ShardRef(0, size, weights, momentum),)))
        return RunStarted(
            at=0.0,
            spec_digest=world.spec.digest(),
            secret=f"secret {world.plan.seed}",
            sizes=sizes,
            manifests=tuple(manifests),
        )

    def perform(self, action: Action) -> bool:
        """Whether the action was one of ours."""
        world, rng = self.world, self.world.rng
        match action:
            case PublishBatch():
                self.asked[action.batch] = world.orchestrator.state.now
                self._soon(world.plan.latency, lambda: self._publish(action.batch))
            case ForgetBatch():
                world.network.forget(tokens_of(action.batch).digest)
            case RecomputeShard():
                if rng.random() < world.plan.auditor_loss:
                    world.counts["auditor"] += 1
                else:
                    self._soon(AUDIT_S, lambda: self._recompute(action, TRIES))
            case AuditMiner():
                if rng.random() < world.plan.auditor_loss:
                    world.counts["auditor"] += 1
                else:
                    self._soon(REPLAY_S, lambda: self._audit(action))
            case Evaluate():
                self._soon(world.plan.copy_s, lambda: self._evaluate(action, TRIES))
            case PublishScores():
                self._soon(CHAIN_S, lambda: self._set_weights(action))
            case _:
                return False
        return True

    def _soon(self, seconds: float, act: Callable[[], None]) -> None:
        """Do it unless the validator dies before: what a process had in hand is gone with it."""
        world, boot = self.world, self.world.boot

        def run() -> None:
            if world.up and world.boot == boot:
                act()

        world.at(world.now + seconds, run)

    def _publish(self, batch: int) -> None:
        world, tokens = self.world, tokens_of(batch)
        if world.rng.random() >= world.plan.token_loss:
            world.network.hold(tokens, "feed")
        else:
            world.counts["tokens"] += 1
        if world.rng.random() >= world.plan.token_loss:
            world.post(BatchPublished(at=world.clock, batch=batch, tokens=tokens))
        else:
            world.counts["tokens"] += 1

    def _copied(self, manifests: tuple[Manifest, ...]) -> bool:
        """Have all the bytes, and keep them: from then on the validator serves the manifest."""
        network = self.world.network
        for blob in blobs_of(manifests):
            if not network.can_fetch(blob):
                return False
            network.hold(blob, "validator")
        return True

    def _failed(self, action: str, again: Callable[[int], None], tries: int) -> None:
        """Bytes could not be had: try again soon, then say so."""
        if tries > 1:
            self._soon(CHAIN_S, lambda: again(tries - 1))
        else:
            self.world.counts["effect_failed"] += 1
            self.world.post(EffectFailed(at=self.world.clock, action=action, hotkey="", reason="404"))

    def _evaluate(self, action: Evaluate, tries: int) -> None:
        if not self._copied(action.manifests):
            self._failed("Evaluate", lambda left: self._evaluate(action, left), tries)
            return
        names = tuple(manifest.name for manifest in action.manifests)
        self.world.post(Evaluated(at=self.world.clock, epoch=action.epoch, loss=3.0, manifests=names))

    def _recompute(self, action: RecomputeShard, tries: int) -> None:
        network = self.world.network
        if not self._copied((action.base,)):
            self._failed("RecomputeShard", lambda left: self._recompute(action, left), tries)
            return
        chosen = tuple(c for c in action.contributions if network.can_fetch(c.blob))
        digests = reduced_digests(action.base, action.lo, action.hi, chosen)
        refs = [BlobRef(name, 4 * (action.hi - action.lo), ("validator",)) for name in digests]
        for ref in refs:
            network.hold(ref, "validator")
        self.world.post(
            ShardRecomputed(
                at=self.world.clock,
                stage=action.stage,
                epoch=action.epoch,
                shard=action.shard,
                mean=refs[0] if chosen else None,
                weights=refs[1],
                momentum=refs[2],
                contributors=tuple(c.hotkey for c in chosen),
            )
        )

    def _audit(self, action: AuditMiner) -> None:
        """Look into the books as the real auditor does, and see what only computing again would show."""
        world = self.world
        miner = world.miners[action.hotkey]
        said = world.shown.get(action.transcript.digest, ())
        books = [
            Line(number, op, batch, tuple(b.digest for b in inputs), output.digest if output else "", losses, done)
            for number, op, batch, inputs, output, losses, done, _ in action.leases
        ]
        seen = said[: action.depth or None]
        found = disagreement(books, seen, action.first_lease, whole=len(seen) == len(said))
        need(found is None, f"the books contradict {action.hotkey}, which is honest about what it did: {found}")
        if not world.network.can_fetch(action.transcript):
            verdict: Literal["sound", "failed", "withheld"] = "withheld"
            miner.withheld = True
        else:
            verdict = "failed" if miner.trait.cheats else "sound"
        world.counts[f"audit_{verdict}"] += 1
        world.post(
            MinerAudited(
                at=world.clock,
                hotkey=action.hotkey,
                stage=action.stage,
                epoch=action.epoch,
                verdict=verdict,
                reason="" if verdict == "sound" else "the output of pass 0 differs",
                passes=len(seen),
                losses=sum(line.op == "loss" for line in seen),
                auditor=action.auditor,
                batches=tuple(line.batch for line in seen[:1]) if verdict == "failed" else (),
            )
        )

    def _set_weights(self, action: PublishScores) -> None:
        self.world.post(WeightsSet(at=self.world.clock, epoch=action.epoch, ok=True, message="set"))

    def owner(self) -> None:
        """The subnet's owner brings a good miner where a stage has none, so that each regains a live replica."""
        world, state = self.world, self.world.orchestrator.state
        for stage in range(world.spec.model.stages):
            good = [m for m in state.members(stage) if m.connected and world.miners[m.hotkey].good]
            if not good and len(state.miners) < world.spec.swarm.max_miners:
                world.counts["owner"] += 1
                world.connect(world.add_miner(Trait()), True)
        world.at(world.now + OWNER_S, self.owner)


def blobs_of(manifests: tuple[Manifest, ...]) -> list[BlobRef]:
    """Everything that these global states consist of."""
    shards = [shard for manifest in manifests for shard in manifest.shards]
    return [blob for shard in shards for blob in (shard.weights, shard.momentum)]
