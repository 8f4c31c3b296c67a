"""What the rules ask of the state all the time, kept ready so that no event has to look at everybody.

Law: nothing here is a fact of its own. Every entry is derived from one miner or one microbatch by `facts`; whoever
changes a miner or a microbatch touches it, and `settle` derives it anew. `indexcheck.wrong` derives all of it from
nothing and compares. Nothing depends on the order of changes, so an index that is rebuilt decides the same.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from iota_subnet.core.cards import Card, StageIndex
from iota_subnet.core.deadlines import Deadlines, Due
from iota_subnet.core.facts import (
    NOBODY,
    NOWHERE,
    Facts,
    Where,
    chance_of,
    facts_of,
    held_of,
    reminders,
    room_for_graphs,
    rung_of,
    where_of,
)
from iota_subnet.core.sampler import NONE, shared

if TYPE_CHECKING:
    from iota_subnet.core.state import RunState


@dataclass(slots=True)
class Index:
    """All of it. `hot` names the queues for which a taker or a step has appeared since `fill` looked last, `keen` the
    miners that could take what waits for them; `chance` is a hash that has taken in the run's key. `queues` are heaps,
    two for each stage; a microbatch that waits elsewhere by now stays in one until it is looked at."""

    stages: list[StageIndex] = field(default_factory=list)
    ready: int = 0
    enough: int = 0
    behind: int = 0
    thinnest: int = 0
    keeps: int = 0
    graphs: int = 0
    empty: list[int] = field(default_factory=list)
    doomed: dict[str, None] = field(default_factory=dict)
    cards: dict[str, Card] = field(default_factory=dict)
    where: dict[int, Where] = field(default_factory=dict)
    chance: blake2b = field(default_factory=blake2b)
    queues: list[list[int]] = field(default_factory=list)
    hot: dict[int, None] = field(default_factory=dict)
    keen: dict[str, None] = field(default_factory=dict)
    wakes: Deadlines = field(default_factory=Deadlines)
    dues: Deadlines = field(default_factory=Deadlines)
    seats: Deadlines = field(default_factory=Deadlines)
    shares: tuple[float, ...] = ()
    moved_miners: dict[str, None] = field(default_factory=dict)
    moved_loads: dict[str, None] = field(default_factory=dict)
    moved_batches: dict[int, None] = field(default_factory=dict)

    # Told by whoever changes the state

    def miner(self, hotkey: str) -> None:
        """A miner has changed, or is gone."""
        self.moved_miners[hotkey] = None

    def load(self, hotkey: str) -> None:
        """A miner has more or fewer leases, or was timed; apart from that it is what it was."""
        self.moved_loads[hotkey] = None

    def batch(self, batch: int) -> None:
        """A microbatch has changed, or is gone."""
        self.moved_batches[batch] = None

    def hold(self, hotkey: str, count: int) -> None:
        """A miner holds so many more, or fewer, graphs whose backward pass is still to come."""
        card = self.card(hotkey)
        card.held += count
        self.moved_loads[hotkey] = None
        self._drop(card)

    def loaded(self, state: RunState, card: Card) -> None:
        """What `load` will lead to, now: the miner goes on the rung where it belongs. Needs no `settle`."""
        stage, miner = card.stage, card.miner
        if stage is None or miner is None:
            return
        room, slot = stage.room, card.slot
        rung = rung_of(state.spec.swarm, miner, card.facts, card.held)
        before = room.at[slot]
        if rung == before:
            return
        room.put(slot, rung)
        if before == NONE and card.kept:
            self.keen[card.hotkey] = None
        if before < 0 <= rung:
            self._heat(stage.number)

    def place(self, number: int, where: Where) -> None:
        """Let one microbatch wait elsewhere, or not at all: what `batch` will lead to, now."""
        before = self.where.get(number, NOWHERE)
        if where == before:
            return
        if before is not NOWHERE:
            del self.where[number]
            if before.keeper:
                self._unkeep(before.keeper, number)
        queue = where.queue
        if queue is None:
            return
        self.where[number] = where
        if where.keeper:
            insort(self.cards[where.keeper].kept, number)
        if isinstance(queue, str):
            self.keen[queue] = None
        else:
            heapq.heappush(self.queues[queue], number)
            self.hot[queue] = None

    def take(self, batch: int) -> Where:
        """The first of a queue waits there no more: where it did."""
        where = self.where.pop(batch)
        if where.keeper:
            self._unkeep(where.keeper, batch)
        if isinstance(where.queue, int):
            heapq.heappop(self.queues[where.queue])
        return where

    # Asked by the rules

    def settle(self, state: RunState) -> None:
        """Derive anew whatever has changed."""
        # Miners first: where a microbatch waits depends on who can take it.
        while self.moved_miners or self.moved_batches or self.moved_loads:
            if self.moved_miners:
                miners, self.moved_miners = self.moved_miners, {}
                for hotkey in miners:
                    self._look(state, self.card(hotkey))
            loads, self.moved_loads = self.moved_loads, {}
            for hotkey in loads:
                if hotkey in self.cards:
                    self.loaded(state, self.cards[hotkey])
            batches, self.moved_batches = self.moved_batches, {}
            for number in batches:
                batch = state.batches.get(number)
                self.place(number, where_of(state, batch) if batch is not None else NOWHERE)

    def wake(self, now: float) -> None:
        """Rests that are over by now change what their miners and microbatches may do."""
        for _, kind, key in self.wakes.pop(now):
            if kind == Due.REST:
                self.moved_miners[str(key)] = None
            else:
                self.moved_batches[int(key)] = None

    def first(self, queue: int) -> int | None:
        """The oldest microbatch that waits at a stage."""
        heap = self.queues[queue]
        while heap:
            if self.where.get(heap[0], NOWHERE).queue == queue:
                return heap[0]
            heapq.heappop(heap)
        return None

    def home(self, card: Card) -> int | None:
        """The oldest microbatch that waits for the miner that holds its graph."""
        for number in card.kept:
            if self.where[number].queue == card.hotkey:
                return number
        return None

    def skip(self, queue: int) -> None:
        """Look past the first of a queue that nobody can serve now; `back` puts it in its place again."""
        heapq.heappop(self.queues[queue])

    def back(self, queue: int, numbers: list[int]) -> None:
        """Put what `skip` took out of a queue into its place again."""
        for number in numbers:
            heapq.heappush(self.queues[queue], number)

    def held(self, hotkey: str) -> int:
        """How many graphs a hotkey holds whose backward pass is still to come."""
        card = self.cards.get(hotkey)
        return 0 if card is None else card.held

    def card(self, hotkey: str) -> Card:
        """The card of a hotkey, a new one if it had none: for who writes on it."""
        card = self.cards.get(hotkey)
        if card is None:
            card = self.cards[hotkey] = Card(hotkey)
        return card

    def seat(self, stage: int) -> int:
        """A slot of a stage that nobody has: the lowest."""
        found = self.stages[stage]
        if found.unused:
            return heapq.heappop(found.unused)
        found.slots.append(None)
        return len(found.slots) - 1

    def rebuild(self, state: RunState) -> None:
        """Derive everything from nothing: the run begins, an epoch begins, time was stopped."""
        model = state.spec.model
        fresh = Index(shares=self.shares or tuple(model.flops_share(k) * model.stages for k in range(model.stages)))
        fresh.chance, fresh.keeps = chance_of(state), state.spec.swarm.live_per_replica
        fresh.stages = [StageIndex(number) for number in range(model.stages)]
        fresh.queues = [[] for _ in range(2 * model.stages)]
        fresh.cards = {hotkey: Card(hotkey, miner) for hotkey, miner in state.miners.items()}
        for hotkey, held in held_of(state).items():
            fresh.card(hotkey).held = held
        fresh.moved_batches = dict.fromkeys(state.batches)
        fresh.moved_miners = dict.fromkeys(state.miners)
        for name, entries in reminders(state).items():
            setattr(fresh, name, Deadlines(entries))
        for miner in state.miners.values():
            if miner.stage >= 0:
                slots = fresh.stages[miner.stage].slots
                slots += [None] * (miner.slot + 1 - len(slots))
                slots[miner.slot] = fresh.cards[miner.hotkey]
        for stage in fresh.stages:
            stage.unused = [slot for slot, card in enumerate(stage.slots) if card is None]
        for name in Index.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))
        self._count()
        self.settle(state)

    def tidy(self, state: RunState) -> None:
        """Keep old reminders from piling up: once in a while they are derived anew, at O(1) per event."""
        live = 2 * len(state.miners) + len(state.line) + 2 * len(state.batches)
        if any(entries.crowded(live) for entries in (self.dues, self.wakes, self.seats)):
            for name, entries in reminders(state).items():
                setattr(self, name, Deadlines(entries))

    # Help

    def _drop(self, card: Card) -> None:
        """Who has left, and of whom nothing is there any more, is forgotten."""
        if card.miner is None and not card.held and not card.kept:
            del self.cards[card.hotkey]

    def _heat(self, stage: int) -> None:
        """What waits at a stage may have a taker now."""
        back, on = 2 * stage, 2 * stage + 1
        if self.queues[back]:
            self.hot[back] = None
        if self.queues[on]:
            self.hot[on] = None

    def _look(self, state: RunState, card: Card) -> None:
        """Write on a card what the state says of its miner now."""
        miner = card.miner = state.miners.get(card.hotkey)
        facts = facts_of(state, miner) if miner is not None else NOBODY
        if facts != card.facts:
            self._change(card, facts)
        self._sit(card, facts.stage, miner.slot if miner is not None else -1)
        self.moved_loads[card.hotkey] = None
        self._drop(card)

    def _change(self, card: Card, facts: Facts) -> None:
        """Put one miner's new facts in the place of its old ones: sums, seats, and what waits for it."""
        before, card.facts = card.facts, facts
        for known, sign in ((before, -1), (facts, 1)):
            if known.stage >= 0:
                stage = self.stages[known.stage]
                stage.members += sign
                stage.ready += sign * known.ready
                stage.available += sign * known.available
                stage.ahead += sign * known.ahead
            self.ready += sign * known.ready
            self.enough += sign * known.enough
            self.behind += sign * known.behind
        if before.ready != facts.ready or before.stage != facts.stage:
            self._count()
        if (facts.keeps, facts.available, facts.stage) != (before.keeps, before.available, before.stage):
            self.moved_batches.update(dict.fromkeys(card.kept))
            if before.stage >= 0:
                # Who has tried a step gets it again only while nobody else could.
                self._heat(before.stage)
        if facts.doomed:
            self.doomed[card.hotkey] = None
        else:
            self.doomed.pop(card.hotkey, None)

    def _count(self) -> None:
        self.thinnest = min(stage.ready for stage in self.stages)
        self.graphs = room_for_graphs([stage.ready for stage in self.stages], self.keeps)
        self.empty = [number for number, stage in enumerate(self.stages) if not stage.ready]

    def _sit(self, card: Card, number: int, slot: int) -> None:
        old, stage = card.stage, self.stages[number] if number >= 0 else None
        if old is stage and card.slot == slot:
            return
        if old is not None:
            old.room.put(card.slot, NONE)
            if old.slots[card.slot] is card:
                old.slots[card.slot] = None
                heapq.heappush(old.unused, card.slot)
        card.stage, card.slot = stage, shared(slot)
        if stage is not None:
            stage.slots[slot] = card
            stage.room.put(slot, NONE)

    def _unkeep(self, hotkey: str, number: int) -> None:
        """A microbatch does not wait any more for the pass that needs this miner's graph."""
        card = self.cards[hotkey]
        del card.kept[bisect_left(card.kept, number)]
        self._drop(card)
