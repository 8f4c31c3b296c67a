"""`iota checkpoint`: what a run has kept, whether it is whole, and how to have less of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.cli import main
from iota_subnet.validator.checkpoints import Checkpoints
from iota_subnet.validator.ledger import Ledger

from .kit import make_run


def told(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    assert main(["checkpoint", *argv, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def blobs(run: Path) -> set[str]:
    return {path.name for path in (run / "blobs").iterdir() if len(path.name) == 64}


def damage(run: Path, epoch: int, what: str = "weights") -> Path:
    """One byte of a checkpoint's first shard is another."""
    made = json.loads((run / f"checkpoints/{epoch:06}.json").read_text())
    path = run / "blobs" / made["manifests"][0]["shards"][0][what]["digest"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_the_list_tells_loss_bytes_and_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_run(tmp_path, epochs=3)
    found = told(capsys, "list", "--run", str(tmp_path / "run"))
    assert found["spec"] == spec.digest()
    assert [row["epoch"] for row in found["checkpoints"]] == [0, 1, 2]
    files = Checkpoints(tmp_path / "run")
    for row in found["checkpoints"]:
        made = files.load(row["epoch"])
        assert row["manifests"] == [manifest.name for manifest in made.manifests]
        assert (row["loss"], row["problem"]) == (made.loss, "")
        sizes = {ref.digest: (tmp_path / "run/blobs" / ref.digest).stat().st_size for ref in made.blobs()}
        assert row["bytes"] == sum(sizes.values())
    assert main(["checkpoint", "list", "--run", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 100


def test_verify_finds_whatever_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, epochs=4)
    run = tmp_path / "run"
    assert all(row["ok"] for row in told(capsys, "verify", "--run", str(run))["checkpoints"])
    damage(run, 1)
    damage(run, 2, "momentum").unlink()
    path = run / "checkpoints/000003.json"
    made = json.loads(path.read_text())
    made["loss"] -= 1.0
    path.write_text(json.dumps(made))
    found = told(capsys, "verify", "--run", str(run), code=1)["checkpoints"]
    assert [row["ok"] for row in found] == [True, False, False, False]
    assert "damaged" in found[1]["problems"][0]
    assert "cannot be read" in found[2]["problems"][0]
    assert "the ledger says held-out loss" in found[3]["problems"][0]
    assert main(["checkpoint", "verify", "--run", str(run)]) == 1
    assert capsys.readouterr().out.count("BROKEN") == 3


def test_verify_knows_manifests_that_the_ledger_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, epochs=3)
    path = tmp_path / "run/checkpoints/000001.json"
    made = json.loads(path.read_text())
    # A model made of parts that are all there, and that no merge has made.
    made["manifests"][1] = json.loads((tmp_path / "run/checkpoints/000002.json").read_text())["manifests"][1]
    path.write_text(json.dumps(made))
    found = told(capsys, "verify", "--run", str(tmp_path / "run"), code=1)["checkpoints"]
    assert found[1]["problems"] == ["the ledger knows no such manifests"]


def test_prune_keeps_the_newest_and_what_the_run_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, epochs=4)
    run = tmp_path / "run"
    before = blobs(run)
    files = Checkpoints(run)
    of = {epoch: {ref.digest for ref in files.load(epoch).blobs()} for epoch in range(4)}
    found = told(capsys, "prune", "--run", str(run), "--keep", "1")
    assert found["pruned"] == [0, 1, 2] and files.epochs() == [3]
    # The ledger of this run stands at epoch 0, so that it needs those.
    assert blobs(run) == of[3] | of[0] and blobs(run) < before
    assert found["bytes"] > 0
    assert all(row["ok"] for row in told(capsys, "verify", "--run", str(run))["checkpoints"])
    assert told(capsys, "prune", "--run", str(run), "--keep", "1")["pruned"] == []


def test_nobody_prunes_under_a_validator_at_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_run(tmp_path)
    run = tmp_path / "run"
    before = blobs(run)
    ledger = Ledger(run / "ledger.sqlite", spec)
    try:
        assert main(["checkpoint", "prune", "--run", str(run), "--keep", "1"]) == 2
    finally:
        ledger.close()
    said = capsys.readouterr().err
    assert "stop its validator first" in said and len(said.splitlines()) == 1
    assert blobs(run) == before and Checkpoints(run).epochs() == [0, 1]
    assert main(["checkpoint", "prune", "--run", str(run), "--keep", "0"]) == 2
    assert "--keep 0" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    path = tmp_path / "run/checkpoints/000001.json"
    made = json.loads(path.read_text())
    made["spec_digest"] = "0" * 64
    path.write_text(json.dumps(made))
    (row,) = [row for row in told(capsys, "list", "--run", str(tmp_path / "run"))["checkpoints"] if row["problem"]]
    assert row["epoch"] == 1 and row["loss"] is None and "another run" in row["problem"]
    assert main(["checkpoint", "list", "--run", str(tmp_path / "run")]) == 0
    assert "another run" in capsys.readouterr().out
