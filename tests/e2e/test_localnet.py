"""The product as a user runs it: one command, real processes, real chain, real text; a miner is killed on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .drills import processes_of

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def iota(*argv: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "iota_subnet.cli", *argv], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
    )


def test_a_run_with_a_killed_miner_trains_merges_and_pays(tmp_path: Path) -> None:
    out, folder = tmp_path / "out.json", tmp_path / "run"
    done = iota(
        "localnet", "--miners", "4", "--stages", "2", "--epochs", "2", "--batches", "40", "--kill", "3:1", "--no-ui",
        "--json", str(out), "--run-dir", str(folder), timeout_s=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(out.read_text())
    assert summary["complete"] and summary["epochs"] == 2
    assert summary["eval_loss_last"] < 0.8 * summary["eval_loss_first"]
    assert summary["microbatches_lost"] == 0 and summary["microbatches_retired"] >= 80
    assert summary["merge_coverage"] == [1.0] * 4
    assert summary["twin_disagreements"] == 0 and summary["twins_compared"] >= 1
    assert summary["replicas_identical"] is True
    assert summary["faults"] == []
    (killed,) = summary["killed"]
    honest = [hotkey for hotkey in summary["names"] if hotkey != killed]
    assert all(summary["weights"][hotkey] > 0 and summary["incentive"][hotkey] > 0 for hotkey in honest)
    median = sorted(summary["weights"][hotkey] for hotkey in honest)[len(honest) // 2]
    assert summary["weights"][killed] < median
    assert processes_of(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["logs", "spec.json", "summary.json"]


def test_a_validator_killed_in_the_middle_of_an_epoch_goes_on_where_it_was(tmp_path: Path) -> None:
    out, folder = tmp_path / "out.json", tmp_path / "run"
    done = iota(
        "localnet", "--miners", "4", "--stages", "2", "--epochs", "2", "--batches", "60", "--kill", "3:validator",
        "--kill", "12:2", "--no-ui", "--json", str(out), "--run-dir", str(folder), timeout_s=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(out.read_text())
    assert len(summary["validator_recovery_seconds"]) == 1
    assert summary["complete"] and summary["epochs"] == 2
    assert summary["microbatches_lost"] == 0 and summary["microbatches_retired"] >= 120
    assert summary["merge_coverage"] == [1.0] * 4
    assert summary["twin_disagreements"] == 0 and summary["replicas_identical"] is True and summary["faults"] == []
    assert processes_of(folder) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--miners", "2"], ["--miners 2", "--miners 3"]),
        (["--kill", "soon:1"], ["--kill soon:1", "SECONDS:MINER"]),
        (["--kill", "5:9"], ["--kill 5:9", "0 to 5"]),
        (["--freeze", "5:1"], ["--freeze 5:1", "SECONDS:MINER:FOR"]),
        (["--link", "20mbit,often"], ["--link 20mbit,often", "RATE,ROUND_TRIP,LOSS"]),
        (["--stages", "7", "--miners", "7"], ["--stages", "blocks=6"]),
        (["--data", "text:/nowhere/*.txt"], ["/nowhere/*.txt"]),
    ],
)
def test_a_wrong_option_ends_with_one_line_and_exit_code_2(argv: list[str], words: list[str], tmp_path: Path) -> None:
    done = iota("localnet", *argv, "--no-ui", "--run-dir", str(tmp_path / "run"), timeout_s=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_a_folder_that_holds_another_run_is_not_used_again(tmp_path: Path) -> None:
    (tmp_path / "run" / "validator").mkdir(parents=True)
    done = iota("localnet", "--no-ui", "--run-dir", str(tmp_path / "run"), timeout_s=60)
    assert done.returncode == 2 and "choose a new folder" in done.stderr and "Traceback" not in done.stderr


def test_help_names_every_command() -> None:
    done = iota("--help", timeout_s=30)
    assert done.returncode == 0
    assert "localnet" in done.stdout and "chain" in done.stdout
