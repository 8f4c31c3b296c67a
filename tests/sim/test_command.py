"""`iota simulate` as a user meets it: its JSON, its exit codes, its one-line errors, and the same hash every time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iota_subnet.cli import main

SMALL = ["--miners", "6", "--stages", "2", "--epochs", "2", "--batches", "8", "--jobs", "1"]


def test_the_same_seeds_give_the_same_ledgers_under_two_hash_seeds() -> None:
    hashes = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "iota_subnet.cli", "simulate", "--seeds", "3", *SMALL, "--json", "-"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed}
        )
        hashes.append(json.loads(done.stdout)["ledger_hash"])
    assert hashes[0] == hashes[1]


def test_the_json_holds_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "2", "--faults", "none", *SMALL, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == 2 and result["violations"] == 0 == result["microbatches_lost"]
    assert result["events"] > 100 and result["events_per_second"] > 0 and result["epoch_seconds"] > 0
    assert len(result["ledger_hash"]) == 64 and result["failures"] == []


def test_one_seed_tells_its_epochs_and_what_happened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert main(["simulate", "--seed", "7", "--faults", "crash,drop", *SMALL, "--json", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 0:") and lines[1].startswith("epoch 1:") and "microbatches" in lines[0]
    assert "seed 7: ok" in lines[2] and "what happened:" in lines[3]
    assert json.loads(out.read_text())["epochs"] == 2


def test_more_processes_change_nothing_but_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for jobs in ("1", "2"):
        assert main(["simulate", "--seeds", "4", *SMALL[:-2], "--jobs", jobs, "--json", "-"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["ledger_hash"] == results[1]["ledger_hash"]
    assert results[0]["events"] == results[1]["events"]


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"format": 9}', "format 1"),
        ('{"sead": 1}', "no field 'sead'"),
        ('{"miners": "many"}', "plan.miners must be int"),
        ('{"miners": 1, "stages": 2}', "at least 2 miners"),
        ('{"loss": 1.5}', "chance"),
        ('{"latency": -1}', "must not be negative"),
        ('{"traits": {"x": {}}}', "keyed by a miner's number"),
        ('{"traits": {"1": {"speed": 2}}}', "no field 'speed'"),
        ('{"swarm": {"lease": 2}}', "no field 'lease'"),
        ('{"incidents": {}}', "must be a list"),
        ('{"incidents": [{"at": 1}]}', "needs `at` (seconds) and `what`"),
        ('{"incidents": [{"at": 1, "what": "flood"}]}', "it may be: drop"),
        ('{"incidents": [{"at": 1, "what": "freeze"}]}', "needs `seconds`"),
        ('{"incidents": [{"at": 1, "what": "drop", "seconds": 2}]}', "needs an `amount`"),
        ('{"incidents": [{"at": 1, "what": "drop", "seconds": 2, "amount": -1}]}', "only a clock"),
        ('{"incidents": [{"at": 1, "what": "crash", "phase": "tea"}]}', "it may be: wait"),
    ],
)
def test_a_plan_that_cannot_be_played_is_named_in_one_line(
    plan: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan)
    assert main(["simulate", "--plan", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and word in error, error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--plan", "/nowhere/plan.json"],
        ["--faults", "meteor"],
        ["--faults", ""],
        ["--stages", "9", "--miners", "3"],
        ["--seeds", "0"],
        ["--epochs", "0"],
        ["--check", "never"],
    ],
)
def test_options_that_cannot_be_are_one_line_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_the_documented_example_plays(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--plan", "docs/simulate-example.json"]) == 0
