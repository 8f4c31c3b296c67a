"""From a run that is interrupted to a model that somebody else loads, with the commands of the README."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .drills import ROOT, processes_of

pytestmark = [pytest.mark.e2e, pytest.mark.soak]


def iota(*argv: str) -> Any:
    """The JSON that a command prints."""
    command = [sys.executable, "-m", "iota_subnet.cli", *argv, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_a_run_is_stopped_resumed_on_new_miners_exported_and_trained_further(tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    localnet = [sys.executable, "-m", "iota_subnet.cli", "localnet", "--no-ui"]
    size = ["--miners", "4", "--stages", "2", "--epochs", "3", "--batches", "30"]
    with log.open("w") as out:
        first = subprocess.Popen([*localnet, *size, "--run-dir", str(folder)], cwd=ROOT, stdout=out, stderr=out)
    deadline = time.monotonic() + 200
    while "epoch 1: held-out loss" not in log.read_text() and first.poll() is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130 and f"--resume {folder}\n" in log.read_text(), log.read_text()
    assert processes_of(folder) == []
    stopped = iota("checkpoint", "list", "--run", str(folder))["checkpoints"][-1]
    measured = iota("eval", "--run", str(folder), "--epoch", str(stopped["epoch"]))
    assert measured["loss"] == pytest.approx(stopped["loss"], rel=1e-6)

    done = subprocess.run(
        [*localnet, "--resume", str(folder), "--miners", "5"], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["epochs"] == 3 and summary["microbatches_lost"] == 0 and summary["faults"] == []
    assert summary["eval_losses"][stopped["epoch"]] == stopped["loss"]
    assert summary["eval_loss_last"] < stopped["loss"]
    assert processes_of(folder) == []
    assert all(row["ok"] for row in iota("checkpoint", "verify", "--run", str(folder))["checkpoints"])

    told = iota("export", "--run", str(folder), "--out", str(tmp_path / "model"))["facts"]
    assert (told["epoch"], told["tokens"]) == (3, summary["tokens_trained"])
    assert told["losses"] == summary["eval_losses"][1:] and told["miners"] >= 4
    alone = iota("eval", "--model", str(tmp_path / "model"))
    assert alone["loss"] == pytest.approx(summary["eval_loss_last"], rel=1e-3)

    further = tmp_path / "further"
    done = subprocess.run(
        [*localnet, "--init", str(tmp_path / "model"), "--miners", "2", "--epochs", "1", "--batches", "20",
         "--run-dir", str(further)], cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads((further / "summary.json").read_text())
    assert again["eval_loss_first"] == pytest.approx(summary["eval_loss_last"], rel=1e-6)
