"""One thread that computes. Everything that touches tensors goes through here, one call at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from iota_subnet.miner.memory import keep_freed
from iota_subnet.miner.meter import Meter
from iota_subnet.spec import RunSpec
from iota_subnet.train.team import DevicesLost
from iota_subnet.train.tuning import Tuning

if TYPE_CHECKING:
    from iota_subnet.train.runner import StageRunner

T = TypeVar("T")


class Engine:
    """Holds the stage runner. Calls wait for each other in the order in which they were made."""

    def __init__(
        self,
        threads: int,
        device: str,
        tuning: Tuning | None = None,
        on_lost: Callable[[DevicesLost], None] = lambda _: None,
    ) -> None:
        self._threads = threads
        self._device = device
        self._tuning = tuning or Tuning()
        self._on_lost = on_lost
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self.runner: StageRunner | None = None
        self.meter = Meter()

    async def open(self, spec: RunSpec, stage: int) -> None:
        """Build the runner of `stage`, or keep the one there is."""
        if self.runner is None or self.runner.stage != stage or self.runner.spec != spec:
            before, self.runner = self.runner, None
            if before is not None:
                await self._in_thread(before.close)
            self.runner = await self._in_thread(lambda: self._build(spec, stage))

    async def call(self, work: Callable[[StageRunner], T]) -> tuple[T, float]:
        """`work(runner)` and the seconds it computed. Raises what it raises."""
        runner = self.runner
        if runner is None:
            raise RuntimeError("no stage is installed")

        def timed() -> tuple[T, float]:
            began = time.perf_counter()
            with self.meter.computing():
                return work(runner), time.perf_counter() - began

        return await self._in_thread(timed)

    def close(self) -> None:
        """Take no more work; what runs is not waited for. Safe to call twice."""
        # A runner's processes end with this one.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _build(self, spec: RunSpec, stage: int) -> StageRunner:
        # Imported here: torch takes a second that a miner which is refused at Join need not spend.
        import torch

        from iota_subnet.train.runner import StageRunner, graphs_that_pay

        keep_freed()
        torch.set_num_threads(self._threads)
        if self._tuning.devices:
            from iota_subnet.train.sharded import ShardedRunner

            return ShardedRunner(spec, stage, self._tuning, graphs_that_pay(spec), self._threads)
        return StageRunner(spec, stage, self._device, graphs_that_pay(spec), self._tuning)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except DevicesLost as lost:
            self.runner = None
            self._on_lost(lost)
            raise
