from collections import Counter

from iota_subnet.core.actions import AssignLayer, GiveLease, Refuse
from iota_subnet.core.assignment import seat
from iota_subnet.core.events import EffectFailed, Manifest, MinerJoined, MinerLeft, StageInstalled
from iota_subnet.core.state import TRIES, Miner, Phase, RunState
from iota_subnet.spec import ModelSpec, RunSpec

from .bench import Bench


def test_the_stage_with_the_fewest_gets_the_newcomer() -> None:
    bench = Bench(stages=3, seats=1, ready=False)
    for number in range(9):
        bench.join(f"m{number}")
    assert Counter(miner.stage for miner in bench.state.miners.values()) == {0: 3, 1: 3, 2: 3}
    victim = bench.state.members(1)[0].hotkey
    bench.send(MinerLeft(at=0.0, hotkey=victim))
    bench.join("late")
    assert bench.state.miners["late"].stage == 1


def test_ties_do_not_always_go_to_the_first_stage() -> None:
    stages = set()
    for number in range(20):
        bench = Bench(stages=3, seats=1, ready=False)
        bench.join(f"hotkey-{number}")
        stages.add(bench.state.miners[f"hotkey-{number}"].stage)
    assert stages == {0, 1, 2}


def test_a_seat_that_is_not_taken_is_offered_again_and_then_freed_with_a_reason() -> None:
    bench = Bench(stages=1, seats=1, ready=False, ready_s=10.0)
    bench.join("m0", install=False)
    offers = 1
    for _ in range(TRIES * 10 + 1):
        bench.wait(1.0)
        offers += len(bench.got(AssignLayer))
    assert offers == TRIES
    assert "m0" not in bench.state.miners
    refused = [action for action in bench.history if isinstance(action, Refuse)]
    assert len(refused) == 1 and "join again" in refused[0].reason


def test_nonsense_about_the_epoch_does_not_keep_a_seat_for_ever() -> None:
    bench = Bench(stages=1, seats=1, ready=False, ready_s=10.0)
    bench.join("m0", install=False)
    for _ in range(40):
        bench.wait(1.0)
        bench.send(StageInstalled(at=bench.now, hotkey="m0", stage=0, epoch=7, digest="x", manifest="x"))
    assert "m0" not in bench.state.miners


def test_an_installation_in_no_stage_is_refused() -> None:
    bench = Bench(stages=1, seats=1, ready=False)
    bench.send(MinerJoined(at=0.0, hotkey="a", boot="0"))
    bench.send(StageInstalled(at=0.0, hotkey="a", stage=-1, epoch=0, digest="x", manifest="x"))
    assert bench.got(Refuse, "a")
    assert bench.state.miners["a"].installed == -1


def test_an_offer_that_could_not_be_delivered_is_repeated_soon() -> None:
    bench = Bench(stages=1, seats=1, ready=False, ready_s=100.0)
    bench.join("m0", install=False)
    bench.send(EffectFailed(at=0.0, action="AssignLayer", hotkey="m0", reason="timeout"))
    bench.wait(1.0)
    assert not bench.got(AssignLayer)
    bench.wait(1.5)
    assert bench.got(AssignLayer, "m0")


def test_a_seat_lost_with_open_leases_hands_the_leases_on() -> None:
    # A lease from TRAIN may still be open when a miner gives up on installing; nobody may hold it afterwards.
    bench = Bench(stages=1, seats=2, ready_s=3.0, lease_s=500.0, drain_s=1.0, commit_s=1.0, reduce_s=1.0)
    todo = bench.publish() or [action for action in bench.history if isinstance(action, GiveLease)]
    stuck = todo[0]
    for _ in range(20):
        for lease in bench.given():
            if lease.hotkey != stuck.hotkey:
                bench.finish(lease)
        bench.publish()
    bench.wait(700.0)
    while bench.state.phase is not Phase.INSTALL:
        bench.wait(2.0)
        for merge in bench.state.merges:
            for shard in merge.shards:
                if shard.recomputing and shard.accepted is None:
                    bench.recompute(tuple(sorted(merge.commits)))
    for _ in range(20):
        bench.wait(1.0)
    assert stuck.hotkey not in bench.state.miners


def test_a_joiner_is_told_the_median_inner_step_of_its_peers() -> None:
    state = RunState(RunSpec(model=ModelSpec(stages=1)), manifests=[Manifest(0, 0, ())])
    state.steps = {"m0": 90, "m1": 100, "m2": 10**9, "new": 7}
    state.index.rebuild(state)
    newcomer = Miner("new", "boot", 0)
    state.miners["new"] = newcomer
    (action,) = seat(state, newcomer)
    assert isinstance(action, AssignLayer) and action.inner_step == 100
