"""What the miner's operator is told: every change once, nothing over and over, and never at the cost of the work."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from iota_subnet.messages import (
    Ban,
    Duties,
    Evidence,
    Lease,
    OpenLease,
    Place,
    Receipt,
    ScorePart,
    Seat,
    StandingReport,
)
from iota_subnet.miner.meter import Meter
from iota_subnet.miner.record import Record
from iota_subnet.miner.reporter import ASK_S, SOON_S, Reporter
from iota_subnet.protocol import Standing
from iota_subnet.statusfile import StatusFile, read_status
from template.errors import Unreachable
from tests.validator.kit import eventually

SEAT = Seat(1, 0, 3, "", 40, 0, 0.0)
CALM = StandingReport(
    phase="train", epoch=3, epochs=9, waiting_for="miners train", seconds_left=90.0, own="do 1 lease", own_s=4.0,
    seat=SEAT, place=None, ban=None, leases=(), duties=Duties("none", 0, 0), volume=1.0, closed=2,
    parts=(ScorePart(2, 12.1, 1.0, 1.0, 500.0),), older=23.9, score=36.0, share=0.17, rank=2, ranked=6, measured=None,
    faults=(), weights_epoch=1, weights="block 9",
)  # fmt: skip


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO", format="{message}")
    yield lines
    logger.remove(sink)


class Desk:
    """A reporter with a clock and a validator that answers `report`, or not at all."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.report: StandingReport | None = CALM
        self.asked = 0
        self.hands: list[int] = []
        self.record = Record()
        self.reporter = Reporter(
            self.record, Meter(lambda: self.now), self.answer, lambda: self.hands, lambda: self.now, lambda: 0.5
        )

    async def answer(self, synapse: Standing, timeout_s: float) -> Standing:
        self.asked += 1
        if self.report is None:
            raise Unreachable("it did not answer")
        return Standing(report=self.report)

    async def hear(self, after_s: float = ASK_S, **changes: Any) -> None:
        self.now += after_s
        self.report = dataclasses.replace(self.report or CALM, **changes)
        await self.reporter.ask()
        self.reporter.tell()


