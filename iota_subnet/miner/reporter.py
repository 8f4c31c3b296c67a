"""The miner's view of itself: it asks the validator how it stands, tells its operator, and keeps the status file.

Law: nothing here blocks or ends the work; what fails is told once and tried again. The log gets a line when something
changes that an operator wants to know, and of things that change all the time one in `QUIET_S` seconds.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

from loguru import logger

from iota_subnet.messages import StandingReport
from iota_subnet.miner.meter import Meter
from iota_subnet.miner.record import Record
from iota_subnet.protocol import Standing
from iota_subnet.statusfile import EVERY_S, StatusFile
from template.errors import PeerError

#: Seconds between two questions, and between two lines about what changes all the time.
ASK_S = 10.0
QUIET_S = 10.0

#: Seconds within which all miners ask after an epoch's end.
SOON_S = 3.0

#: A question that is not answered by then is asked again later.
ANSWER_S = 8.0

#: Seconds in which changes that come together are waited for.
BURST_S = 0.3

#: Things of which it is remembered what was said last.
MOST_TOPICS = 256

#: Kinds of time, in words and as the meter calls them.
KINDS = (("computing", "compute"), ("fetching", "fetch"), ("idle", "idle"))

_DIGITS = re.compile(r"\d+")


class Reporter:
    """One miner's reports. `ask(synapse, timeout)` raises PeerError; `in_hand()` names the leases under way."""

    def __init__(
        self,
        record: Record,
        meter: Meter,
        ask: Callable[[Standing, float], Awaitable[Standing]],
        in_hand: Callable[[], list[int]],
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.report: StandingReport | None = None
        self.heard_at = 0.0
        self.trouble = ""
        self._record = record
        self._meter = meter
        self._ask = ask
        self._in_hand = in_hand
        self._clock = clock
        self._jitter = jitter
        self._ask_at = float("-inf")
        self._phase_at = float("-inf")
        self._soon = asyncio.Event()
        self._told: dict[str, Any] = {}
        self._line_at = float("-inf")
        self._refusals: list[str] = []

    def phase(self, phase: str, epoch: int, waiting_for: str, seconds_left: float, own: str) -> None:
        """The validator has told the phase: that much of the report is new. An epoch's end is worth a question."""
        self._meter.turn(epoch, phase)
        self._phase_at = self._clock()
        known = self.report
        if known is None or known.epoch != epoch or phase == "done":
            # Not all miners in the same moment.
            self.soon(SOON_S * self._jitter())
        if known is not None:
            self.report = replace(
                known, phase=phase, epoch=epoch, waiting_for=waiting_for, seconds_left=seconds_left + self.age()
            )
        rest = "nothing: the run is complete" if phase == "done" else f"wait ({waiting_for})"
        self.duty(own or rest, seconds_left)

    def duty(self, own: str, seconds_left: float) -> None:
        """The validator has told what this miner has to do."""
        if self.report is not None:
            # Times in the report count from when it was heard.
            self.report = replace(self.report, own=own, own_s=seconds_left + self.age())
        self._soon.set()

    def soon(self, after_s: float = 0.0) -> None:
        """Ask `after_s` from now, if not earlier."""
        self._ask_at = min(self._ask_at, self._clock() + after_s)
        self._soon.set()

    def age(self) -> float:
        """Seconds since the report was heard."""
        return self._clock() - self.heard_at

    def refused(self, what: str, reason: str) -> None:
        """The validator did not take something of ours. Told in the next round, many as one."""
        self._record.refused(what, reason)
        self._refusals.append(f"{what}: {reason}")
        del self._refusals[:-64]

    async def run(self, file: StatusFile, joined: Callable[[], bool]) -> None:
        """Ask, tell and write, for ever. `joined()` says whether there is a validator to ask."""
        while True:
            try:
                await self._round(file, joined())
            except Exception as error:
                self._note("defect", f"the status cannot be told: {type(error).__name__}: {error}")
            pause = min(EVERY_S, max(BURST_S, self._ask_at - self._clock()))
            try:
                await asyncio.wait_for(self._soon.wait(), pause)
            except asyncio.TimeoutError:
                continue
            # Changes come in bursts: one writing for all of them.
            await asyncio.sleep(BURST_S)

    async def _round(self, file: StatusFile, joined: bool) -> None:
        self._soon.clear()
        self._record.forget(self._in_hand())
        if joined and self._clock() >= self._ask_at:
            await self.ask()
        self.tell()
        file.write()
        self._note("file", file.trouble)

    async def ask(self) -> None:
        """One question. Without an answer the last report stands, and says how old it is."""
        asked = self._clock()
        self._ask_at = asked + ASK_S
        try:
            report = (await self._ask(Standing(), ANSWER_S)).report
        except PeerError as error:
            # A validator that is away is told by the work channel; one of an older release knows no such question.
            self.trouble = str(error)
            logger.debug("no standing: {}", error)
            return
        self.trouble = ""
        if report is not None:
            self.report, self.heard_at = report, asked
            self._record.settled(asked, [lease.lease for lease in report.leases])
        if self._phase_at >= asked:
            # The answer may be older than the phase that was told meanwhile.
            self.soon(SOON_S * self._jitter())

    def tell(self) -> None:
        """Log what is new."""
        now = self._clock()
        if self._refusals:
            if now - self._told.get("refused_at", float("-inf")) >= QUIET_S:
                self._told["refused_at"] = now
                more = f" (and {len(self._refusals) - 1} more)" if len(self._refusals) > 1 else ""
                logger.warning("the validator did not take {}{}", _plain(self._refusals[-1]), more)
                self._refusals.clear()
        if self.report is None:
            return
        report = self.report
        self._note("seat", _seat(report))
        self._note("place", _place(report))
        self._note("ban", f"banned: {report.ban.reason}" if report.ban is not None else "")
        for fault in report.faults:
            self._note(
                f"fault {fault.epoch} {fault.what}",
                f"fault in epoch {fault.epoch}: {fault.what}; no pay while it counts",
            )
        if report.weights:
            # The same scores are set again and again; the block is no news.
            what = "on chain" if report.weights.startswith("block ") else report.weights
            self._note("weights", f"weights after epoch {report.weights_epoch}: {what}")
        # A run that began anew has closed nothing.
        if report.closed > self._told.get("closed", report.closed):
            logger.info("{}", epoch_line(report, self._record, self._meter))
        self._told["closed"] = report.closed
        key = (report.epoch, report.phase, _DIGITS.sub("", report.waiting_for), report.seat is None)
        if key != self._told.get("line") and (now - self._line_at >= QUIET_S or report.phase == "done"):
            self._told["line"], self._line_at = key, now
            logger.info("{}", _plain(headline(report, self.age(), *self.now())))

    def now(self) -> tuple[str, float]:
        """What this miner has to do, and how long that may take: its own leases, else the validator's last word."""
        if self.report is None:
            return "", 0.0
        now = self._clock()
        due = [held.due for held in self._record.open.values()]
        if due:
            return f"do {len(due)} lease{'' if len(due) == 1 else 's'}", max(0.0, max(due) - now)
        report = self.report
        if report.leases and report.phase == "train":
            return "wait for a lease", max(0.0, report.seconds_left - self.age())
        return report.own, max(0.0, report.own_s - self.age())

    def document(self) -> dict[str, Any]:
        """The reporter's part of the status file."""
        shares = self._meter.read()
        own, own_s = self.now()
        now = self._clock()
        flat = {name: value for name, value in shares["so_far"].items() if name.endswith("_share")}
        standing = asdict(self.report) if self.report is not None else None
        age = round(self.age(), 1) if self.report is not None else None
        return (
            flat
            | {
                "now": own,
                "now_s": round(own_s, 1),
                "time": shares,
                "standing": standing,
                "standing_age_s": age,
                "standing_trouble": self.trouble,
            }
            | self._record.document(now)
        )

    def _note(self, topic: str, line: str) -> None:
        """Log `line` if it is another than the last one of its topic."""
        if line != self._told.get(topic, ""):
            self._told[topic] = line
            while len(self._told) > MOST_TOPICS:
                del self._told[next(iter(self._told))]
            if line:
                logger.info("{}", _plain(line))


def headline(report: StandingReport, age: float, own: str, own_s: float) -> str:
    """What the run waits for, what this miner has to do, and until when; the report is `age` seconds old."""
    left = report.seconds_left - age
    run = f"{report.waiting_for}; {left:.0f} s at most" if left > 0 else report.waiting_for
    until = f" ({own_s:.0f} s at most)" if own_s else ""
    return f"epoch {report.epoch}: {report.phase} ({run}); this miner: {own}{until}"


def epoch_line(report: StandingReport, record: Record, meter: Meter) -> str:
    """What the last closed epoch came to for this miner."""
    epoch = report.closed
    counts = record.of(epoch)
    work = f"epoch {epoch}: {counts['done']} leases done, {counts['refused']} refused, {counts['failed']} failed"
    part = next((part for part in report.parts if part.epoch == epoch), None)
    if part is None:
        earned = "nothing counted: none of its microbatches was finished"
    else:
        earned = f"volume {part.volume:.1f}, quality {part.quality:.2f}"
    score = f"score {report.score:.1f} = {100 * report.share:.0f} % of the swarm"
    time = meter.read()["epoch" if meter.epoch == epoch else "last"]
    shares = ", ".join(f"{name} {100 * time[f'{key}_share']:.0f} %" for name, key in KINDS)
    return f"{work}, {earned}, {score}; time: {shares}"


def _plain(text: str) -> str:
    """What another wrote, as one line of a log."""
    return "".join(char if char.isprintable() else " " for char in text)


def _seat(report: StandingReport) -> str:
    seat = report.seat
    return "no seat" if seat is None else f"seat: stage {seat.stage}, slot {seat.slot}"


def _place(report: StandingReport) -> str:
    place = report.place
    return "" if place is None else f"number {place.number} of {place.of} in the line for a seat"
