"""An orchestrator on a bench: one event at a time, invariants checked after each, actions at hand."""

from __future__ import annotations

from typing import TypeVar

from iota_subnet.core import invariants
from iota_subnet.core.actions import Action, AssignLayer, GiveLease, PublishBatch, SetPhase
from iota_subnet.core.events import (
    BatchPublished,
    Evaluated,
    Event,
    LeaseFinished,
    Manifest,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    RunStarted,
    ShardFetched,
    ShardRecomputed,
    ShardReduced,
    ShardRef,
    ShardsCommitted,
    StageInstalled,
    Tick,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase, RunState
from iota_subnet.spec import BlobRef, ModelSpec, RunSpec, SwarmSpec, TrainSpec

A = TypeVar("A", bound=Action)

SIZE = 60


def blob(name: str, nbytes: int = 64) -> BlobRef:
    return BlobRef(name, nbytes, (f"http://{name}",))


class Bench:
    """`seats` miners per stage, installed unless `ready` is false. `actions` are those of the last call."""

    def __init__(self, stages: int = 2, seats: int = 2, ready: bool = True, **swarm: float) -> None:
        limits: dict[str, float] = {"epoch_batches": 4, "min_batches": 1, "lease_s": 10.0, "live_per_replica": 2}
        self.spec = RunSpec(
            model=ModelSpec(stages=stages),
            train=TrainSpec(microbatch=2),
            swarm=SwarmSpec(**{"start_miners": stages * seats, **limits, **swarm}),  # type: ignore[arg-type]
        )
        self.orchestrator = Orchestrator(self.spec)
        self.now = 0.0
        self.journal: list[Event] = []
        self.actions: list[Action] = []
        self.history: list[Action] = []
        manifests = tuple(Manifest(k, 0, (ShardRef(0, SIZE, blob(f"w{k}"), blob(f"m{k}")),)) for k in range(stages))
        digest = self.spec.digest()
        self.send(RunStarted(at=0.0, spec_digest=digest, secret="s", sizes=(SIZE,) * stages, manifests=manifests))
        for number in range(stages * seats if ready else 0):
            self.join(f"m{number}")

    @property
    def state(self) -> RunState:
        return self.orchestrator.state

    def send(self, event: Event) -> list[Action]:
        self.journal.append(event)
        self.actions = self.orchestrator.handle(event)
        self.history += self.actions
        invariants.check(self.state)
        return self.actions

    def got(self, kind: type[A], hotkey: str = "") -> list[A]:
        """The last call's actions of one kind, to one miner or to all."""
        return [a for a in self.actions if isinstance(a, kind) and (not hotkey or getattr(a, "hotkey", "") == hotkey)]

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.send(Tick(at=self.now))

    def join(self, hotkey: str, boot: str = "0", install: bool = True) -> list[Action]:
        self.send(MinerJoined(at=self.now, hotkey=hotkey, boot=boot))
        actions = self.connect(hotkey)
        for offer in [a for a in actions if isinstance(a, AssignLayer)] if install else []:
            actions = actions + self.install(hotkey, offer.epoch)
        self.actions = actions
        return actions

    def connect(self, hotkey: str) -> list[Action]:
        return self.send(MinerConnected(at=self.now, hotkey=hotkey))

    def disconnect(self, hotkey: str) -> list[Action]:
        return self.send(MinerDisconnected(at=self.now, hotkey=hotkey, reason="test"))

    def install(self, hotkey: str, epoch: int, digest: str = "same", manifest: str = "") -> list[Action]:
        """Report the state that counts now, or another one by its name."""
        stage = self.state.miners[hotkey].stage
        name = manifest or self.state.manifests[stage].name
        return self.send(
            StageInstalled(at=self.now, hotkey=hotkey, stage=stage, epoch=epoch, digest=digest, manifest=name)
        )

    def evaluated(self, epoch: int, loss: float) -> list[Action]:
        """The validator has copied and measured the manifests that count now."""
        names = tuple(manifest.name for manifest in self.state.manifests)
        return self.send(Evaluated(at=self.now, epoch=epoch, loss=loss, manifests=names))

    def publish(self) -> list[GiveLease]:
        """The feed publishes whatever is missing; returns the leases that were given."""
        leases: list[GiveLease] = []
        for batch in [batch.id for batch in self.state.batches.values() if batch.tokens is None]:
            self.send(BatchPublished(at=self.now, batch=batch, tokens=blob(f"t{batch}")))
            leases += self.got(GiveLease)
        return leases

    def finish(self, lease: GiveLease, hotkey: str = "", losses: tuple[float, ...] = (3.0, 3.0)) -> list[Action]:
        last = lease.op != "forward" and lease.stage == 0
        return self.send(
            LeaseFinished(
                at=self.now,
                hotkey=hotkey or lease.hotkey,
                lease=lease.lease,
                output=None if last else blob(f"{lease.op}-{lease.batch}-{lease.stage}-{lease.lease}"),
                losses=losses if lease.op == "loss" else (),
                seconds=0.5,
                inner_step=0,
            )
        )

    def train(self, until: Phase = Phase.COMMIT) -> Bench:
        """Every lease is done at once until the phase is over."""
        todo = [*self.given(), *self.publish()]
        while self.state.phase is Phase.TRAIN and todo:
            lease = todo.pop(0)
            if lease.lease in self.state.leases:
                todo += [a for a in self.finish(lease) if isinstance(a, GiveLease)]
            todo += self.publish()
        assert self.state.phase is until, self.state.waiting_for
        return self

    def given(self) -> list[GiveLease]:
        """All open leases, as they were given."""
        seen = {a.lease: a for a in self.history if isinstance(a, GiveLease)}
        return [seen[lease] for lease in self.state.leases]

    def open_batches(self) -> list[int]:
        return [a.batch for a in self.actions if isinstance(a, PublishBatch)]

    # -- merge --------------------------------------------------------------------------------------------------------

    def commit(self, hotkey: str, shards: int | None = None, name: str = "pg", nbytes: int = 8) -> list[Action]:
        stage = self.state.miners[hotkey].stage
        count = self.state.merges[stage].shard_count if shards is None else shards
        blobs = tuple(blob(f"{name}-{hotkey}-{index}", nbytes) for index in range(count))
        epoch = self.state.epoch
        return self.send(
            ShardsCommitted(
                at=self.now,
                hotkey=hotkey,
                stage=stage,
                epoch=epoch,
                shards=blobs,
                transcript=blob(f"said-{hotkey}-{epoch}", 8),
            )
        )

    def commit_all(self) -> Bench:
        for merge in list(self.state.merges):
            for hotkey in merge.eligible:
                if hotkey not in merge.commits:
                    self.commit(hotkey)
        return self

    def fetch(self, hotkey: str, have: tuple[str, ...], stage: int = 0, shard: int = 0) -> list[Action]:
        return self.send(
            ShardFetched(at=self.now, hotkey=hotkey, stage=stage, epoch=self.state.epoch, shard=shard, have=have)
        )

    def reduce(self, hotkey: str, name: str = "good", stage: int = 0, shard: int = 0, nbytes: int = 8) -> list[Action]:
        return self.send(
            ShardReduced(
                at=self.now,
                hotkey=hotkey,
                stage=stage,
                epoch=self.state.epoch,
                shard=shard,
                mean=blob(f"d-{name}", nbytes),
                weights=blob(f"w-{name}", nbytes),
                momentum=blob(f"m-{name}", nbytes),
            )
        )

    def recompute(
        self, contributors: tuple[str, ...], name: str = "good", stage: int = 0, shard: int = 0
    ) -> list[Action]:
        return self.send(
            ShardRecomputed(
                at=self.now,
                stage=stage,
                epoch=self.state.epoch,
                shard=shard,
                mean=blob(f"d-{name}") if contributors else None,
                weights=blob(f"w-{name}"),
                momentum=blob(f"m-{name}"),
                contributors=contributors,
            )
        )

    def merge_all(self, only: tuple[int, ...] | None = None) -> Bench:
        """Every living reducer does its duty honestly; who reduces alone is audited."""
        for merge in list(self.state.merges):
            if only is not None and merge.stage not in only:
                continue
            everybody = tuple(sorted(merge.commits))
            for shard in merge.shards:
                for hotkey in list(shard.reducers):
                    self.fetch(hotkey, everybody, merge.stage, shard.index)
                for hotkey in list(shard.reducers):
                    self.reduce(hotkey, "good", merge.stage, shard.index)
                if shard.recomputing:
                    self.recompute(everybody, "good", merge.stage, shard.index)
        return self

    def install_all(self) -> Bench:
        for miner in list(self.state.miners.values()):
            if miner.connected and miner.installed <= self.state.epoch:
                self.install(miner.hotkey, self.state.epoch + 1)
        return self

    def phases_sent(self, hotkey: str) -> list[str]:
        return [action.phase for action in self.history if isinstance(action, SetPhase) and action.hotkey == hotkey]
