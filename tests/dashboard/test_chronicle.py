"""Events are told once, in bounded number, and after a restart what the state still knows."""

from __future__ import annotations

from iota_subnet.core.state import Fault, Miner, RunState, Verdict
from iota_subnet.dashboard.chronicle import ALIKE, MOST, Chronicle
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from tests.validator.kit import small_spec

from .kit import steps, stormy


def test_a_run_is_told_once_from_its_first_seat_to_its_end() -> None:
    chronicle, told = Chronicle(), []
    for state in steps(stormy(), every=3):
        told += chronicle.take(state)
    assert len(told) == len({(entry.text, entry.hotkey, entry.at) for entry in told})
    texts = [entry.text for entry in told]
    assert texts.count("epoch 2 begins") == 1 and texts.count("the run is complete") == 1
    assert sum(text.startswith("epoch 1: held-out loss") for text in texts) == 1
    assert any(text.startswith("takes a seat") for text in texts)
    assert [entry.at for entry in told] == sorted(entry.at for entry in told)


def test_whoever_looks_after_a_restart_finds_what_the_state_remembers() -> None:
    state = World(Plan(3, stages=2, miners=4, epochs=2)).run().orchestrator.state
    texts = [entry.text for entry in Chronicle().take(state)]
    assert any(text.startswith("epoch 1 merged: 100%") for text in texts)
    assert any(text.startswith("epoch 2: held-out loss") for text in texts)


def test_a_thousand_newcomers_are_a_few_lines_and_a_number() -> None:
    state, chronicle = RunState(small_spec()), Chronicle()
    chronicle.take(state)
    state.miners = {f"m{n}": Miner(f"m{n}", "b", 0, stage=n % 2) for n in range(1000)}
    told = chronicle.take(state)
    assert len(told) == ALIKE + 1 and told[-1].text == f"and {1000 - ALIKE} more changes of seats"
    assert chronicle.take(state) == []


def test_a_flood_of_faults_is_bounded() -> None:
    state, chronicle = RunState(small_spec()), Chronicle()
    state.faults = [Fault(float(n), 0, f"m{n}", "x" * 5000) for n in range(3 * MOST)]
    chronicle.take(state)
    assert len(chronicle.entries) == MOST and max(len(entry.text) for entry in chronicle.entries) < 300


def test_what_another_validator_found_is_not_told_as_ours() -> None:
    state = RunState(small_spec(), verdicts={"m": [Verdict(1.0, 0, "failed", "why", auditor="5Other")]})
    assert Chronicle().take(state) == []


def test_epochs_are_counted_from_one_as_on_the_page() -> None:
    state = RunState(small_spec(), banned={"m": (9.0, "an audit of epoch 2 failed: why")})
    assert [entry.text for entry in Chronicle().take(state)] == ["is banned: an audit of epoch 3 failed: why"]
