"""`iota score` says what a miner has earned from a ledger, part by part, and where it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iota_subnet.cli import main
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.scoring import score
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.world import World
from iota_subnet.validator.journal import FILE
from iota_subnet.validator.ledger import Ledger


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Orchestrator]:
    """The ledger of a run in which everybody was audited and miner-0 cheated."""
    folder = tmp_path_factory.mktemp("run")
    plan = Plan(5, stages=2, miners=6, epochs=3, traits={0: Trait(cheats=True)}, swarm={"audit_miners": 1.0})
    world = World(plan).run()
    ledger = Ledger(folder / FILE, world.spec)
    for event in world.journal:
        ledger.append(event)
    ledger.close()
    return folder, world.orchestrator


def test_the_parts_add_up_to_the_score_and_name_their_events(
    run: tuple[Path, Orchestrator], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, core = run
    assert main(["score", "miner-1", "--ledger", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    parts = [(p["volume"] + p["merged"]) * p["quality"] * p["agreement"] * p["standing"] for p in said["parts"]]
    assert said["score"] == pytest.approx(sum(parts)) and said["score"] == score(core.state, "miner-1")
    first, last, number = said["ledger"]["receipts"]
    assert 0 < first < last and number > 0 and len(said["ledger"]["audits"]) == len(said["audits"]) == 3


def test_a_cheat_reads_why_it_gets_nothing(run: tuple[Path, Orchestrator], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "miner-0", "--ledger", str(run[0])]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "0.00, because of the fault below" in said and "audit: the output of pass 0 differs" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nobody"], "none of the"), (["miner"], "several of the"), ([], "whose score?")],
)
def test_whose_score_it_is_must_be_clear(
    run: tuple[Path, Orchestrator], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", *arguments, "--ledger", str(run[0])]) == 2
    assert words in capsys.readouterr().err
