"""What the rules ask of the state all the time, kept ready so that no event has to look at everybody.

Law: nothing here is a fact of its own. Every entry is derived from one miner or one microbatch by `facts`; whoever
changes a miner or a microbatch touches it, and `settle` derives it anew. `indexcheck.wrong` derives all of it from
nothing and compares. Nothing depends on the order of changes, so an index that is rebuilt decides the same.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iota_subnet.core.deadlines import Deadlines, Due
from iota_subnet.core.facts import (
    NOBODY,
    NOWHERE,
    Facts,
    Queue,
    Where,
    facts_of,
    held_of,
    key_of,
    reminders,
    room_for_graphs,
    rung_of,
    where_of,
)
from iota_subnet.core.sampler import NONE, Sampler

if TYPE_CHECKING:
    from iota_subnet.core.state import Microbatch, Miner, RunState


@dataclass(slots=True)
class StageIndex:
    """One stage in numbers. `room` holds the slots of those who may take work, by how soon they would be done."""

    members: int = 0
    ready: int = 0
    available: int = 0
    ahead: int = 0
    room: Sampler = field(default_factory=Sampler)
    slots: list[str] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Index:
    """All of it. `hot` names the queues for which a taker or a step has appeared since `fill` looked last, `keen` the
    miners that could take what waits for them; `key` is what the run's draws begin with."""

    stages: list[StageIndex] = field(default_factory=list)
    ready: int = 0
    enough: int = 0
    behind: int = 0
    thinnest: int = 0
    keeps: int = 0
    graphs: int = 0
    empty: list[int] = field(default_factory=list)
    doomed: dict[str, None] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    where: dict[int, Where] = field(default_factory=dict)
    key: bytes = b""
    queues: dict[Queue, list[int]] = field(default_factory=dict)
    kept: dict[str, dict[int, None]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
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
        left = self.held.get(hotkey, 0) + count
        if left:
            self.held[hotkey] = left
        else:
            del self.held[hotkey]
        self.moved_loads[hotkey] = None

    def loaded(self, state: RunState, miner: Miner) -> None:
        """What `load` will lead to, now. Needs no `settle`."""
        self.moved_loads.pop(miner.hotkey, None)
        self._reload(state, miner)

    def placed(self, state: RunState, batch: Microbatch) -> None:
        """What `batch` will lead to, now."""
        self._move(batch.id, where_of(state, batch))

    def take(self, batch: int) -> Where:
        """The first of a queue waits there no more: where it did."""
        where = self._leave(batch)
        assert where.queue is not None
        heap = self.queues[where.queue]
        heapq.heappop(heap)
        if not heap:
            del self.queues[where.queue]
        return where

    # Asked by the rules

    def settle(self, state: RunState) -> None:
        """Derive anew whatever has changed."""
        # Miners first: where a microbatch waits depends on who can take it.
        while self.moved_miners or self.moved_batches or self.moved_loads:
            if self.moved_miners:
                miners, self.moved_miners = self.moved_miners, {}
                for hotkey in miners:
                    miner = state.miners.get(hotkey)
                    facts = facts_of(state, miner) if miner is not None else NOBODY
                    before = self.facts.get(hotkey, NOBODY)
                    if facts != before:
                        self._change(hotkey, before, facts)
                    self.moved_loads[hotkey] = None
            loads, self.moved_loads = self.moved_loads, {}
            for hotkey in loads:
                miner = state.miners.get(hotkey)
                if miner is not None:
                    self._reload(state, miner)
            batches, self.moved_batches = self.moved_batches, {}
            for number in batches:
                batch = state.batches.get(number)
                self._move(number, where_of(state, batch) if batch is not None else NOWHERE)

    def wake(self, now: float) -> None:
        """Rests that are over by now change what their miners and microbatches may do."""
        for _, kind, key in self.wakes.pop(now):
            if kind == Due.REST:
                self.moved_miners[str(key)] = None
            else:
                self.moved_batches[int(key)] = None

    def first(self, queue: Queue) -> int | None:
        """The oldest microbatch that waits in a queue."""
        heap = self.queues.get(queue)
        if heap is None:
            return None
        while heap:
            number = heap[0]
            if self.where.get(number, NOWHERE).queue == queue:
                return number
            heapq.heappop(heap)
        del self.queues[queue]
        return None

    def skip(self, queue: Queue) -> None:
        """Look past the first of a queue that nobody can serve now; `back` puts it in its place again."""
        heapq.heappop(self.queues[queue])

    def back(self, queue: Queue, numbers: list[int]) -> None:
        for number in numbers:
            heapq.heappush(self.queues.setdefault(queue, []), number)

    def seat(self, stage: int) -> int:
        """A slot of a stage that nobody has: the lowest."""
        found = self.stages[stage]
        if found.unused:
            return heapq.heappop(found.unused)
        found.slots.append("")
        return len(found.slots) - 1

    def rebuild(self, state: RunState) -> None:
        """Derive everything from nothing: the run begins, an epoch begins, time was stopped."""
        model = state.spec.model
        fresh = Index(shares=self.shares or tuple(model.flops_share(k) * model.stages for k in range(model.stages)))
        fresh.key, fresh.keeps = key_of(state), state.spec.swarm.live_per_replica
        fresh.stages = [StageIndex() for _ in range(model.stages)]
        fresh.held = held_of(state)
        fresh.moved_batches = dict.fromkeys(state.batches)
        fresh.moved_miners = dict.fromkeys(state.miners)
        for name, entries in reminders(state).items():
            setattr(fresh, name, Deadlines(entries))
        for miner in state.miners.values():
            if miner.stage >= 0:
                slots = fresh.stages[miner.stage].slots
                slots += [""] * (miner.slot + 1 - len(slots))
                slots[miner.slot] = miner.hotkey
        for stage in fresh.stages:
            stage.unused = [slot for slot, hotkey in enumerate(stage.slots) if not hotkey]
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

    def _reload(self, state: RunState, miner: Miner) -> None:
        """Put a miner on the rung where it belongs now."""
        facts = self.facts.get(miner.hotkey, NOBODY)
        stage, slot = facts[:2]
        if stage < 0:
            return
        room = self.stages[stage].room
        rung = rung_of(state, miner, facts, self.held)
        before = room.at[slot]
        if rung == before:
            return
        room.put(slot, rung)
        if before == NONE and miner.hotkey in self.queues:
            self.keen[miner.hotkey] = None
        if before < 0 <= rung:
            self._heat(stage)

    def _heat(self, stage: int) -> None:
        """What waits at a stage may have a taker now."""
        for queue in (2 * stage, 2 * stage + 1):
            if queue in self.queues:
                self.hot[queue] = None

    def _change(self, hotkey: str, before: Facts, facts: Facts) -> None:
        """Put one miner's new facts in the place of its old ones: sums, seats, and what waits for it."""
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
        if (before.stage, before.slot) != (facts.stage, facts.slot):
            self._reseat(hotkey, before, facts)
        if before.ready != facts.ready or before.stage != facts.stage:
            self._count()
        if (facts.keeps, facts.available, facts.stage) != (before.keeps, before.available, before.stage):
            self.moved_batches.update(self.kept.get(hotkey, {}))
            if before.stage >= 0:
                # Who has tried a step gets it again only while nobody else could.
                self._heat(before.stage)
        if facts.doomed:
            self.doomed[hotkey] = None
        else:
            self.doomed.pop(hotkey, None)
        if facts is NOBODY:
            del self.facts[hotkey]
        else:
            self.facts[hotkey] = facts

    def _count(self) -> None:
        self.thinnest = min(stage.ready for stage in self.stages)
        self.graphs = room_for_graphs([stage.ready for stage in self.stages], self.keeps)
        self.empty = [number for number, stage in enumerate(self.stages) if not stage.ready]

    def _reseat(self, hotkey: str, before: Facts, facts: Facts) -> None:
        if before.stage >= 0:
            old = self.stages[before.stage]
            old.room.put(before.slot, NONE)
            if old.slots[before.slot] == hotkey:
                old.slots[before.slot] = ""
                heapq.heappush(old.unused, before.slot)
        if facts.stage >= 0:
            stage = self.stages[facts.stage]
            stage.slots[facts.slot] = hotkey
            stage.room.put(facts.slot, NONE)

    def _leave(self, number: int) -> Where:
        """A microbatch waits no more; where it did."""
        before = self.where.pop(number, NOWHERE)
        if before.keeper:
            kept = self.kept[before.keeper]
            del kept[number]
            if not kept:
                del self.kept[before.keeper]
        return before

    def _move(self, number: int, where: Where) -> None:
        """Let one microbatch wait elsewhere, or not at all."""
        before = self.where.get(number, NOWHERE)
        if where == before:
            return
        if before is not NOWHERE:
            self._leave(number)
        if where.queue is None:
            return
        if where.keeper:
            self.kept.setdefault(where.keeper, {})[number] = None
        self.where[number] = where
        heapq.heappush(self.queues.setdefault(where.queue, []), number)
        if isinstance(where.queue, str):
            self.keen[where.queue] = None
        else:
            self.hot[where.queue] = None
