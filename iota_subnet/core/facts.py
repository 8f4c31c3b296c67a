"""What the index keeps, derived from one miner, one microbatch or the whole state: the only place that says how.

Law: nothing here remembers. The index derives what has changed, its check derives all of it, by the same functions.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from iota_subnet.core import speed
from iota_subnet.core.deadlines import Due, Entry
from iota_subnet.core.draw import digest
from iota_subnet.core.sampler import BOUND, NONE

if TYPE_CHECKING:
    from iota_subnet.core.actions import Op
    from iota_subnet.core.state import Microbatch, Miner, RunState
    from iota_subnet.spec import SwarmSpec

#: Where a microbatch waits: with the miner that holds its graph, or at a stage, backward (2 k) or forward (2 k + 1).
Queue = str | int


class Facts(NamedTuple):
    """What a miner is, apart from its load, which every lease changes: that is its rung in `StageIndex.room`.

    `keeps`: it may go on with what it holds; `available`: with others' work too.
    """

    stage: int
    ready: bool
    keeps: bool
    available: bool
    enough: bool
    behind: bool
    ahead: bool
    doomed: bool


class Where(NamedTuple):
    """Where a microbatch waits for a taker, for which step, and whose graph the step needs. Nowhere: None and ""."""

    queue: Queue | None
    keeper: str
    op: Op
    stage: int


NOBODY = Facts(-1, False, False, False, False, False, False, False)

NOWHERE = Where(None, "", "forward", -1)


@cache
def _one(*facts: Any) -> Facts:
    """The same object for all miners that are alike: there are few kinds, and who looks finds it in a cache."""
    return Facts(*facts)


def facts_of(state: RunState, miner: Miner) -> Facts:
    """One miner, derived."""
    ready = state.ready(miner)
    rested = ready and state.now >= miner.rest_until
    seated = miner.stage >= 0 and miner.connected
    return _one(
        miner.stage,
        ready,
        rested,
        rested and not miner.leaving,
        ready and miner.batches >= state.spec.swarm.min_batches,
        seated and miner.installed <= state.epoch,
        seated and miner.installed > state.epoch,
        state.hopeless(miner),
    )


def rung_of(swarm: SwarmSpec, miner: Miner, facts: Facts, held: int) -> int:
    """What one miner may take now, derived: the rung of those who have room, or that it has none for others' work."""
    if not facts.keeps or len(miner.leases) >= swarm.leases_per_miner:
        return NONE
    return speed.level(miner, held, swarm.live_per_replica) if facts.available else BOUND


def room_for_graphs(ready: list[int], keeps: int) -> int:
    """How many microbatches may be on their way when each of `ready[k]` replicas of stage k keeps so many graphs.

    Of 2 S - 1 steps a graph of stage k is kept for 2 (S - 1 - k): the last stage keeps none, and a thin stage near it
    holds up nobody.
    """
    last = len(ready) - 1
    if not last or not min(ready):
        return min(ready) * keeps
    return min(count * keeps * (2 * last + 1) // (2 * (last - k)) for k, count in enumerate(ready[:-1]))


@cache
def _anywhere(op: Op, stage: int) -> Where:
    """With any replica: there are few of these places and many microbatches."""
    return Where(2 * stage + 1, "", op, stage)


def where_of(state: RunState, batch: Microbatch, done: int = 0) -> Where:
    """One microbatch, derived. Backward goes to the miner that holds the graph, while that one can take work.

    The first `done` of its steps are known to be there.
    """
    if batch.lease is not None or batch.tokens is None or state.now < batch.rest_until:
        return NOWHERE
    step = batch.next_step(done)
    assert step is not None
    op, stage = step
    if op != "backward":
        return _anywhere(op, stage)
    made = batch.forward[stage]
    assert made is not None
    keeper = state.miners.get(made.hotkey)
    tried = batch.tried.get(step, ()) if batch.tried else ()
    if keeper is not None and keeper.stage == stage and made.hotkey not in tried:
        if state.ready(keeper) and state.now >= keeper.rest_until:
            return Where(made.hotkey, made.hotkey, op, stage)
    return Where(2 * stage, made.hotkey, op, stage)


def reminders(state: RunState) -> dict[str, list[Entry]]:
    """Who must be looked at when, for all that is ahead, by the name of its `Deadlines`."""
    swarm = state.spec.swarm
    wakes: list[Entry] = []
    dues: list[Entry] = []
    seats: list[Entry] = []
    for batch in state.batches.values():
        wakes.append((batch.rest_until, Due.PAUSE, batch.id))
        dues.append((batch.asked_at + swarm.lease_s, Due.TOKENS, batch.id))
    for lease in state.leases.values():
        dues.append((lease.deadline, Due.LEASE, lease.id))
    for miner in state.miners.values():
        wakes.append((miner.rest_until, Due.REST, miner.hotkey))
        seats.append((miner.assign_deadline, Due.SEAT, miner.hotkey))
        if not miner.connected:
            seats.append((miner.back_by, Due.AWAY, miner.hotkey))
    for hotkey, asked in state.line.items():
        seats.append((asked + swarm.wait_s, Due.PLACE, hotkey))
    return {"wakes": wakes, "dues": dues, "seats": seats}


def chance_of(state: RunState) -> blake2b:
    """What the run's draws begin with; each goes on with a copy."""
    return blake2b(digest_size=16, key=digest(state.secret, "route"))


def held_of(state: RunState) -> dict[str, int]:
    """How many graphs everybody keeps whose backward pass is still to come."""
    held: dict[str, int] = {}
    for batch in state.batches.values():
        for hotkey in batch.holders():
            held[hotkey] = held.get(hotkey, 0) + 1
    return held
