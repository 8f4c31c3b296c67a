"""Into how many shards a stage is cut, and which two miners reduce which of them (arXiv 2507.17766, section 5).

Law: the pairs are drawn from a salt that was committed to before anybody published, so nobody can choose its twin, and
whoever has seen the salt can draw again. Everybody reduces as much as everybody else, to within one shard.
"""

from __future__ import annotations

from collections.abc import Sequence

from iota_subnet.core.draw import shuffled

#: As many pairs as 23 replicas have. More shards make messages longer and change nothing else: from here on each miner
#: meets some of the others in an epoch instead of all.
MAX_PAIRS = 253


def shards_for(replicas: int, size: int) -> int:
    """How many shards a stage of `size` parameters has with so many replicas: one for each pair while those are few,
    then as many as give each replica the same number, and never more than parameters.

    n (n - 1) / 2 up to 23 replicas; then n * floor(253 / n), at least n.
    """
    every = max(1, replicas * (replicas - 1) // 2)
    wanted = every if every <= MAX_PAIRS else replicas * max(1, MAX_PAIRS // replicas)
    return max(1, min(wanted, size))


def pairs(hotkeys: tuple[str, ...], shards: int, *label: object) -> list[tuple[str, ...]]:
    """Who reduces which shard. One hotkey alone reduces everything; nobody gives no reducers.

    The hotkeys stand in a ring in a drawn order, and each is paired with the next, then with the next but one, and so
    on: all pairs occur once before one occurs again. Which pair gets which shard is drawn too.
    """
    if len(hotkeys) < 2:
        return [hotkeys] * shards
    ring = shuffled(sorted(hotkeys), *label, "ring")
    found: list[tuple[str, ...]] = []
    while len(found) < shards:
        found += _all(ring)[: shards - len(found)]
    return shuffled(found, *label, "shards")


def turned(sources: tuple[str, ...], makers: Sequence[int], reader: int, shard: int) -> tuple[str, ...]:
    """The two who made a shard in the order in which a reader asks them, so that each serves half of the readers.

    `makers` and `reader` are places among the replicas: the readers are everybody else.
    """
    rank = reader - sum(maker < reader for maker in makers)
    first = (rank + shard) % max(1, len(sources))
    return sources[first:] + sources[:first]


def _all(ring: list[str]) -> list[tuple[str, ...]]:
    n = len(ring)
    return [
        (ring[place], ring[(place + step) % n])
        for step in range(1, n // 2 + 1)
        for place in range(n // 2 if 2 * step == n else n)
    ]
