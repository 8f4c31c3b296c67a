"""Merge duty: commit the pseudo-gradient, fetch and reduce shards, install the result. Any step may be asked twice."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any

from loguru import logger

from iota_subnet.messages import (
    Blob,
    Committed,
    Contributors,
    Fetched,
    FromMiner,
    Installed,
    Made,
    PlannedContribution,
    PlannedDuty,
    Reduced,
    StageManifest,
)
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.outbox import Outbox
from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobFetcher, FetchFailed

#: Epochs whose merge results are still served; others may be slow to install.
KEEP_EPOCHS = 2

Fixed = asyncio.Future[tuple[str, ...]]


class Merger:
    """One miner's part in the merges of its stage."""

    def __init__(
        self, engine: Engine, fetcher: BlobFetcher, outbox: Outbox, send: Callable[[FromMiner], object]
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._outbox = outbox
        self._send = send
        self._commits: dict[int, Committed] = {}
        self._fixed: dict[tuple[int, int], Fixed] = {}
        self._results: dict[tuple[int, int], Reduced] = {}
        self._tasks: dict[tuple[object, ...], asyncio.Task[None]] = {}

    @property
    def busy(self) -> list[str]:
        """What is under way, for people."""
        return [" ".join(map(str, key)) for key in self._tasks]

    def commit(self, stage: int, epoch: int, shards: int) -> None:
        """Publish the pseudo-gradient of `epoch`; asked again, say the same again."""
        if epoch in self._commits:
            self._send(self._commits[epoch])
            return
        self._spawn(("commit", epoch), self._commit(stage, epoch, shards))

    def reduce(self, stage: int, epoch: int, duties: tuple[PlannedDuty, ...]) -> None:
        """Take shards to reduce."""
        for duty in duties:
            if (epoch, duty.shard) in self._results:
                self._send(self._results[epoch, duty.shard])
            else:
                self._spawn(("reduce", epoch, duty.shard), self._reduce(stage, epoch, duty))

    def fix(self, message: Contributors) -> None:
        """Whose pseudo-gradients count; may come before the plan that it belongs to."""
        fixed = self._future(message.epoch, message.shard)
        if not fixed.done():
            fixed.set_result(message.hotkeys)

    def install(self, manifest: StageManifest) -> None:
        """Fetch and install a global state."""
        self._spawn(("install", manifest.epoch), self._install(manifest))

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _commit(self, stage: int, epoch: int, shards: int) -> None:
        blobs, _ = await self._engine.call(lambda runner: runner.pseudo_gradient(shards))
        made = tuple(self._outbox.put(("merge", epoch), blob) for blob in blobs)
        self._commits = {epoch: Committed(stage, epoch, made)}
        self._send(self._commits[epoch])

    async def _reduce(self, stage: int, epoch: int, duty: PlannedDuty) -> None:
        fetched = await asyncio.gather(*(self._contribution(c) for c in duty.contributions))
        have = {
            c.hotkey: (c.weight, data) for c, data in zip(duty.contributions, fetched, strict=True) if data is not None
        }
        self._send(Fetched(stage, epoch, duty.shard, tuple(have)))
        counted = await self._future(epoch, duty.shard)
        # The order of the plan is the order of the sum; a set of contributors has none.
        given = [have[c.hotkey] for c in duty.contributions if c.hotkey in counted and c.hotkey in have]
        (weights, momentum), _ = await self._engine.call(lambda runner: runner.reduce(duty.lo, duty.hi, given))
        made: list[Made] = [self._outbox.put(("merge", epoch), part) for part in (weights, momentum)]
        result = Reduced(stage, epoch, duty.shard, made[0], made[1])
        self._results[epoch, duty.shard] = result
        self._send(result)

    async def _contribution(self, contribution: PlannedContribution) -> bytes | None:
        try:
            return await self._fetch(contribution.blob, "merge")
        except FetchFailed as error:
            logger.warning("pseudo-gradient of {}: {}", contribution.hotkey, error)
            return None

    async def _install(self, manifest: StageManifest) -> None:
        runner = self._engine.runner
        if runner is None or runner.epoch < manifest.epoch:
            shards = await asyncio.gather(*(self._shard(s.lo, s.hi, s.weights, s.momentum) for s in manifest.shards))
            await self._engine.call(lambda runner: runner.install(manifest.epoch, shards))
        digest, _ = await self._engine.call(lambda runner: runner.state_digest())
        self._forget(manifest.epoch)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        logger.info(
            "holds stage {} of epoch {}; {:.1f} s of CPU and {} MB at most so far",
            manifest.stage, manifest.epoch, time.process_time(), peak_mb,
        )  # fmt: skip
        self._send(Installed(manifest.stage, manifest.epoch, digest))

    async def _shard(self, lo: int, hi: int, weights: Blob, momentum: Blob) -> tuple[int, int, bytes, bytes]:
        parts = await asyncio.gather(self._fetch(weights, "manifest"), self._fetch(momentum, "manifest"))
        return lo, hi, parts[0], parts[1]

    def _forget(self, epoch: int) -> None:
        """A manifest of `epoch` closes the merges before it."""
        self._fixed = {key: value for key, value in self._fixed.items() if key[0] >= epoch}
        self._results = {key: value for key, value in self._results.items() if key[0] >= epoch}
        for topic in self._outbox.topics():
            if isinstance(topic, tuple) and topic[0] == "merge" and topic[1] < epoch - KEEP_EPOCHS:
                self._outbox.drop(topic)

    async def _fetch(self, blob: Blob, label: str) -> bytes:
        return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, label)

    def _future(self, epoch: int, shard: int) -> Fixed:
        return self._fixed.setdefault((epoch, shard), asyncio.get_running_loop().create_future())

    def _spawn(self, key: tuple[object, ...], work: Coroutine[Any, Any, None]) -> None:
        """Run `work` unless the same is under way; a failure is told, and may be asked for again."""
        if key in self._tasks:
            work.close()
            return

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                logger.opt(exception=error).error("{} failed", " ".join(map(str, key)))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
