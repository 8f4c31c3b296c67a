"""Scripted miners: they react to actions as a real one would, in virtual time and without a tensor.

A blob is its digest. What a reducer publishes is a hash of base, slice and contributions, so honest twins agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iota_subnet.core.actions import (
    Action,
    AssignLayer,
    Contribution,
    Duty,
    FixContributors,
    Forget,
    GiveLease,
    Refuse,
    SendMergePlan,
    SetPhase,
    WithdrawLease,
)
from iota_subnet.core.draw import digest
from iota_subnet.core.events import (
    Event,
    LeaseFailed,
    LeaseFinished,
    Manifest,
    ShardFetched,
    ShardReduced,
    ShardsCommitted,
    StageInstalled,
)
from iota_subnet.spec import BlobRef

from .plans import Trait

if TYPE_CHECKING:
    from .world import World


def reduced_digests(base: Manifest, lo: int, hi: int, chosen: tuple[Contribution, ...]) -> tuple[str, str]:
    """The truth about one shard: depends on every input and on nothing else."""
    inputs = (*(s.weights.digest for s in base.shards), lo, hi, *((c.hotkey, c.weight, c.blob.digest) for c in chosen))
    return digest("weights", *inputs).hex(), digest("momentum", *inputs).hex()


class ScriptedMiner:
    """One hotkey. `boot` counts its processes; a new one has lost everything that the old one held."""

    def __init__(self, world: World, number: int, trait: Trait) -> None:
        self.world = world
        self.number = number
        self.hotkey = f"miner-{number}"
        self.trait = trait
        self.boot = 0
        self.alive = False
        self.connected = False
        self.reset()

    def reset(self) -> None:
        self.stage = -1
        self.manifest: Manifest | None = None
        self.busy_until = 0.0
        self.receipts: dict[int, LeaseFinished] = {}
        self.running: dict[int, None] = {}
        self.withdrawn: dict[int, None] = {}
        self.graphs: dict[int, None] = {}
        self.committed: tuple[int, tuple[BlobRef, ...]] | None = None
        self.duties: dict[tuple[int, int], tuple[Duty, Manifest]] = {}
        self.fixed: dict[tuple[int, int], FixContributors] = {}

    @property
    def process(self) -> str:
        """Who holds what this process published."""
        return f"{self.hotkey}/{self.boot}"

    def blob(self, nbytes: int, *label: object) -> BlobRef:
        """Publish some bytes; now and then they are lost before anybody reads them."""
        ref = BlobRef(digest(self.process, *label).hex(), nbytes, (self.process,))
        if self.world.rng.random() >= max(self.trait.blob_loss, self.world.plan.blob_loss):
            self.world.hold(ref, self.process)
        return ref

    def send(self, event: Event) -> None:
        self.world.send_up(self, event)

    def later(self, seconds: float, act: object, *args: object) -> None:
        """Do something if this very process still lives then."""
        boot = self.boot

        def run() -> None:
            if self.alive and self.boot == boot:
                act(*args)  # type: ignore[operator]

        self.world.at(self.world.now + seconds, run)

    def take(self, action: Action) -> None:
        match action:
            case AssignLayer():
                self.install(action.manifest)
            case SetPhase():
                if action.shards:
                    self.later(0.2, self.commit, action.epoch, action.shards)
                if action.manifest is not None:
                    self.install(action.manifest)
            case GiveLease():
                self.work(action)
            case WithdrawLease():
                self.withdrawn[action.lease] = None
            case SendMergePlan():
                self.plan(action)
            case FixContributors():
                self.fixed[action.epoch, action.shard] = action
                self.later(0.3, self.reduce, action.epoch, action.shard)
            case Forget():
                self.graphs.pop(action.batch, None)
            case Refuse():
                if action.what in ("seat", "connection", "installation"):
                    self.later(2.0, self.world.connect, self, True)
            case _:
                raise AssertionError(f"not for a miner: {action}")

    def install(self, manifest: Manifest) -> None:
        self.later(0.0 if self.manifest == manifest else 0.5, self.installed, manifest)

    def installed(self, manifest: Manifest) -> None:
        held = self.manifest
        if held is not None and held.stage == manifest.stage and held.epoch > manifest.epoch:
            return
        blobs = [blob for shard in manifest.shards for blob in (shard.weights, shard.momentum)]
        if held != manifest and not all(self.world.can_fetch(blob) for blob in blobs):
            return
        self.stage, self.manifest = manifest.stage, manifest
        state = digest("state", *(blob.digest for blob in blobs)).hex()
        self.send(StageInstalled(at=0.0, hotkey=self.hotkey, stage=manifest.stage, epoch=manifest.epoch, digest=state))

    def commit(self, epoch: int, shards: int) -> None:
        if self.committed is None or self.committed[0] != epoch:
            blobs = tuple(self.blob(8, "pseudo-gradient", epoch, index) for index in range(shards))
            self.committed = epoch, blobs
        self.send(ShardsCommitted(at=0.0, hotkey=self.hotkey, stage=self.stage, epoch=epoch, shards=self.committed[1]))

    def work(self, lease: GiveLease) -> None:
        if lease.lease in self.receipts:
            self.send(self.receipts[lease.lease])
            return
        if self.trait.silent or lease.lease in self.running:
            return
        if self.trait.fails_all:
            self.send(LeaseFailed(at=0.0, hotkey=self.hotkey, lease=lease.lease, kind="work", digest="", reason="oom"))
            return
        self.running[lease.lease] = None
        self.graphs[lease.batch] = None
        self.busy_until = max(self.busy_until, self.world.now) + self.trait.seconds
        self.later(self.busy_until - self.world.now, self.finish, lease)

    def finish(self, lease: GiveLease) -> None:
        self.running.pop(lease.lease, None)
        for blob in lease.inputs:
            if not self.world.can_fetch(blob):
                self.send(
                    LeaseFailed(
                        at=0.0, hotkey=self.hotkey, lease=lease.lease, kind="input", digest=blob.digest, reason="404"
                    )
                )
                return
        last = lease.op != "forward" and lease.stage == 0
        output = None if last else self.blob(64, lease.op, lease.batch, lease.stage, lease.lease)
        losses = (3.0, 3.0) if lease.op == "loss" else ()
        if lease.op == "loss" and self.trait.wrong_losses:
            losses = self.world.rng.choice([(3.0,), (float("nan"), 3.0), (-1.0, 3.0), (1e9, 1.0)])
        receipt = LeaseFinished(
            at=0.0, hotkey=self.hotkey, lease=lease.lease, output=output, losses=losses, seconds=0.1, inner_step=0
        )
        self.receipts[lease.lease] = receipt
        self.send(receipt)

    def plan(self, action: SendMergePlan) -> None:
        if self.manifest is None or self.manifest.stage != action.stage:
            return
        for duty in action.duties:
            self.duties[action.epoch, duty.shard] = duty, self.manifest
            have = tuple(c.hotkey for c in duty.contributions if self.world.can_fetch(c.blob))
            if self.trait.hides_peers:
                have = (self.hotkey,)
            report = ShardFetched(
                at=0.0, hotkey=self.hotkey, stage=action.stage, epoch=action.epoch, shard=duty.shard, have=have
            )
            self.later(0.2, self.send, report)
            self.later(0.3, self.reduce, action.epoch, duty.shard)

    def reduce(self, epoch: int, shard: int) -> None:
        """Needs both the duty and the fixed contributors, in whatever order they came."""
        if (epoch, shard) not in self.duties or (epoch, shard) not in self.fixed:
            return
        (duty, base), fixed = self.duties[epoch, shard], self.fixed[epoch, shard]
        chosen = tuple(c for c in duty.contributions if c.hotkey in fixed.contributors)
        weights, momentum = reduced_digests(base, duty.lo, duty.hi, chosen)
        if self.trait.lies_in_reduce:
            weights = "lie/" + weights
        refs = [BlobRef(name, 4 * (duty.hi - duty.lo), (self.process,)) for name in (weights, momentum)]
        for ref in refs:
            self.world.hold(ref, self.process)
        self.send(
            ShardReduced(
                at=0.0,
                hotkey=self.hotkey,
                stage=fixed.stage,
                epoch=epoch,
                shard=shard,
                weights=refs[0],
                momentum=refs[1],
            )
        )
