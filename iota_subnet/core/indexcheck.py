"""Whether the index says what the state says. Law: all of it is derived from nothing and compared; slow, for checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iota_subnet.core.deadlines import Deadlines, Due
from iota_subnet.core.facts import (
    NOBODY,
    Facts,
    facts_of,
    held_of,
    key_of,
    reminders,
    room_for_graphs,
    rung_of,
    where_of,
)
from iota_subnet.core.sampler import NONE

if TYPE_CHECKING:
    from iota_subnet.core.index import Index
    from iota_subnet.core.state import RunState


def wrong(state: RunState) -> str:
    """What the index says that the state does not; nothing when they agree. Derives all of it from nothing."""
    index = state.index
    if index.moved_miners or index.moved_batches or index.moved_loads:
        return "the index has not looked at what has changed"
    facts = {hotkey: facts_of(state, miner) for hotkey, miner in state.miners.items()}
    facts = {hotkey: fact for hotkey, fact in facts.items() if fact != NOBODY}
    where = {number: where_of(state, batch) for number, batch in state.batches.items()}
    where = {number: place for number, place in where.items() if place.queue is not None}
    ready = [sum(fact.ready and fact.stage == number for fact in facts.values()) for number in range(len(index.stages))]
    kept: dict[str, dict[int, None]] = {}
    for number, place in where.items():
        if place.keeper:
            kept.setdefault(place.keeper, {})[number] = None
    truth: dict[str, object] = {
        "ready": sum(ready),
        "enough": sum(fact.enough for fact in facts.values()),
        "behind": sum(fact.behind for fact in facts.values()),
        "thinnest": min(ready),
        "graphs": room_for_graphs(ready, state.spec.swarm.live_per_replica),
        "empty": [number for number, count in enumerate(ready) if not count],
        "doomed": {hotkey: None for hotkey, fact in facts.items() if fact.doomed},
        "facts": facts,
        "where": where,
        "kept": kept,
        "held": held_of(state),
        "key": key_of(state),
    }
    for name, derived in truth.items():
        said = getattr(index, name)
        if said != derived:
            return f"the index says {name} {said}, the state {derived}"
    return _wrong_stages(state, facts) or _wrong_reminders(state) or _wrong_queues(index)


def _wrong_stages(state: RunState, facts: dict[str, Facts]) -> str:
    index = state.index
    members: list[list[tuple[str, Facts]]] = [[] for _ in index.stages]
    for hotkey, fact in facts.items():
        if fact.stage >= 0:
            members[fact.stage].append((hotkey, fact))
    for number, (stage, seated) in enumerate(zip(index.stages, members, strict=True)):
        said = (stage.members, stage.ready, stage.available, stage.ahead)
        known = [f for _, f in seated]
        derived = len(known), sum(f.ready for f in known), sum(f.available for f in known), sum(f.ahead for f in known)
        if said != derived:
            return f"the index says members, ready, available, ahead {said} in stage {number}, the state {derived}"
        if {slot: hotkey for slot, hotkey in enumerate(stage.slots) if hotkey} != {f.slot: h for h, f in seated}:
            return f"the index knows other seats of stage {number} than the state"
        rungs = {f.slot: rung_of(state, state.miners[h], f, index.held) for h, f in seated}
        if {slot: rung for slot, rung in enumerate(stage.room.at) if rung != NONE} != {
            slot: rung for slot, rung in rungs.items() if rung != NONE
        } or stage.room.wrong():
            return f"the index knows other free miners of stage {number} than the state"
    return ""


def _wrong_reminders(state: RunState) -> str:
    for name, entries in reminders(state).items():
        known: Deadlines = getattr(state.index, name)
        for when, kind, key in known.lacks([entry for entry in entries if entry[0] > state.now]):
            return f"nobody is reminded of {Due(kind).name} {key} at {when}"
    return ""


def _wrong_queues(index: Index) -> str:
    for number, where in index.where.items():
        assert where.queue is not None
        if number not in index.queues.get(where.queue, ()):
            return f"microbatch {number} waits in no queue"
    return ""
