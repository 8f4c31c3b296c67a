"""What is new since the last look, told to all who watch: built once, encoded once, sent to many.

Law: what watching costs is bounded. A look is made every `EVERY_S` seconds, and later if it took long: looking takes
no more than `SHARE` of the time. With nobody there only the curves and the chronicle are kept. Who watches too slowly
is dropped, and may come again: it then gets everything anew.

A message is one JSON object. The first (`full`) has `columns` (names of a row's values after its number and hotkey),
`run`, `head`, `stages`, `rows`, `epochs`, `events`, `curves`. Those after it have what has changed: of `head` the
fields, of `rows` [number, column, value, column, value, ...] or a whole row, of `curves` the points at the end; and
`paths`: rows through which a microbatch that has just been finished went, stage by stage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, astuple
from operator import attrgetter
from typing import Any

import msgspec

from iota_subnet.core.clasp import Sample
from iota_subnet.core.state import EpochReport, Phase, RunState
from iota_subnet.dashboard import rows, view
from iota_subnet.dashboard.chronicle import Chronicle, Entry
from iota_subnet.dashboard.curve import Curve
from template.chain import MetagraphView

EVERY_S = 1.0
SHARE = 0.02

#: Watchers at once, and messages that wait for one of them.
WATCHERS = 64
WAITING = 8

#: Pathways told at one look.
PATHS = 24

#: The fields of a row; `dataclasses.astuple` copies them deeply, which takes fifty times as long.
DOING, STANDING = attrgetter(*rows.DOING), attrgetter(*rows.STANDING)

#: Stretches of the curve of all time, seconds, and of that of the last `RECENT_S`.
WIDTH_S = 1.0
RECENT_S = 900.0
RECENT_WIDTH_S = 3.0

#: Of the time before a restart, losses are not known one by one: so many stretches at most stand for it.
STAND_INS = 240


class TooMany(Exception):
    """No room for another watcher."""


class Watcher:
    """One who watches: messages in order; None ends it."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING + 1)
        self.dropped = False

    def give(self, message: bytes) -> bool:
        """False if it is too slow."""
        if self.messages.qsize() >= WAITING:
            self.dropped = True
            self.messages.put_nowait(None)
            return False
        self.messages.put_nowait(message)
        return True


