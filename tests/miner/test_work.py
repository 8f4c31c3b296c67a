"""Leases: done once, answered as often as asked, and each failure names who is to blame."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from iota_subnet.messages import Blob, Failure, Lease, Receipt
from iota_subnet.miner.work import KEEP_EPOCHS
from iota_subnet.train import codec
from iota_subnet.train.runner import StageRunner, initial_state
from tests.validator.kit import eventually

from .kit import SPEC, Bench, activation, bench, tokens


def lease(number: int, op: Any, stage: int, *inputs: Blob, batch: int = 7, epoch: int = 0) -> Lease:
    return Lease(number, op, batch, stage, epoch, inputs, 30.0)


def fresh(stage: int) -> StageRunner:
    runner = StageRunner(SPEC, stage)
    runner.install(0, [(0, runner.parameters, *initial_state(SPEC, stage))])
    return runner


async def answer(b: Bench, given: Lease) -> Any:
    """Give a lease and wait for what comes of it."""
    before = len(b.sent)
    b.worker.give(given)
    await eventually(lambda: len(b.sent) > before)
    return b.sent[-1]


async def test_a_lease_is_computed_and_its_output_served() -> None:
    async with bench() as b:
        await b.hold()
        receipt = await answer(b, lease(1, "forward", 0, b.blob(tokens(1))))
        assert isinstance(receipt, Receipt) and receipt.output is not None and receipt.seconds > 0
        assert b.store.get(receipt.output.digest) == fresh(0).forward(7, tokens(1))
        assert (receipt.lease, receipt.losses, receipt.inner_step, b.worker.done) == (1, (), 0, 1)


async def test_the_tail_reports_losses_and_the_head_ends_without_output() -> None:
    async with bench(stage=1) as b:
        await b.hold()
        receipt = await answer(b, lease(1, "loss", 1, b.blob(activation(1)), b.blob(tokens(1))))
        gradient, losses = fresh(1).forward_backward(7, activation(1), tokens(1))
        assert receipt.losses == tuple(losses) and b.store.get(receipt.output.digest) == gradient
    async with bench() as b:
        await b.hold()
        receipt = await answer(b, lease(1, "backward", 0, b.blob(tokens(1)), b.blob(activation(2))))
        assert isinstance(receipt, Receipt) and receipt.output is None


async def test_a_lease_given_twice_is_computed_once_and_its_receipt_sent_again() -> None:
    async with bench() as b:
        await b.hold()
        calls = b.counted("forward")
        once = lease(1, "forward", 0, b.blob(tokens(1)))
        b.worker.give(once)
        first = await answer(b, once)
        # The validator came back: other ticket, other port, less time.
        again = Lease(1, "forward", 7, 0, 0, (Blob(once.inputs[0].digest, 9, ("http://else:1/",), "t"),), 3.0)
        assert await answer(b, again) == first
        assert (len(calls), b.worker.done, len(b.sent)) == (1, 1, 2)


async def test_the_same_number_in_a_run_that_began_anew_is_another_lease() -> None:
    async with bench() as b:
        await b.hold()
        first = await answer(b, lease(1, "forward", 0, b.blob(tokens(1))))
        second = await answer(b, lease(1, "forward", 0, b.blob(tokens(2))))
        assert first.output != second.output and b.worker.done == 2


async def test_an_input_that_cannot_be_had_is_blamed_by_its_digest() -> None:
    async with bench(stage=1) as b:
        await b.hold()
        lost = b.nowhere(activation(1))
        failure = await answer(b, lease(1, "loss", 1, lost, b.blob(tokens(1))))
        assert (failure.kind, failure.digest, failure.lease) == ("input", lost.digest, 1)
        assert failure.reason and b.worker.done == 0 and b.worker.open == []


#: Finite by themselves, and nothing that is computed from them is.
SHAPE = (SPEC.train.microbatch, SPEC.model.seq, SPEC.model.boundary)
HUGE = codec.encode(np.full(SHAPE, 3e38, np.float32), "fp32")
SPOILED = activation(1)[:-4] + b"\x00\x00\xc0\x7f"


@pytest.mark.parametrize(
    ("op", "stage", "inputs", "blamed", "kind"),
    [
        ("loss", 1, (SPOILED, tokens(1)), 0, "bytes"),
        ("loss", 1, (b"garbage", tokens(1)), 0, "bytes"),
        ("loss", 1, (HUGE, tokens(1)), 0, "input"),
        ("backward", 0, (tokens(1), HUGE), 1, "input"),
        ("loss", 1, (activation(1), b"garbage"), 1, "bytes"),
        ("backward", 0, (tokens(1), SPOILED), 1, "bytes"),
        ("backward", 0, (b"garbage", activation(1)), 0, "bytes"),
        ("forward", 0, (b"garbage",), 0, "bytes"),
    ],
)
async def test_a_payload_that_is_no_good_is_blamed_and_not_its_neighbour(
    op: str, stage: int, inputs: tuple[bytes, ...], blamed: int, kind: str
) -> None:
    """To blame the validator's tokens for a bad activation would bring the same activation back, for ever. What decodes
    and yet blows the pass up is never called unfit: an audit would find that it decodes."""
    async with bench(stage) as b:
        await b.hold()
        blobs = [b.blob(data) for data in inputs]
        failure = await answer(b, lease(1, op, stage, *blobs))
        assert isinstance(failure, Failure) and failure.kind == kind
        assert failure.digest == blobs[blamed].digest


async def test_a_failed_lease_may_be_given_again() -> None:
    async with bench() as b:
        await b.hold()
        late = lease(1, "forward", 0, b.nowhere(tokens(1)))
        assert isinstance(await answer(b, late), Failure)
        b.blob(tokens(1))
        assert isinstance(await answer(b, late), Receipt)


@pytest.mark.parametrize(
    ("op", "stage", "words"), [("forward", 1, "holds stage 0"), ("loss", 0, "stage 0 is not the tail")]
)
async def test_work_that_this_miner_cannot_do_is_its_own_failure(op: str, stage: int, words: str) -> None:
    async with bench() as b:
        await b.hold()
        failure = await answer(b, lease(1, op, stage, b.blob(tokens(1))))
        assert (failure.kind, failure.digest) == ("work", "") and words in failure.reason


async def test_a_full_store_is_a_failure_and_not_silence() -> None:
    async with bench() as b:
        await b.hold()
        b.store.max_bytes = 10
        failure = await answer(b, lease(1, "forward", 0, b.blob(tokens(1))))
        assert failure.kind == "work" and failure.reason.startswith("StoreFull")


async def test_the_inputs_of_the_next_lease_are_fetched_while_one_computes() -> None:
    async with bench() as b:
        await b.hold()
        computing, may_go, really = threading.Event(), threading.Event(), b.runner.forward

        def slow(mb: int, data: bytes) -> bytes:
            computing.set()
            assert may_go.wait(10)
            return really(mb, data)

        b.runner.forward = slow  # type: ignore[method-assign]
        b.worker.give(lease(1, "forward", 0, b.blob(tokens(1)), batch=1))
        await eventually(computing.is_set)
        got = b.fetcher.bytes_in.total
        b.worker.give(lease(2, "forward", 0, b.blob(tokens(2)), batch=2))
        await eventually(lambda: b.fetcher.bytes_in.total == got + len(tokens(2)))
        assert b.sent == []
        may_go.set()
        await eventually(lambda: len(b.sent) == 2)
        assert [receipt.lease for receipt in b.of(Receipt)] == [1, 2]


async def test_a_retired_microbatch_frees_its_blobs() -> None:
    async with bench() as b:
        await b.hold()
        receipt = await answer(b, lease(1, "forward", 0, b.blob(tokens(1))))
        b.worker.retire(8)
        assert b.store.has(receipt.output.digest)
        b.worker.retire(7)
        assert not b.store.has(receipt.output.digest)


async def test_what_nobody_said_was_retired_goes_some_epochs_later() -> None:
    async with bench() as b:
        await b.hold()
        for epoch in range(3):
            await answer(b, lease(epoch, "forward", 0, b.blob(tokens(epoch)), batch=epoch, epoch=epoch))
        outputs = [receipt.output.digest for receipt in b.of(Receipt) if receipt.output]
        b.worker.sweep(KEEP_EPOCHS)
        assert [b.store.has(name) for name in outputs] == [True] * 3
        b.worker.sweep(KEEP_EPOCHS + 1)
        assert [b.store.has(name) for name in outputs] == [False, True, True]
        b.worker.sweep(0)
        assert b.store.used == 0, "a run that began anew knows nothing of these"


async def test_closing_ends_what_is_under_way() -> None:
    async with bench() as b:
        b.worker.give(lease(1, "forward", 0, b.blob(tokens(1))))
        await b.worker.close()
        assert b.worker.open == [] and b.sent == []


async def test_the_receipts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iota_subnet.miner.work.MAX_RECEIPTS", 2)
    async with bench() as b:
        await b.hold()
        calls = b.counted("forward")
        given = [lease(n, "forward", 0, b.blob(tokens(1)), batch=n) for n in range(3)]
        for each in [*given, given[2], given[0]]:
            await answer(b, each)
        assert len(calls) == 4, "the oldest was forgotten, the newest was not"