async def test_nothing_is_said_twice_while_nothing_changes(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    assert log[0] == "seat: stage 1, slot 0"
    assert log[-1] == "epoch 3: train (miners train; 90 s at most); this miner: do 1 lease (4 s at most)"
    said = len(log)
    for left in range(80, 30, -1):
        await desk.hear(1.0, seconds_left=float(left), own_s=2.0, volume=float(left))
    assert len(log) == said


async def test_phases_that_follow_each_other_quickly_cost_one_line(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    said = len(log)
    for phase in ("commit", "reduce", "install"):
        await desk.hear(1.0, phase=phase)
    assert len(log) == said
    await desk.hear()
    assert len(log) == said + 1 and "epoch 3: install" in log[-1]


async def test_a_count_in_what_is_waited_for_is_no_news(log: list[str]) -> None:
    desk = Desk()
    await desk.hear(waiting_for="3 microbatches are still on the way")
    said = len(log)
    await desk.hear(waiting_for="2 microbatches are still on the way")
    assert len(log) == said


async def test_a_closed_epoch_is_summed_up_once(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    for number in range(3):
        desk.record.given(Lease(number, "forward", number, 1, 3, (), 5.0), desk.now)
        desk.record.sent(Receipt(number, None, (), 0.1, 0), True, desk.now)
    desk.reporter.refused("receipt for lease 2", "another replica has already done this step")
    parts = (*CALM.parts, ScorePart(3, 4.0, 0.5, 1.0, 600.0))
    await desk.hear(epoch=4, closed=3, parts=parts, score=38.0, share=0.2)
    await desk.hear()
    (line,) = [line for line in log if line.startswith("epoch 3: 3 leases")]
    assert line.startswith(
        "epoch 3: 3 leases done, 1 refused, 0 failed, volume 4.0, quality 0.50, score 38.0 = 20 % of the swarm; time: "
    )


async def test_an_epoch_without_pay_says_so(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    await desk.hear(epoch=4, closed=3)
    assert any("epoch 3: 0 leases done" in line and "nothing counted" in line for line in log)


async def test_refusals_are_told_with_their_reason_and_many_as_one(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    for number in range(5):
        desk.reporter.refused(f"receipt for lease {number}", "a loss is negative, huge or not a number")
        desk.reporter.tell()
    told = [line for line in log if "did not take" in line]
    assert told == ["the validator did not take receipt for lease 0: a loss is negative, huge or not a number"]
    desk.now += 10.0
    desk.reporter.tell()
    assert log[-1].startswith("the validator did not take receipt for lease 4") and "(and 3 more)" in log[-1]


async def test_a_lost_seat_the_line_a_ban_and_a_fault_are_each_told_at_once(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    await desk.hear(0.1, seat=None, own="wait for a seat", place=Place(4, 9, 100.0))
    assert log[-2:] == ["no seat", "number 4 of 9 in the line for a seat"]
    await desk.hear(0.1, place=Place(4, 9, 90.0))
    assert log[-1] == "number 4 of 9 in the line for a seat" and log.count(log[-1]) == 1
    await desk.hear(0.1, place=Place(3, 9, 120.0))
    assert log[-1] == "number 3 of 9 in the line for a seat"
    await desk.hear(0.1, place=None, ban=Ban(60.0, "look at your blob port"))
    assert log[-1] == "banned: look at your blob port"
    fault = Evidence(3, "shard 0 of stage 1: published aa, truth is bb", 600.0)
    await desk.hear(0.1, ban=None, faults=(fault,))
    await desk.hear(0.1, faults=(dataclasses.replace(fault, seconds_left=599.0),))
    assert len([line for line in log if "truth is bb" in line]) == 1


async def test_what_to_do_now_follows_the_leases_in_hand_and_not_the_validators_older_word() -> None:
    desk = Desk()
    await desk.hear(leases=(OpenLease(1, "forward", 1, 4.0),), own="do 1 lease")
    assert desk.reporter.now() == ("wait for a lease", 90.0)
    desk.record.given(Lease(8, "forward", 2, 1, 3, (), 5.0), desk.now)
    desk.record.given(Lease(9, "forward", 3, 1, 3, (), 7.0), desk.now)
    desk.now += 1.0
    assert desk.reporter.now() == ("do 2 leases", 6.0)


async def test_a_validator_that_is_away_ends_nothing_and_its_last_word_grows_old(tmp_path: Path) -> None:
    desk = Desk()
    await desk.hear()
    desk.report = None
    desk.now += 25.0
    await desk.reporter.ask()
    document = desk.reporter.document()
    assert document["standing"]["score"] == 36.0 and document["standing_age_s"] == 25.0
    assert document["standing_trouble"] == "it did not answer"


async def test_it_asks_about_every_ten_seconds_at_a_change_at_once_and_keeps_the_file(tmp_path: Path) -> None:
    desk = Desk()
    file = StatusFile(tmp_path / "status.json", lambda: {"kind": "miner"} | desk.reporter.document())
    task = asyncio.create_task(desk.reporter.run(file, lambda: True))
    try:
        await eventually(file.path.exists)
        assert desk.asked == 1 and read_status(file.path)["standing"]["rank"] == 2
        desk.reporter.soon()
        await eventually(lambda: desk.asked == 2)
        desk.now += ASK_S
        await eventually(lambda: desk.asked == 3)
    finally:
        task.cancel()


async def test_a_phase_is_known_as_soon_as_it_is_told_and_an_epochs_end_is_asked_about_a_little_later() -> None:
    desk = Desk()
    await desk.hear()
    desk.now += 4.0
    desk.reporter.phase("commit", 3, "the pseudo-gradients of 2 replicas", 30.0, "publish the pseudo-gradient")
    assert desk.reporter.now() == ("publish the pseudo-gradient", 30.0)
    standing = desk.reporter.document()["standing"]
    assert (standing["phase"], standing["seconds_left"] - desk.reporter.age()) == ("commit", 30.0)
    assert desk.reporter._ask_at == desk.now - 4.0 + ASK_S
    desk.reporter.phase("train", 4, "miners train", 600.0, "")
    assert desk.reporter.now() == ("wait (miners train)", 600.0)
    assert desk.now < desk.reporter._ask_at <= desk.now + SOON_S


async def test_a_phase_that_is_told_while_the_answer_is_on_its_way_is_asked_about_again() -> None:
    desk = Desk()
    await desk.hear()
    assert desk.reporter._ask_at == desk.now + ASK_S
    really = desk.answer

    async def slow(synapse: Standing, timeout_s: float) -> Standing:
        desk.reporter.phase("commit", 3, "replicas publish", 30.0, "")
        return await really(synapse, timeout_s)

    desk.reporter._ask = slow
    await desk.reporter.ask()
    assert desk.reporter._ask_at <= desk.now + SOON_S


async def test_a_run_that_began_anew_is_no_epoch_that_closed(log: list[str]) -> None:
    desk = Desk()
    await desk.hear()
    await desk.hear(epoch=0, closed=-1, parts=())
    assert not any("leases done" in line for line in log)


async def test_what_the_validator_wrote_is_one_printable_line_of_the_log(log: list[str]) -> None:
    desk = Desk()
    await desk.hear(waiting_for="miners\n12:00 ERROR \x1b[2Jforged", ban=Ban(9.0, "be\nware"))
    desk.reporter.refused("receipt for lease 1", "no\nway")
    desk.reporter.tell()
    assert len(log) == 5 and not any(char in line for line in log for char in "\n\x1b")


async def test_weights_are_told_once_an_epoch_and_a_refusal_of_the_chain_with_its_reason(log: list[str]) -> None:
    desk = Desk()
    for weights in ("block 9", "block 29", "too soon", "block 49"):
        await desk.hear(weights=weights)
    assert [line.partition(": ")[2] for line in log if line.startswith("weights")] == [
        "on chain",
        "too soon",
        "on chain",
    ]


async def test_a_disk_that_is_full_costs_one_line_and_nothing_else(tmp_path: Path, log: list[str]) -> None:
    desk = Desk()
    (tmp_path / "file").write_text("")
    file = StatusFile(tmp_path / "file" / "status.json", desk.reporter.document)
    task = asyncio.create_task(desk.reporter.run(file, lambda: True))
    try:
        await eventually(lambda: any("cannot be written" in line for line in log))
        desk.reporter.soon()
        await eventually(lambda: desk.asked == 2)
        assert len([line for line in log if "cannot be written" in line]) == 1
    finally:
        task.cancel()
