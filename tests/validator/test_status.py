"""What people see of a run: complete from the first moment, plain JSON, seconds from now."""

from __future__ import annotations

import json

from iota_subnet.core.events import MinerJoined
from iota_subnet.core.state import Met, Phase, RunState
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.validator.status import DIFFERED, RECENT, snapshot
from tests.core.bench import Bench

from .kit import small_spec


def test_a_run_that_has_not_begun_can_be_shown() -> None:
    document = json.loads(json.dumps(snapshot(RunState(small_spec()), 5.0), allow_nan=False))
    assert document["phase"] == "wait" and document["waiting_for"] == "the run has not started"
    assert document["microbatches"]["in_epoch"] == document["tokens"] == 0
    assert document["miners"] == document["reports"] == document["faults"] == []


def test_the_figures_are_those_of_the_state() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=2)).run()
    state = world.orchestrator.state
    document = json.loads(json.dumps(snapshot(state, state.now), allow_nan=False))
    assert (document["phase"], document["epoch"], document["epochs"]) == ("done", 1, 2)
    counts = document["microbatches"]
    assert counts["retired"] == sum(report["microbatches"] for report in document["reports"]) >= 20
    assert counts["opened"] == counts["retired"] + counts["live"] + counts["lost"]
    assert document["tokens"] == counts["retired"] * 2 * world.spec.model.seq
    assert {row["hotkey"] for row in document["miners"]} == set(state.miners)
    assert all(row["score"] == document["scores"][row["hotkey"]] for row in document["miners"])
    assert [report["coverage"] for report in document["reports"]] == [[1.0, 1.0]] * 2


def test_times_are_seconds_left_and_never_negative() -> None:
    state = RunState(small_spec(), phase=Phase.COMMIT, deadline=100.0)
    assert snapshot(state, 90.0)["seconds_left"] == 10.0
    assert snapshot(state, 190.0)["seconds_left"] == 0.0


def test_only_the_newest_losses_are_shown() -> None:
    from iota_subnet.core.clasp import Sample

    state = RunState(small_spec(), samples=[Sample(("a", "b"), float(n)) for n in range(RECENT + 5)])
    assert snapshot(state, 0.0)["recent_losses"] == [float(n) for n in range(5, RECENT + 5)]


def test_who_waits_who_is_banned_and_which_stages_are_empty_is_shown() -> None:
    bench = Bench(1, 2, max_miners=2, wait_s=60.0)
    bench.send(MinerJoined(at=bench.now, hotkey="first", boot="0"))
    bench.now = 5.0
    bench.send(MinerJoined(at=bench.now, hotkey="second", boot="0"))
    bench.state.banned = {"bad": (20.0, "nobody could fetch what it serves"), "once": (1.0, "over")}
    shown = snapshot(bench.state, 6.0)
    assert shown["line"] == [{"hotkey": "first", "asked_s": 6.0}, {"hotkey": "second", "asked_s": 1.0}]
    assert shown["banned"] == [{"hotkey": "bad", "seconds_left": 14.0, "reason": "nobody could fetch what it serves"}]
    assert (shown["empty"], shown["returned"]) == ([], {})
    for hotkey in ("m0", "m1"):
        bench.disconnect(hotkey)
    assert snapshot(bench.state, 6.0)["empty"] == [0]


def test_a_stage_is_empty_while_nobody_has_installed_what_the_phase_asks_for() -> None:
    bench = Bench(1, 2).train().commit_all().merge_all()
    assert bench.state.phase is Phase.INSTALL and snapshot(bench.state, 0.0)["empty"] == [0]
    bench.install("m0", 1)
    assert snapshot(bench.state, 0.0)["empty"] == []


def test_a_stage_that_went_back_to_an_older_state_is_shown() -> None:
    state = RunState(small_spec(), returned={1: 4})
    assert snapshot(state, 0.0)["returned"] == {"1": 4}


def test_who_agreed_with_whom_is_shown_with_the_pairs_that_did_not() -> None:
    bench = Bench(1, 3)
    bench.state.agreement = {
        ("m0", "m1"): Met(7, 0, 1.0), ("m0", "m2"): Met(3, 2, 1.0), ("m1", "m2"): Met(1, 4, 1.0),
        ("gone", "left"): Met(0, 1, 1.0),
    }  # fmt: skip
    shown = json.loads(json.dumps(snapshot(bench.state, 2.0), allow_nan=False))
    assert shown["met"]["m0"] == {"agreed": 10, "of": 12, "twins": 2}
    assert shown["met"]["m2"] == {"agreed": 4, "of": 10, "twins": 2}
    assert shown["differed"] == [
        {"stage": 0, "pair": ["m1", "m2"], "times": 4, "of": 5},
        {"stage": 0, "pair": ["m0", "m2"], "times": 2, "of": 5},
        {"stage": -1, "pair": ["gone", "left"], "times": 1, "of": 1},
    ]


def test_of_many_pairs_that_differed_the_worst_are_shown() -> None:
    names = [f"m{n:02}" for n in range(14)]
    pairs = [(one, other) for one in names for other in names if one < other]
    state = RunState(small_spec(), agreement={pair: Met(0, n + 1) for n, pair in enumerate(pairs)})
    shown = snapshot(state, 0.0)["differed"]
    assert [row["times"] for row in shown] == [len(pairs) - n for n in range(DIFFERED)]
