from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.core.cards import Card
from iota_subnet.core.deadlines import FEW, Deadlines, Due
from iota_subnet.core.events import MinerLeft
from iota_subnet.core.index import Index
from iota_subnet.core.indexcheck import wrong
from iota_subnet.core.invariants import Broken, check
from iota_subnet.core.sampler import BOUND, NONE, RUNGS, Sampler, pick
from iota_subnet.core.state import Output, RunState

from .bench import Bench

puts = st.lists(st.tuples(st.integers(0, 40), st.sampled_from((NONE, BOUND, 0, 3, 4, 9, RUNGS - 1))), max_size=60)


@given(puts)
def test_a_sampler_finds_each_slot_as_often_as_it_weighs(changes: list[tuple[int, int]]) -> None:
    sampler, truth = Sampler(), dict[int, int]()
    for slot, rung in changes:
        sampler.put(slot, rung)
        truth[slot] = rung
    order = sorted((rung, slot) for slot, rung in truth.items() if rung >= 0)
    assert not sampler.wrong() and sampler.filled == len(order)
    assert [sampler.any(number) for number in range(len(order))] == [slot for _, slot in order]
    if order:
        odds = (4, 3, 5, 2, 1)
        behind = [(slot, rung - sampler.best()) for rung, slot in order if rung - sampler.best() < len(odds)]
        total, near = sampler.near(odds)
        found = [pick(odds, near, number) for number in range(total)]
        assert found == [(slot, odds[d]) for slot, d in behind for _ in range(odds[d])]


@given(st.permutations(list(range(20))))
def test_what_a_sampler_finds_does_not_depend_on_the_order_of_changes(order: list[int]) -> None:
    one, two = Sampler(), Sampler()
    for slot in order:
        one.put(slot, 7)
        one.put(slot, slot % 4)
    for slot in range(20):
        two.put(slot, slot % 4)
    assert (one.rungs, one.mask, one.filled) == (two.rungs, two.mask, two.filled)


def test_reminders_come_by_time_then_kind_then_key_in_whatever_order_they_were_added() -> None:
    entries = [(2.0, Due.LEASE, 7), (1.0, Due.TOKENS, 3), (1.0, Due.LEASE, 9), (1.0, Due.LEASE, 2), (9.0, Due.LEASE, 1)]
    for order in (entries, entries[::-1]):
        deadlines = Deadlines()
        for entry in order:
            deadlines.add(*entry)
        assert [key for _, _, key in deadlines.pop(2.0)] == [2, 9, 3, 7]
        assert len(deadlines) == 1 and not deadlines.pop(8.9)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 40), st.booleans()), max_size=60))
def test_reminders_that_are_added_late_or_in_between_come_as_from_a_sorted_list(
    steps: list[tuple[int, int, bool]],
) -> None:
    deadlines, truth, now = Deadlines(), list[tuple[float, int, int]](), 0.0
    for number, (when, later, look) in enumerate(steps):
        entry = (when / 8, int(Due.LEASE), number)
        deadlines.add(*entry)
        truth = sorted([*truth, entry])
        if look:
            now += later / 16
            due = [entry for entry in truth if entry[0] <= now]
            assert deadlines.pop(now) == due
            truth = truth[len(due) :]
    assert sorted(deadlines) == truth and len(deadlines) == len(truth)


def test_old_reminders_do_not_pile_up() -> None:
    bench = Bench(stages=1, seats=2, epoch_batches=10**6, lease_s=1e6, drain_s=1e6)
    for _ in range(2 * FEW):
        bench.publish()
        bench.finish(bench.given()[0])
    bench.wait(1.0)
    assert len(bench.state.index.dues) < FEW


def busy() -> Bench:
    bench = Bench(stages=2, seats=3, live_per_replica=3, epoch_batches=20)
    bench.publish()
    bench.finish(bench.given()[0])
    return bench


def forget_ready(index: Index) -> None:
    index.stages[0].ready -= 1


def forget_total(index: Index) -> None:
    index.ready += 1


def forget_free(index: Index) -> None:
    room = index.stages[1].room
    room.put(0, NONE if room.at[0] >= 0 else 7)


def forget_rung(index: Index) -> None:
    room = next(stage.room for stage in index.stages if stage.room.filled)
    slot = room.any(0)
    room.put(slot, room.at[slot] + 1)


def forget_mask(index: Index) -> None:
    index.stages[0].room.mask ^= 1


def forget_wait(index: Index) -> None:
    index.where.popitem()


