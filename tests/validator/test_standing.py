"""What a miner is told of itself: its seat, its work, its pay, and the reason wherever it has none."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isclose

import pytest

from iota_subnet.core.actions import GiveLease
from iota_subnet.core.events import LeaseFailed, MetagraphChanged, MinerJoined, WeightsSet
from iota_subnet.core.scoring import score
from iota_subnet.core.state import Fault, Part, Phase, RunState
from iota_subnet.messages import StandingReport
from iota_subnet.sim.plans import Incident, Plan, Trait
from iota_subnet.sim.world import World
from iota_subnet.validator.standing import MAX_PARTS, standing
from tests.core.bench import Bench

from .kit import small_spec


def of(bench: Bench, hotkey: str) -> StandingReport:
    return standing(bench.state, hotkey, bench.now)


def test_who_has_a_lease_is_told_which_and_until_when() -> None:
    bench = Bench(1, 2)
    (first, *_) = bench.publish()
    bench.now = 4.0
    report = of(bench, first.hotkey)
    assert report.leases[0].lease == first.lease and report.leases[0].op == "loss"
    assert report.leases[0].seconds_left == round(bench.state.leases[first.lease].deadline - 4.0, 1)
    assert report.own == f"do {len(report.leases)} leases" and 0 < report.own_s <= 10
    assert report.seat is not None and report.seat.missing == ""
    assert (report.phase, report.epoch, report.waiting_for) == ("train", 0, "miners train")


def test_who_has_nothing_to_do_is_told_why() -> None:
    bench = Bench(2, 1)
    assert bench.state.miners["m0"].stage != bench.state.miners["m1"].stage
    bench.publish()
    idle = next(hotkey for hotkey in ("m0", "m1") if bench.state.miners[hotkey].stage == 1)
    live = len(bench.state.batches)
    assert of(bench, idle).own == f"wait for a lease: none of {live} microbatches needs this miner now"


@pytest.mark.parametrize("connected", [True, False])
def test_who_is_not_ready_is_told_what_is_missing(connected: bool) -> None:
    bench = Bench(1, 1, ready=False, ready_s=50.0, reconnect_s=5.0)
    bench.join("m0", install=False)
    if not connected:
        bench.disconnect("m0")
    bench.now = 2.0
    report = of(bench, "m0")
    assert report.seat is not None and report.seat.installed == -1 and report.seat.missing == report.own
    if connected:
        assert (report.own, report.own_s) == ("install stage 0 of epoch 0", 48.0)
    else:
        assert report.own.startswith("open the work channel") and report.own_s == 3.0


def test_who_failed_rests_and_is_told_how_long_and_how_often_it_may_fail() -> None:
    bench = Bench(1, 1, leases_per_miner=1, live_per_replica=1)
    for _ in range(4):
        todo = [lease for lease in [*bench.given(), *bench.publish()] if isinstance(lease, GiveLease)]
        bench.send(
            LeaseFailed(at=bench.now, hotkey="m0", lease=todo[0].lease, kind="work", digest="", reason="out of memory")
        )
        if bench.state.miners["m0"].strikes < 4:
            bench.wait(5.0)
    report = of(bench, "m0")
    assert report.seat is not None and report.seat.strikes == 4 and report.seat.rest_s == 4.0
    assert report.own == "rest after 4 failed or late leases in a row; 12 cost the seat" and report.own_s == 4.0


def test_a_place_in_the_line_a_ban_and_a_missing_registration_are_told_with_what_to_do() -> None:
    bench = Bench(1, 2, max_miners=2, wait_s=30.0)
    for hotkey in ("a", "b"):
        bench.send(MinerJoined(at=bench.now, hotkey=hotkey, boot="0"))
    bench.now = 10.0
    report = of(bench, "b")
    assert report.place is not None and (report.place.number, report.place.of, report.place.kept_s) == (2, 2, 20.0)
    assert report.seat is None and report.own == "wait for a seat: number 2 of 2 in the line; keep asking"
    bench.state.banned["c"] = (70.0, "look at your blob port")
    report = of(bench, "c")
    assert report.ban is not None and report.ban.seconds_left == 60.0 and "look at your blob port" in report.own
    assert of(bench, "nobody").own == "join"
    bench.send(MetagraphChanged(at=bench.now, hotkeys=("m0", "m1")))
    assert of(bench, "nobody").own == "register the hotkey on this subnet"


def test_merge_duties_are_owed_until_they_are_done() -> None:
    bench = Bench(1, 2).train()
    assert of(bench, "m0").duties.commit == "owed" and of(bench, "m0").own == "publish the pseudo-gradient"
    bench.commit("m0")
    assert of(bench, "m0").duties.commit == "done" and "1 replica" in of(bench, "m0").own
    bench.commit("m1")
    assert bench.state.phase is Phase.REDUCE
    assert (of(bench, "m0").duties.reduce_owed, of(bench, "m0").own) == (1, "reduce 1 shard")
    for hotkey in ("m0", "m1"):
        bench.fetch(hotkey, ("m0", "m1"))
    bench.reduce("m0")
    assert (of(bench, "m0").duties.reduce_owed, of(bench, "m0").duties.reduce_done) == (0, 1)
    assert of(bench, "m1").duties.reduce_owed == 1
    bench.reduce("m1")
    assert of(bench, "m1").own.startswith("install stage 0 of epoch 1")


def test_a_score_is_the_sum_of_its_parts_and_the_shares_of_all_add_up() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=3)).run()
    state = world.orchestrator.state
    reports = {hotkey: standing(state, hotkey, state.now) for hotkey in state.miners}
    for hotkey, report in reports.items():
        parts = sum((part.volume + part.merged) * part.quality * part.standing for part in report.parts) + report.older
        assert isclose(report.score, parts) and report.score == score(state, hotkey)
        assert [part.epoch for part in report.parts] == [0, 1, 2] and report.closed == 2
        assert all(part.seconds_left > 0 for part in report.parts)
        assert report.measured is not None and report.measured.epoch == 2
        assert report.own == "nothing: the run is complete"
    assert isclose(sum(report.share for report in reports.values()), 1.0)
    best = max(reports.values(), key=lambda report: report.score)
    assert best.rank == 1 and best.ranked == len(reports)


def test_a_reducer_that_lied_reads_the_evidence_and_that_it_earns_nothing() -> None:
    world = World(Plan(5, stages=1, miners=3, epochs=2, traits={0: Trait(lies_in_reduce=True)})).run()
    state = world.orchestrator.state
    liar = state.faults[0].hotkey
    report = standing(state, liar, state.now)
    assert report.faults and "truth is" in report.faults[0].what and report.faults[0].seconds_left > 0
    assert (report.score, report.share, report.rank) == (0.0, 0.0, 0)
    assert report.parts, "what it would have earned is still shown"


def test_a_fault_counts_from_the_moment_it_is_found() -> None:
    bench = Bench(1, 2, epochs=3).train().commit_all().merge_all()
    assert of(bench, "m0").rank > 0
    bench.state.faults.append(Fault(bench.now, 0, "m0", "shard 0"))
    assert (of(bench, "m0").score, of(bench, "m0").rank) == (0.0, 0)


def test_the_last_weights_are_told_also_while_a_later_epoch_runs() -> None:
    bench = Bench(1, 1).train().commit_all().merge_all()
    bench.send(WeightsSet(at=bench.now, epoch=0, ok=True, message="block 77"))
    bench.install("m0", 1)
    assert bench.state.epoch == 1
    assert (of(bench, "m0").weights_epoch, of(bench, "m0").weights) == (0, "block 77")


def test_a_refusal_of_the_chain_is_told_until_weights_are_set() -> None:
    bench = Bench(1, 1).train().commit_all().merge_all()
    bench.send(WeightsSet(at=bench.now, epoch=0, ok=False, message="too soon"))
    assert of(bench, "m0").weights == "too soon" and not bench.state.reports[0].weights_set
    bench.send(WeightsSet(at=bench.now, epoch=0, ok=True, message="block 78"))
    assert of(bench, "m0").weights == "block 78"


def test_a_report_is_bounded_and_older_parts_are_one_number() -> None:
    state = RunState(small_spec(score_window_s=1e9))
    state.parts["m"] = [Part(float(n), n, 2.0, 0.5) for n in range(500)]
    state.faults = [Fault(1.0, 0, "other", "x" * 10_000) for _ in range(99)]
    report = standing(state, "m", 600.0)
    assert len(report.parts) == MAX_PARTS and report.parts[-1].epoch == 499
    assert report.older == 500 - MAX_PARTS and report.score == 500.0
    assert len(json.dumps(asdict(standing(state, "other", 600.0)))) < 10_000


def test_everybody_can_be_told_at_any_moment_of_a_stormy_run() -> None:
    incidents = tuple(
        Incident(when, what, number)
        for number, (when, what) in enumerate([(6.0, "crash"), (9.0, "leave"), (12.0, "restart_validator")])
    )
    world = World(Plan(11, stages=2, miners=6, epochs=2, incidents=incidents))
    world.start()
    seen: set[str] = set()
    while not world.over():
        world.step()
        state = world.orchestrator.state
        for hotkey in [*world.miners, "stranger"]:
            report = standing(state, hotkey, state.now)
            assert report.own and report.own_s >= 0
            assert (report.seat is not None) == (hotkey in state.miners)
            seen.add(report.own.split()[0])
    assert {"join", "install", "do", "wait", "publish", "reduce", "open"} <= seen
