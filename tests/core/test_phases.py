import pytest

from iota_subnet.core.actions import AssignLayer, Evaluate, PublishScores, SetPhase
from iota_subnet.core.events import MinerLeft, ValidatorRestarted
from iota_subnet.core.state import Phase

from .bench import Bench


def test_the_run_waits_for_every_stage_and_says_which() -> None:
    bench = Bench(stages=2, seats=1, ready=False)
    bench.join("m0")
    missing = 1 - bench.state.miners["m0"].stage
    assert bench.state.phase is Phase.WAIT and bench.state.waiting_for == f"a miner for stage {missing}"
    bench.join("m1")
    assert bench.state.phase is Phase.TRAIN


def test_the_run_starts_with_fewer_than_wanted_at_its_deadline_and_not_before() -> None:
    bench = Bench(stages=1, seats=3, ready=False, start_s=20.0)
    bench.join("m0")
    bench.wait(19.0)
    assert bench.state.phase is Phase.WAIT and bench.state.waiting_for == "1 of 3 miners are ready"
    bench.wait(1.0)
    assert bench.state.phase is Phase.TRAIN


def test_training_ends_at_its_deadline_with_what_there_is() -> None:
    bench = Bench(stages=1, seats=1, epoch_batches=100, train_s=50.0, drain_s=5.0)
    bench.publish()
    bench.finish(bench.given()[0])
    bench.wait(50.0)
    assert bench.state.draining
    bench.wait(5.0)
    assert bench.state.phase is Phase.COMMIT


def test_nothing_trained_is_not_merged() -> None:
    bench = Bench(stages=1, seats=1, train_s=50.0)
    bench.wait(51.0)
    assert bench.state.phase is Phase.TRAIN and bench.state.deadline == bench.now + 50.0


def test_an_empty_stage_is_named_while_training() -> None:
    bench = Bench(stages=2, seats=1)
    bench.send(MinerLeft(at=bench.now, hotkey=bench.state.members(1)[0].hotkey))
    assert bench.state.waiting_for == "a miner for stage 1"
    bench.join("fresh")
    assert bench.state.miners["fresh"].stage == 1 and bench.state.waiting_for == "miners train"


def test_commit_goes_on_without_those_who_do_not_come() -> None:
    bench = Bench(stages=1, seats=3, epoch_batches=12, commit_s=10.0).train()
    bench.commit("m0")
    bench.wait(9.0)
    assert bench.state.phase is Phase.COMMIT and bench.state.waiting_for == "the pseudo-gradients of 2 replicas"
    bench.wait(1.0)
    assert bench.state.phase is Phase.REDUCE and list(bench.state.merges[0].commits) == ["m0"]


def test_commit_does_not_wait_for_the_dead() -> None:
    bench = Bench(stages=1, seats=3, epoch_batches=12).train()
    bench.commit("m0")
    bench.commit("m1")
    bench.send(MinerLeft(at=bench.now, hotkey="m2"))
    assert bench.state.phase is Phase.REDUCE


def test_only_replicas_with_enough_passes_may_commit_but_few_are_better_than_none() -> None:
    bench = Bench(stages=1, seats=2, epoch_batches=3, min_batches=2, drain_s=1.0, train_s=30.0)
    bench.publish()
    for lease in [lease for lease in bench.given() if lease.hotkey == "m0"][:2]:
        bench.finish(lease)
    bench.publish()
    bench.wait(30.0)
    bench.wait(1.0)
    assert bench.state.merges[0].eligible == ("m0",)
    lone = Bench(stages=1, seats=1, epoch_batches=9, min_batches=5, drain_s=1.0, train_s=30.0)
    lone.publish()
    lone.finish(lone.given()[0])
    lone.wait(30.0)
    lone.wait(1.0)
    assert lone.state.merges[0].eligible == ("m0",)


def test_the_end_of_reduce_scores_evaluates_and_asks_to_install() -> None:
    bench = Bench(stages=2, seats=1).train().commit_all().merge_all()
    assert bench.state.phase is Phase.INSTALL
    assert [action.epoch for action in bench.history if isinstance(action, Evaluate)] == [0, 1]
    scores = next(action for action in bench.history if isinstance(action, PublishScores))
    assert {hotkey for hotkey, score in scores.scores if score > 0} == {"m0", "m1"}
    asked = [a for a in bench.history if isinstance(a, SetPhase) and a.phase == "install" and a.manifest is not None]
    assert {(action.hotkey, action.manifest.epoch) for action in asked if action.manifest} == {("m0", 1), ("m1", 1)}


