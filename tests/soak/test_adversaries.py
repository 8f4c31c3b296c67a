"""Whole runs with miners that cheat: the run ends, and the others' work is not lost. `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversaries import KINDS
from tests.e2e.drills import iota, processes_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

#: Of nine miners at least five are honest. Friends come in twos.
CASTS = [
    ["free_rider:1"],
    ["lazy:1", "stale:1", "copy_cat:1", "replayed:1"],
    ["withholder:1", "equivocator:1", "receipt_spam:1", "slanderer:1"],
    ["noise:1", "scaled:1", "sign_flipped:1", "random_gradient:1"],
    ["selective:1", "slow_walker:1", "sybils:2"],
    ["wrong_data:1", "forged_low:1", "forged_high:1", "evidence_withholder:1"],
    ["transcript_forger:1", "transcript_omitter:1", "cross_stage:2"],
    ["nan:1", "pair_colluder:2"],
]


def test_every_kind_has_a_part() -> None:
    assert sorted(part.split(":")[0] for cast in CASTS for part in cast) == sorted(KINDS)


@pytest.mark.parametrize("cast", CASTS, ids=["+".join(cast) for cast in CASTS])
def test_a_run_survives_its_adversaries(tmp_path: Path, cast: list[str]) -> None:
    flags = [flag for part in cast for flag in ("--adversary", part)]
    size = ["--miners", "9", "--stages", "2", "--epochs", "2", "--batches", "40"]
    summary = iota(tmp_path / "run", *size, *flags, timeout_s=800)
    assert summary["complete"] and summary["epochs"] == 2 and summary["microbatches_retired"] >= 80
    assert summary["merge_coverage"] == [1.0] * 4 and summary["replicas_identical"] is True
    assert processes_of(tmp_path / "run") == []
    kinds = {summary["names"][hotkey]: kind for hotkey, kind in summary["kinds"].items()}
    rogues = [kind for kind, count in (part.split(":") for part in cast) for _ in range(int(count))]
    assert [kinds[f"miner-{n}"] for n in range(9)] == ["honest"] * (9 - len(rogues)) + rogues
    # Nobody honest is named for what another did.
    assert not any(summary["findings"][hotkey] for hotkey, kind in summary["kinds"].items() if kind == "honest")
