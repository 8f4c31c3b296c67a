"""What the rules ask of the state all the time, kept ready so that no event has to look at everybody.

Law: nothing here is a fact of its own. Every entry is derived from one miner or one microbatch by `facts_of` or
`where_of`; whoever changes a miner or a microbatch touches it, and `settle` derives it anew. `wrong` derives all of it
from nothing and compares. Nothing depends on the order of changes, so an index that is rebuilt decides the same.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from iota_subnet.core.deadlines import Deadlines, Due
from iota_subnet.core.sampler import Sampler
from iota_subnet.core.speed import rate, weight

if TYPE_CHECKING:
    from iota_subnet.core.actions import Op
    from iota_subnet.core.state import Microbatch, Miner, RunState

#: Where a microbatch waits: with the miner that holds its graph, or at a stage, backward (2 k) or forward (2 k + 1).
Queue = str | int


class Facts(NamedTuple):
    """What counts of one miner. `keeps`: it may go on with what it holds; `available`: with others' work too.

    `free` > 0: it may take a step that is not bound to anybody, with this weight.
    """

    stage: int
    slot: int
    ready: bool
    keeps: bool
    available: bool
    enough: bool
    behind: bool
    ahead: bool
    doomed: bool
    rate: int
    room: bool
    free: int


class Where(NamedTuple):
    """Where a microbatch waits for a taker, for which step, and whose graph the step needs. Nowhere: None and ""."""

    queue: Queue | None
    keeper: str
    op: Op
    stage: int


NOBODY = Facts(-1, -1, False, False, False, False, False, False, False, 0, False, 0)

_SUMS = ("ready", "enough", "behind", "thinnest", "empty")

#: The facts from here on are a miner's load, which every lease changes.
_LOAD = Facts._fields.index("room")

NOWHERE = Where(None, "", "forward", -1)


def facts_of(state: RunState, miner: Miner) -> Facts:
    """One miner, derived."""
    swarm = state.spec.swarm
    ready = state.ready(miner)
    rested = ready and state.now >= miner.rest_until
    room = rested and len(miner.leases) < swarm.leases_per_miner
    seated = miner.stage >= 0 and miner.connected
    return Facts(
        miner.stage,
        miner.slot,
        ready,
        rested,
        rested and not miner.leaving,
        ready and miner.batches >= swarm.min_batches,
        seated and miner.installed <= state.epoch,
        seated and miner.installed > state.epoch,
        state.hopeless(miner),
        rate(miner) if ready else 0,
        room,
        weight(miner, state.index.held.get(miner.hotkey, 0)) if room and not miner.leaving else 0,
    )


def where_of(state: RunState, batch: Microbatch) -> Where:
    """One microbatch, derived. Backward goes to the miner that holds the graph, while that one can take work."""
    if batch.lease is not None or batch.tokens is None or state.now < batch.rest_until:
        return NOWHERE
    step = batch.next_step()
    assert step is not None
    op, stage = step
    if op != "backward":
        return Where(2 * stage + 1, "", op, stage)
    made = batch.forward[stage]
    assert made is not None
    keeper = state.miners.get(made.hotkey)
    if keeper is not None and keeper.stage == stage and keeper.hotkey not in batch.tried.get(step, ()):
        if state.ready(keeper) and state.now >= keeper.rest_until:
            return Where(made.hotkey, made.hotkey, op, stage)
    return Where(2 * stage, made.hotkey, op, stage)


@dataclass(slots=True)
class StageIndex:
    """One stage in numbers: `free` and `fast` hold the miners that may take work, evenly and by their speed."""

    members: int = 0
    ready: int = 0
    available: int = 0
    ahead: int = 0
    rate: int = 0
    free: Sampler = field(default_factory=Sampler)
    fast: Sampler = field(default_factory=Sampler)
    slots: list[str] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Index:
    """All of it. `hot` names the queues for which a taker or a step has appeared since `fill` looked last."""

    stages: list[StageIndex] = field(default_factory=list)
    ready: int = 0
    enough: int = 0
    behind: int = 0
    thinnest: int = 0
    empty: list[int] = field(default_factory=list)
    doomed: dict[str, None] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    where: dict[int, Where] = field(default_factory=dict)
    queues: dict[Queue, list[int]] = field(default_factory=dict)
    kept: dict[str, dict[int, None]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    hot: dict[Queue, None] = field(default_factory=dict)
    wakes: Deadlines = field(default_factory=Deadlines)
    dues: Deadlines = field(default_factory=Deadlines)
    seats: Deadlines = field(default_factory=Deadlines)
    shares: tuple[float, ...] = ()
    moved_miners: dict[str, None] = field(default_factory=dict)
    moved_batches: dict[int, None] = field(default_factory=dict)

    # Told by whoever changes the state

    def miner(self, hotkey: str) -> None:
        """A miner has changed, or is gone."""
        self.moved_miners[hotkey] = None

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
        self.moved_miners[hotkey] = None

    # Asked by the rules

    def settle(self, state: RunState) -> None:
        """Derive anew whatever has changed."""
        # Miners first: where a microbatch waits depends on who can take it.
        while self.moved_miners or self.moved_batches:
            if self.moved_miners:
                miners, self.moved_miners = self.moved_miners, {}
                for hotkey in miners:
                    miner = state.miners.get(hotkey)
                    facts = facts_of(state, miner) if miner is not None else NOBODY
                    before = self.facts.get(hotkey, NOBODY)
                    if facts != before:
                        self._change(hotkey, before, facts)
            batches, self.moved_batches = self.moved_batches, {}
            for number in batches:
                batch = state.batches.get(number)
                where = where_of(state, batch) if batch is not None else NOWHERE
                if where != self.where.get(number, NOWHERE):
                    self._move(number, where)

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
        while heap:
            if self.where.get(heap[0], NOWHERE).queue == queue:
                return heap[0]
            heapq.heappop(heap)
        self.queues.pop(queue, None)
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
        swarm = state.spec.swarm
        model = state.spec.model
        fresh = Index(shares=self.shares or tuple(model.flops_share(k) * model.stages for k in range(model.stages)))
        fresh.stages = [StageIndex() for _ in range(model.stages)]
        for batch in state.batches.values():
            for hotkey in batch.holders():
                fresh.held[hotkey] = fresh.held.get(hotkey, 0) + 1
            fresh.moved_batches[batch.id] = None
            fresh.wakes.add(batch.rest_until, Due.PAUSE, batch.id)
            fresh.dues.add(batch.asked_at + swarm.lease_s, Due.TOKENS, batch.id)
        for lease in state.leases.values():
            fresh.dues.add(lease.deadline, Due.LEASE, lease.id)
        for miner in state.miners.values():
            fresh.moved_miners[miner.hotkey] = None
            fresh.wakes.add(miner.rest_until, Due.REST, miner.hotkey)
            fresh.seats.add(miner.assign_deadline, Due.SEAT, miner.hotkey)
            if not miner.connected:
                fresh.seats.add(miner.back_by, Due.AWAY, miner.hotkey)
            if miner.stage >= 0:
                slots = fresh.stages[miner.stage].slots
                slots += [""] * (miner.slot + 1 - len(slots))
                slots[miner.slot] = miner.hotkey
        for hotkey, asked in state.line.items():
            fresh.seats.add(asked + swarm.wait_s, Due.PLACE, hotkey)
        for stage in fresh.stages:
            stage.unused = [slot for slot, hotkey in enumerate(stage.slots) if not hotkey]
        for name in Index.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))
        self._count()
        self.settle(state)

    def tidy(self, state: RunState) -> None:
        """Keep old reminders from piling up: once in a while everything is derived anew, at O(1) per event."""
        live = 2 * len(state.miners) + len(state.line) + 2 * len(state.batches)
        if any(heap.crowded(live) for heap in (self.dues, self.wakes, self.seats)):
            self.rebuild(state)

    # Help

    def _change(self, hotkey: str, before: Facts, facts: Facts) -> None:
        """Put one miner's new facts in the place of its old ones."""
        if before[:_LOAD] != facts[:_LOAD]:
            self._recount(hotkey, before, facts)
        if facts.stage >= 0:
            stage = self.stages[facts.stage]
            stage.free.set(facts.slot, facts.free > 0)
            stage.fast.set(facts.slot, facts.free)
            if (facts.room and not before.room) or (facts.free and not before.free):
                self.hot[hotkey] = self.hot[2 * facts.stage] = self.hot[2 * facts.stage + 1] = None
        if facts is NOBODY:
            del self.facts[hotkey]
        else:
            self.facts[hotkey] = facts

    def _recount(self, hotkey: str, before: Facts, facts: Facts) -> None:
        """Something other than its load has changed: sums, seats, and what waits for it."""
        for known, sign in ((before, -1), (facts, 1)):
            if known.stage >= 0:
                stage = self.stages[known.stage]
                stage.members += sign
                stage.ready += sign * known.ready
                stage.available += sign * known.available
                stage.ahead += sign * known.ahead
                stage.rate += sign * known.rate
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
                self.hot[2 * before.stage] = self.hot[2 * before.stage + 1] = None
        if facts.doomed:
            self.doomed[hotkey] = None
        else:
            self.doomed.pop(hotkey, None)

    def _count(self) -> None:
        self.thinnest = min(stage.ready for stage in self.stages)
        self.empty = [number for number, stage in enumerate(self.stages) if not stage.ready]

    def _reseat(self, hotkey: str, before: Facts, facts: Facts) -> None:
        if before.stage >= 0:
            old = self.stages[before.stage]
            old.free.set(before.slot, 0)
            old.fast.set(before.slot, 0)
            if old.slots[before.slot] == hotkey:
                old.slots[before.slot] = ""
                heapq.heappush(old.unused, before.slot)
        if facts.stage >= 0:
            self.stages[facts.stage].slots[facts.slot] = hotkey

    def _move(self, number: int, where: Where) -> None:
        """Let one microbatch wait elsewhere, or not at all."""
        before = self.where.pop(number, NOWHERE)
        if before.keeper and before.keeper != where.keeper:
            kept = self.kept[before.keeper]
            del kept[number]
            if not kept:
                del self.kept[before.keeper]
        if where.queue is None:
            return
        if where.keeper:
            self.kept.setdefault(where.keeper, {})[number] = None
        self.where[number] = where
        heapq.heappush(self.queues.setdefault(where.queue, []), number)
        self.hot[where.queue] = None


