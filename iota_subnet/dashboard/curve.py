"""Losses over time in a bounded number of points: a curve that grows coarser instead of longer.

Law: a microbatch is counted in one point, and no point is thrown away, only joined with its neighbour. A point is a
stretch of time, `width` seconds long; those in which nothing was finished do not exist.
"""

from __future__ import annotations

from bisect import bisect_left
from math import inf

from iota_subnet.core.clasp_data import ABSURD

#: Points of a curve at most.
MOST = 480

#: When a stretch begins (Unix seconds), mean loss (nats per token), microbatches per second.
Point = tuple[float, float, float]


class Curve:
    """With `recent` > 0 only the newest so many seconds are kept, and the width stays what it is."""

    def __init__(self, width: float, recent: float = 0.0, most: int = MOST) -> None:
        self.width = width
        self._recent = recent
        self._most = most
        self._at: list[int] = []
        self._loss: list[float] = []
        self._count: list[float] = []
        #: The earliest stretch that has changed since `changes` was asked; -inf: all of them.
        self._changed = inf

    def add(self, at: float, loss: float, count: float = 1.0) -> None:
        """`count` microbatches whose mean loss is `loss`, at `at`. What is no number counts as the worst there is."""
        if not abs(loss) <= ABSURD:
            loss = ABSURD
        index = int(at // self.width)
        place = len(self._at) if not self._at or index > self._at[-1] else bisect_left(self._at, index)
        if place == len(self._at) or self._at[place] != index:
            self._at.insert(place, index)
            self._loss.insert(place, 0.0)
            self._count.insert(place, 0.0)
        self._loss[place] += loss * count
        self._count[place] += count
        self._changed = min(self._changed, index)
        self._bound()

    def points(self, start: int = 0) -> list[Point]:
        """Points from index `start` on."""
        return [
            (round(at * self.width, 3), round(loss / count, 5), round(count / self.width, 5))
            for at, loss, count in zip(self._at[start:], self._loss[start:], self._count[start:], strict=True)
        ]

    def changes(self) -> tuple[bool, list[Point]]:
        """What a reader does not know yet: points that replace those which begin at or after the first of them, or,
        if true, all points there are."""
        changed, self._changed = self._changed, inf
        if changed == -inf:
            return True, self.points()
        return False, self.points(bisect_left(self._at, changed)) if changed != inf else []

    def _bound(self) -> None:
        if self._recent:
            oldest = self._at[-1] - int(self._recent // self.width)
            if self._at[0] < oldest:
                gone = bisect_left(self._at, oldest)
                del self._at[:gone], self._loss[:gone], self._count[:gone]
        while not self._recent and len(self._at) > self._most:
            self._halve()

    def _halve(self) -> None:
        """Twice as wide: neighbours become one."""
        at, loss, count = self._at, self._loss, self._count
        self.width *= 2
        self._at, self._loss, self._count, self._changed = [], [], [], -inf
        for index, total, number in zip(at, loss, count, strict=True):
            if self._at and self._at[-1] == index // 2:
                self._loss[-1] += total
                self._count[-1] += number
            else:
                self._at.append(index // 2)
                self._loss.append(total)
                self._count.append(number)
