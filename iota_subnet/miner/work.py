"""Leases: fetch the inputs, compute, keep the output for its reader, send the receipt.

Law: a lease given twice is done once; its receipt is sent again. That holds too for one whose output could not be
brought to a bucket: its pass counts in what this miner commits to, and twice in a transcript is a lie. Inputs of the
next lease are fetched while the present one computes. A lease that cannot be done ends in a `Failure` that says whom to
blame.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from iota_subnet.messages import Blob, Failure, FromMiner, Lease, Receipt
from iota_subnet.miner.conduct import Conduct, perform
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.evidence import Evidence
from iota_subnet.miner.outbox import Outbox
from iota_subnet.spec import BlobRef
from iota_subnet.tasks import cancel
from iota_subnet.train import codec, inputs
from iota_subnet.train.transcript import Pass
from iota_subnet.wire.blobs import BlobFetcher, BucketFailed, FetchFailed

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
        self._untold: OrderedDict[Identity, Receipt] = OrderedDict()
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
        receipt = self._untold.get(name) or await self._do(lease)
        if receipt is not None:
            await self._tell(name, receipt)

    async def _do(self, lease: Lease) -> Receipt | None:
        """Fetch and compute; None, and a `Failure` is sent, where that cannot be done."""
        wait_s = self._conduct.delay_s(lease)
        if wait_s:
            await asyncio.sleep(wait_s)
        try:
            read = await asyncio.gather(*(self._fetch(blob) for blob in lease.inputs))
        except FetchFailed as error:
            logger.warning("lease {}: {}", lease.lease, error)
            self._send(Failure(lease.lease, "input", error.digest, error.reason[:200]))
            return None
        try:
            return await self._compute(lease, read)
        except ValueError as error:
            # A payload that does not decode, or makes the pass blow up.
            (place, kind), _ = await self._engine.call(lambda runner: culprit(runner, lease, read))
            blamed = lease.inputs[place].digest
            logger.warning("lease {}: {}", lease.lease, error)
            if self._evidence is not None and kind == "bytes":
                self._evidence.keep(lease.epoch, [(blamed, read[place])])
            self._send(Failure(lease.lease, kind, blamed, str(error)[:200]))
        except Exception as error:
            logger.opt(exception=error).error("lease {} failed", lease.lease)
            self._send(Failure(lease.lease, "work", "", f"{type(error).__name__}: {error}"[:200]))
        return None

    async def _tell(self, name: Identity, receipt: Receipt) -> None:
        """Send a receipt, in the order of computing, when others can read what it names."""
        made = [receipt.output] if receipt.output is not None else []
        self._outbox.upload(*made)
        async with self._outbox.order:
            try:
                await self._outbox.uploaded(*made)
            except BucketFailed as error:
                _keep(self._untold, name, receipt)
                logger.warning("lease {}: upload to the bucket: {}", receipt.lease, error)
                self._send(Failure(receipt.lease, "work", "", f"upload to the bucket: {error}"[:200]))
                return
            self._untold.pop(name, None)
            _keep(self._receipts, name, receipt)
            self.done += 1
            self._answer(receipt)

    async def _compute(self, lease: Lease, data: list[bytes]) -> Receipt:
        (done, output, epoch), seconds = await self._engine.call(lambda runner: self._pass(runner, lease, data))
        made = None
        if output:
            made = self._outbox.put(("batch", lease.batch), output, done.output)
            self._epochs[lease.batch] = lease.epoch
        if self._evidence is not None:
            read = [(blob.digest, data) for blob, data in zip(lease.inputs, data, strict=True)]
            self._evidence.keep(epoch, [*read, *([(done.output, output)] if output else [])])
        return Receipt(lease.lease, made, done.losses, seconds, done.step)

    def _pass(self, runner: StageRunner, lease: Lease, data: list[bytes]) -> tuple[Pass, bytes, int]:
        """One pass, noted before the next can begin: what is signed later is in the order of computing."""
        output, losses, step = perform(self._conduct, runner, lease, data)
        read = tuple(blob.digest for blob in lease.inputs)
        made = codec.digest(output) if output else ""
        done = Pass(lease.lease, lease.op, lease.batch, read, made, tuple(losses), step)
        if self._evidence is not None:
            self._evidence.note(done)
        return done, output, runner.epoch

    async def _fetch(self, blob: Blob) -> bytes:
        with self._engine.meter.fetching():
            return await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, "activation")


def _keep(receipts: OrderedDict[Identity, Receipt], name: Identity, receipt: Receipt) -> None:
    receipts[name] = receipt
    while len(receipts) > MAX_RECEIPTS:
        receipts.popitem(last=False)


def identity(lease: Lease) -> Identity:
    """What makes two leases the same; URLs, tickets and seconds left differ each time one is given."""
    return lease.lease, lease.op, lease.batch, lease.stage, lease.epoch, *(blob.digest for blob in lease.inputs)


def culprit(runner: StageRunner, lease: Lease, read: Sequence[bytes]) -> tuple[int, Literal["input", "bytes"]]:
    """Which input is to blame for a refused pass: one that does not decode, which can be proved by its bytes, else the
    one that another miner made last.

    The tail's last input is the validator's tokens; to blame them would only bring the same activation back.
    """
    for place, data in enumerate(read):
        if inputs.unfit(runner.spec, lease.stage, lease.op, place, data):
            return place, "bytes"
    return (1 if lease.op == "backward" else 0), "input"
