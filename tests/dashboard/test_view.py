"""What the page shows is derived from the state, complete from the first moment, and holds no secret."""

from __future__ import annotations

import itertools
import json

import msgspec

from iota_subnet.core.clasp import Sample
from iota_subnet.core.state import EpochReport, Fault, Phase, RunState, Verdict
from iota_subnet.dashboard import person, rows, view
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.validator.standing import standing
from tests.core.bench import Bench
from tests.validator.kit import small_spec

from .kit import chain_of, steps, stormy


def everything(state: RunState, now: float) -> str:
    """All views of a state, as text."""
    chain = chain_of(*state.miners)
    people = [person.person(state, chain, h, standing(state, h, now)) for h in rows.names(state)]
    matrices = [person.matrix(state, stage) for stage in range(state.spec.model.stages)]
    parts = [view.run(state, "v", 1), view.head(state, chain), view.stages(state), view.epochs(state)]
    text = msgspec.json.encode([*parts, rows.rows(state, chain), people, matrices]).decode()
    json.loads(text, parse_constant=lambda word: (_ for _ in ()).throw(AssertionError(word)))
    return text


def test_a_run_that_has_not_begun_can_be_shown() -> None:
    state = RunState(small_spec())
    assert view.head(state, None).waiting_for == "the run has not started"
    assert view.stages(state) == view.epochs(state) == rows.rows(state, None) == []
    everything(state, 0.0)


def test_every_moment_of_a_stormy_run_can_be_shown_and_tells_no_secret() -> None:
    audited = 0
    for state in steps(stormy(), every=7):
        text = everything(state, state.now)
        assert state.secret not in text
        assert 0.0 <= view.progress(state) <= 1.0
        waiting = {hotkey for hotkey, _, _ in state.open_audits}
        audited += bool(waiting or state.watched)
        assert "watched" not in text and "open_audits" not in text
        assert sum(stage.members for stage in view.stages(state)) <= len(state.miners)
    assert audited


def test_who_is_in_the_books_cannot_be_told_from_who_is_not() -> None:
    # Two states that differ in nothing but who will be audited look alike.
    world = World(Plan(3, stages=2, miners=4, epochs=2))
    compared = 0
    for state in steps(world, every=5):
        if not state.watched:
            continue
        shown, books = everything(state, state.now), state.watched
        state.watched = {}
        assert everything(state, state.now) == shown
        state.watched = books
        compared += 1
    assert compared


def test_standings_change_only_when_their_stamp_does() -> None:
    before, known, changes = None, None, 0
    for state in steps(stormy(5)):
        stamp, found = rows.stamp(state, None), rows.standings(state, None)
        if stamp == before:
            assert found == known
        else:
            changes += 1
        before, known = stamp, found
    assert changes > 5


def test_the_figures_are_those_of_the_state() -> None:
    state = World(Plan(3, stages=2, miners=4, epochs=2)).run().orchestrator.state
    head = view.head(state, chain_of(*state.miners, block=99))
    assert (head.phase, head.epoch, head.progress, head.block) == ("done", 1, 1.0, 99)
    assert head.retired == sum(epoch.microbatches for epoch in view.epochs(state)) >= 20
    assert (head.held_out, head.held_out_epoch) == (state.reports[-1].eval_loss, 2)
    shown = {row.hotkey: row for row in rows.rows(state, chain_of(*state.miners))}
    assert set(shown) == set(state.miners)
    assert sorted(row.standing.rank for row in shown.values()) == [1, 2, 3, 4]
    assert abs(sum(row.standing.share for row in shown.values()) - 1) < 1e-3
    assert abs(sum(row.standing.weight or 0.0 for row in shown.values()) - 1) < 1e-3


def test_a_burn_is_taken_off_the_weights() -> None:
    state = World(Plan(3, stages=2, miners=4, epochs=2)).run().orchestrator.state
    chain = chain_of(*state.miners, "owner")
    paid = [row.standing.weight or 0.0 for row in rows.rows(state, chain, burn=0.5)]
    assert abs(sum(paid) - 0.5) < 1e-3