def forget_queue(index: Index) -> None:
    for queue in index.queues:
        queue.clear()


def forget_graph(index: Index) -> None:
    next(card for card in index.cards.values() if card.held).held -= 1


def forget_seat(index: Index) -> None:
    index.cards["m0"].slot += 1


def forget_who(index: Index) -> None:
    index.cards["m0"].miner = index.cards["m1"].miner


def forget_kept(index: Index) -> None:
    index.cards["m0"].kept.append(7)


def forget_the_gone(index: Index) -> None:
    index.cards["gone"] = Card("gone")


def forget_unused(index: Index) -> None:
    index.stages[0].unused.append(0)


def forget_deadline(index: Index) -> None:
    index.dues = Deadlines()


def forget_touch(index: Index) -> None:
    index.miner("m0")


@pytest.mark.parametrize(
    "bend",
    [
        forget_ready,
        forget_total,
        forget_free,
        forget_rung,
        forget_mask,
        forget_wait,
        forget_queue,
        forget_graph,
        forget_seat,
        forget_who,
        forget_kept,
        forget_the_gone,
        forget_unused,
        forget_deadline,
        forget_touch,
    ],
    ids=lambda bend: bend.__name__,
)
def test_an_index_that_says_something_else_than_the_state_is_noticed(bend: Callable[[Index], None]) -> None:
    bench = busy()
    assert wrong(bench.state) == ""
    bend(bench.state.index)
    assert wrong(bench.state)
    with pytest.raises(Broken):
        check(bench.state)


def test_who_has_left_is_remembered_while_its_graphs_are() -> None:
    bench = busy()
    batch = next(iter(bench.state.batches.values()))
    made = batch.forward[0]
    assert made is not None
    bench.send(MinerLeft(at=bench.now, hotkey=made.hotkey))
    assert bench.state.index.cards[made.hotkey].miner is None and bench.state.index.held(made.hotkey) == 1
    bench.train()
    assert made.hotkey not in bench.state.index.cards


def test_what_comes_after_the_first_steps_is_what_comes_next() -> None:
    bench = Bench(stages=4, seats=1)
    batch = bench.state.batches[0]
    for _ in range(2 * 4 - 1):
        step = batch.next_step()
        assert step is not None
        done = batch.steps_until(*step)
        assert all(batch.next_step(there) == step for there in range(done))
        (batch.forward if step[0] == "forward" else batch.gradient)[step[1]] = Output("m0", None)
    assert batch.next_step() is None and done == 2 * 4 - 1


def test_a_miner_changed_behind_the_indexs_back_is_noticed() -> None:
    bench = busy()
    bench.state.miners["m0"].rest_until = bench.now + 5.0
    assert "facts" in wrong(bench.state)


def test_work_that_lies_idle_is_noticed() -> None:
    bench = busy()
    bench.state.index.hot.clear()
    lease = bench.given()[0]
    miner = bench.state.miners[lease.hotkey]
    # As if a lease had ended and nobody had looked for the next one.
    del bench.state.leases[lease.lease], miner.leases[lease.lease]
    bench.state.batches[lease.batch].lease = None
    bench.state.index.rebuild(bench.state)
    with pytest.raises(Broken, match="have nothing to do"):
        check(bench.state)


def played(state: RunState) -> list[tuple[str, int]]:
    return [(lease.hotkey, lease.batch) for lease in state.leases.values()]


def test_an_index_made_anew_decides_the_same() -> None:
    # A snapshot holds no index: whoever continues from one must draw the same takers as the one that never stopped.
    one, two = busy(), busy()
    for round in range(40):
        for bench in (one, two):
            if bench is two:
                bench.state.index.rebuild(bench.state)
            bench.publish()
            if bench.given():
                bench.finish(bench.given()[round % len(bench.given())])
            if round == 10:
                bench.send(MinerLeft(at=bench.now, hotkey="m1"))
            if round == 15:
                bench.join("m9")
        assert played(one.state) == played(two.state) and one.state == two.state


def test_a_slot_is_free_again_when_its_miner_has_gone_and_kept_by_a_new_process() -> None:
    bench = Bench(stages=1, seats=3)
    assert [miner.slot for miner in bench.state.miners.values()] == [0, 1, 2]
    bench.disconnect("m1")
    bench.join("m1", boot="1")
    assert bench.state.miners["m1"].slot == 1
    bench.send(MinerLeft(at=bench.now, hotkey="m0"))
    bench.join("new")
    assert bench.state.miners["new"].slot == 0
