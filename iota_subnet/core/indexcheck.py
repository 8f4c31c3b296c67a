"""Whether the index says what the state says. Law: all of it is derived from nothing and compared; slow, for checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iota_subnet.core.deadlines import Deadlines, Due
from iota_subnet.core.facts import (
    NOBODY,
    Facts,
    chance_of,
    facts_of,
    held_of,
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
    where = {number: where_of(state, batch) for number, batch in state.batches.items()}
    where = {number: place for number, place in where.items() if place.queue is not None}
    ready = [sum(fact.ready and fact.stage == number for fact in facts.values()) for number in range(len(index.stages))]
    truth: dict[str, object] = {
        "ready": sum(ready),
        "enough": sum(fact.enough for fact in facts.values()),
        "behind": sum(fact.behind for fact in facts.values()),
        "thinnest": min(ready),
        "graphs": room_for_graphs(ready, state.spec.swarm.live_per_replica),
        "empty": [number for number, count in enumerate(ready) if not count],
        "doomed": {hotkey: None for hotkey, fact in facts.items() if fact.doomed},
        "where": where,
    }
    for name, derived in truth.items():
        said = getattr(index, name)
        if said != derived:
            return f"the index says {name} {said}, the state {derived}"
    if index.chance.digest() != chance_of(state).digest():
        return "the index draws by another key than the state's"
    return _wrong_cards(state, facts) or _wrong_stages(state, facts) or _wrong_reminders(state) or _wrong_queues(index)


def _wrong_cards(state: RunState, facts: dict[str, Facts]) -> str:
    index = state.index
    held, kept = held_of(state), dict[str, list[int]]()
    for number in sorted(index.where):
        keeper = index.where[number].keeper
        if keeper:
            kept.setdefault(keeper, []).append(number)
    if index.cards.keys() != facts.keys() | held.keys() | kept.keys():
        return f"the index has cards of {sorted(index.cards)}, the state of {sorted({*facts, *held, *kept})}"
    for hotkey, card in index.cards.items():
        if card.hotkey != hotkey or card.miner is not state.miners.get(hotkey):
            return f"the card of {hotkey} is that of another miner"
        fact = facts.get(hotkey, NOBODY)
        slot = card.miner.slot if card.miner is not None else -1
        if card.stage is not (index.stages[fact.stage] if fact.stage >= 0 else None) or card.slot != slot:
            return f"the card of {hotkey} has it elsewhere than in seat {slot} of stage {fact.stage}"
        said = {"facts": card.facts, "held": card.held, "kept": card.kept}
        derived = {"facts": fact, "held": held.get(hotkey, 0), "kept": kept.get(hotkey, [])}
        if said != derived:
            return f"the card of {hotkey} says {said}, the state {derived}"
    return ""


def _wrong_stages(state: RunState, facts: dict[str, Facts]) -> str:
    index = state.index
    members: list[list[tuple[str, Facts]]] = [[] for _ in index.stages]
    for hotkey, fact in facts.items():
        if fact.stage >= 0:
            members[fact.stage].append((hotkey, fact))
    for number, (stage, seated) in enumerate(zip(index.stages, members, strict=True)):
        said = (stage.number, stage.members, stage.ready, stage.available, stage.ahead)
        known = [f for _, f in seated]
        counts = len(known), sum(f.ready for f in known), sum(f.available for f in known), sum(f.ahead for f in known)
        if said != (number, *counts):
            return f"the index says {said} of members, ready, available, ahead in stage {number}, the state {counts}"
        seats = {slot: card for slot, card in enumerate(stage.slots) if card is not None}
        if seats != {state.miners[h].slot: index.cards[h] for h, _ in seated}:
            return f"the index knows other seats of stage {number} than the state"
        if sorted(stage.unused) != [slot for slot, card in enumerate(stage.slots) if card is None]:
            return f"the index knows other free seats of stage {number} than the state"
        swarm = state.spec.swarm
        miners = [(state.miners[h], f, index.cards[h].held) for h, f in seated]
        rungs = {miner.slot: rung_of(swarm, miner, f, held) for miner, f, held in miners}
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
        if isinstance(where.queue, int) and number not in index.queues[where.queue]:
            return f"microbatch {number} waits in no queue"
    return ""
