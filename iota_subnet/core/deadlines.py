"""What is due when. Law: an entry is a reminder to look, never a fact: who is reminded asks the state what is so at
the entry's own time, so that an old entry, which an index built anew does not have, changes nothing.

Whoever sets a time in the state adds an entry for it; an old one that is still in the heap finds nothing to do. Entries
are ordered by (time, kind, key) alone, so that the order in which they were added changes nothing.
"""

from __future__ import annotations

import heapq
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


#: Below so many entries a heap is not worth tidying.
FEW = 1024


class Deadlines:
    """A heap of reminders. Entries that are not needed any more stay until their time, or until `tidy` says so."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int | str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, kind: Due, key: int | str) -> None:
        heapq.heappush(self._heap, (when, int(kind), key))

    def pop(self, now: float) -> list[tuple[float, int, int | str]]:
        """All entries whose time has come, the earliest first."""
        heap, due = self._heap, []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap))
        return due

    def crowded(self, live: int) -> bool:
        """Whether most entries must be old ones, when `live` of them mean something."""
        return len(self._heap) > FEW + 3 * live

    def clear(self) -> None:
        self._heap.clear()

    def has(self, when: float, kind: Due, key: int | str) -> bool:
        """Whether there is an entry at `when` or before. Slow; for checks."""
        return any(at <= when and (what, who) == (int(kind), key) for at, what, who in self._heap)

    def entries(self) -> dict[tuple[int, int | str], float]:
        """The earliest entry of each key. Slow; for checks."""
        found: dict[tuple[int, int | str], float] = {}
        for when, kind, key in sorted(self._heap, reverse=True):
            found[kind, key] = when
        return found