def wrong(state: RunState) -> str:
    """What the index says that the state does not; nothing when they agree. Derives all of it from nothing."""
    index = state.index
    if index.moved_miners or index.moved_batches:
        return "the index has not looked at what has changed"
    truth = Index()
    truth.rebuild(state)
    for name in (*_SUMS, "doomed", "facts", "where", "kept", "held", "shares"):
        kept, derived = getattr(index, name), getattr(truth, name)
        if kept != derived:
            return f"the index says {name} {kept}, the state {derived}"
    for number, (one, two) in enumerate(zip(index.stages, truth.stages, strict=True)):
        for name in ("members", "ready", "available", "ahead", "rate"):
            if getattr(one, name) != getattr(two, name):
                return f"the index says {getattr(one, name)} {name} in stage {number}, the state {getattr(two, name)}"
        if _seats(one) != _seats(two):
            return f"the index knows other seats of stage {number} than the state"
        if (_weights(one.free), _weights(one.fast)) != (_weights(two.free), _weights(two.fast)):
            return f"the index knows other free miners of stage {number} than the state"
    for name in ("wakes", "dues", "seats"):
        have = getattr(index, name).entries()
        for key, when in getattr(truth, name).entries().items():
            if when > state.now and have.get(key, float("inf")) > when:
                return f"nobody is reminded of {key} at {when}"
    for number, where in truth.where.items():
        assert where.queue is not None
        if number not in index.queues.get(where.queue, ()):
            return f"microbatch {number} waits in no queue"
    return ""


def _seats(stage: StageIndex) -> dict[int, str]:
    return {slot: hotkey for slot, hotkey in enumerate(stage.slots) if hotkey}


def _weights(sampler: Sampler) -> dict[int, int]:
    return {slot: weight for slot, weight in enumerate(sampler.weights) if weight}
