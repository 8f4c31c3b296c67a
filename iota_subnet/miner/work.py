"""Leases: fetch the inputs, compute, keep the output for its reader, send the receipt.

Law: a lease given twice is done once; its receipt is sent again. Inputs of the next lease are fetched while the present
one computes. A lease that cannot be done ends in a `Failure` that says whom to blame.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loguru import logger

from iota_subnet.messages import Blob, Failure, FromMiner, Lease, Receipt
from iota_subnet.miner.conduct import Conduct, perform
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.evidence import Evidence
from iota_subnet.miner.outbox import Outbox
from iota_subnet.spec import BlobRef
from iota_subnet.tasks import cancel
from iota_subnet.train import activations, codec
from iota_subnet.train.transcript import Pass
from iota_subnet.wire.blobs import BlobFetcher, FetchFailed

if TYPE_CHECKING:
    from iota_subnet.train.runner import StageRunner

#: Receipts kept to be sent again.
MAX_RECEIPTS = 512

#: Epochs whose outputs are still served; a microbatch may cross the end of one.
KEEP_EPOCHS = 2

#: A lease and all that it is about: numbers come again when a run begins anew.
Identity = tuple[Any, ...]


class Worker:
    """Works off the leases of one stage."""

    def __init__(
        self,
        engine: Engine,
        fetcher: BlobFetcher,
        outbox: Outbox,
        send: Callable[[FromMiner], object],
        conduct: Conduct | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._outbox = outbox
        self._send = send
        self._conduct = conduct or Conduct()
        self._evidence = evidence
        self._tasks: dict[Identity, asyncio.Task[None]] = {}
        self._receipts: OrderedDict[Identity, Receipt] = OrderedDict()
        self._epochs: dict[int, int] = {}
        self.done = 0

    @property
    def open(self) -> list[int]:
        """Leases under way."""
        return [name[0] for name in self._tasks]

    def give(self, lease: Lease) -> None:
        """Take a lease; one that is known is not done again."""
        name = identity(lease)
        receipt = self._receipts.get(name)
        if receipt is not None:
            self._answer(receipt)
        elif name not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._work(name, lease))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    def withdraw(self, lease: int) -> None:
        """The orchestrator does not wait any more; work that has begun is finished, late work may still be taken."""
        logger.debug("lease {} withdrawn", lease)

    def retire(self, batch: int) -> None:
        """What was kept for a microbatch may go."""
        self._epochs.pop(batch, None)
        self._outbox.drop(("batch", batch))

    def sweep(self, epoch: int) -> None:
        """`epoch` begins: what was kept for microbatches of long ago, or of another run, may go.

        The word that a microbatch has retired is lost with a connection, and may come before its late output.
        """
        for batch, made_in in list(self._epochs.items()):
            if not epoch - KEEP_EPOCHS <= made_in <= epoch:
                self.retire(batch)

    async def close(self) -> None:
        """End what is under way."""
        await cancel(list(self._tasks.values()))

    def _answer(self, receipt: Receipt) -> None:
        for message in self._conduct.receipts(receipt):
            self._send(message)

    async def _work(self, name: Identity, lease: Lease) -> None:
        wait_s = self._conduct.delay_s(lease)
        if wait_s:
            await asyncio.sleep(wait_s)
        try:
            inputs = await asyncio.gather(*(self._fetch(blob) for blob in lease.inputs))
        except FetchFailed as error:
            logger.warning("lease {}: {}", lease.lease, error)
            self._send(Failure(lease.lease, "input", error.digest, error.reason[:200]))
            return
        try:
            receipt = await self._compute(lease, inputs)
        except ValueError as error:
            # A payload that does not decode, or makes the pass blow up.
            blamed, _ = await self._engine.call(lambda runner: culprit(runner, lease, inputs))
            logger.warning("lease {}: {}", lease.lease, error)
            self._send(Failure(lease.lease, "input", lease.inputs[blamed].digest, str(error)[:200]))
            return
        except Exception as error:
            logger.opt(exception=error).error("lease {} failed", lease.lease)
            self._send(Failure(lease.lease, "work", "", f"{type(error).__name__}: {error}"[:200]))
            return
        self._receipts[name] = receipt
        while len(self._receipts) > MAX_RECEIPTS:
            self._receipts.popitem(last=False)
        self.done += 1
        self._answer(receipt)

    async def _compute(self, lease: Lease, inputs: list[bytes]) -> Receipt:
        (done, output, epoch), seconds = await self._engine.call(lambda runner: self._pass(runner, lease, inputs))
        made = None
        if output:
            made = self._outbox.put(("batch", lease.batch), output, done.output)
            self._epochs[lease.batch] = lease.epoch
        if self._evidence is not None:
            read = [(blob.digest, data) for blob, data in zip(lease.inputs, inputs, strict=True)]
            self._evidence.keep(epoch, [*read, *([(done.output, output)] if output else [])])
        return Receipt(lease.lease, made, done.losses, seconds, done.step)

    def _pass(self, runner: StageRunner, lease: Lease, inputs: list[bytes]) -> tuple[Pass, bytes, int]:
        """One pass, noted before the next can begin: what is signed later is in the order of computing."""
        output, losses, step = perform(self._conduct, runner, lease, inputs)
        read = tuple(blob.digest for blob in lease.inputs)
        made = codec.digest(output) if output else ""
        done = Pass(lease.lease, lease.op, lease.batch, read, made, tuple(losses), step)
        if self._evidence is not None:
            self._evidence.note(done)
        return done, output, runner.epoch

    async def _fetch(self, blob: Blob) -> bytes:
        with self._engine.meter.fetching():
            return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, "activation")


def identity(lease: Lease) -> Identity:
    """What makes two leases the same; URLs, tickets and seconds left differ each time one is given."""
    return lease.lease, lease.op, lease.batch, lease.stage, lease.epoch, *(blob.digest for blob in lease.inputs)


def culprit(runner: StageRunner, lease: Lease, inputs: list[bytes]) -> int:
    """Which input is to blame for a refused pass: one that does not decode, else the one that another miner made last.

    The tail's last input is the validator's tokens; to blame them would only bring the same activation back.
    """
    model, train = runner.spec.model, runner.spec.train
    for index, data in enumerate(inputs):
        is_text = (index == 0 and lease.stage == 0) or (lease.op == "loss" and index == 1)
        try:
            if is_text:
                codec.bytes_to_tokens(data, (train.microbatch, model.seq + 1), model.vocab)
            else:
                from_before = index == 0 and activations.carries_ids(runner.spec, lease.stage)
                activations.decode(runner.spec, data, "", from_before)
        except ValueError:
            return index
    return 1 if lease.op == "backward" else 0
