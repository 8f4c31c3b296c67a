import pytest

from iota_subnet.core import scoring
from iota_subnet.core.scoring import close_epoch, score, scores
from iota_subnet.core.state import EpochReport, Fault, Miner, Part, RunState
from iota_subnet.spec import ModelSpec, RunSpec, SwarmSpec

from .bench import Bench


def state_at(now: float) -> RunState:
    state = RunState(RunSpec(swarm=SwarmSpec(score_window_s=100.0)), now=now)
    state.reports.append(EpochReport(0, 0.0))
    return state


def test_a_score_is_the_sum_of_volume_times_quality() -> None:
    state = state_at(50.0)
    state.parts["a"] = [Part(10.0, 0, 2.0, 0.5), Part(20.0, 1, 3.0, 1.0)]
    assert score(state, "a") == 4.0


def test_being_registered_pays_nothing() -> None:
    state = state_at(50.0)
    state.miners["idle"] = Miner("idle", "0", 0)
    assert scores(state) == {"idle": 0.0}


def test_a_fault_zeroes_the_window_and_is_forgotten_after_it() -> None:
    state = state_at(50.0)
    state.faults.append(Fault(40.0, 0, "a", "lied"))
    state.volume["a"] = 5.0
    close_epoch(state)
    assert state.reports[0].scores == {"a": 0.0}
    state.now = 141.0
    state.volume["a"] = 5.0
    close_epoch(state)
    assert not state.faults and state.reports[0].scores["a"] > 0


def test_what_has_left_the_window_counts_no_more_and_takes_no_memory() -> None:
    state = state_at(200.0)
    state.parts = {"old": [Part(50.0, 0, 9.0, 1.0)], "new": [Part(150.0, 1, 1.0, 1.0)]}
    close_epoch(state)
    assert list(state.parts) == ["new"] and state.reports[0].scores == {"new": 1.0}


def test_volume_is_paid_once() -> None:
    state = state_at(10.0)
    state.volume["a"] = 5.0
    close_epoch(state)
    close_epoch(state)
    assert score(state, "a") == 5.0


def test_old_reports_keep_totals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "DETAILED", 2)
    bench = Bench(stages=1, seats=1)
    for _ in range(4):
        bench.train().commit_all().merge_all().install_all()
    kept = [bool(report.scores) for report in bench.state.reports]
    assert kept == [False, False, True, True, False]
    assert all(report.microbatches for report in bench.state.reports[:4])


def test_the_same_work_is_paid_by_its_share_of_flops_whatever_the_stage() -> None:
    bench = Bench(stages=3, seats=1, epoch_batches=10).train().commit_all().merge_all()
    by_stage = {bench.state.miners[hotkey].stage: s for hotkey, s in bench.state.reports[0].scores.items()}
    merging = 1 + bench.spec.swarm.merge_share
    shares = [bench.spec.model.flops_share(stage) * 3 * 10 * merging for stage in range(3)]
    assert [by_stage[stage] for stage in range(3)] == pytest.approx(shares)


@pytest.mark.parametrize("stages", [1, 2, 3, 6])
def test_flops_shares_add_up_to_one(stages: int) -> None:
    model = ModelSpec(stages=stages)
    assert sum(model.flops_share(stage) for stage in range(stages)) == pytest.approx(1.0)