def test_what_a_miner_does_is_said_in_a_word() -> None:
    bench = Bench(1, 4)
    words = {hotkey: rows.doing(bench.state, hotkey).health for hotkey in bench.state.miners}
    assert set(words.values()) <= {"working", "idle"}
    bench.disconnect("m0")
    bench.state.miners["m1"].leaving = True
    bench.state.miners["m2"].installed = -1
    bench.state.line["late"] = bench.now
    bench.state.banned = {"bad": (bench.now + 60, "why"), "over": (bench.now - 60, "was")}
    found = {hotkey: rows.doing(bench.state, hotkey).health for hotkey in [*bench.state.miners, "late", "bad", "over"]}
    assert [found[h] for h in ("m0", "m1", "m2")] == ["away", "leaving", "installing"]
    assert (found["late"], found["bad"], found["over"]) == ("waiting", "banned", "gone")
    assert "over" not in rows.names(bench.state)


def test_a_fault_and_a_failed_audit_are_on_the_row() -> None:
    state = RunState(small_spec(), miners={}, parts={"a": [], "b": []})
    state.faults = [Fault(1.0, 0, "a", "caught")]
    state.verdicts = {"a": [Verdict(1.0, 0, "failed", "why")], "b": [Verdict(1.0, 0, "sound", "", 3)] * 2}
    state.auditor = ""
    found = rows.standings(state, None)
    assert (found["a"].fault, found["a"].failed, found["b"].fault, found["b"].sound) == (True, 1, False, 2)


def test_a_long_history_is_thinned_but_its_end_is_whole() -> None:
    reports = [EpochReport(number, float(number), number + 1.0, 10, 3.0) for number in range(5000)]
    chosen = [epoch.epoch for epoch in view.epochs(RunState(small_spec(), reports=reports))]
    assert len(chosen) == view.EPOCHS and chosen[0] == 0 and chosen == sorted(set(chosen))
    assert chosen[-view.EPOCHS_NEWEST :] == list(range(5000 - view.EPOCHS_NEWEST, 5000))


def test_the_loss_of_now_is_that_of_the_newest_microbatches() -> None:
    state = RunState(small_spec(), samples=[Sample(("a",), 9.0)] * 50 + [Sample(("a",), 2.0)] * view.NEWEST)
    assert view.head(state, None).loss == 2.0
    state = RunState(small_spec(), reports=[EpochReport(0, 0.0, 1.0, 5, 3.5), EpochReport(1, 1.0)])
    assert view.head(state, None).loss == 3.5


def test_a_persons_page_has_its_parts_history_and_twins() -> None:
    state = World(Plan(3, stages=2, miners=6, epochs=3)).run().orchestrator.state
    hotkey = next(iter(state.miners))
    it = person.person(state, chain_of(*state.miners), hotkey, standing(state, hotkey, state.now))
    assert [then.epoch for then in it.history] == [0, 1, 2]
    assert it.history[-1].score == state.reports[-1].scores[hotkey]
    assert len(it.report.parts) == 3 and it.row.standing.uid is not None
    assert it.twins and all(hotkey != twin.hotkey for twin in it.twins)
    assert person.known(state, hotkey) and not person.known(state, "5Nobody")


def test_of_a_large_stage_the_matrix_shows_who_differed() -> None:
    from iota_subnet.core.state import Met, Miner

    names = [f"m{number:03}" for number in range(200)]
    miners = {name: Miner(name, "b", 0, stage=0, slot=slot) for slot, name in enumerate(names)}
    pairs = {(one, other): Met(1, 0, 1.0) for one, other in itertools.pairwise(names)}
    pairs["m150", "m190"] = Met(0, 2, 1.0)
    state = RunState(small_spec(), miners=miners, agreement=pairs, phase=Phase.TRAIN)
    found = person.matrix(state, 0)
    assert len(found.hotkeys) == person.MATRIX and found.of == 200
    assert {"m150", "m190"} <= set(found.hotkeys) and list(found.hotkeys) == sorted(found.hotkeys)
    assert any(differed for _, _, _, differed in found.cells)
    assert person.matrix(state, 1).cells == ()
