"""Merge duty: commit the pseudo-gradient, fetch and reduce shards, install the result. Any step may be asked twice.

Law: who asks again gets the same answer again, because the first may have been lost with its connection. What belongs
to another stage, to an earlier epoch, or to a run that began anew is dropped, with what was under way for it. A reducer
says after a while what it has, and again what comes later; nothing is left out in silence.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from loguru import logger

from iota_subnet.messages import (
    Blob,
    Committed,
    Contributors,
    Fetched,
    FromMiner,
    Installed,
    Made,
    ManifestShard,
    PlannedContribution,
    PlannedDuty,
    Reduced,
    StageManifest,
)
from iota_subnet.miner.conduct import Conduct
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.evidence import Evidence
from iota_subnet.miner.outbox import Outbox
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.tasks import cancel
from iota_subnet.train import transcript
from iota_subnet.train.allreduce import Delta, read_delta
from iota_subnet.train.codec import BadPayload, digest
from iota_subnet.train.state import ReducedShard
from iota_subnet.train.transcript import Transcript
from iota_subnet.wire.blobs import BlobFetcher, BucketFailed, FetchFailed, StoreFull
from template.logs import short

if TYPE_CHECKING:
    from iota_subnet.train.runner import StageRunner

#: Epochs whose merge results are still served; others may be slow to install.
KEEP_EPOCHS = 2

#: Characters of a reason that is reported.
MAX_REASON = 200

#: Seconds after which a reducer reports without the contributions that have not come yet.
PART_S = 20.0

#: Seconds after which an upload that failed for now is tried again, until its merge is over.
AGAIN_S = 2.0

#: Stage, epoch, shard.
Place = tuple[int, int, int]


class Merger:
    """One miner's part in the merges of its stage. `on_installed(epoch)` hears of every installed state."""

    def __init__(
        self,
        engine: Engine,
        fetcher: BlobFetcher,
        outbox: Outbox,
        send: Callable[[FromMiner], object],
        on_installed: Callable[[int], object] = lambda epoch: None,
        conduct: Conduct | None = None,
        evidence: Evidence | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._outbox = outbox
        self._send = send
        self._on_installed = on_installed
        self._conduct = conduct or Conduct()
        self._evidence = evidence
        self._sign = sign
        self._taken: dict[tuple[int, int], Committed] = {}
        self._commits: dict[tuple[int, int], Committed] = {}
        self._reports: dict[Place, Fetched] = {}
        self._fixed: dict[Place, asyncio.Future[tuple[str, ...]]] = {}
        self._results: dict[Place, Reduced] = {}
        self._tasks: dict[tuple[Any, ...], asyncio.Task[None]] = {}
        self._wanted: tuple[Any, ...] = ()
        self._revision = 0
        # The runner, and the name of the state that it holds.
        self._held: tuple[Any, tuple[Any, ...]] = (None, ())

    @property
    def busy(self) -> list[str]:
        """What is under way, for people."""
        return [" ".join(map(str, key)) for key in self._tasks]

    def begin(self) -> None:
        """A seat was given: what is offered from here on counts, whatever was offered before."""
        self._wanted, self._revision = (), 0

    def commit(self, stage: int, epoch: int, shards: int) -> None:
        """Publish the pseudo-gradient of `epoch`; asked again, say the same again."""
        if (stage, epoch) in self._commits:
            self._send(self._commits[stage, epoch])
            return
        self._spawn(("commit", stage, epoch), self._commit(stage, epoch, shards))

    def reduce(self, stage: int, epoch: int, duties: tuple[PlannedDuty, ...], part_s: float = PART_S) -> None:
        """Take shards to reduce; contributions that take longer than `part_s` seconds are not waited for."""
        for duty in duties:
            place = (stage, epoch, duty.shard)
            if place in self._results:
                self._send(self._results[place])
            elif ("reduce", *place) in self._tasks:
                if place in self._reports:
                    self._send(self._reports[place])
            else:
                self._spawn(("reduce", *place), self._reduce(place, duty, part_s))

    def fix(self, message: Contributors) -> None:
        """Whose pseudo-gradients count; may come before the plan that it belongs to."""
        fixed = self._future((message.stage, message.epoch, message.shard))
        if not fixed.done():
            fixed.set_result(message.hotkeys)

    def install(self, spec: RunSpec, manifest: StageManifest, inner_step: int | None = None) -> None:
        """Fetch and install a global state, building the stage if need be. Of several, the last one stands.

        A joiner is given its peers' `inner_step`, to enter the learning-rate schedule where they are.
        """
        name = (spec.digest(), manifest.stage, manifest.epoch, manifest.name)
        if name[:3] == self._wanted[:3] and manifest.revision < self._revision:
            # It was on its way for long: another one has replaced it since.
            return
        if name != self._wanted:
            self._cancel(lambda key: key[0] == "install")
        self._wanted, self._revision = name, manifest.revision
        self._spawn(("install", manifest.stage, manifest.epoch), self._install(spec, manifest, name, inner_step))

    async def close(self) -> None:
        """End what is under way."""
        await cancel(list(self._tasks.values()))

    async def _commit(self, stage: int, epoch: int, shards: int) -> None:
        # Taken once: passes since then are in the weights, but not in the transcript.
        if (stage, epoch) not in self._taken:
            self._taken = {(stage, epoch): await self._take_down(stage, epoch, shards)}
        taken = self._taken[stage, epoch]
        public = taken.shards if taken.transcript is None else (*taken.shards, taken.transcript)
        self._outbox.upload(*public)
        # A receipt of a later pass must not overtake it: it would be counted where it is not.
        async with self._outbox.order:
            await self._public(*public)
            self._commits = {(stage, epoch): taken}
            self._send(taken)

    async def _take_down(self, stage: int, epoch: int, shards: int) -> Committed:
        """The pseudo-gradient, with the transcript and the signature that belong to it."""
        (blobs, said), _ = await self._engine.call(lambda runner: self._take(runner, shards))
        made = tuple(self._outbox.put(("merge", epoch), *blob) for blob in blobs)
        told, signature = None, ""
        if said is not None and self._evidence is not None and self._sign is not None:
            data = transcript.encode(self._conduct.transcript(said))
            told = self._outbox.put(("merge", epoch), data)
            digests = tuple(shard.digest for shard in made)
            signature = self._sign(transcript.line(said.run, stage, epoch, told.digest, digests)).hex()
            self._evidence.keep(epoch, [(told.digest, data), *((name, blob) for blob, name in blobs)])
            await self._evidence.settled()
        return Committed(stage, epoch, made, told, signature)

    def _take(self, runner: StageRunner, shards: int) -> tuple[list[tuple[bytes, str]], Transcript | None]:
        # Whoever makes blobs hashes them: the event loop should not.
        blobs = [(blob, digest(blob)) for blob in self._conduct.pseudo_gradient(runner, shards)]
        return blobs, self._evidence.close() if self._evidence is not None else None

    async def _reduce(self, place: Place, duty: PlannedDuty, part_s: float) -> None:
        have = await self._gather(place, duty, part_s)
        counted = await self._future(place)
        lacks = [hotkey for hotkey in counted if hotkey not in have]
        if lacks:
            # The sum of the rest would be called a lie; the validator has been told, and does it.
            logger.warning("shard {}: {} of {} that count could not be had", place[2], len(lacks), len(counted))
            return
        # The order of the plan is the order of the sum; a set of contributors has none.
        given = [(c.weight, have[c.hotkey]) for c in duty.contributions if c.hotkey in counted]

        def reduced(runner: StageRunner) -> tuple[ReducedShard, list[str]]:
            made = self._conduct.reduce(runner, duty.lo, duty.hi, given, duty.shard)
            return made, [digest(part) for part in made]

        made, _ = await self._engine.call(reduced)
        await self._publish(place, *made)

    async def _gather(self, place: Place, duty: PlannedDuty, part_s: float) -> dict[str, Delta]:
        """What could be had of the contributions when it was decided which of them count."""
        have: dict[str, Delta] = {}
        missed: dict[str, str] = {}

        async def take(contribution: PlannedContribution) -> None:
            try:
                have[contribution.hotkey] = await self._contribution(contribution, duty.hi - duty.lo)
                missed.pop(contribution.hotkey, None)
            except (FetchFailed, ValueError) as error:
                logger.warning("pseudo-gradient of {}: {}", short(contribution.hotkey), error)
                missed[contribution.hotkey] = str(error)[:MAX_REASON]

        decided = self._future(place)
        parts = {asyncio.ensure_future(take(c)): c.hotkey for c in duty.contributions}
        try:
            left = set(parts)
            _, left = await asyncio.wait(left, timeout=part_s)
            missed |= {parts[part]: f"it took longer than {part_s:.0f} s" for part in left}
            self._report(place, duty, have, missed)
            while left and not decided.done():
                before = len(have)
                waiting: set[asyncio.Future[Any]] = {*left, decided}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                left = {part for part in left if not part.done()}
                if len(have) > before:
                    self._report(place, duty, have, missed)
        finally:
            await cancel(list(parts))
        return have

    def _report(self, place: Place, duty: PlannedDuty, have: dict[str, Delta], missed: dict[str, str]) -> None:
        here = tuple(c.hotkey for c in duty.contributions if c.hotkey in have)
        self._reports[place] = Fetched(*place, here, tuple(sorted(missed.items())))
        self._send(self._reports[place])

    async def _publish(self, place: Place, made: ReducedShard, digests: Sequence[str]) -> None:
        """Serve what was reduced, the parts under these digests, and say so."""
        parts = zip(made, digests, strict=True)
        reduced = Reduced(*place, *(self._outbox.put(("merge", place[1]), *part) for part in parts))
        public = reduced.mean, reduced.weights, reduced.momentum
        self._outbox.upload(*public)
        await self._public(*public)
        self._results[place] = reduced
        self._send(reduced)

    async def _public(self, *made: Made) -> None:
        """Wait until others can read these. Raises BucketFailed where it is no use to try until the merge is over."""
        while True:
            try:
                await self._outbox.uploaded(*made)
                return
            except BucketFailed as error:
                if error.final:
                    raise
                logger.warning("upload to the bucket: {}; trying again", error)
            await asyncio.sleep(AGAIN_S)
            self._outbox.upload(*made)

    async def _contribution(self, contribution: PlannedContribution, size: int) -> Delta:
        """One pseudo-gradient, fetched and looked at.

        Raises:
            FetchFailed: they cannot be had.
            ValueError: they would spoil the sum.
        """
        data = await self._fetch(contribution.blob, "merge")
        delta, _ = await self._engine.call(lambda runner: read_delta(data, size, runner.spec.train))
        return delta

    async def _install(
        self, spec: RunSpec, manifest: StageManifest, name: tuple[Any, ...], inner_step: int | None
    ) -> None:
        if self._held != (self._engine.runner, name):
            runner, holds = self._held
            steps = (
                runner is not None and runner is self._engine.runner and holds == (*name[:2], holds[2], manifest.base)
            )
            shards = await asyncio.gather(*(self._shard(s, steps) for s in manifest.shards))
            await self._engine.open(spec, manifest.stage)
            before, self._held = self._held, (None, ())
            try:
                await self._engine.call(lambda runner: self._take_up(runner, spec, manifest, shards, inner_step))
            except ValueError:
                # Wrong bytes: the runner has kept what it had.
                self._held = before
                raise
            self._held = (self._engine.runner, name)
            self._forget(before[1], name)
            self._serve(name, manifest, shards)
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            logger.info(
                "holds stage {} of epoch {}; {:.1f} s of CPU and {} MB at most so far",
                manifest.stage, manifest.epoch, time.process_time(), peak_mb,
            )  # fmt: skip
        self._send(Installed(manifest.stage, manifest.epoch, held_digest(manifest), manifest.name))

    def _take_up(
        self,
        runner: StageRunner,
        spec: RunSpec,
        manifest: StageManifest,
        shards: list[tuple[int, int, bytes, bytes]],
        inner_step: int | None,
    ) -> None:
        """Install, and begin a new transcript."""
        runner.install(manifest.epoch, shards, inner_step, spec.swarm.overlap)
        if self._evidence is not None:
            self._evidence.begin(manifest.stage, manifest.epoch, manifest.name, runner.inner_step)
        self._conduct.installed(runner, manifest.epoch)

    def _serve(
        self, name: tuple[Any, ...], manifest: StageManifest, shards: list[tuple[int, int, bytes, bytes]]
    ) -> None:
        """Serve what is installed to whoever joins, so that a state is not gone with the two who made a shard of it."""
        for topic in self._outbox.topics():
            if isinstance(topic, tuple) and topic[0] == "state":
                self._outbox.drop(topic)
        try:
            for shard, (_, _, weights, momentum) in zip(manifest.shards, shards, strict=True):
                # All were fetched under these names, or found to have them.
                self._outbox.put(("state", name), weights, shard.weights.digest)
                self._outbox.put(("state", name), momentum, shard.momentum.digest)
        except StoreFull as error:
            logger.warning("cannot serve the installed state to others: {}", error)

    async def _shard(self, shard: ManifestShard, steps: bool) -> tuple[int, int, bytes, bytes]:
        """New weights and momentum: by the outer step, for who holds the state before, or as others have made them."""
        own = self._outbox.has(shard.weights.digest) and self._outbox.has(shard.momentum.digest)
        if steps and shard.mean is not None and not own:
            try:
                mean = await self._fetch(shard.mean, "manifest")
                made, _ = await self._engine.call(lambda runner: stepped(runner, shard, mean))
                return shard.lo, shard.hi, *made
            except (FetchFailed, ValueError) as error:
                logger.warning("mean of [{}, {}): {}; fetching the state itself", shard.lo, shard.hi, error)
        parts = await asyncio.gather(self._fetch(shard.weights, "manifest"), self._fetch(shard.momentum, "manifest"))
        return shard.lo, shard.hi, parts[0], parts[1]

    def _forget(self, before: tuple[Any, ...], now: tuple[Any, ...]) -> None:
        """A new state closes the merges before it; one that does not follow the old one closes all."""
        epoch = now[2]
        follows = before[:2] == now[:2] and before[2] < epoch
        first = epoch if follows else float("inf")
        self._cancel(lambda key: key[0] != "install" and key[2] < first)
        self._taken = {key: value for key, value in self._taken.items() if key[1] >= first}
        self._commits = {key: value for key, value in self._commits.items() if key[1] >= first}
        self._reports = {place: value for place, value in self._reports.items() if place[1] >= first}
        self._fixed = {place: value for place, value in self._fixed.items() if place[1] >= first}
        self._results = {place: value for place, value in self._results.items() if place[1] >= first}
        for topic in self._outbox.topics():
            if isinstance(topic, tuple) and topic[0] == "merge" and not epoch - KEEP_EPOCHS <= topic[1] <= epoch:
                self._outbox.drop(topic)
        self._on_installed(epoch)

    async def _fetch(self, blob: Blob, label: str) -> bytes:
        with self._engine.meter.fetching():
            return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, label)

    def _future(self, place: Place) -> asyncio.Future[tuple[str, ...]]:
        return self._fixed.setdefault(place, asyncio.get_running_loop().create_future())

    def _cancel(self, which: Callable[[tuple[Any, ...]], bool]) -> None:
        for key in [key for key in self._tasks if which(key)]:
            self._tasks.pop(key).cancel()

    def _spawn(self, key: tuple[Any, ...], work: Coroutine[Any, Any, None]) -> None:
        """Run `work` unless the same is under way; a failure is told, and may be asked for again."""
        if key in self._tasks:
            work.close()
            return

        async def guarded() -> None:
            try:
                await work
            except (BucketFailed, FetchFailed, ValueError) as error:
                logger.warning("{} failed: {}", " ".join(map(str, key)), error)
            except Exception as error:
                logger.opt(exception=error).error("{} failed", " ".join(map(str, key)))
            finally:
                if self._tasks.get(key) is task:
                    del self._tasks[key]

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks[key] = task
        # Cancelled before it began, it would never be awaited.
        task.add_done_callback(lambda _: work.close())


def held_digest(manifest: StageManifest) -> str:
    """Digest of the state that a manifest leads to: blake3 of its shards' places and digests, in ascending order.

    Each blob was found to have its digest when it was fetched or made, and a runner holds its state in these very
    blobs, so that their bytes need not be hashed once more.
    """
    shards = sorted((shard.lo, shard.hi, shard.weights.digest, shard.momentum.digest) for shard in manifest.shards)
    return digest("".join(f"{lo} {hi} {weights} {momentum}\n" for lo, hi, weights, momentum in shards).encode())


def stepped(runner: StageRunner, shard: ManifestShard, mean: bytes) -> tuple[bytes, bytes]:
    """Weights and momentum after the outer step with a mean. Raises ValueError if they are not the manifest's."""
    weights, momentum = runner.step(shard.lo, shard.hi, mean)
    if (digest(weights), digest(momentum)) != (shard.weights.digest, shard.momentum.digest):
        raise BadPayload("the outer step with it leads elsewhere than the manifest says")
    return weights, momentum
