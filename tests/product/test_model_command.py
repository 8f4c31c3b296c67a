"""`iota model show`: what an operator reads before choosing a size, a split and a bottleneck."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iota_subnet.cli import main
from iota_subnet.model.presets import choose
from iota_subnet.spec import PRESETS, SpecError


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main(["model", "show", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(PRESETS)]] == list(PRESETS)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_page_fits_a_terminal_and_its_parts_add_up(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", name]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100
    found = shown(capsys, name)
    stages = found["stages"]
    assert found["parameters"] == sum(row["parameters"] for row in stages)
    assert [row["blocks"][0] for row in stages[1:]] == [row["blocks"][1] for row in stages[:-1]]
    assert stages[-1]["blocks"][1] == PRESETS[name].blocks
    assert found["boundary_bytes"] * found["boundary_ratio"] == found["boundary_bytes_bf16"]


def test_bytes_and_ratio_follow_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "1b", "--ratio", "128", "--microbatch", "2")
    assert (found["model"]["bottleneck"], found["boundary_ratio"], found["boundary_bytes"]) == (
        16,
        128.0,
        2 * 2048 * 16 * 2,
    )
    assert shown(capsys, "tiny", "--bottleneck", "0")["boundary_ratio"] == 1.0
    assert shown(capsys, "tiny", "--bottleneck", "32", "--codec", "fp32")["boundary_ratio"] == 2.0
    assert shown(capsys, "tiny", "--stages", "1")["boundary_bytes"] == 0


def test_measured_costs_decide_the_split(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "tiny", "--costs", "block=1,head=2")
    assert [row["blocks"][1] - row["blocks"][0] for row in found["stages"]] == [3, 2, 1]
    assert found["imbalance"] == pytest.approx(9 / 8) and found["balanced_by"] == "measured costs"


def test_costs_can_be_measured_here(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "tiny", "--measure", "--microbatch", "1")
    assert all(found["costs"][name] > 0 for name in ("block", "embed", "head", "encoder", "decoder"))
    assert shown(capsys, "tiny", "--bottleneck", "0", "--measure", "--microbatch", "1")["costs"]["encoder"] == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["large"], ["large", "tiny"]),
        (["tiny", "--stages", "9"], ["stages=9"]),
        (["tiny", "--ratio", "5"], ["ratio=5", "128"]),
        (["tiny", "--split", "4,4"], ["split=(4, 4)"]),
        (["tiny", "--split", "some"], ["split='some'", "auto"]),
        (["tiny", "--costs", "head=2"], ["--costs head=2", "block"]),
        (["tiny", "--costs", "block=0"], ["block=0"]),
        (["tiny", "--microbatch", "0"], ["--microbatch 0"]),
    ],
)
def test_wrong_words_end_with_one_line(argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", *argv]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and all(word in said for word in words), said


def test_a_split_that_is_the_even_one_is_not_written_down() -> None:
    assert choose("tiny", split="2,2,2") == choose("tiny", split="even") == PRESETS["tiny"]
    with pytest.raises(SpecError, match="give one of them"):
        choose("tiny", bottleneck=8, ratio=4)
