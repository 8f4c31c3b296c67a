from collections import Counter
from random import Random

import pytest

from iota_subnet.core import balance
from iota_subnet.core.actions import AssignLayer, GiveLease
from iota_subnet.core.events import MinerLeft
from iota_subnet.core.speed import rate
from iota_subnet.core.state import Phase

from .bench import Bench


def seats(bench: Bench) -> Counter[int]:
    return Counter(miner.stage for miner in bench.state.miners.values())


def leave(bench: Bench, stage: int, count: int) -> None:
    for miner in bench.state.members(stage)[:count]:
        bench.send(MinerLeft(at=bench.now, hotkey=miner.hotkey))


def epoch(bench: Bench) -> None:
    bench.train().commit_all().merge_all().install_all()
    for offer in [a for a in bench.history if isinstance(a, AssignLayer)]:
        miner = bench.state.miners.get(offer.hotkey)
        if miner is not None and miner.installed < 0 and offer.stage == miner.stage:
            bench.install(offer.hotkey, bench.state.epoch)


def test_a_stage_that_lost_half_its_miners_is_as_strong_as_the_others_one_epoch_later() -> None:
    bench = Bench(stages=2, seats=8, epoch_batches=32, min_batches=0)
    leave(bench, 0, 4)
    assert seats(bench) == {0: 4, 1: 8}
    epoch(bench)
    assert seats(bench) == {0: 6, 1: 6}


def test_few_move_at_a_time() -> None:
    bench = Bench(stages=2, seats=8, epoch_batches=32, min_batches=0)
    leave(bench, 0, 7)
    epoch(bench)
    assert seats(bench) == {0: 3, 1: 6}, "one in four"


def test_even_stages_stay_as_they_are() -> None:
    bench = Bench(stages=2, seats=3, epoch_batches=12, min_batches=0)
    before = {miner.hotkey: miner.stage for miner in bench.state.miners.values()}
    for _ in range(4):
        epoch(bench)
    assert {miner.hotkey: miner.stage for miner in bench.state.miners.values()} == before


def test_a_small_difference_is_not_worth_a_move() -> None:
    # Ten against nine: after a move it would be nine against ten.
    bench = Bench(stages=2, seats=10, epoch_batches=40, min_batches=0)
    leave(bench, 0, 1)
    for _ in range(3):
        epoch(bench)
    assert seats(bench) == {0: 9, 1: 10}


def test_strength_is_speed_and_not_heads() -> None:
    bench = Bench(stages=2, seats=3)
    for miner in bench.state.miners.values():
        miner.pace = {"forward": 1.0 if miner.stage else 6.0, "backward": 2.0 if miner.stage else 12.0}
    bench.state.index.rebuild(bench.state)
    poor = sum(rate(miner) for miner in bench.state.members(0))
    (offer,) = [action for action in balance.even_out(bench.state) if isinstance(action, AssignLayer)]
    assert offer.stage == 0 and seats(bench) == {0: 4, 1: 2} and poor > 0


def test_an_empty_stage_is_rescued_at_once_by_one_with_a_replica_to_spare() -> None:
    bench = Bench(stages=2, seats=2)
    bench.publish()
    leave(bench, 0, 2)
    assert seats(bench) == {0: 1, 1: 1}
    (moved,) = bench.state.members(0)
    assert [offer.stage for offer in bench.got(AssignLayer, moved.hotkey)] == [0]
    assert bench.state.waiting_for == "a miner for stage 0"
    bench.install(moved.hotkey, 0)
    assert bench.got(GiveLease, moved.hotkey) and bench.state.waiting_for == "miners train"
    bench.train()
    assert bench.state.lost == 0


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_late_work_from_its_old_stage_is_neither_weight_nor_pace_in_the_new_one(seconds: float) -> None:
    bench = Bench(stages=2, seats=2)
    for lease in bench.publish():
        bench.finish(lease)
    late = {lease.hotkey: lease for lease in bench.given() if lease.op == "loss"}
    bench.wait(seconds)
    leave(bench, 0, 2)
    (moved,) = bench.state.members(0)
    bench.finish(late[moved.hotkey])
    assert moved.done == 1 and moved.batches == 0 and not moved.pace


def test_nobody_gives_its_last_replica() -> None:
    bench = Bench(stages=3, seats=1)
    leave(bench, 0, 1)
    for _ in range(5):
        bench.wait(2.0)
    assert seats(bench) == {1: 1, 2: 1}


@pytest.mark.parametrize("phase", [Phase.COMMIT, Phase.REDUCE])
def test_nobody_moves_while_its_stage_merges(phase: Phase) -> None:
    bench = Bench(stages=2, seats=2).train()
    if phase is Phase.REDUCE:
        bench.commit_all()
    leave(bench, 0, 2)
    assert seats(bench) == {1: 2} and bench.state.phase in (Phase.COMMIT, Phase.REDUCE)


def test_a_stage_that_dies_while_it_installs_is_rescued() -> None:
    bench = Bench(stages=2, seats=2).train().commit_all().merge_all()
    for miner in bench.state.members(1):
        bench.install(miner.hotkey, 1)
    leave(bench, 0, 2)
    assert bench.state.phase is Phase.INSTALL and seats(bench) == {0: 1, 1: 1}


def paced(bench: Bench, seconds: dict[int, list[float]]) -> None:
    """Give the miners of each stage these round trips, in seconds."""
    for stage, values in seconds.items():
        for miner, value in zip(bench.state.members(stage), values, strict=True):
            miner.pace = {"loss": value} if stage == bench.state.spec.model.stages - 1 else {"forward": value}
    bench.state.index.rebuild(bench.state)


def moves(bench: Bench) -> list[tuple[str, int]]:
    return [(a.hotkey, a.stage) for a in balance.even_out(bench.state) if isinstance(a, AssignLayer)]


def test_where_every_gift_would_be_too_large_two_change_places() -> None:
    # 4 x 2.0 against 4 x 1.6 round trips a second: to give one away would turn it round.
    bench = Bench(stages=2, seats=4)
    bench.state.index.shares = (1.0, 1.0)
    paced(bench, {0: [1.0] * 4, 1: [1.0] * 4})
    assert moves(bench) == []
    paced(bench, {0: [0.5] * 4, 1: [0.625] * 4})
    found = moves(bench)
    assert len(found) == 2 and {stage for _, stage in found} == {0, 1}


def test_nobody_is_moved_twice_at_one_boundary() -> None:
    for seed in range(20):
        bench = Bench(stages=3, seats=6)
        rng = Random(seed)
        paced(bench, {stage: [rng.uniform(0.2, 3.0) for _ in range(6)] for stage in range(3)})
        before = {miner.hotkey: miner.stage for miner in bench.state.miners.values()}
        found = moves(bench)
        assert len({hotkey for hotkey, _ in found}) == len(found) <= 4
        assert all(before[hotkey] != stage for hotkey, stage in found)


def test_a_stage_without_anybody_and_one_that_can_spare_nobody_are_left_as_they_are() -> None:
    assert balance._best({}, {"only": 1.0}, 1.0) is None
