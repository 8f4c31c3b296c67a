"""The command line as a whole: every command is listed, explains itself with examples, and ends as it says."""

from __future__ import annotations

import json

import pytest

from iota_subnet import bench
from iota_subnet.cli import COMMANDS, main

ALL = (
    "localnet chain faucet mine simulate status track score audit ledger model export eval generate checkpoint bench "
    "doctor"
).split()


def helped(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*argv, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = helped([], capsys)
    assert all(f"\n    {name}" in listed for name in ALL) and set(COMMANDS) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_command_shows_how_it_is_used(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped([name], capsys)
    assert f"  iota {name}" in shown.partition("sage:")[2].partition("\n")[2]


def test_benchmarks_are_listed_with_what_they_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} >= set(bench.QUICK)
    assert all(row["measures"] for row in rows)


@pytest.mark.parametrize("argv", [["nothing"], ["credit"]])
def test_a_benchmark_that_cannot_be_run_so_is_named(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *argv]) == 2
    said = capsys.readouterr().err
    assert argv[0] in said and len(said.splitlines()) == 1
