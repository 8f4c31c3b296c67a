"""What is due when. Law: an entry is a reminder to look, never a fact: who is reminded asks the state what is so at
the entry's own time, so that an old entry, which an index built anew does not have, changes nothing.

Whoever sets a time in the state adds an entry for it; an old one that is still there finds nothing to do. Entries
are ordered by (time, kind, key) alone, so that the order in which they were added changes nothing.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from enum import IntEnum
from itertools import chain
from typing import Any


class Due(IntEnum):
    """What may be due; the key is a lease, a microbatch or a hotkey."""

    LEASE = 0
    TOKENS = 1
    AWAY = 2
    SEAT = 3
    REST = 4
    PAUSE = 5
    PLACE = 6


#: When, what (a `Due`), and who or which.
Entry = tuple[float, int, int | str]

#: Below so many entries they are not worth tidying.
FEW = 1024


def _entries(flat: list[Any]) -> Iterator[Entry]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)


class Deadlines:
    """Reminders by the second in which they are due, so that to add one costs the same however many there are. `_near`
    are those of the seconds that have begun, in order. The others lie flat, three items each: one is added per event,
    stays for long, and would be one more tuple for Python's collector to look at.

    Entries that are not needed any more stay until their time, or until `tidy` says so. Before `soonest` none is due.
    """

    __slots__ = ("_begun", "_near", "_order", "_seconds", "soonest")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.soonest = float("inf")
        self._begun = float("-inf")
        self._near: list[Entry] = []
        self._order: list[float] = []
        self._seconds: dict[float, list[Any]] = {}
        for entry in entries:
            self.add(*entry)

    def __len__(self) -> int:
        return len(self._near) + sum(map(len, self._seconds.values())) // 3

    def __iter__(self) -> Iterator[Entry]:
        return chain(self._near, *map(_entries, self._seconds.values()))

    def add(self, when: float, kind: int, key: int | str) -> None:
        """Remind of `key` at `when`, seconds; the cost does not depend on how many reminders there are."""
        second = when // 1.0
        later = self._seconds.get(second)
        if when < self.soonest:
            self.soonest = when
        if later is not None:
            later.extend((when, kind, key))
        elif second <= self._begun:
            insort(self._near, (when, kind, key))
        else:
            self._seconds[second] = [when, kind, key]
            heapq.heappush(self._order, second)

    def pop(self, now: float) -> list[Entry]:
        """All entries whose time has come, the earliest first."""
        if now < self.soonest:
            return []
        near, order = self._near, self._order
        while order and order[0] <= now:
            self._begun = heapq.heappop(order)
            near += _entries(self._seconds.pop(self._begun))
            near.sort()
        count = bisect_right(near, (now, len(Due), 0))
        due = near[:count]
        del near[:count]
        self.soonest = near[0][0] if near else order[0] if order else float("inf")
        return due

    def crowded(self, live: int) -> bool:
        """Whether most entries must be old ones, when `live` of them mean something."""
        return len(self) > FEW + 3 * live

    def lacks(self, wanted: list[Entry]) -> list[Entry]:
        """Those of `wanted` that have no entry, at their time or before. Slow; for checks."""
        missing = set(wanted).difference(self) if wanted else set()
        if not missing:
            return []
        earliest: dict[tuple[int, int | str], float] = {}
        for when, kind, key in self:
            earliest[kind, key] = min(when, earliest.get((kind, key), when))
        return sorted(e for e in missing if earliest.get(e[1:], float("inf")) > e[0])
