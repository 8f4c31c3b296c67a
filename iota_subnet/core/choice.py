"""Who takes a step, and how many microbatches are on their way.

Law: random among those who have room, by how soon they would be done; every choice says how likely it was.
"""

from __future__ import annotations

from iota_subnet.core.actions import Op
from iota_subnet.core.index import Facts, StageIndex
from iota_subnet.core.state import Microbatch, Miner, RunState

#: One draw in so many is blind to speed: CLASP needs random pathways, and the slow may have become fast.
EXPLORE = 32

#: Microbatches may take this share of `stale_s` on average.
STALE = 0.5


def window(state: RunState) -> int:
    """How many microbatches may be on their way: enough to keep everybody busy, not so many that they grow stale.

    A step that waits while everybody of its stage has work already would only grow old: when as many wait as the
    thinnest stage has replicas, nothing new is opened.
    """
    swarm, index = state.spec.swarm, state.index
    thinnest = index.thinnest
    most = thinnest * swarm.live_per_replica
    if len(index.where) >= max(2, thinnest):
        most = min(most, len(state.batches))
    if state.age > STALE * swarm.stale_s:
        most = min(most, max(thinnest, int(most * STALE * swarm.stale_s / state.age)))
    return most


def taker(state: RunState, batch: Microbatch, seed: bytes) -> tuple[Miner, float] | None:
    """Draw one of those who have room, of those who have not tried this step before while there are any; and say how
    likely that was."""
    _, _, op, number = state.index.where[batch.id]
    stage = state.index.stages[number]
    barred = _barred(state, batch, op, number) if batch.tried else []
    for miner, _ in barred:
        stage.free.set(miner.slot, 0)
        stage.fast.set(miner.slot, 0)
    found = None
    if stage.free.total:
        slot, chance = _draw(stage, seed)
        found = state.miners[stage.slots[slot]], chance
    for miner, facts in barred:
        stage.free.set(miner.slot, facts.free > 0)
        stage.fast.set(miner.slot, facts.free)
    return found


def _draw(stage: StageIndex, seed: bytes) -> tuple[int, float]:
    """A slot, and how likely it was: one draw in `EXPLORE` is blind to speed, so that everybody is compared."""
    bag = stage.free if seed[0] % EXPLORE == 0 else stage.fast
    slot = bag.find(int.from_bytes(seed[1:], "big") % bag.total)
    chance = stage.free.weights[slot] / stage.free.total + (EXPLORE - 1) * stage.fast.weights[slot] / stage.fast.total
    return slot, chance / EXPLORE


def _barred(state: RunState, batch: Microbatch, op: Op, number: int) -> list[tuple[Miner, Facts]]:
    """Who has tried this step before; nobody, when nobody else could take it."""
    tried = [state.miners[h] for h in batch.tried.get((op, number), ()) if h in state.miners]
    known = [(miner, state.index.facts[miner.hotkey]) for miner in tried if miner.stage == number]
    barred = [(miner, facts) for miner, facts in known if facts.available]
    return barred if len(barred) < state.index.stages[number].available else []
