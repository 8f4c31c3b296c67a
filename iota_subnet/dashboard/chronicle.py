"""What has happened, in words: seats, phases, merges, audits, faults, weights. Derived from what the state says now
against what it said at the last look.

Law: bounded, whatever strangers do: `MOST` entries, and of one kind at most `ALIKE` at one look, the others counted.
After a restart the state's own records (reports, verdicts, faults) tell what is still known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from iota_subnet.core.state import EpochReport, Phase, RunState
from iota_subnet.dashboard.rows import stamp
from iota_subnet.dashboard.view import MAX_TEXT
from iota_subnet.statusfile import from_one

MOST = 200
ALIKE = 6

PLURAL = {
    "seat": "changes of seats", "phase": "beginnings", "audit": "audits", "fault": "faults", "ban": "bans",
    "loss": "losses", "merge": "notes on merges", "weights": "settings of weights",
}  # fmt: skip

#: Epochs that the records of the state are asked for.
REMEMBERED = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """`at` Unix seconds; `tone`: good, plain, warn or bad; `hotkey` "" when it is about nobody."""

    at: float
    kind: str
    text: str
    tone: str = "plain"
    hotkey: str = ""


class Chronicle:
    """The newest entries, oldest first."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MOST)
        self._seats: dict[str, int] | None = None
        self._phase: tuple[int, Phase] | None = None
        self._known: dict[Entry, None] = {}
        self._stamp: tuple[object, ...] | None = None
        self._at = 0.0

    def take(self, state: RunState) -> list[Entry]:
        """Look, and say what is new."""
        fresh, now = self._moves(state), stamp(state, None)
        if now != self._stamp:
            # Records are told again at every look: those that were there before are not news.
            told = dict.fromkeys(_records(state))
            news = [entry for entry in told if entry not in self._known]
            # What became known late, as a held-out loss, is told when it did.
            fresh += news if self._stamp is None else [replace(entry, at=max(entry.at, self._at)) for entry in news]
            self._stamp, self._known = now, told
        self._at = state.now
        fresh = _few(sorted(fresh, key=lambda entry: entry.at))
        self.entries.extend(fresh)
        return fresh

    def _moves(self, state: RunState) -> list[Entry]:
        """Who has come, gone or moved, and the phase."""
        before, self._seats = self._seats, {hotkey: miner.stage for hotkey, miner in state.miners.items()}
        moves: list[Entry] = []
        if before is not None and before != self._seats:
            for hotkey, stage in self._seats.items():
                if stage != before.get(hotkey, -1) and stage >= 0:
                    what = "takes a seat in" if before.get(hotkey, -1) < 0 else f"moves from stage {before[hotkey]} to"
                    moves.append(Entry(state.now, "seat", f"{what} stage {stage}", "plain", hotkey))
            moves += [
                Entry(state.now, "seat", f"is gone from stage {stage}", "warn", hotkey)
                for hotkey, stage in before.items()
                if hotkey not in self._seats
            ]
        phase, self._phase = self._phase, (state.epoch, state.phase)
        if phase is not None and phase != self._phase and state.phase in (Phase.TRAIN, Phase.DONE):
            text = f"epoch {state.epoch + 1} begins" if state.phase is Phase.TRAIN else "the run is complete"
            moves.append(Entry(state.phase_since, "phase", text))
        return moves


def _records(state: RunState) -> Iterable[Entry]:
    """What the state itself remembers with a time."""
    for report in state.reports[-REMEMBERED:]:
        yield from _report(report)
    for hotkey, verdicts in state.verdicts.items():
        for verdict in verdicts:
            if verdict.auditor != state.auditor:
                continue
            if verdict.verdict == "sound":
                text, tone = f"audit of epoch {verdict.epoch + 1}: sound, {_passes(verdict.passes)}", "good"
            else:
                text, tone = f"audit of epoch {verdict.epoch + 1}: {verdict.verdict}: {verdict.reason}", "bad"
            yield Entry(verdict.at, "audit", text[:MAX_TEXT], tone, hotkey)
    for fault in state.faults:
        if not fault.what.startswith("audit:"):
            yield Entry(fault.at, "fault", fault.what[:MAX_TEXT], "bad", fault.hotkey)
    for hotkey, (until, reason) in state.banned.items():
        if until > state.now:
            yield Entry(
                until - state.spec.swarm.ban_s, "ban", f"is banned: {from_one(reason)}"[:MAX_TEXT], "bad", hotkey
            )


def _report(report: EpochReport) -> Iterable[Entry]:
    number, at = report.epoch + 1, report.ended_at
    if not at:
        return
    if report.eval_loss is not None:
        yield Entry(at, "loss", f"epoch {number}: held-out loss {report.eval_loss:.3f}", "good")
    covered = min(report.coverage, default=1.0)
    agreed = report.twins_compared - report.twin_disagreements
    merged = f"epoch {number} merged: {covered:.0%} of the parameters, {agreed} of {report.twins_compared} twins agree"
    yield Entry(at, "merge", merged, "plain" if covered == 1 and agreed == report.twins_compared else "warn")
    for missed in report.missed[:ALIKE]:
        yield Entry(at, "merge", f"epoch {number}: {from_one(missed)}"[:MAX_TEXT], "warn")
    for stage in report.returned:
        yield Entry(at, "merge", f"epoch {number}: stage {stage} went back to an older state", "bad")
    if report.weights_set:
        # The same scores are set again and again; the block is no news.
        yield Entry(at, "weights", f"epoch {number}: its scores are weights on chain", "good")
    elif report.weights_failed:
        yield Entry(at, "weights", f"epoch {number}: the chain refused: {report.weights_failed}"[:MAX_TEXT], "warn")


def _passes(count: int) -> str:
    return f"{count} pass{'' if count == 1 else 'es'}"


def _few(entries: list[Entry]) -> list[Entry]:
    """Of each kind a few."""
    kept: list[Entry] = []
    more: dict[str, list[Entry]] = {}
    seen: dict[str, int] = {}
    for entry in entries:
        seen[entry.kind] = seen.get(entry.kind, 0) + 1
        if seen[entry.kind] <= ALIKE or entry.tone == "bad":
            kept.append(entry)
        else:
            more.setdefault(entry.kind, []).append(entry)
    for kind, rest in more.items():
        one = Entry(rest[-1].at, kind, f"and {len(rest)} more {PLURAL[kind]}", rest[-1].tone)
        kept.append(one if len(rest) > 1 else rest[0])
    return kept[-MOST:]
