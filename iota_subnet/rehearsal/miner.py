"""One miner: its real conduct, its real runner, its shelves. What the network would do is a matter of virtual seconds.

Law: one thing at a time is computed, in the order in which it was given; it takes as long as what the runner really
computed is worth on this machine, so that who does not compute is fast.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Literal

from loguru import logger

from iota_subnet import messages as m
from iota_subnet.core import actions as a
from iota_subnet.core.events import Manifest
from iota_subnet.miner.conduct import Me, perform
from iota_subnet.miner.evidence import KEEP_EPOCHS, Evidence
from iota_subnet.miner.outbox import Outbox
from iota_subnet.miner.work import culprit
from iota_subnet.rehearsal.merging import Merging, nothing
from iota_subnet.rehearsal.plan import Member
from iota_subnet.rehearsal.runner import CountedRunner
from iota_subnet.spec import BlobRef
from iota_subnet.train.codec import digest
from iota_subnet.train.transcript import Pass
from iota_subnet.wire.blobs import MemoryStore

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
        self.evidence = Evidence(hotkey, self.archive)
        self.evidence.run = world.spec.digest()
        self._kept: dict[int, list[str]] = {}
        self._held: Manifest | None = None
        self._wanted: Manifest | None = None
        self._busy = False
        self._line_free = 0.0
        #: From when to when it computed, in virtual seconds.
        self.worked: list[tuple[float, float]] = []
        self._jobs: deque[Callable[[], Callable[[], None]]] = deque()
        self._leases: dict[int, m.FromMiner | None] = {}
        self._merging = Merging(self)

    def take(self, action: a.Action) -> None:
        """Whatever the orchestrator has sent."""
        match action:
            case a.AssignLayer():
                self._install(action.manifest, action.inner_step)
            case a.SetPhase():
                if action.shards:
                    self._merging.commit(action.epoch, action.shards)
                if action.manifest is not None:
                    self._install(action.manifest, None)
            case a.GiveLease():
                self._give(action)
            case a.SendMergePlan():
                self._merging.plan(action)
            case a.FixContributors():
                self._merging.reduce((action.stage, action.epoch, action.shard), action.contributors)
            case a.Forget():
                self._outbox.drop(("batch", action.batch))
            case a.Refuse() if action.what in ("join", "seat", "connection", "installation"):
                self.world.at(self.world.now + REJOIN_S, lambda: self.world.join(self))
            case _:
                # Withdrawn leases, as with a real miner, and answers to what came too late.
                pass

    def serve(self, wanted: str) -> bytes | None:
        """What a reader is given under this name, as by a real blob server."""
        return (self.shelf if self.shelf.has(wanted) else self.archive).get(wanted)

    # -- the thread that computes -------------------------------------------------------------------------------------

    def do(self, job: Callable[[], Callable[[], None]]) -> None:
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
            after = nothing
        self.cpu += time.thread_time() - began
        work = (self.flops - before) * self.world.spec.model.stages
        seconds = PASS_S + work * ROUND_S / self.member.speed
        ends = self.world.done_at(self.member.machine, seconds)
        self.worked.append((self.world.now, ends))
        self.world.at(ends, lambda: self._done(after))

    def _done(self, after: Callable[[], None]) -> None:
        self._busy = False
        after()
        self._next()

    def after_moving(self, nbytes: int, then: Callable[[], None]) -> None:
        """What follows when so many bytes of a merge have come over this miner's line, one after the other."""
        if self.world.line == math.inf:
            then()
            return
        self._line_free = max(self._line_free, self.world.now) + nbytes / self.world.line
        self.world.at(self._line_free, then)

    def send(self, *messages: m.FromMiner) -> None:
        """Say something on the work channel; it arrives when the world says."""
        for message in messages:
            self.world.send(self.hotkey, message)

    def put(self, topic: Hashable, data: bytes, name: str = "") -> m.Made:
        """Keep bytes for others under a topic, and say what they are."""
        return self._outbox.put(topic, data, name)

    def keep(self, epoch: int, blobs: Sequence[tuple[str, bytes]]) -> None:
        """Evidence, which is written at once here."""
        for name, data in blobs:
            if not self.archive.has(name):
                self.archive.put(data, digest=name)
            self._kept.setdefault(epoch, []).append(name)

    # -- leases -------------------------------------------------------------------------------------------------------

    def _give(self, given: a.GiveLease) -> None:
        if given.lease in self._leases:
            known = self._leases[given.lease]
            self.send(*([known] if known is not None else []))
            return
        self._leases[given.lease] = None
        while len(self._leases) > MAX_RECEIPTS:
            del self._leases[next(iter(self._leases))]
        blobs = tuple(m.Blob(ref.digest, ref.nbytes, ref.urls, "") for ref in given.inputs)
        left = given.deadline - self.world.now
        lease = m.Lease(given.lease, given.op, given.batch, given.stage, given.epoch, blobs, left)
        # Who shares a machine waits for it: no need to act as if.
        wait = self.conduct.delay_s(lease) if self.member.machine is None else 0.0
        self.world.at(self.world.now + wait, lambda: self.do(lambda: self._work(lease, given.inputs)))

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
            place, kind = culprit(runner, lease, inputs)
            blamed, reason = lease.inputs[place].digest, str(error)[:200]
            self.keep(runner.epoch, [(blamed, inputs[place])])
            return lambda: self._fail(lease, kind, blamed, reason)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            return lambda: self._fail(lease, "work", "", reason)
        finally:
            if runner is not None:
                self.flops += runner.spent - spent
                self.passes += runner.passes - passes
        read = tuple(ref.digest for ref in refs)
        made = digest(output) if output else ""
        self.evidence.note(Pass(lease.lease, lease.op, lease.batch, read, made, tuple(losses), step))
        self.keep(runner.epoch, [*zip(read, inputs, strict=True), *([(made, output)] if output else [])])
        seconds = runner.spent - spent

        def after() -> None:
            shown = self.put(("batch", lease.batch), output, made) if output else None
            receipt = m.Receipt(lease.lease, shown, tuple(losses), seconds, step)
            if lease.lease in self._leases:
                self._leases[lease.lease] = receipt
            self.send(*self.conduct.receipts(receipt))

        return after

    def _fail(self, lease: m.Lease, kind: Literal["input", "bytes", "work"], blamed: str, reason: str) -> None:
        self._leases.pop(lease.lease, None)
        self.send(m.Failure(lease.lease, kind, blamed, reason))

    # -- the state ----------------------------------------------------------------------------------------------------

    def _install(self, manifest: Manifest, inner_step: int | None) -> None:
        wanted = self._wanted
        if wanted is not None and wanted.stage == manifest.stage:
            if (wanted.epoch, wanted.revision) > (manifest.epoch, manifest.revision):
                return
        self._wanted = manifest
        made = [ref for shard in manifest.shards for ref in (shard.weights, shard.momentum)]
        moved = sum(ref.nbytes for ref in made if self._held != manifest and not self.store.has(ref.digest))
        self.after_moving(moved, lambda: self.do(lambda: self._installed(manifest, inner_step)))

    def _installed(self, manifest: Manifest, inner_step: int | None) -> Callable[[], None]:
        if self._wanted != manifest:
            return nothing
        if self._held != manifest:
            shards: list[tuple[int, int, bytes, bytes]] = []
            for shard in manifest.shards:
                weights, momentum = (self.world.fetch(ref, self) for ref in (shard.weights, shard.momentum))
                if weights is None or momentum is None:
                    return nothing
                shards.append((shard.lo, shard.hi, weights, momentum))
            spec = self.world.spec
            if self.runner is None or self.runner.stage != manifest.stage:
                self.runner = CountedRunner(spec, manifest.stage, self.member.precision)
            self.runner.install(manifest.epoch, shards, inner_step, spec.swarm.overlap)
            self.evidence.begin(manifest.stage, manifest.epoch, manifest.name, self.runner.inner_step)
            self.conduct.installed(self.runner, manifest.epoch)
            self._held = manifest
            self._sweep(manifest.epoch)
        assert self.runner is not None
        done = m.Installed(manifest.stage, manifest.epoch, self.runner.state_digest(), manifest.name)
        return lambda: self.send(done)

    def _sweep(self, epoch: int) -> None:
        """What belongs to epochs long ago may go."""
        self._merging.sweep(epoch)
        for topic in self._outbox.topics():
            if isinstance(topic, tuple) and topic[0] == "merge" and topic[1] < epoch - MERGE_EPOCHS:
                self._outbox.drop(topic)
        for old in [number for number in self._kept if number < epoch - KEEP_EPOCHS]:
            gone = self._kept.pop(old)
            still = {name for kept in self._kept.values() for name in kept}
            self.archive.forget(name for name in gone if name not in still)
