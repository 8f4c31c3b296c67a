"""Slots on rungs: who has room, by class of speed. Put one elsewhere, draw one fairly, count them.

Law: what is drawn depends on the slots and their rungs alone, never on the order in which they were put there.

A rung is a sorted list. To put a slot elsewhere costs two bisections and a move of as many pointers as the rung is
long, which memory does faster than any tree in Python up to some 10,000 of them; a draw looks at rungs, not at slots.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import mul

#: Rungs are numbered from 0, the best, to `RUNGS` - 1.
RUNGS = 128

#: Not on any rung: no room at all; or room only for steps whose graph it holds.
NONE, BOUND = -1, -2


_SHARED = tuple(range(1 << 12))


def shared(slot: int) -> int:
    """The same number, as one object for all stages: a bisection looks at several of them, and each miner's own would
    lie somewhere else in memory."""
    return _SHARED[slot] if 0 <= slot < len(_SHARED) else slot


class Sampler:
    """`at` is the rung of each slot, `rungs` the slots of each rung, bit r of `mask` says that rung r has some."""

    __slots__ = ("at", "filled", "mask", "rungs")

    def __init__(self) -> None:
        self.at: list[int] = []
        self.rungs: list[list[int]] = [[] for _ in range(RUNGS)]
        self.mask = 0
        self.filled = 0

    def put(self, slot: int, rung: int) -> None:
        """Put a slot on a rung; `NONE` and `BOUND` take it off."""
        at = self.at
        if slot >= len(at):
            at += [NONE] * (slot + 1 - len(at))
        before = at[slot]
        if before == rung:
            return
        at[slot] = rung
        if before >= 0:
            slots = self.rungs[before]
            del slots[bisect_left(slots, slot)]
            if not slots:
                self.mask ^= 1 << before
            if rung < 0:
                self.filled -= 1
        if rung >= 0:
            slots = self.rungs[rung]
            if not slots:
                self.mask ^= 1 << rung
            insort(slots, slot)
            if before < 0:
                self.filled += 1

    def any(self, number: int) -> int:
        """One of those on a rung, all alike: `number` is in [0, filled)."""
        mask = self.mask
        while True:
            slots = self.rungs[(mask & -mask).bit_length() - 1]
            if number < len(slots):
                return slots[number]
            number -= len(slots)
            mask &= mask - 1

    def best(self) -> int:
        """The best rung that has somebody; there must be one."""
        return (self.mask & -self.mask).bit_length() - 1

    def near(self, odds: tuple[int, ...]) -> tuple[int, list[list[int]]]:
        """The best rungs, and the sum of all weights: a slot that stands d rungs behind the best weighs `odds[d]`, past
        the end of `odds` nothing."""
        mask = self.mask
        best = (mask & -mask).bit_length() - 1
        rungs = self.rungs[best : best + len(odds)]
        # `map` ends with the shorter one: past the last rung is none.
        return sum(map(mul, odds, map(len, rungs))), rungs

    def wrong(self) -> bool:
        """Whether `rungs`, `mask` and `filled` say something else than `at`. Slow; for checks."""
        rungs: dict[int, list[int]] = {}
        for slot, rung in enumerate(self.at):
            if rung >= 0:
                rungs.setdefault(rung, []).append(slot)
        if any(self.rungs[rung] != slots for rung, slots in rungs.items()):
            return True
        filled = sum(map(len, rungs.values()))
        mask = sum(1 << rung for rung in rungs)
        return (filled, filled, mask) != (self.filled, sum(map(len, self.rungs)), self.mask)


def pick(odds: tuple[int, ...], rungs: list[list[int]], number: int) -> tuple[int, int]:
    """The slot in which `number`, below the sum of all weights, falls; and its weight."""
    for weight, slots in zip(odds, rungs):  # noqa: B905 - the last rungs are fewer
        share = weight * len(slots)
        if number < share:
            return slots[number // weight], weight
        number -= share
    raise ValueError("beyond the sum of all weights")
