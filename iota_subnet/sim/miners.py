"""Scripted miners: they react to actions as a real one would, in virtual time and without a tensor.

A blob is its digest. What a reducer publishes is a hash of base, slice and contributions, so honest twins agree.
Bytes are fetched while the machine computes; of the leases that are ready, backward passes go first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from iota_subnet.books import Line
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
from iota_subnet.core.pairs import pairs
from iota_subnet.sim.plans import Trait
from iota_subnet.spec import BlobRef

if TYPE_CHECKING:
    from iota_subnet.sim.world import World

#: Where an operation's cost stands in `Plan.costs`.
COST = {"forward": 0, "loss": 1, "backward": 2}

#: How every lie begins, and those that all of a ring tell.
LIE = "lie/"
RING = f"{LIE}ring/"


def reduced_digests(base: Manifest, lo: int, hi: int, chosen: tuple[Contribution, ...]) -> tuple[str, str, str]:
    """The truth about one shard, mean, weights and momentum: depends on every input and on nothing else."""
    inputs = (*(s.weights.digest for s in base.shards), lo, hi, *((c.hotkey, c.weight, c.blob.digest) for c in chosen))
    mean, weights, momentum = (digest(name, *inputs).hex() for name in ("mean", "weights", "momentum"))
    return mean, weights, momentum


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
        self.frozen_until = 0.0
        self.busy_s = 0.0
        #: Whether it has ever published a lie.
        self.lied = False
        #: Whether a pass of it was not what it should be.
        self.cheated = False
        #: Whether what an audit asked for could not be had, which is nobody's lie.
        self.withheld = False
        self.reset()

    def reset(self) -> None:
        """Lose all that a process holds in memory."""
        self.stage = -1
        self.manifest: Manifest | None = None
        self.computing: GiveLease | None = None
        self.ready: list[GiveLease] = []
        self.receipts: dict[int, LeaseFinished] = {}
        self.running: dict[int, None] = {}
        self.graphs: dict[int, float] = {}
        self.transcript: BlobRef | None = None
        self.committed: tuple[int, tuple[BlobRef, ...]] | None = None
        self.duties: dict[tuple[int, int], tuple[Duty, Manifest, tuple[str, ...]]] = {}
        self.friends: dict[tuple[int, int], None] = {}
        self.fixed: dict[tuple[int, int], FixContributors] = {}
        self.passes: list[Line] = []
        self.noting = False

    @property
    def process(self) -> str:
        """Who holds what this process published."""
        return f"{self.hotkey}/{self.boot}"

    @property
    def good(self) -> bool:
        """Whether its stage can live on it alone."""
        return self.alive and not (self.trait.fails_all or self.trait.silent or self.trait.wrong_losses)

    def blob(self, nbytes: int, *label: object) -> BlobRef:
        """Publish some bytes; now and then they are lost before anybody reads them."""
        ref = BlobRef(digest(self.process, *label).hex(), nbytes, (self.process,))
        if self.world.rng.random() >= max(self.trait.blob_loss, self.world.plan.blob_loss):
            self.world.network.hold(ref, self.process)
        else:
            self.world.counts["blobs"] += 1
        return ref

    def send(self, event: Event) -> None:
        """Post an event to the validator; it is lost when the channel is down."""
        self.world.send_up(self, event)

    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None:
        """Do something if this very process still lives then; if it is stopped, when it goes on."""
        boot = self.boot

        def run() -> None:
            if self.alive and self.boot == boot:
                if self.frozen_until > self.world.now:
                    self.world.at(self.frozen_until, run)
                else:
                    act(*args)

        self.world.at(self.world.now + seconds, run)

    def take(self, action: Action) -> None:
        """Do what the orchestrator asks for. AssertionError for an action that is not for a miner."""
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
                # As a real miner: what has begun is finished, late work may still be taken.
                pass
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

    # -- the model ----------------------------------------------------------------------------------------------------

    def install(self, manifest: Manifest) -> None:
        """Begin to install a manifest; one that is held already takes no time."""
        self.later(0.0 if self.manifest == manifest else 0.5, self.installed, manifest)

    def installed(self, manifest: Manifest) -> None:
        """The manifest is in place, if its bytes could be had, and the miner says so."""
        held = self.manifest
        if held is not None and held.stage == manifest.stage:
            if (held.epoch, held.revision) > (manifest.epoch, manifest.revision):
                return
        if held != manifest and not (self._can_step(held, manifest) or self._can_fetch(manifest)):
            return
        self.stage, self.manifest = manifest.stage, manifest
        if held != manifest:
            self.serve(held, manifest)
            self.passes, self.noting = [], True
        state = digest("state", *(name for shard in manifest.shards for name in shard.digests[:2])).hex()
        self.send(
            StageInstalled(
                at=0.0,
                hotkey=self.hotkey,
                stage=manifest.stage,
                epoch=manifest.epoch,
                digest=state,
                manifest=manifest.name,
            )
        )

    def _can_step(self, held: Manifest | None, manifest: Manifest) -> bool:
        """Whether it can make the outer step itself: it holds the state before, and gets all means."""
        means = [shard.mean for shard in manifest.shards]
        return (
            held is not None
            and held.name == manifest.base
            and all(mean is not None and self.world.network.can_fetch(mean, self.hotkey) for mean in means)
        )

    def _can_fetch(self, manifest: Manifest) -> bool:
        blobs = [blob for shard in manifest.shards for blob in (shard.weights, shard.momentum)]
        return all(self.world.network.can_fetch(blob, self.hotkey) for blob in blobs)

    def serve(self, old: Manifest | None, new: Manifest) -> None:
        """Whoever has installed a state serves it, until it installs another one."""
        network = self.world.network
        for shard in old.shards if old is not None else ():
            network.drop(shard.weights, self.process)
            network.drop(shard.momentum, self.process)
        for shard in new.shards:
            network.hold(shard.weights, self.process)
            network.hold(shard.momentum, self.process)

    def commit(self, epoch: int, shards: int) -> None:
        """Publish the pseudo-gradient in so many shards, and the transcript; the same ones when asked again."""
        if self.committed is None or self.committed[0] != epoch:
            blobs = tuple(self.blob(8, "pseudo-gradient", epoch, index) for index in range(shards))
            self.noting = False
            self.transcript = self.blob(8, "transcript", epoch)
            self.world.shown[self.transcript.digest] = tuple(self.passes)
            self.committed = epoch, blobs
        self.send(
            ShardsCommitted(
                at=0.0,
                hotkey=self.hotkey,
                stage=self.stage,
                epoch=epoch,
                shards=self.committed[1],
                transcript=self.transcript,
            )
        )

    # -- leases -------------------------------------------------------------------------------------------------------

    def work(self, lease: GiveLease) -> None:
        """Fetch what a lease reads; a lease that is done is answered with its receipt again."""
        if lease.lease in self.receipts:
            self.send(self.receipts[lease.lease])
            return
        if self.trait.silent or lease.lease in self.running:
            self.world.counts["silent"] += self.trait.silent
            return
        if self.trait.fails_all or lease.stage != self.stage:
            self.world.counts["broken"] += self.trait.fails_all
            self.fail(lease, "work", "", "oom" if self.trait.fails_all else "this is not my stage")
            return
        self.running[lease.lease] = None
        self.later(self.world.network.fetch_s(lease.inputs, self), self.fetched, lease)

    def fail(self, lease: GiveLease, kind: str, digest_: str, reason: str) -> None:
        """Say that a lease could not be done; `digest_` names the input to blame."""
        self.send(
            LeaseFailed(
                at=0.0,
                hotkey=self.hotkey,
                lease=lease.lease,
                kind="input" if kind == "input" else "work",
                digest=digest_,
                reason=reason,
            )
        )

    def fetched(self, lease: GiveLease) -> None:
        """The inputs are there, and the lease waits for its turn; else it fails."""
        for blob in lease.inputs:
            if not self.world.network.can_fetch(blob, self.hotkey):
                self.running.pop(lease.lease, None)
                self.fail(lease, "input", blob.digest, "404")
                return
        self.ready.append(lease)
        self.start()

    def start(self) -> None:
        """Compute the next lease, if the machine is free."""
        if self.computing is not None or not self.ready:
            return
        lease = min(self.ready, key=lambda ready: (ready.op != "backward", ready.lease))
        self.ready.remove(lease)
        self.computing = lease
        seconds = self.trait.seconds * self.world.plan.costs[COST[lease.op]]
        if lease.op == "backward" and not self.has_graph(lease.batch):
            self.world.counts["recomputed_graph"] += 1
            seconds += self.trait.seconds * self.world.plan.costs[0]
        self.busy_s += seconds
        self.later(seconds, self.finish, lease, seconds)

    def has_graph(self, batch: int) -> bool:
        """Whether the forward pass is still kept, and not stale."""
        made = self.graphs.pop(batch, None)
        stale = self.world.plan.stale_s
        return made is not None and not (stale and self.world.now > made + stale)

    def keep_graph(self, batch: int) -> None:
        """Keep the graph of a microbatch; the oldest goes when there are too many."""
        self.graphs[batch] = self.world.now
        while self.trait.graphs and len(self.graphs) > self.trait.graphs:
            del self.graphs[next(iter(self.graphs))]

    def finish(self, lease: GiveLease, seconds: float) -> None:
        """The pass is computed: publish what it made, and send the receipt."""
        self.computing = None
        self.running.pop(lease.lease, None)
        if lease.op == "forward":
            self.keep_graph(lease.batch)
        last = lease.op != "forward" and lease.stage == 0
        output = None
        if not last:
            output = self.blob(self.world.plan.blob_bytes, lease.op, lease.batch, lease.stage, lease.lease)
        losses: tuple[float, ...] = (3.0, 3.0) if lease.op == "loss" else ()
        if lease.op == "loss" and self.trait.wrong_losses:
            self.world.counts["losses"] += 1
            losses = self.world.rng.choice([(3.0,), (float("nan"), 3.0), (-1.0, 3.0), (1e9, 1.0)])
        receipt = LeaseFinished(
            at=0.0, hotkey=self.hotkey, lease=lease.lease, output=output, losses=losses, seconds=seconds, inner_step=0
        )
        self.receipts[lease.lease] = receipt
        if self.noting:
            read = tuple(blob.digest for blob in lease.inputs)
            made = output.digest if output is not None else ""
            self.passes.append(Line(lease.lease, lease.op, lease.batch, read, made, losses))
        self.cheated |= self.trait.cheats
        self.send(receipt)
        if self.trait.dropout and self.world.rng.random() < self.trait.dropout:
            self.world.drop_out(self)
        self.start()

    # -- merge --------------------------------------------------------------------------------------------------------

    def plan(self, action: SendMergePlan) -> None:
        """Fetch the contributions of its merge duties, and say whose it holds."""
        if self.manifest is None or self.manifest.stage != action.stage:
            return
        for duty in action.duties:
            have = tuple(c.hotkey for c in duty.contributions if self.world.network.can_fetch(c.blob, self.hotkey))
            if self.trait.hides_peers:
                self.world.counts["hider"] += 1
                have = (self.hotkey,)
            self.duties[action.epoch, duty.shard] = duty, self.manifest, have
            if self.trait.colludes and self._meets_a_friend(action, duty):
                self.friends[action.epoch, duty.shard] = None
            report = ShardFetched(
                at=0.0, hotkey=self.hotkey, stage=action.stage, epoch=action.epoch, shard=duty.shard, have=have
            )
            self.later(0.2, self.send, report)
            self.later(0.3, self.reduce, action.epoch, duty.shard)

    def _meets_a_friend(self, action: SendMergePlan, duty: Duty) -> bool:
        """Whether the pair that was drawn for a shard is of the ring; whoever has seen the salt can tell."""
        committed = tuple(contribution.hotkey for contribution in duty.contributions)
        pair = pairs(committed, action.shards, action.salt, action.stage)[duty.shard]
        return self.hotkey in pair and all(self.world.miners[hotkey].trait.colludes for hotkey in pair)

    def reduce(self, epoch: int, shard: int) -> None:
        """Needs both the duty and the fixed contributors, in whatever order they came."""
        if (epoch, shard) not in self.duties or (epoch, shard) not in self.fixed:
            return
        (duty, base, have), fixed = self.duties[epoch, shard], self.fixed[epoch, shard]
        if any(hotkey not in have for hotkey in fixed.contributors):
            # As a real one: it has told the validator, and does not publish the sum of the rest.
            self.world.counts["lacking"] += 1
            return
        chosen = tuple(c for c in duty.contributions if c.hotkey in fixed.contributors)
        mean, weights, momentum = reduced_digests(base, duty.lo, duty.hi, chosen)
        if self.trait.lies_in_reduce:
            # Each liar has a lie of its own; those of a ring have one, and tell it only where nobody else looks.
            self.world.counts["liar"] += 1
            self.lied, weights = True, f"{LIE}{self.number}/{weights}"
        elif (epoch, shard) in self.friends:
            self.world.counts["ring"] += 1
            self.lied, weights = True, f"{RING}{weights}"
        refs = [BlobRef(name, 4 * (duty.hi - duty.lo), (self.process,)) for name in (mean, weights, momentum)]
        for ref in refs:
            self.world.network.hold(ref, self.process)
        self.send(
            ShardReduced(
                at=0.0,
                hotkey=self.hotkey,
                stage=fixed.stage,
                epoch=epoch,
                shard=shard,
                mean=refs[0],
                weights=refs[1],
                momentum=refs[2],
            )
        )
