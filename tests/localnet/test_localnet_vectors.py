"""Numbers measured on a real runtime (data/*.json, units in their `about`), and the command that compares with them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from template.localnet.cli import main
from template.localnet.vectors import check_emission, check_registration, check_yuma
from template.localnet.vectors.report import Report

DATA = Path(__file__).parent / "data"
CONTENT: dict[str, Any] = {
    name: json.loads((DATA / f"{name}.json").read_text()) for name in ("yuma", "emission", "registration")
}


def scenarios(name: str) -> list[Any]:
    return [pytest.param(item, id=item["name"]) for item in CONTENT[name]["scenarios"]]


@pytest.mark.parametrize("scenario", scenarios("yuma"))
def test_an_epoch_stores_exactly_what_the_runtime_stored(scenario: dict[str, Any]) -> None:
    report = Report()
    check_yuma({"scenarios": [scenario]}, report)
    assert report.compared >= 8 * scenario["n"]
    assert report.mismatches == []


@pytest.mark.parametrize("scenario", scenarios("emission"))
def test_blocks_and_payouts_are_those_of_the_runtime(scenario: dict[str, Any]) -> None:
    report = Report()
    check_emission({"scenarios": [scenario]}, report)
    assert report.compared or report.left_out
    assert report.mismatches == []


def test_burn_and_the_replaced_uid_are_those_of_the_runtime() -> None:
    report = Report()
    check_registration(CONTENT["registration"], report)
    assert report.compared > 300
    assert report.mismatches == []


def test_command_says_what_differs_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = copy.deepcopy(CONTENT["yuma"])
    wrong["scenarios"][3]["epochs"][1]["after"]["incentive"][2] += 1
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(wrong))
    assert main(["check-vectors", str(DATA / "yuma.json")]) == 0
    assert "0 differ" in capsys.readouterr().out
    assert main(["check-vectors", str(DATA / "yuma.json"), str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("epoch 1 incentive[2]: " in line and "measured" in line for line in lines)
    assert lines[-1].endswith("1 differ")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scenarios": [{"name": "x"}]}', '{"scenarios": 7}'])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    assert main(["check-vectors", str(file), str(tmp_path / "absent.json")]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2
