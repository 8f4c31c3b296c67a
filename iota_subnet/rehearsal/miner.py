"""One miner: its real conduct, its real runner, its shelves. What the network would do is a matter of virtual seconds.

Law: one thing at a time is computed, in the order in which it was given; it takes as long as what the runner really
computed is worth on this machine, so that who does not compute is fast.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from loguru import logger

from iota_subnet import messages as m
from iota_subnet.core import actions as a
from iota_subnet.core.events import Manifest
from iota_subnet.miner.conduct import Conduct, Me, perform
from iota_subnet.miner.evidence import KEEP_EPOCHS, Evidence
from iota_subnet.miner.outbox import Outbox
from iota_subnet.miner.work import culprit
from iota_subnet.protocol import MergePlan
from iota_subnet.rehearsal.plan import Member
from iota_subnet.rehearsal.runner import CountedRunner
from iota_subnet.spec import BlobRef
from iota_subnet.train import transcript
from iota_subnet.train.allreduce import Delta, read_delta
from iota_subnet.train.codec import digest
from iota_subnet.train.transcript import Pass
from iota_subnet.wire.blobs import MemoryStore
from iota_subnet.wire.signing import SIGNATURE_BYTES

if TYPE_CHECKING:
    from iota_subnet.rehearsal.world import Rehearsal

#: Virtual seconds: a stage's round at speed 1, what every pass takes besides, a message's way, before joining again.
ROUND_S = 1.0
PASS_S = 0.05
TRIP_S = 0.01
REJOIN_S = 10.0

#: Epochs whose merge is still served, as by a real miner.
MERGE_EPOCHS = 2

#: Bytes of each shelf: no rehearsal comes near.
SHELF_BYTES = 1 << 32

#: A lease and its receipt, kept to be sent again.
MAX_RECEIPTS = 512

Place = tuple[int, int, int]


class Player:
    """Plays one member. `passes` and `flops` are what its runners computed, `cpu` the processor seconds that took."""

    def __init__(self, world: Rehearsal, number: int, member: Member, hotkey: str, me: Me) -> None:
        self.world, self.number, self.member, self.hotkey = world, number, member, hotkey
        self.conduct = member.conduct(me)
        # What others see of it; the miner itself reads what lies behind.
        self.store = MemoryStore(SHELF_BYTES)
        self.shelf = self.conduct.shelf(self.store, "outbox")
        self.archive = self.conduct.shelf(MemoryStore(SHELF_BYTES), "evidence")
        self.runner: CountedRunner | None = None
        self.flops = self.cpu = 0.0
        self.passes = 0
        self._outbox = Outbox(self.store)
        self._evidence = Evidence(hotkey, self.archive)
        self._evidence.run = world.spec.digest()
        self._kept: dict[int, list[str]] = {}
        self._held: Manifest | None = None
        self._wanted: Manifest | None = None
        self._busy = False
        self._jobs: deque[Callable[[], Callable[[], None]]] = deque()
        self._leases: dict[int, m.FromMiner | None] = {}
        self._commits: dict[tuple[int, int], m.Committed] = {}
        self._duties: dict[Place, tuple[a.Duty, dict[str, Delta]]] = {}
        self._reports: dict[Place, m.Fetched] = {}
        self._results: dict[Place, m.Reduced] = {}

    def take(self, action: a.Action) -> None:
        """Whatever the orchestrator has sent."""
        match action:
            case a.AssignLayer():
                self._install(action.manifest, action.inner_step)
            case a.SetPhase():
                if action.shards:
                    self._commit(action.epoch, action.shards)
                if action.manifest is not None:
                    self._install(action.manifest, None)
            case a.GiveLease():
                self._give(action)
            case a.SendMergePlan():
                self._planned(action)
            case a.FixContributors():
                self._reduce((action.stage, action.epoch, action.shard), action.contributors)
            case a.Forget():
                self._outbox.drop(("batch", action.batch))
            case a.Refuse() if action.what in ("join", "seat", "connection", "installation"):
                self.world.at(self.world.now + REJOIN_S, lambda: self.world.join(self))
            case _:
                # Withdrawn leases, as with a real miner, and answers to what came too late.
                pass

    def serve(self, wanted: str) -> bytes | None:
        """What a reader is given under this name."""
        data = self.shelf.get(wanted)
        return data if data is not None else self.archive.get(wanted)

    # -- the thread that computes -------------------------------------------------------------------------------------

    def _do(self, job: Callable[[], Callable[[], None]]) -> None:
        """Compute in turn. The job says what follows, once its time is over."""
        self._jobs.append(job)
        self._next()

    def _next(self) -> None:
        if self._busy or not self._jobs:
            return
        self._busy = True
        before = self.flops
        self.world.threads(self.member.threads)
        began = time.thread_time()
        try:
            after = self._jobs.popleft()()
        except Exception as error:
            # A cheat that breaks is a miner that does not answer; an honest one that breaks is a fault of ours.
            if self.member.honest:
                raise
            logger.warning("{}: {}: {}", self.hotkey, type(error).__name__, error)
            after = _nothing
        self.cpu += time.thread_time() - began
        work = (self.flops - before) * self.world.spec.model.stages
        self.world.at(self.world.now + PASS_S + work * ROUND_S / self.member.speed, lambda: self._done(after))

    def _done(self, after: Callable[[], None]) -> None:
        self._busy = False
        after()
        self._next()

    def _send(self, *messages: m.FromMiner) -> None:
        for message in messages:
            self.world.send(self.hotkey, message)

    def _put(self, topic: Hashable, data: bytes, name: str = "") -> m.Made:
        return self._outbox.put(topic, data, name)

    def _keep(self, epoch: int, blobs: Sequence[tuple[str, bytes]]) -> None:
        """Evidence, which is written at once here."""
        for name, data in blobs:
            if not self.archive.has(name):
                self.archive.put(data, digest=name)
            self._kept.setdefault(epoch, []).append(name)

    # -- leases -------------------------------------------------------------------------------------------------------

    def _give(self, given: a.GiveLease) -> None:
        if given.lease in self._leases:
            known = self._leases[given.lease]
            self._send(*([known] if known is not None else []))
            return
        self._leases[given.lease] = None
        while len(self._leases) > MAX_RECEIPTS:
            del self._leases[next(iter(self._leases))]
        blobs = tuple(m.Blob(ref.digest, ref.nbytes, ref.urls, "") for ref in given.inputs)
        left = given.deadline - self.world.now
        lease = m.Lease(given.lease, given.op, given.batch, given.stage, given.epoch, blobs, left)
        wait = self.conduct.delay_s(lease)
        self.world.at(self.world.now + wait, lambda: self._do(lambda: self._work(lease, given.inputs)))

    def _work(self, lease: m.Lease, refs: Sequence[BlobRef]) -> Callable[[], None]:
        inputs: list[bytes] = []
        for ref in refs:
            data = self.world.fetch(ref, self)
            if data is None:
                return lambda: self._fail(lease, "input", ref.digest, "nobody serves it")
            inputs.append(data)
        runner, spent, passes = self.runner, 0.0, 0
        try:
            if runner is None:
                raise RuntimeError("no stage is installed")
            spent, passes = runner.spent, runner.passes
            output, losses, step = perform(self.conduct, runner, lease, inputs)
        except ValueError as error:
            assert runner is not None
            blamed, reason = lease.inputs[culprit(runner, lease, inputs)].digest, str(error)[:200]
            return lambda: self._fail(lease, "input", blamed, reason)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            return lambda: self._fail(lease, "work", "", reason)
        finally:
            if runner is not None:
                self.flops += runner.spent - spent
                self.passes += runner.passes - passes
        read = tuple(ref.digest for ref in refs)
        made = digest(output) if output else ""
        self._evidence.note(Pass(lease.lease, lease.op, lease.batch, read, made, tuple(losses), step))
        self._keep(runner.epoch, [*zip(read, inputs, strict=True), *([(made, output)] if output else [])])
        seconds = runner.spent - spent

        def after() -> None:
            shown = self._put(("batch", lease.batch), output, made) if output else None
            receipt = m.Receipt(lease.lease, shown, tuple(losses), seconds, step)
            if lease.lease in self._leases:
                self._leases[lease.lease] = receipt
            self._send(*self.conduct.receipts(receipt))

        return after

    def _fail(self, lease: m.Lease, kind: str, blamed: str, reason: str) -> None:
        self._leases.pop(lease.lease, None)
        self._send(m.Failure(lease.lease, "input" if kind == "input" else "work", blamed, reason))

    # -- the merge ----------------------------------------------------------------------------------------------------

    def _commit(self, epoch: int, shards: int) -> None:
        def take() -> Callable[[], None]:
            runner = self.runner
            if runner is None or runner.epoch != epoch:
                return _nothing
            if (runner.stage, epoch) not in self._commits:
                self._commits = {(runner.stage, epoch): self._committed(runner, epoch, shards)}
            made = self._commits[runner.stage, epoch]
            return lambda: self._send(made)

        self._do(take)

    def _committed(self, runner: CountedRunner, epoch: int, shards: int) -> m.Committed:
        topic = ("merge", epoch)
        blobs = self.conduct.pseudo_gradient(runner, shards)
        made = tuple(self._put(topic, blob) for blob in blobs)
        said = transcript.encode(self.conduct.transcript(self._evidence.close()))
        told = self._put(topic, said)
        self._keep(epoch, [(told.digest, said), *zip((shard.digest for shard in made), blobs, strict=True)])
        # The border only looks at its length here: nobody forges another's word in one process.
        return m.Committed(runner.stage, epoch, made, told, "00" * SIGNATURE_BYTES)

    def _planned(self, plan: a.SendMergePlan) -> None:
        if type(self.conduct).planned is not Conduct.planned:
            self.conduct.planned(_told(plan))
        for duty in plan.duties:
            place = (plan.stage, plan.epoch, duty.shard)
            if place in self._results:
                self._send(self._results[place])
            elif place in self._reports:
                self._send(self._reports[place])
            else:
                self._gather(place, duty)

    def _gather(self, place: Place, duty: a.Duty) -> None:
        have: dict[str, Delta] = {}
        missed: list[tuple[str, str]] = []
        for contribution in duty.contributions:
            data = self.world.fetch(contribution.blob, self)
            try:
                if data is None:
                    raise ValueError("nobody serves it")
                have[contribution.hotkey] = read_delta(data, duty.hi - duty.lo, self.world.spec.train)
            except ValueError as error:
                missed.append((contribution.hotkey, str(error)[:200]))
        self._duties[place] = duty, have
        here = tuple(contribution.hotkey for contribution in duty.contributions if contribution.hotkey in have)
        self._reports[place] = m.Fetched(*place, here, tuple(sorted(missed)))
        self._send(self._reports[place])

    def _reduce(self, place: Place, counted: Sequence[str]) -> None:
        if place not in self._duties or place in self._results:
            return
        duty, have = self._duties[place]
        if any(hotkey not in have for hotkey in counted):
            return

        def reduce() -> Callable[[], None]:
            runner = self.runner
            if runner is None or (runner.stage, runner.epoch) != place[:2]:
                return _nothing
            given = [(c.weight, have[c.hotkey]) for c in duty.contributions if c.hotkey in counted]
            made = self.conduct.reduce(runner, duty.lo, duty.hi, given, duty.shard)
            self._results[place] = m.Reduced(*place, *(self._put(("merge", place[1]), part) for part in made))
            return lambda: self._send(self._results[place])

        self._do(reduce)

    # -- the state ----------------------------------------------------------------------------------------------------

    def _install(self, manifest: Manifest, inner_step: int | None) -> None:
        wanted = self._wanted
        if wanted is not None and wanted.stage == manifest.stage:
            if (wanted.epoch, wanted.revision) > (manifest.epoch, manifest.revision):
                return
        self._wanted = manifest
        self._do(lambda: self._installed(manifest, inner_step))

    def _installed(self, manifest: Manifest, inner_step: int | None) -> Callable[[], None]:
        if self._wanted != manifest:
            return _nothing
        if self._held != manifest:
            shards: list[tuple[int, int, bytes, bytes]] = []
            for shard in manifest.shards:
                weights, momentum = (self.world.fetch(ref, self) for ref in (shard.weights, shard.momentum))
                if weights is None or momentum is None:
                    return _nothing
                shards.append((shard.lo, shard.hi, weights, momentum))
            spec = self.world.spec
            if self.runner is None or self.runner.stage != manifest.stage:
                self.runner = CountedRunner(spec, manifest.stage, self.member.precision)
            self.runner.install(manifest.epoch, shards, inner_step, spec.swarm.overlap)
            self._evidence.begin(manifest.stage, manifest.epoch, manifest.name, self.runner.inner_step)
            self.conduct.installed(self.runner, manifest.epoch)
            self._held = manifest
            self._sweep(manifest.epoch)
        assert self.runner is not None
        done = m.Installed(manifest.stage, manifest.epoch, self.runner.state_digest(), manifest.name)
        return lambda: self._send(done)

    def _sweep(self, epoch: int) -> None:
        """What belongs to epochs long ago may go."""
        self._duties = {place: duty for place, duty in self._duties.items() if place[1] >= epoch}
        self._reports = {place: said for place, said in self._reports.items() if place[1] >= epoch}
        self._results = {place: made for place, made in self._results.items() if place[1] >= epoch}
        for topic in self._outbox.topics():
            if isinstance(topic, tuple) and topic[0] == "merge" and topic[1] < epoch - MERGE_EPOCHS:
                self._outbox.drop(topic)
        for old in [number for number in self._kept if number < epoch - KEEP_EPOCHS]:
            gone = self._kept.pop(old)
            still = {name for kept in self._kept.values() for name in kept}
            self.archive.forget(name for name in gone if name not in still)


def _nothing() -> None:
    """Nothing follows."""


def _told(plan: a.SendMergePlan) -> MergePlan:
    """The plan as a miner hears of it."""
    duties = tuple(
        m.PlannedDuty(
            duty.shard,
            duty.lo,
            duty.hi,
            tuple(
                m.PlannedContribution(c.hotkey, c.weight, m.Blob(c.blob.digest, c.blob.nbytes, c.blob.urls, ""))
                for c in duty.contributions
            ),
        )
        for duty in plan.duties
    )
    return MergePlan(
        stage=plan.stage, epoch=plan.epoch, salt=plan.salt, shards=plan.shards, seconds_left=60.0, duties=duties
    )
