import pytest

from iota_subnet.core import speed
from iota_subnet.core.actions import GiveLease, WithdrawLease
from iota_subnet.core.choice import draw, window
from iota_subnet.core.draw import digest
from iota_subnet.core.events import LeaseFinished, MinerLeft
from iota_subnet.core.index import StageIndex
from iota_subnet.core.sampler import BOUND, NONE, RUNGS
from iota_subnet.core.state import Lease, Miner, Phase

from .bench import Bench, blob


def miner(pace: float | None, leases: int = 0) -> Miner:
    found = Miner("m", "0", 0)
    for op in ("forward", "backward") if pace is not None else ():
        speed.note(found, op, pace)  # type: ignore[arg-type]
    found.leases = dict.fromkeys(range(leases))
    return found


def test_who_is_sooner_done_stands_on_a_better_rung() -> None:
    assert speed.level(miner(2.0), 0, 99) - speed.level(miner(1.0), 0, 99) == 4
    loads = [(0, 0), (1, 0), (2, 0), (2, 8), (2, 97)]
    rungs = [speed.level(miner(1.0, leases=leases), held, 99) for leases, held in loads]
    assert rungs == sorted(set(rungs))
    # One graph more than it keeps has to be made again: as long as twice the time.
    assert speed.level(miner(1.0), 5, 5) == speed.level(miner(1.0), 5, 6) + 4


def test_the_bounds_of_rungs_rise_and_hold_any_time() -> None:
    assert list(speed.BOUNDS) == sorted(set(speed.BOUNDS)) and speed.BOUNDS[4] == 2 * speed.BOUNDS[0]
    assert 0 < speed.level(miner(1e9), 100, 99) < RUNGS


def test_who_was_never_timed_is_tried_first() -> None:
    assert speed.level(miner(None), 0, 99) == 0 < speed.level(miner(0.1), 0, 99)


def test_a_miners_own_word_moves_nothing() -> None:
    bench = Bench(stages=1, seats=2)
    bench.publish()
    lease = bench.given()[0]
    bench.now += 2.0
    liar = LeaseFinished(
        at=bench.now,
        hotkey=lease.hotkey,
        lease=lease.lease,
        output=None,
        losses=(3.0, 3.0),
        seconds=0.001,
        inner_step=1,
    )
    bench.send(liar)
    assert bench.state.miners[lease.hotkey].pace == {"loss": 2.0}


def paced(drain: bool = False, **swarm: float) -> tuple[Bench, GiveLease]:
    """A stage of two, each known to need 2 s; one of the leases that are open."""
    bench = Bench(stages=1, seats=2, **{"lease_s": 60.0, "lease_min_s": 1.0, "epoch_batches": 50, **swarm})
    for _ in range(6):
        bench.publish()
        bench.now += 1.0
        bench.finish(bench.given()[0])
    bench.publish()
    return bench, bench.given()[-1]


def test_a_lease_that_takes_much_longer_than_its_miner_needs_goes_to_another_and_late_work_counts() -> None:
    bench, lease = paced()
    patience = lease.deadline - bench.state.leases[lease.lease].opened_at
    assert 1.0 < patience < 60.0
    bench.wait(patience + 0.1)
    assert any(action.lease == lease.lease for action in bench.got(WithdrawLease))
    again = [given for given in bench.given() if given.batch == lease.batch]
    assert all(given.hotkey != lease.hotkey for given in again)
    bench.finish(lease)
    assert lease.batch not in bench.state.batches and bench.state.lost == 0


def test_patience_has_a_floor_and_a_ceiling_and_is_shorter_when_all_wait_for_the_last() -> None:
    state = Bench(stages=1, seats=1, lease_s=20.0, lease_min_s=4.0).state
    assert speed.patience(state, miner(0.001), "forward") == 4.0
    assert speed.patience(state, miner(100.0), "forward") == 20.0
    assert speed.patience(state, miner(None), "forward") == 20.0
    assert speed.patience(state, miner(3.0), "forward") == 9.0
    state.draining = True
    assert speed.patience(state, miner(3.0), "forward") == 6.0


def test_who_overran_gets_more_time_next() -> None:
    state, slow = Bench(stages=1, seats=1).state, miner(1.0)
    lease = Lease(0, slow.hotkey, 0, "forward", 0, 0, 0.0, 1.0)
    # A machine that stood still for a minute is no machine of a minute per pass.
    for now, pace in ((1.5, 1.5), (1.2, 1.5), (60.0, 3.0)):
        state.now = now
        speed.overran(state, slow, lease)
        assert slow.pace["forward"] == pace


