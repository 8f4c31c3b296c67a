from iota_subnet.core import safety
from iota_subnet.core.actions import AssignLayer, Evaluate
from iota_subnet.core.events import MinerJoined, MinerLeft
from iota_subnet.core.state import AUDIT, Phase

from .bench import Bench


def lost(copied: bool) -> Bench:
    """TRAIN of epoch 1; the only two replicas of stage 0 die, with or without a copy at the validator."""
    bench = Bench(stages=2, seats=2, rescue_s=20.0).train().commit_all().merge_all().install_all()
    assert bench.state.phase is Phase.TRAIN and bench.state.epoch == 1
    if copied:
        bench.evaluated(1, 3.0)
    # Nobody has a replica to spare, and a newcomer sits there before the last one goes.
    bench.send(MinerLeft(at=bench.now, hotkey=bench.state.members(1)[0].hotkey))
    one, two = bench.state.members(0)
    bench.send(MinerLeft(at=bench.now, hotkey=one.hotkey))
    bench.join("spare")
    bench.join("late", install=False)
    assert bench.state.miners["late"].stage == 0
    bench.send(MinerLeft(at=bench.now, hotkey=two.hotkey))
    return bench


def test_a_manifest_that_died_uncopied_gives_way_to_the_last_one_that_the_validator_holds() -> None:
    bench = lost(copied=False)
    first = bench.state.safe[0].shards
    bench.wait(19.0)
    assert bench.state.manifests[0].shards != first
    bench.wait(1.5)
    assert bench.state.manifests[0].shards == first and bench.state.manifests[0].epoch == 1
    assert bench.state.reports[-1].returned == [0]
    assert bench.got(AssignLayer, "late")[0].manifest.shards == first and bench.got(Evaluate)
    bench.install("late", 1)
    assert bench.state.waiting_for == "miners train"
    bench.train().commit_all().merge_all()
    assert not bench.state.returned


def test_who_still_installs_the_lost_state_is_told_again_which_one_counts() -> None:
    bench = lost(copied=False)
    gone = bench.state.manifests[0].name
    bench.wait(20.0)
    bench.wait(1.0)
    bench.install("late", 1, manifest=gone)
    assert bench.got(AssignLayer, "late") and bench.state.waiting_for == "a miner for stage 0"
    bench.install("late", 1)
    assert bench.state.waiting_for == "miners train"


def test_a_manifest_that_was_copied_is_waited_for() -> None:
    bench = lost(copied=True)
    held = bench.state.manifests[0]
    for _ in range(5):
        bench.wait(20.0)
    assert bench.state.manifests[0] == held and not bench.state.reports[-1].returned


def test_a_replica_that_is_only_away_keeps_its_state_alive() -> None:
    bench = Bench(stages=2, seats=1, rescue_s=3.0, reconnect_s=60.0).train().commit_all().merge_all().install_all()
    head = bench.state.members(0)[0].hotkey
    held = bench.state.manifests[0]
    bench.disconnect(head)
    for _ in range(10):
        bench.wait(2.0)
    bench.send(MinerJoined(at=bench.now, hotkey=head, boot="0"))
    bench.connect(head)
    assert bench.state.manifests[0] == held and bench.state.waiting_for == "miners train"


def test_a_check_by_chance_ends_with_the_state_that_it_began_from() -> None:
    """Asked again, it would be made from the state that the stage went back to, and honest twins would be named."""
    bench = Bench(1, 2, rescue_s=3.0, audit_shards=0.0).train().commit_all().merge_all()
    shard = bench.state.merges[0].shards[0]
    shard.recomputing, bench.state.forlorn[0] = AUDIT, -100.0
    safety.watch(bench.state, [0])
    assert bench.state.returned == {0: 0}
    back = bench.state.manifests[0]
    bench.recompute(("m0", "m1"), "from another base")
    assert not bench.state.faults and bench.state.manifests[0] == back
