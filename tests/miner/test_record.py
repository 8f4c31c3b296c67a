"""What became of each lease: accepted only on the validator's word, refused with its reason, never forgotten early."""

from __future__ import annotations

from typing import Any

from iota_subnet.messages import Failure, Installed, Lease, Receipt
from iota_subnet.miner.record import KEEP, Record


def lease(number: int, batch: int = 7, epoch: int = 0, op: Any = "forward") -> Lease:
    return Lease(number, op, batch, 0, epoch, (), 5.0)


def receipt(number: int) -> Receipt:
    return Receipt(number, None, (), 0.25, 0)


def done(record: Record, number: int, at: float, delivered: bool = True) -> None:
    record.given(lease(number), at)
    record.sent(receipt(number), delivered, at)


def outcomes(record: Record) -> list[tuple[int, str]]:
    return [(row["lease"], row["outcome"]) for row in record.document(0.0)["receipts"]]


def test_a_receipt_is_accepted_when_the_validator_asked_later_does_not_wait_for_it() -> None:
    record = Record()
    done(record, 1, 10.0)
    done(record, 2, 10.0)
    done(record, 3, 19.0)
    record.settled(20.0, still_open=[2])
    assert outcomes(record) == [(3, "sent"), (2, "sent"), (1, "accepted")]
    record.settled(30.0, still_open=[])
    assert outcomes(record) == [(3, "accepted"), (2, "accepted"), (1, "accepted")]


def test_a_refusal_names_its_lease_and_keeps_the_reason_also_after_it_was_thought_accepted() -> None:
    record = Record()
    done(record, 1, 10.0)
    record.settled(20.0, [])
    assert record.refused("receipt for lease 1", "another replica has already done this step") is not None
    (row,) = record.document(30.0)["receipts"]
    assert (row["outcome"], row["reason"]) == ("refused", "another replica has already done this step")
    assert (row["ago_s"], row["seconds"]) == (20.0, 0.25)
    record.settled(40.0, [])
    assert outcomes(record) == [(1, "refused")]
    assert record.of(0) == {"done": 1, "refused": 1}


def test_a_refusal_of_something_else_is_no_leases() -> None:
    record = Record()
    done(record, 1, 10.0)
    for what in ("result of shard 1", "commit of epoch 1", "receipt for lease 11", "receipt for lease x"):
        assert record.refused(what, "no") is None
    assert outcomes(record) == [(1, "sent")]


def test_work_done_after_its_lease_was_withdrawn_is_late_unless_refused() -> None:
    record = Record()
    record.given(lease(1), 0.0)
    record.withdrawn(1, "the deadline has passed")
    assert record.document(1.0)["leases"][0]["withdrawn"] == "the deadline has passed"
    record.sent(receipt(1), True, 10.0)
    record.settled(20.0, [])
    assert outcomes(record) == [(1, "late")]
    assert record.document(20.0)["receipts"][0]["reason"] == "the deadline has passed"


def test_a_receipt_that_could_not_be_sent_is_one_receipt_when_it_is_sent_again() -> None:
    record = Record()
    done(record, 1, 10.0, delivered=False)
    assert outcomes(record) == [(1, "unsent")]
    record.settled(20.0, [])
    assert outcomes(record) == [(1, "unsent")]
    done(record, 1, 30.0)
    assert outcomes(record) == [(1, "sent")] and record.of(0)["done"] == 1


def test_a_failure_says_why() -> None:
    record = Record()
    record.given(lease(1), 0.0)
    record.sent(Failure(1, "input", "d", "nobody has it"), True, 1.0)
    row = record.document(1.0)["receipts"][0]
    assert (row["outcome"], row["reason"]) == ("failed", "input: nobody has it")
    assert record.of(0) == {"failed": 1}


def test_open_leases_count_down_and_go_when_nobody_works_on_them() -> None:
    record = Record()
    record.given(lease(1), 10.0)
    record.given(lease(2), 10.0)
    assert [row["seconds_left"] for row in record.document(12.0)["leases"]] == [3.0, 3.0]
    record.forget([2])
    assert [row["lease"] for row in record.document(99.0)["leases"]] == [2]
    assert record.document(99.0)["leases"][0]["seconds_left"] == 0.0


def test_what_is_no_end_of_a_lease_is_not_recorded_and_memory_is_bounded() -> None:
    record = Record()
    record.sent(Installed(0, 0, "d", "n"), True, 0.0)
    record.sent(receipt(5), True, 0.0)
    assert outcomes(record) == []
    for number in range(5000):
        record.given(lease(number, epoch=number // 10), 0.0)
        if number % 2:
            record.sent(receipt(number), True, 0.0)
    assert len(record.last) == KEEP and len(record.open) <= 256 and len(record.counts) <= 8
