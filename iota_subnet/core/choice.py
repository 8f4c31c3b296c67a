"""Who takes a step, and how many microbatches are on their way.

Law: random among those who have room, by how soon they would be done; every choice says how likely it was.
"""

from __future__ import annotations

from iota_subnet.core.cards import StageIndex
from iota_subnet.core.sampler import NONE, pick
from iota_subnet.core.speed import ODDS
from iota_subnet.core.state import Microbatch, RunState

#: One draw in so many is blind to speed: CLASP needs random pathways, and the slow may have become fast.
EXPLORE = 32

#: Microbatches may take this share of `stale_s` on average.
STALE = 0.5


def window(state: RunState) -> int:
    """How many microbatches may be on their way: as many as the replicas keep graphs of, and not so many that they grow
    stale.

    A step that waits while everybody of its stage has work already would only grow old: when as many wait as the
    thinnest stage has replicas, nothing new is opened.
    """
    swarm, index = state.spec.swarm, state.index
    thinnest, most = index.thinnest, index.graphs
    live, waiting = len(state.batches), len(index.where)
    # Asked with every event: comparisons cost less than `min` and `max`.
    if waiting >= thinnest and waiting > 1 and live < most:
        most = live
    if state.age > STALE * swarm.stale_s:
        most = min(most, max(thinnest, int(most * STALE * swarm.stale_s / state.age)))
    return most


def taker(state: RunState, batch: Microbatch, stage: StageIndex, seed: bytes) -> tuple[int, float] | None:
    """Draw one of a stage: of those who have room (somebody has), of those who have not tried this step before while
    there are any; and say how likely that was. `seed` is 16 bytes of chance."""
    if not batch.tried:
        return draw(stage, seed)
    where = state.index.where[batch.id]
    barred = _barred(state, stage, batch.tried.get((where.op, where.stage), []))
    for slot, _ in barred:
        stage.room.put(slot, NONE)
    found = None
    if stage.room.mask:
        found = draw(stage, seed)
    for slot, rung in barred:
        stage.room.put(slot, rung)
    return found


def draw(stage: StageIndex, seed: bytes) -> tuple[int, float]:
    """A slot, and how likely it was: one draw in `EXPLORE` is blind to speed, so that everybody is compared."""
    room = stage.room
    total, near = room.near(ODDS)
    number = int.from_bytes(seed[1:], "big")
    if seed[0] % EXPLORE == 0:
        slot = room.any(number % room.filled)
        behind = room.at[slot] - room.best()
        weight = ODDS[behind] if behind < len(ODDS) else 0
    else:
        slot, weight = pick(ODDS, near, number % total)
    return slot, (1 / room.filled + (EXPLORE - 1) * weight / total) / EXPLORE


def _barred(state: RunState, stage: StageIndex, tried: list[str]) -> list[tuple[int, int]]:
    """Slots and rungs of those who have tried this step before; nobody, when nobody else could take it."""
    cards = [state.index.cards[hotkey] for hotkey in tried if hotkey in state.index.cards]
    known = [card.slot for card in cards if card.stage is stage and card.facts.available]
    return [(slot, stage.room.at[slot]) for slot in known] if len(known) < stage.available else []
