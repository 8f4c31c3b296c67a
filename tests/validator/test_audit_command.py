"""`iota audit replay` as a miner meets it, and the same in the validator's pool."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import msgspec
import pytest

from benchmarks.audits import rehearsal
from benchmarks.audits.rehearsal import HalfRunner, Miner
from iota_subnet.cli import main
from iota_subnet.train import bundle
from iota_subnet.train.books import BadOrder
from iota_subnet.train.order import Finding
from iota_subnet.validator import compute
from iota_subnet.validator.compute import Compute
from tests.train.conftest import small_spec
from tests.train.test_replay import rehearsed

Said = pytest.CaptureFixture[str]


def saved(folder: Path, kind: object = Miner) -> Miner:
    miner = rehearsed(small_spec(), Miner, kind, batches=3)[1]
    bundle.save(miner.order(), miner.store.get, folder)
    return miner


def test_a_sound_replica(tmp_path: Path, capsys: Said) -> None:
    saved(tmp_path)
    assert main(["audit", "replay", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("sound: 6 passes, 6 of them exact\nminer of stage 1, stage 1, epoch 0\n")
    assert "pseudo-gradient angle" in said and "failed" not in said


def test_a_failed_one_names_the_check_the_pass_and_the_limit(tmp_path: Path, capsys: Said) -> None:
    saved(tmp_path, rehearsal.scaled(-1.0))
    assert main(["audit", "replay", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("failed: output of pass 0 (forward, batch 0) differs by 2 relative; limit 0.2\n")
    row = next(line.split() for line in said.splitlines() if "output error " in line and "median" not in line)
    assert row[2:4] == ["2", "0.2"] and row[-1] == "failed" and "(forward," in row


def test_bytes_that_are_missing(tmp_path: Path, capsys: Said) -> None:
    miner = saved(tmp_path, partial(Miner, runner=HalfRunner))
    (tmp_path / "blobs" / miner.passes[0].output).unlink()
    assert main(["audit", "replay", str(tmp_path), "--json"]) == 2
    finding = msgspec.json.decode(capsys.readouterr().out, type=Finding)
    assert finding.verdict == "withheld" and "output of pass 0" in finding.reason


def test_only_the_first_passes(tmp_path: Path, capsys: Said) -> None:
    saved(tmp_path, rehearsal.merging(lambda values, chance: -values))
    assert main(["audit", "replay", str(tmp_path), "--json"]) == 1
    assert main(["audit", "replay", str(tmp_path), "--json", "--passes", "2"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["passes"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--passes", "-1"], "--passes -1: give a number"),
        (["--device", "cuda:77"], "--device cuda:77 cannot be used here"),
        (["--device", "nonsense"], "try --device cpu"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, capsys: Said, options: list[str], message: str) -> None:
    saved(tmp_path)
    assert main(["audit", "replay", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_a_folder_that_is_no_audit_is_one_line(tmp_path: Path, capsys: Said) -> None:
    assert main(["audit", "replay", str(tmp_path / "none")]) == 2
    assert "an audit's folder has order.json and blobs/" in capsys.readouterr().err
    miner = saved(tmp_path)
    (tmp_path / "blobs" / miner.order().base[0][2]).unlink()
    assert main(["audit", "replay", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "error: the base's weights" in said.err and said.err.count("\n") == 1 and not said.out


def test_help_has_an_example(capsys: Said) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["audit", "replay", "--help"])
    assert caught.value.code == 0 and "iota audit replay audits/12-5Grwva" in capsys.readouterr().out


async def test_the_pool_comes_to_the_same_finding(tmp_path: Path) -> None:
    saved(tmp_path, rehearsal.scaled(2.0))
    pool = Compute()
    try:
        found = msgspec.json.decode(await pool.run(compute.audit, str(tmp_path), "cpu", 3), type=Finding)
        assert (found.verdict, found.passes) == ("failed", 3)
        shutil.rmtree(tmp_path)
        with pytest.raises(BadOrder, match=r"order\.json"):
            await pool.run(compute.audit, str(tmp_path), "cpu", 3)
    finally:
        pool.close()
