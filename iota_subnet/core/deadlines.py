"""What is due when. Law: an entry is a reminder to look, never a fact: who is reminded asks the state what is so at
the entry's own time, so that an old entry, which an index built anew does not have, changes nothing.

Whoever sets a time in the state adds an entry for it; an old one that is still in the heap finds nothing to do. Entries
are ordered by (time, kind, key) alone, so that the order in which they were added changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from enum import IntEnum


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

#: Below so many entries a heap is not worth tidying.
FEW = 1024


class Deadlines:
    """A heap of reminders. Entries that are not needed any more stay until their time, or until `tidy` says so."""

    __slots__ = ("_heap",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._heap = list(entries)
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, kind: Due, key: int | str) -> None:
        heapq.heappush(self._heap, (when, kind, key))

    def pop(self, now: float) -> list[Entry]:
        """All entries whose time has come, the earliest first."""
        heap = self._heap
        due: list[Entry] = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap))
        return due

    def due(self, now: float) -> bool:
        """Whether `pop` would find anything."""
        heap = self._heap
        return bool(heap) and heap[0][0] <= now

    def crowded(self, live: int) -> bool:
        """Whether most entries must be old ones, when `live` of them mean something."""
        return len(self._heap) > FEW + 3 * live

    def clear(self) -> None:
        self._heap.clear()

    def lacks(self, wanted: list[Entry]) -> list[Entry]:
        """Those of `wanted` that have no entry, at their time or before. Slow; for checks."""
        missing = set(wanted).difference(self._heap) if wanted else set()
        if not missing:
            return []
        earliest: dict[tuple[int, int | str], float] = {}
        for when, kind, key in self._heap:
            earliest[kind, key] = min(when, earliest.get((kind, key), when))
        return sorted(e for e in missing if earliest.get(e[1:], float("inf")) > e[0])
