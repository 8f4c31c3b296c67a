"""Who moves house. Law: a run is as fast as its poorest stage, so the richest gives to it; few moves, and only such as
are worth a stage's download and a fresh optimiser. No stage gives its last replica.

Between two epochs stages are compared by what their miners were timed to do. In between, only a stage without anybody
is helped.
"""

from __future__ import annotations

from math import fsum
from operator import itemgetter

from iota_subnet.core import assignment, lapses
from iota_subnet.core.actions import Action
from iota_subnet.core.speed import rate
from iota_subnet.core.state import Miner, Phase, RunState

#: No miner counts as faster than so many times the median.
FASTEST = 4.0

#: One miner in so many may move at one boundary, and no more than so many in all.
PART = 4
MOST = 64

#: What all moves of one boundary together must make of the poorest stage, or none is made.
WORTH = 1.03

#: What each of them must add to it.
STEP = 1.01


def move(state: RunState, miner: Miner, stage: int) -> list[Action]:
    """Give a miner a seat in another stage. Its process goes on: what it has published can still be fetched."""
    actions = lapses.release(state, miner)
    miner.installed, miner.state_digest, miner.batches, miner.assign_tries = -1, "", 0, 0
    miner.pace, miner.mean, miner.first_lease = {}, 0.0, state.next_lease
    assignment.take(state, miner, stage)
    return actions + assignment.offer(state, miner)


def even_out(state: RunState) -> list[Action]:
    """An epoch begins: the richest stage gives to the poorest while that helps; is a gift too large, they swap."""
    shares = state.index.shares
    stages = [{hotkey: speed / shares[k] for hotkey, speed in stage.items()} for k, stage in enumerate(_speeds(state))]
    before = min(fsum(stage.values()) for stage in stages)
    budget = min(MOST, max(1, state.index.ready // PART))
    moves: dict[str, int] = {}
    while True:
        strength = [fsum(stage.values()) for stage in stages]
        poor, rich = strength.index(min(strength)), strength.index(max(strength))
        # What a miner is worth to a stage falls with what the stage has to do.
        ratio = shares[rich] / shares[poor]
        found = _best(stages[poor], stages[rich], ratio)
        if found is None or len(moves) + len(found) > budget:
            break
        for hotkey, here, there, times in (
            (found[0], rich, poor, ratio),
            *((h, poor, rich, 1 / ratio) for h in found[1:]),
        ):
            stages[there][hotkey] = stages[here].pop(hotkey) * times
            moves[hotkey] = there
    if min(fsum(stage.values()) for stage in stages) < WORTH * before:
        return []
    movers = [(state.miners[hotkey], stage) for hotkey, stage in moves.items()]
    return [action for miner, stage in movers if miner.stage != stage for action in move(state, miner, stage)]


def _best(poor: dict[str, float], rich: dict[str, float], ratio: float) -> tuple[str, ...] | None:
    """Who goes from `rich` to `poor`, and who, if anybody, comes back for it. Nobody when it would not help.

    `ratio` is what a miner is worth in `poor`, of what it is worth in `rich`.
    """
    weak, strong = fsum(poor.values()), fsum(rich.values())
    least = STEP * weak
    best: tuple[float, tuple[str, ...]] = (0.0, ())
    for hotkey in sorted(rich) if len(rich) > 1 else ():
        best = max(best, (min(weak + rich[hotkey] * ratio, strong - rich[hotkey]), (hotkey,)), key=itemgetter(0))
    if best[1] and best[0] >= least:
        return best[1]
    takers = sorted((value, hotkey) for hotkey, value in poor.items())
    at = 0
    for given, hotkey in sorted((value, hotkey) for hotkey, value in rich.items()):
        # The more is given, the more comes back: the best partner only moves up.
        while at < len(takers):
            taken, back = takers[at]
            now = min(weak + given * ratio - taken, strong - given + taken / ratio)
            best = max(best, (now, (hotkey, back)), key=itemgetter(0))
            if weak + given * ratio - taken < strong - given + taken / ratio:
                break
            at += 1
    return best[1] if best[1] and best[0] >= least else None


def _speeds(state: RunState) -> list[dict[str, float]]:
    """How fast every ready miner is, whatever its stage has to do; who was not timed yet counts as the mean."""
    shares = state.index.shares
    speeds = [{m.hotkey: rate(m) * shares[k] for m in stage} for k, stage in enumerate(_ready(state))]
    known = [speed for stage in speeds for speed in stage.values() if speed]
    mean = fsum(known) / len(known) if known else 1.0
    # Who returns what it was sent is faster than any machine; for its sake nobody may be moved.
    most = FASTEST * sorted(known)[len(known) // 2] if known else 1.0
    return [{hotkey: min(speed or mean, most) for hotkey, speed in stage.items()} for stage in speeds]


def _ready(state: RunState) -> list[list[Miner]]:
    stages: list[list[Miner]] = [[] for _ in state.index.stages]
    for miner in state.miners.values():
        if state.ready(miner) and not miner.leaving:
            stages[miner.stage].append(miner)
    return stages


def _strength(state: RunState, stage: int) -> int:
    return sum(rate(miner) for miner in state.members(stage))


def rescue(state: RunState) -> list[Action]:
    """A stage in which nobody sits gets a replica of the richest that has one to spare."""
    stages = state.index.stages
    deserted = [number for number, stage in enumerate(stages) if not stage.members]
    held = [stage.ahead if state.phase is Phase.INSTALL else stage.ready for stage in stages]
    if not deserted or max(held) < 2:
        return []
    rich = max(range(len(stages)), key=lambda number: (held[number], _strength(state, number), -number))
    spare = [m for m in state.members(rich) if m.connected and m.installed == state.manifests[rich].epoch]
    spare = [m for m in spare if not m.leaving] or spare
    # The one whose loss hurts least; what it has done for this epoch is lost with its seat.
    miner = min(spare, key=lambda m: (m.batches, rate(m), m.hotkey))
    return move(state, miner, deserted[0])
