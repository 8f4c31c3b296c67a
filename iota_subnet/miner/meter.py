"""Where a miner's time goes. Law: every second of an epoch is computing, only fetching, or idle, and counted once.

Fetching that computing hides costs nothing and is not counted; so `fetch` is what a faster link could save, and `idle`
what the swarm did not ask for. TRAIN is kept apart from the rest of the epoch, its merge, in which waiting for others
is the rule unless work goes on (`SwarmSpec.overlap`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Merges of which the time is kept one by one.
MERGES = 64


@dataclass(slots=True)
class Spent:
    """Seconds by kind."""

    compute: float = 0.0
    fetch: float = 0.0
    idle: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.compute + self.fetch + self.idle

    def shares(self) -> dict[str, float]:
        """Parts of the whole, under the names that a status file uses; all 0 when no time has passed."""
        total = self.total or 1.0
        return {
            "compute_share": round(self.compute / total, 4),
            "fetch_share": round(self.fetch / total, 4),
            "idle_share": round(self.idle / total, 4),
        }

    def add(self, other: Spent) -> None:
        """Add another's seconds to these, part by part."""
        self.compute += other.compute
        self.fetch += other.fetch
        self.idle += other.idle


class Meter:
    """Counts from the first `turn` on. Computing is told from the thread that computes, all else from the loop's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._computing = self._fetching = 0
        self._since = 0.0
        self.epoch = -1
        self.phase = ""
        self.present, self.training = Spent(), Spent()
        self.last, self.before = Spent(), Spent()
        self.trained = Spent()
        self.merges: dict[int, Spent] = {}

    def turn(self, epoch: int, phase: str) -> None:
        """The run is in `phase` of `epoch`. Nothing is counted while it waits to begin, and after its end."""
        with self._lock:
            self._settle()
            if epoch != self.epoch:
                if self.present.total:
                    self.last = self.present
                self.before.add(self.present)
                self.trained.add(self.training)
                self.present, self.training = Spent(), Spent()
            self.epoch, self.phase = epoch, phase

    def read(self) -> dict[str, dict[str, float]]:
        """Shares `so_far`: of all epochs; `epoch`: of the present one; `last`: of the one before; `train`: of all TRAIN
        phases alone; `merge 3`: of the merge of epoch 3."""
        with self._lock:
            self._settle()
            so_far, trained = Spent(), Spent()
            for kept, parts in ((so_far, (self.before, self.present)), (trained, (self.trained, self.training))):
                for part in parts:
                    kept.add(part)
            merges = {f"merge {epoch}": spent for epoch, spent in self.merges.items()}
            found = merges | {"so_far": so_far, "epoch": self.present, "last": self.last, "train": trained}
            return {name: spent.shares() | {"seconds": round(spent.total, 1)} for name, spent in found.items()}

    @contextmanager
    def computing(self) -> Iterator[None]:
        """While the block runs, time counts as computing, whatever else goes on."""
        self._change(1, 0)
        try:
            yield
        finally:
            self._change(-1, 0)

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """While the block runs, time counts as fetching unless something is computed meanwhile."""
        self._change(0, 1)
        try:
            yield
        finally:
            self._change(0, -1)

    def _change(self, computing: int, fetching: int) -> None:
        with self._lock:
            self._settle()
            self._computing += computing
            self._fetching += fetching

    def _settle(self) -> None:
        now = self._clock()
        seconds, self._since = now - self._since, now
        if self.phase in ("", "wait", "done"):
            return
        kind = "compute" if self._computing else "fetch" if self._fetching else "idle"
        if self.phase == "train":
            part = self.training
        else:
            part = self.merges.setdefault(self.epoch, Spent())
            while len(self.merges) > MERGES:
                del self.merges[next(iter(self.merges))]
        for spent in (self.present, part):
            setattr(spent, kind, getattr(spent, kind) + seconds)