def test_the_fast_get_more_and_the_slow_are_still_compared() -> None:
    bench = Bench(
        stages=1, seats=3, epoch_batches=600, live_per_replica=2, leases_per_miner=1, lease_s=1e6, train_s=1e6
    )
    free = {"m0": 0.1, "m1": 0.2, "m2": 0.8}
    clock = dict.fromkeys(free, 0.0)
    bench.publish()
    while bench.state.phase is Phase.TRAIN and bench.given():
        ends = {
            lease.lease: max(clock[lease.hotkey], bench.state.leases[lease.lease].opened_at) + free[lease.hotkey]
            for lease in bench.given()
        }
        lease = min(bench.given(), key=lambda given: ends[given.lease])
        bench.now = clock[lease.hotkey] = ends[lease.lease]
        bench.finish(lease)
        bench.publish()
    samples = bench.state.samples
    shares = {hotkey: sum(sample.pathway == (hotkey,) for sample in samples) for hotkey in free}
    assert shares["m0"] > shares["m1"] > shares["m2"] >= 10


def test_every_sample_says_how_likely_its_pathway_was() -> None:
    bench = Bench(stages=3, seats=3, epoch_batches=30).train()
    for sample in bench.state.samples:
        assert len(sample.propensity) == len(sample.pathway) == 3
        assert all(0 < chance <= 1 for chance in sample.propensity)


def test_the_propensity_is_the_truth_and_nobody_with_room_is_out_of_the_draw() -> None:
    # The same draw, many times: how often each is drawn is what was said of it.
    rungs = (20, 21, NONE, 19, 60, BOUND, 20)
    stage, counts, said = StageIndex(), [0] * len(rungs), [0.0] * len(rungs)
    for slot, rung in enumerate(rungs):
        stage.room.put(slot, rung)
    for number in range(20_000):
        slot, chance = draw(stage, digest("test", number)[:16])
        counts[slot] += 1
        said[slot] = chance
    assert counts[2] == counts[5] == 0 and sum(said) == pytest.approx(1.0)
    assert [count / 20_000 for count in counts] == pytest.approx(said, abs=0.015)
    # Far behind the best there is only the blind draw, and there is that.
    assert said[4] == pytest.approx(1 / 32 / 5) and counts[4] > 50
    # As likely as each other on one rung, a quarter per rung.
    assert said[0] == said[6] and (said[3] - said[4]) == pytest.approx(4 * (said[0] - said[4]))


def test_what_waits_keeps_more_from_being_opened() -> None:
    bench = Bench(stages=2, seats=3, live_per_replica=20, epoch_batches=1000, lease_s=1e6)
    for _ in range(40):
        bench.publish()
    # 3 miners with 2 leases each have work, more wait; what is opened now would only wait too.
    assert len(bench.state.index.where) >= 3 and window(bench.state) == len(bench.state.batches)
    live = len(bench.state.batches)
    bench.wait(1.0)
    assert len(bench.state.batches) == live


def test_what_would_grow_stale_is_not_opened() -> None:
    bench = Bench(stages=1, seats=4, live_per_replica=4, leases_per_miner=4, epoch_batches=1000, stale_s=10.0)
    bench.state.age = 20.0
    for _ in range(12):
        bench.publish()
        bench.finish(bench.given()[0])
    bench.state.age = 20.0
    assert window(bench.state) == 4


def test_a_leaving_miners_leases_go_elsewhere_at_once_and_its_commit_still_counts() -> None:
    bench = Bench(stages=1, seats=4, epoch_batches=12)
    bench.publish()
    lease = bench.given()[0]
    bench.send(MinerLeft(at=bench.now, hotkey=lease.hotkey))
    assert [given.batch for given in bench.given()].count(lease.batch) <= 1
    assert all(given.hotkey != lease.hotkey for given in bench.given())
    bench.train()
    bench.commit("m3" if lease.hotkey != "m3" else "m2")
    gone = next(iter(bench.state.merges[0].commits))
    bench.send(MinerLeft(at=bench.now, hotkey=gone))
    bench.commit_all()
    assert bench.state.phase is Phase.REDUCE and gone in bench.state.merges[0].commits
    assert all(gone not in shard.reducers for shard in bench.state.merges[0].shards)
    bench.merge_all()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].contributors == [3]
    assert blob("x").digest == "x"
