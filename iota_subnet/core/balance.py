"""Who moves house. Law: a run is as fast as its poorest stage, so the richest gives to it; few moves, and only such as
are worth a stage's download. No stage gives its last replica.

Between two epochs stages are compared by what their miners were timed to do. In between, only a stage without anybody
is helped.
"""

from __future__ import annotations

from iota_subnet.core import assignment, routing
from iota_subnet.core.actions import Action
from iota_subnet.core.facts import NOBODY
from iota_subnet.core.speed import rate
from iota_subnet.core.state import Miner, Phase, RunState

#: One miner in so many may move at one boundary.
PART = 4

#: What a move must add to the poorest stage, or it is not made.
WORTH = 1.15


def move(state: RunState, miner: Miner, stage: int) -> list[Action]:
    """Give a miner a seat in another stage. Its process goes on: what it has published can still be fetched."""
    actions = routing.release(state, miner)
    miner.installed, miner.state_digest, miner.batches, miner.assign_tries = -1, "", 0, 0
    miner.pace = {}
    assignment.take(state, miner, stage)
    return actions + assignment.offer(state, miner)


def even_out(state: RunState) -> list[Action]:
    """An epoch begins: the richest stage gives to the poorest while that helps."""
    actions: list[Action] = []
    worth = _worth(state)
    for _ in range(max(1, state.index.ready // PART)):
        strength = [sum(stage.values()) for stage in worth]
        poor, rich = strength.index(min(strength)), strength.index(max(strength))
        # Half the difference is what makes the two alike; among equals the first hotkey goes.
        half = (strength[rich] - strength[poor]) / 2
        movable = sorted((abs(value - half), hotkey) for hotkey, value in worth[rich].items())
        if len(movable) < 2 or half <= 0:
            break
        hotkey = movable[0][1]
        value = worth[rich][hotkey]
        if min(strength[poor] + value, strength[rich] - value) < WORTH * strength[poor]:
            break
        worth[poor][hotkey] = worth[rich].pop(hotkey)
        actions += move(state, state.miners[hotkey], poor)
    return actions


def _worth(state: RunState) -> list[dict[str, float]]:
    """What every ready miner adds to its stage; who was not timed yet counts as the mean of those who were."""
    rates = [{m.hotkey: float(rate(m)) for m in stage} for stage in _ready(state)]
    known = [value for stage in rates for value in stage.values() if value]
    mean = sum(known) / len(known) if known else 1.0
    return [{hotkey: value or mean for hotkey, value in stage.items()} for stage in rates]


def _ready(state: RunState) -> list[list[Miner]]:
    stages: list[list[Miner]] = [[] for _ in state.index.stages]
    for miner in state.miners.values():
        # Who has just joined has no facts yet: the index keeps none for a miner without a seat.
        if state.index.facts.get(miner.hotkey, NOBODY).ready:
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
    # The one whose loss hurts least; what it has done for this epoch is lost with its seat.
    miner = min(spare, key=lambda m: (m.batches, rate(m), m.hotkey))
    return move(state, miner, deserted[0])