def test_install_waits_for_a_replica_of_each_stage_and_not_for_stragglers() -> None:
    bench = Bench(stages=1, seats=2, install_s=10.0).train().commit_all().merge_all()
    bench.wait(11.0)
    assert bench.state.phase is Phase.INSTALL and bench.state.waiting_for == "2 replicas to install the new manifest"
    bench.install("m0", 1)
    assert bench.state.phase is Phase.TRAIN and bench.state.epoch == 1


def test_install_is_not_offered_twice_before_it_could_be_done() -> None:
    bench = Bench(stages=1, seats=2, ready_s=20.0).train().commit_all().merge_all()
    bench.wait(10.0)
    assert not bench.got(AssignLayer)
    bench.wait(10.0)
    assert len(bench.got(AssignLayer)) == 2


def test_replicas_that_differ_after_install_are_reported() -> None:
    bench = Bench(stages=1, seats=2).train().commit_all().merge_all()
    bench.install("m0", 1, "one")
    bench.install("m1", 1, "another")
    assert not bench.state.reports[0].replicas_identical
    honest = Bench(stages=1, seats=2).train().commit_all().merge_all().install_all()
    assert honest.state.reports[0].replicas_identical


def test_the_run_is_done_after_its_epochs_and_late_comers_are_told() -> None:
    bench = Bench(stages=1, seats=2, epochs=2)
    for _ in range(2):
        bench.train().commit_all().merge_all().install_all()
    assert bench.state.phase is Phase.DONE and bench.state.waiting_for == "the run is complete after 2 epochs"
    assert bench.phases_sent("m0") == ["train", "commit", "reduce", "install"] * 2 + ["done"] or (
        bench.phases_sent("m0")[-1] == "done"
    )
    bench.join("late")
    assert bench.phases_sent("late")[-1] == "done"


@pytest.mark.parametrize("phase", list(Phase))
def test_who_joins_or_comes_back_in_any_phase_learns_it_and_can_install(phase: Phase) -> None:
    bench = Bench(stages=1, seats=2, epochs=1, ready=phase is not Phase.WAIT)
    steps = [bench.train, bench.commit_all, bench.merge_all, bench.install_all]
    for step in steps:
        if bench.state.phase is phase:
            break
        step()
    assert bench.state.phase is phase
    bench.join("late")
    miner = bench.state.miners["late"]
    assert miner.installed == bench.state.manifests[0].epoch
    assert bench.phases_sent("late") or phase is Phase.INSTALL


def test_who_joins_during_a_merge_is_not_part_of_it() -> None:
    bench = Bench(stages=1, seats=2).train()
    bench.join("late")
    bench.commit("late", shards=1)
    assert "late" not in bench.state.merges[0].commits
    bench.commit_all()
    assert bench.state.phase is Phase.REDUCE


@pytest.mark.parametrize("phase", [Phase.COMMIT, Phase.REDUCE])
def test_a_deadline_stands_still_while_the_validator_is_down(phase: Phase) -> None:
    bench = Bench(stages=1, seats=2).train()
    if phase is Phase.REDUCE:
        bench.commit_all()
    left = bench.state.deadline - bench.now
    bench.now += 3600.0
    bench.send(ValidatorRestarted(at=bench.now))
    assert bench.state.phase is phase and bench.state.deadline - bench.now == left
    for hotkey in ("m0", "m1"):
        bench.connect(hotkey)
    if phase is Phase.COMMIT:
        assert [a.shards for a in bench.history if isinstance(a, SetPhase)][-1] == 1
        bench.commit_all()
    bench.merge_all()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].contributors == [2]


def test_leases_stand_still_while_the_validator_is_down() -> None:
    bench = Bench(stages=1, seats=1)
    bench.publish()
    held = dict(bench.state.leases)
    bench.now += 3600.0
    bench.send(ValidatorRestarted(at=bench.now))
    bench.wait(1.0)
    assert list(bench.state.leases) == list(held)
    bench.connect("m0")
    bench.finish(bench.given()[0])
    assert bench.state.reports[-1].microbatches == 1 and bench.state.batches


def test_a_run_may_end_with_a_replica_that_has_not_installed() -> None:
    # Its passes are over with the epoch, and what is derived from them too (seed 113).
    bench = Bench(stages=1, seats=2, epochs=1, epoch_batches=20, install_s=5.0).train().commit_all().merge_all()
    bench.state.miners["m1"].batches = 9
    bench.state.index.rebuild(bench.state)
    bench.install("m0", 1)
    bench.wait(6.0)
    assert bench.state.phase is Phase.DONE