class Hub:
    """Looks at a state. `state` raises nothing; `chain` is the metagraph, None before it is known."""

    def __init__(
        self,
        state: Callable[[], RunState],
        chain: Callable[[], MetagraphView | None],
        clock: Callable[[], float],
        validator: str,
        netuid: int,
        burn: float = 0.0,
    ) -> None:
        self._state, self._chain, self._clock = state, chain, clock
        self._validator, self._netuid, self._burn = validator, netuid, burn
        self._watchers: dict[Watcher, None] = {}
        self._chronicle = Chronicle()
        self._curves = {"all": Curve(WIDTH_S), "recent": Curve(RECENT_WIDTH_S, RECENT_S)}
        self._began = False
        #: The list of samples that was looked at last, how many it had, and the epoch that it is counted in.
        self._samples: list[Sample] = []
        self._seen, self._closing = 0, 0
        self._stamp: tuple[object, ...] | None = None
        self._standings: dict[str, tuple[Any, ...]] = {}
        self._numbers: dict[str, int] = {}
        self._next_number = 0
        self._shown: dict[str, Any] = {}
        self._full: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        #: Seconds of processor time of the last look, and of all.
        self.cost_s = 0.0
        self.spent_s = 0.0

    # Who watches

    def watch(self) -> Watcher:
        """Everything first, then what is new. Raises TooMany."""
        if len(self._watchers) >= WATCHERS:
            raise TooMany
        if not self._watchers:
            # Nobody has looked for a while: what was shown last is old.
            self._shown = self._look()
            self._full = None
            for curve in self._curves.values():
                curve.changes()
        if self._full is None:
            self._full = self._everything()
        watcher = Watcher()
        watcher.give(self._full)
        self._watchers[watcher] = None
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher; one that is gone already is no error."""
        self._watchers.pop(watcher, None)

    @property
    def watchers(self) -> int:
        """How many browsers follow the page."""
        return len(self._watchers)

    def start(self) -> None:
        """Look from now on. Needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Send everybody away."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for watcher in list(self._watchers):
            watcher.messages.put_nowait(None)
        self._watchers.clear()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.pause())
            self.tick()

    def pause(self) -> float:
        """Seconds until the next look."""
        return max(EVERY_S, self.cost_s / SHARE)

    # Looking

    def tick(self) -> bytes | None:
        """One look; what was sent, if anything was."""
        before = time.thread_time()
        state = self._state()
        paths = self._take_samples(state)
        events = self._chronicle.take(state)
        message = self._tell(paths, events) if self._watchers else None
        self.cost_s = time.thread_time() - before
        self.spent_s += self.cost_s
        return message

    def _tell(self, paths: list[list[int]], events: list[Entry]) -> bytes | None:
        before, now = self._shown, self._look()
        new: dict[str, Any] = {
            "head": _changed(before["head"], now["head"]),
            "rows": _rows(before["rows"], now["rows"]),
            "gone": [number for number in before["rows"] if number not in now["rows"]],
            "epochs": [epoch for number, epoch in now["epochs"].items() if before["epochs"].get(number) != epoch],
            "events": [asdict(entry) for entry in events],
            "paths": paths,
        }
        for part in ("run", "stages"):
            if now[part] != before[part]:
                new[part] = now[part]
        for name, curve in self._curves.items():
            whole, points = curve.changes()
            if points:
                new[name] = {"width": curve.width, "whole": whole, "points": points}
        self._shown, self._full = now, None
        message = _encoded({"now": round(self._clock(), 2)} | {key: value for key, value in new.items() if value})
        for watcher in list(self._watchers):
            if not watcher.give(message):
                self.leave(watcher)
        return message

    def _look(self) -> dict[str, Any]:
        """What is to be seen, as plain values that can be compared."""
        state, chain = self._state(), self._chain()
        stamp = rows.stamp(state, chain)
        if stamp != self._stamp:
            found = rows.standings(state, chain, self._burn)
            self._stamp, self._standings = stamp, {hotkey: STANDING(earned) for hotkey, earned in found.items()}
        shown: dict[int, tuple[Any, ...]] = {}
        nothing = STANDING(rows.nobody())
        for hotkey in rows.names(state):
            earned = self._standings.get(hotkey, nothing)
            shown[self._number(hotkey)] = (hotkey, *DOING(rows.doing(state, hotkey)), *earned)
        self._forget(shown)
        stages = [asdict(stage) for stage in view.stages(state)]
        for stage in stages:
            stage["twins"] = [[self._numbers[h] for h in pair if h in self._numbers] for pair in stage["twins"]]
        return {
            "run": asdict(view.run(state, self._validator, self._netuid)),
            "head": asdict(view.head(state, chain)),
            "stages": stages,
            "rows": shown,
            "epochs": {epoch.epoch: astuple(epoch) for epoch in view.epochs(state)},
        }

    def _everything(self) -> bytes:
        return _encoded(
            {
                "full": True,
                "now": round(self._clock(), 2),
                "columns": ["hotkey", *rows.DOING, *rows.STANDING],
                "epoch_columns": list(view.Epoch.__slots__),
                "run": self._shown["run"],
                "head": self._shown["head"],
                "stages": self._shown["stages"],
                "rows": [[number, *values] for number, values in self._shown["rows"].items()],
                "epochs": list(self._shown["epochs"].values()),
                "events": [asdict(entry) for entry in self._chronicle.entries],
                **{name: {"width": c.width, "whole": True, "points": c.points()} for name, c in self._curves.items()},
            }
        )

    def _number(self, hotkey: str) -> int:
        """A short name on the wire, the same as long as the row is there."""
        number = self._numbers.get(hotkey)
        if number is None:
            number = self._numbers[hotkey] = self._next_number
            self._next_number += 1
        return number

    def _forget(self, shown: dict[int, tuple[Any, ...]]) -> None:
        if len(self._numbers) > len(shown):
            self._numbers = {values[0]: number for number, values in shown.items()}

    # Losses

    def _take_samples(self, state: RunState) -> list[list[int]]:
        """Put new losses on the curves; pathways of the newest."""
        if not self._began:
            if not state.manifests:
                return []
            self._began = True
            self._samples = state.samples
            curve = self._curves["all"]
            past = [report for report in view.chosen(state.reports) if report.train_loss is not None]
            while past and curve.width * STAND_INS < state.now - past[0].started_at:
                curve.width *= 2
            self._stand_in(past, state.now)
        fresh = self._samples[self._seen :]
        if state.samples is not self._samples:
            # Its epoch was closed; what was put into it since the last look is still in the old list.
            self._stand_in(state.reports[self._closing + 1 : _closing(state)], state.now)
            fresh += state.samples
        self._samples, self._seen, self._closing = state.samples, len(state.samples), _closing(state)
        for sample in fresh:
            for curve in self._curves.values():
                curve.add(sample.at or state.now, sample.loss)
        newest = fresh[-PATHS:] if self._watchers else []
        return [[self._numbers[hotkey] for hotkey in s.pathway if hotkey in self._numbers] for s in newest]

    def _stand_in(self, reports: list[EpochReport], now: float) -> None:
        """Closed epochs whose losses are not known one by one: at their mean, spread evenly over the time they took."""
        curve = self._curves["all"]
        for report in reports:
            if report.train_loss is None:
                continue
            took = (report.ended_at or now) - report.started_at
            number = max(1, round(took / curve.width))
            for step in range(number):
                at = report.started_at + took * (step + 0.5) / number
                curve.add(at, report.train_loss, report.microbatches / number)


def _closing(state: RunState) -> int:
    """The epoch that the samples of `state` are counted in."""
    return state.epoch + (state.phase is Phase.INSTALL)


def _changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in now.items() if before.get(key) != value}


def _rows(before: dict[int, tuple[Any, ...]], now: dict[int, tuple[Any, ...]]) -> list[list[Any]]:
    """New rows whole, of the others what has changed."""
    told: list[list[Any]] = []
    for number, values in now.items():
        known = before.get(number)
        if known is None:
            told.append([number, *values])
        elif known != values:
            change: list[Any] = [number]
            for column, value in enumerate(values):
                if value != known[column]:
                    change += (column, value)
            told.append(change)
    return told


def _encoded(document: dict[str, Any]) -> bytes:
    """One server-sent event. Encoded JSON has no line breaks, whatever strangers wrote."""
    return b"data: " + msgspec.json.encode(document) + b"\n\n"
