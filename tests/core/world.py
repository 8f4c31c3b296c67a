"""A whole network in one thread and in virtual time: scripted miners, feed, auditor and chain around the real core.

Everything is drawn from the plan's seed, so a failing seed fails again. After every event the invariants are checked,
and what an outsider can see is checked too: nobody is given work it cannot do, no lease outlives its deadline, nothing
spins without time passing, no lie is accepted, only liars are named.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from iota_subnet.core import invariants
from iota_subnet.core.actions import (
    Action,
    Evaluate,
    ForgetBatch,
    GiveLease,
    PublishBatch,
    PublishScores,
    RecomputeShard,
)
from iota_subnet.core.draw import digest
from iota_subnet.core.events import (
    BatchPublished,
    Evaluated,
    Event,
    Manifest,
    MetagraphChanged,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    MinerLeft,
    RunStarted,
    ShardRecomputed,
    ShardRef,
    Tick,
    ValidatorRestarted,
    WeightsSet,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase
from iota_subnet.spec import BlobRef

from .miners import ScriptedMiner, reduced_digests
from .plans import STORM, Plan, Trait

#: More events than this in one instant are a hot loop.
MOST_AT_ONCE = 400

#: A run that is not over by then is stuck: the storm, and every deadline of every epoch, fit in.
LATEST = 1200.0


class Wrong(AssertionError):
    """The world saw something that must not be."""


def need(truth: bool, message: str) -> None:
    if not truth:
        raise Wrong(message)


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.spec = plan.spec()
        self.rng = Random(f"world {plan.seed}")
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.posted = 0
        self.at_once = 0
        self.up = True
        self.orchestrator = Orchestrator(self.spec)
        self.journal: list[Event] = []
        self.holders: dict[str, list[str]] = {}
        self.deregistered: dict[str, None] = {}
        self.miners: dict[str, ScriptedMiner] = {}
        self.asked: dict[int, float] = {}
        self.lies_caught = 0
        self.restarts = 0

    # -- time ---------------------------------------------------------------------------------------------------------

    def at(self, when: float, act: Callable[[], None]) -> None:
        self.posted += 1
        heapq.heappush(self.heap, (when, self.posted, act))

    def run(self) -> World:
        """From the first event to DONE."""
        self.start()
        while self.orchestrator.state.phase is not Phase.DONE or self.now < STORM:
            when, _, act = heapq.heappop(self.heap)
            need(when < LATEST, f"stuck in {self.orchestrator.state.phase}: {self.orchestrator.state.waiting_for}")
            self.at_once = self.at_once + 1 if when == self.now else 0
            need(self.at_once < MOST_AT_ONCE, f"a hot loop at {when:.2f}")
            self.now = when
            act()
        return self

    def start(self) -> None:
        sizes = tuple(101 + 36 * stage for stage in range(self.spec.model.stages))
        manifests = []
        for stage, size in enumerate(sizes):
            weights, momentum = (BlobRef(f"init/{what}/{stage}", 4 * size, ("validator",)) for what in "wm")
            self.hold(weights, "validator")
            self.hold(momentum, "validator")
            manifests.append(Manifest(stage, 0, (ShardRef(0, size, weights, momentum),)))
        secret = f"secret {self.plan.seed}"
        started = RunStarted(
            at=0.0, spec_digest=self.spec.digest(), secret=secret, sizes=sizes, manifests=tuple(manifests)
        )
        self.inject(started)
        for number in range(self.plan.miners):
            miner = self.add_miner(self.plan.traits.get(number, Trait()))
            self.at(self.rng.uniform(0.0, 3.0), lambda miner=miner: self.connect(miner, True))  # type: ignore[misc]
        for when, what, number in self.plan.incidents:
            self.at(when, lambda what=what, number=number: self.incident(what, number))  # type: ignore[misc]
        self.at(1.0, self.tick)
        self.at(15.0, self.operator)

    def tick(self) -> None:
        self.inject(Tick(at=self.now))
        self.at(self.now + 1.0, self.tick)

    def operator(self) -> None:
        """The subnet's owner: brings a good miner where a stage has none, so that each regains a live replica."""
        state = self.orchestrator.state
        for stage in range(self.spec.model.stages):
            good = [m for m in state.members(stage) if m.connected and self.is_good(m.hotkey)]
            if not good and len(state.miners) < self.spec.swarm.max_miners:
                self.connect(self.add_miner(Trait()), True)
        self.at(self.now + 15.0, self.operator)

    def is_good(self, hotkey: str) -> bool:
        trait = self.miners[hotkey].trait
        return self.miners[hotkey].alive and not (trait.fails_all or trait.silent or trait.wrong_losses)

    # -- events in, actions out ---------------------------------------------------------------------------------------

    def inject(self, event: Event) -> None:
        if not self.up:
            return
        audited = self.suspects(event) if isinstance(event, ShardRecomputed) else []
        self.journal.append(event)
        actions = self.orchestrator.handle(event)
        state = self.orchestrator.state
        invariants.check(state)
        for action in actions:
            self.perform(action)
        named = [fault.hotkey for fault in state.faults]
        need(all(self.miners[h].trait.lies_in_reduce for h in named), f"an honest miner was named: {named}")
        for hotkey in audited:
            self.lies_caught += 1
            need(hotkey in named, f"{hotkey} lied, the auditor saw it, and nobody said so")
        if isinstance(event, Tick):
            need(all(lease.deadline > event.at for lease in state.leases.values()), "a lease outlives its deadline")
            for batch in state.batches.values():
                asked = batch.tokens is not None or self.now <= self.asked[batch.id] + self.spec.swarm.lease_s + 1.0
                need(asked, f"microbatch {batch.id} has no tokens and nobody asks for them")
        lies = [s.weights.digest for m in state.manifests for s in m.shards if s.weights.digest.startswith("lie/")]
        need(not lies, f"a lie has become the model: {lies}")

    def suspects(self, event: ShardRecomputed) -> list[str]:
        """Who has published a lie about what the auditor is about to answer for, from the very same inputs."""
        state = self.orchestrator.state
        if event.epoch != state.epoch or not state.merges or not state.merges[event.stage].shards:
            return []
        shard = state.merges[event.stage].shards[event.shard]
        if not shard.recomputing or shard.accepted is not None or shard.contributors != event.contributors:
            return []
        return [hotkey for hotkey, (weights, _) in shard.results.items() if weights.digest.startswith("lie/")]

    def perform(self, action: Action) -> None:
        match action:
            case PublishBatch():
                self.asked[action.batch] = self.now
                self.at(self.now + self.plan.latency, lambda: self.publish(action.batch))
            case ForgetBatch():
                self.holders.pop(self.tokens(action.batch).digest, None)
            case RecomputeShard():
                if self.rng.random() >= self.plan.auditor_loss:
                    self.at(self.now + 0.5, lambda: self.recompute(action))
            case Evaluate():
                self.at(self.now + self.plan.copy_s, lambda: self.evaluate(action))
            case PublishScores():
                done = WeightsSet(at=self.now, epoch=action.epoch, ok=True, message="set")
                self.at(self.now + 1.0, lambda: self.inject(done))
            case _:
                if isinstance(action, GiveLease):
                    self.check_lease(action)
                self.send_down(action)

    def check_lease(self, action: GiveLease) -> None:
        state = self.orchestrator.state
        miner = state.miners[action.hotkey]
        need(miner.connected, f"{action.hotkey} is given a lease and is away")
        again = state.leases[action.lease].opened_at < state.now
        need(again or miner.installed == state.epoch, f"{action.hotkey} is given a lease and holds another epoch")
        need(again or state.phase is Phase.TRAIN, f"a lease is given in {state.phase}")

    def copies(self) -> int:
        if self.rng.random() < self.plan.loss:
            return 0
        return 2 if self.rng.random() < self.plan.twice else 1

    def delay(self) -> float:
        return self.plan.latency + (self.rng.uniform(0.0, self.plan.jitter) if self.plan.jitter else 0.0)

    def send_down(self, action: Action) -> None:
        miner = self.miners[action.hotkey]  # type: ignore[attr-defined]
        boot = miner.boot

        def deliver() -> None:
            if miner.alive and miner.connected and miner.boot == boot:
                miner.take(action)

        for _ in range(self.copies()):
            self.at(self.now + self.delay(), deliver)

    def send_up(self, miner: ScriptedMiner, event: Event) -> None:
        for _ in range(self.copies() if miner.connected else 0):
            self.at(self.now + self.delay(), lambda: self.inject(_at(event, self.now)))

    # -- blobs, feed, auditor -----------------------------------------------------------------------------------------

    def hold(self, blob: BlobRef, holder: str) -> None:
        self.holders.setdefault(blob.digest, []).append(holder)

    def can_fetch(self, blob: BlobRef) -> bool:
        return any(self.serves(holder) for holder in self.holders.get(blob.digest, []))

    def serves(self, holder: str) -> bool:
        if holder in ("validator", "feed"):
            return True
        miner = self.miners[holder.split("/")[0]]
        return miner.alive and miner.process == holder

    def tokens(self, batch: int) -> BlobRef:
        return BlobRef(digest("tokens", batch).hex(), 64, ("feed",))

    def publish(self, batch: int) -> None:
        if self.rng.random() >= self.plan.token_loss:
            self.hold(self.tokens(batch), "feed")
        if self.rng.random() >= self.plan.token_loss:
            self.inject(BatchPublished(at=self.now, batch=batch, tokens=self.tokens(batch)))

    def evaluate(self, action: Evaluate) -> None:
        """Needs the bytes, and keeps them: from then on the validator serves the manifest."""
        blobs = [
            blob
            for manifest in action.manifests
            for shard in manifest.shards
            for blob in (shard.weights, shard.momentum)
        ]
        if self.up and all(self.can_fetch(blob) for blob in blobs):
            for blob in blobs:
                self.hold(blob, "validator")
            self.inject(Evaluated(at=self.now, epoch=action.epoch, loss=3.0))

    def recompute(self, action: RecomputeShard) -> None:
        chosen = tuple(c for c in action.contributions if self.can_fetch(c.blob))
        digests = reduced_digests(action.base, action.lo, action.hi, chosen)
        weights, momentum = (BlobRef(name, 4 * (action.hi - action.lo), ("validator",)) for name in digests)
        self.hold(weights, "validator")
        self.hold(momentum, "validator")
        names = tuple(c.hotkey for c in chosen)
        self.inject(
            ShardRecomputed(
                at=self.now,
                stage=action.stage,
                epoch=action.epoch,
                shard=action.shard,
                weights=weights,
                momentum=momentum,
                contributors=names,
            )
        )

    # -- comings and goings -------------------------------------------------------------------------------------------

    def add_miner(self, trait: Trait) -> ScriptedMiner:
        miner = ScriptedMiner(self, len(self.miners), trait)
        self.miners[miner.hotkey] = miner
        miner.alive = True
        return miner

    def connect(self, miner: ScriptedMiner, join: bool) -> None:
        if not miner.alive:
            return
        if not self.up:
            miner.later(1.0, self.connect, miner, join)
            return
        if join or miner.hotkey not in self.orchestrator.state.miners:
            self.inject(MinerJoined(at=self.now, hotkey=miner.hotkey, boot=str(miner.boot)))
        if miner.hotkey not in self.orchestrator.state.miners:
            miner.later(10.0, self.connect, miner, True)
            return
        miner.connected = True
        self.inject(MinerConnected(at=self.now, hotkey=miner.hotkey))

    def disconnect(self, miner: ScriptedMiner) -> None:
        if miner.connected:
            miner.connected = False
            self.inject(MinerDisconnected(at=self.now, hotkey=miner.hotkey, reason="channel closed"))

    def incident(self, what: str, number: int) -> None:
        miner = self.miners[f"miner-{number}"]
        match what:
            case "join":
                self.connect(self.add_miner(Trait(seconds=self.rng.uniform(0.1, 0.8))), True)
            case "restart_validator":
                self.restart_validator(self.rng.choice((1.0, 4.0, 30.0)))
            case _ if not miner.alive:
                return
            case "crash":
                miner.alive = False
                self.disconnect(miner)
            case "restart_miner":
                miner.boot += 1
                miner.reset()
                self.disconnect(miner)
                miner.later(self.rng.uniform(0.0, 8.0), self.connect, miner, True)
            case "blink" | "away":
                self.disconnect(miner)
                away = self.rng.uniform(0.5, 4.0) if what == "blink" else self.rng.uniform(7.0, 15.0)
                miner.later(away, self.connect, miner, what == "away")
            case "leave":
                miner.alive = miner.connected = False
                self.inject(MinerLeft(at=self.now, hotkey=miner.hotkey))
            case "deregister":
                self.deregistered[miner.hotkey] = None
                self.metagraph()
                self.at(self.now + 15.0, lambda: (self.deregistered.pop(miner.hotkey, None), self.metagraph()))  # type: ignore[arg-type, return-value]

    def metagraph(self) -> None:
        known = tuple(f"miner-{number}" for number in range(64) if f"miner-{number}" not in self.deregistered)
        self.inject(MetagraphChanged(at=self.now, hotkeys=known))

    def restart_validator(self, seconds: float) -> None:
        """The process dies; its successor replays the ledger and must find the same state."""
        if not self.up:
            return
        self.up = False
        self.orchestrator = self.replay()
        self.restarts += 1
        for miner in self.miners.values():
            if miner.connected:
                miner.connected = False
                miner.later(seconds + self.rng.uniform(0.1, 3.0), self.connect, miner, False)
        self.at(self.now + seconds, self.come_back)

    def come_back(self) -> None:
        self.up = True
        self.inject(ValidatorRestarted(at=self.now))

    def replay(self) -> Orchestrator:
        fresh = Orchestrator(self.spec)
        for event in self.journal:
            fresh.handle(event)
        need(fresh.state == self.orchestrator.state, "a replay of the ledger gives another state")
        return fresh


def _at(event: Event, now: float) -> Event:
    """The event, stamped by the validator's clock on arrival."""
    return type(event)(**{**{name: getattr(event, name) for name in _names(type(event))}, "at": now})


def _names(cls: type[Event]) -> tuple[str, ...]:
    return tuple(cls.__dataclass_fields__)
