"""Leases: fetch the inputs, compute, keep the output for its reader, send the receipt.

Law: a lease given twice is done once; its receipt is sent again. Inputs of the next lease are fetched while the present
one computes. A lease that cannot be done ends in a `Failure` that says whom to blame.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from loguru import logger

from iota_subnet.messages import Blob, Failure, FromMiner, Lease, Receipt
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.outbox import Outbox
from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobFetcher, FetchFailed

if TYPE_CHECKING:
    from iota_subnet.train.runner import StageRunner

#: Receipts kept to be sent again.
MAX_RECEIPTS = 512


class Worker:
    """Works off the leases of one stage."""

    def __init__(
        self, engine: Engine, fetcher: BlobFetcher, outbox: Outbox, send: Callable[[FromMiner], object]
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._outbox = outbox
        self._send = send
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._receipts: OrderedDict[int, Receipt] = OrderedDict()
        self.done = 0

    @property
    def open(self) -> list[int]:
        """Leases under way."""
        return list(self._tasks)

    def give(self, lease: Lease) -> None:
        """Take a lease; one that is known is not done again."""
        receipt = self._receipts.get(lease.lease)
        if receipt is not None:
            self._send(receipt)
        elif lease.lease not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._work(lease))
            self._tasks[lease.lease] = task
            task.add_done_callback(lambda _: self._tasks.pop(lease.lease, None))

    def withdraw(self, lease: int) -> None:
        """The orchestrator does not wait any more; work that has begun is finished, late work may still be taken."""
        logger.debug("lease {} withdrawn", lease)

    def retire(self, batch: int) -> None:
        """What was kept for a microbatch may go."""
        self._outbox.drop(("batch", batch))

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _work(self, lease: Lease) -> None:
        try:
            inputs = await asyncio.gather(*(self._fetch(blob) for blob in lease.inputs))
        except FetchFailed as error:
            logger.warning("lease {}: {}", lease.lease, error)
            self._send(Failure(lease.lease, "input", error.digest, error.reason[:200]))
            return
        try:
            (output, losses), seconds = await self._engine.call(lambda runner: run(runner, lease, inputs))
        except ValueError as error:
            # A payload that does not decode, or makes the pass blow up, is its sender's: the last input came last.
            logger.warning("lease {}: {}", lease.lease, error)
            self._send(Failure(lease.lease, "input", lease.inputs[-1].digest, str(error)[:200]))
            return
        except Exception as error:
            logger.opt(exception=error).error("lease {} failed", lease.lease)
            self._send(Failure(lease.lease, "work", "", f"{type(error).__name__}: {error}"[:200]))
            return
        made = self._outbox.put(("batch", lease.batch), output) if output else None
        step = self._engine.runner.inner_step if self._engine.runner is not None else 0
        receipt = Receipt(lease.lease, made, tuple(losses), seconds, step)
        self._receipts[lease.lease] = receipt
        while len(self._receipts) > MAX_RECEIPTS:
            self._receipts.popitem(last=False)
        self.done += 1
        self._send(receipt)

    async def _fetch(self, blob: Blob) -> bytes:
        return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, "activation")


def run(runner: StageRunner, lease: Lease, inputs: list[bytes]) -> tuple[bytes, list[float]]:
    """One pass: its output, and the tail's losses."""
    match lease.op:
        case "forward":
            return runner.forward(lease.batch, inputs[0]), []
        case "loss":
            x, tokens = inputs if len(inputs) == 2 else (b"", inputs[0])
            return runner.forward_backward(lease.batch, x, tokens)
        case "backward":
            return runner.backward(lease.batch, inputs[0], inputs[1]), []
