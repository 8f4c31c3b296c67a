"""One small run with a frozen miner, a frozen validator, a clock that is wrong by 5 s and one by an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from .drills import Drilled, assert_whole

pytestmark = pytest.mark.e2e


def test_frozen_processes_and_wrong_clocks_cost_nothing(tmp_path: Path) -> None:
    faults = ["--freeze", "1:0:9", "--freeze", "2:validator:7"]
    size = ["--miners", "5", "--stages", "2", "--epochs", "2", "--batches", "40"]
    run = Drilled(tmp_path / "run", *size, *faults, clocks={3: 5.0, 4: 3600.0}, hopeless=1)
    summary = run.run()
    assert_whole(summary, tmp_path / "run", epochs=2, stages=2, batches=40)
    assert sorted(summary["frozen"]) == ["miner-0", "validator"]
    # Whom the clock does not hinder works as everybody, and whom it does is told what to do, and disturbs nobody.
    shares = {name: summary["weights"][hotkey] for hotkey, name in summary["names"].items()}
    assert shares["miner-3"] > 0 and shares["miner-4"] == 0
    assert "your clock is 3600 s ahead of mine, 30 s are allowed; set it" in run.log("miner-4")
    assert "Traceback" not in run.log("miner-4")
    assert "stood still for" in run.log("validator")
