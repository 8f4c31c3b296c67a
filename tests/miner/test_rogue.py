"""A miner that cheats is loaded from a file, for a chain on this machine and for no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from iota_subnet.miner import rogue
from iota_subnet.miner.conduct import Conduct, Me
from iota_subnet.settings import MinerSettings
from template.errors import BadSettings
from template.settings import parse

CHEAT = """
from __future__ import annotations
from dataclasses import dataclass
from iota_subnet.miner.conduct import Conduct

@dataclass
class Note:
    text: str

class Late(Conduct):
    def delay_s(self, lease):
        return 7.0

class Picky(Conduct):
    def __init__(self, me):
        raise ValueError("not\\ntoday")

class Other:
    pass

number = 3
"""


@pytest.fixture
def cheat(tmp_path: Path) -> Path:
    path = tmp_path / "cheat.py"
    path.write_text(CHEAT)
    return path


def settings(*flags: str) -> MinerSettings:
    return parse(MinerSettings, ["--netuid", "1", *flags])


def test_a_miner_is_honest_on_every_chain_unless_it_is_told_otherwise() -> None:
    assert type(rogue.chosen(settings("--subtensor.network", "finney"), "h")) is Conduct


@pytest.mark.parametrize("endpoint", ["ws://127.0.0.1:9944", "ws://127.9.9.9:1", "ws://[::1]:9944", "ws://localhost:1"])
def test_a_chain_on_this_machine_may_be_cheated(cheat: Path, endpoint: str) -> None:
    told = settings("--subtensor.chain_endpoint", endpoint, "--work.conduct", f"{cheat}:Late")
    conduct = rogue.chosen(told, "h")
    assert type(conduct).__name__ == "Late" and conduct.me == Me("h")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--subtensor.network", "finney"],
        ["--subtensor.network", "test"],
        ["--subtensor.network", "archive"],
        ["--subtensor.chain_endpoint", "ws://203.0.113.7:9944"],
        ["--subtensor.chain_endpoint", "ws://198.18.0.1:9944"],
        ["--subtensor.chain_endpoint", "ws://0.0.0.0:9944"],
        ["--subtensor.chain_endpoint", "wss://localhost.example.com"],
        ["--subtensor.chain_endpoint", "wss://127.0.0.1.example.com"],
        ["--subtensor.chain_endpoint", "ws://127.0.0.1:9944@example.com"],
        ["--subtensor.network", "local", "--subtensor.chain_endpoint", "finney"],
    ],
)
def test_no_other_chain_may_be_cheated_and_the_file_is_not_even_read(tmp_path: Path, flags: list[str]) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('it was run')")
    with pytest.raises(BadSettings) as caught:
        rogue.chosen(settings(*flags, "--work.conduct", f"{trap}:Late"), "h")
    assert "--work.conduct (WORK_CONDUCT): refused" in str(caught.value)
    assert "is not on this machine" in str(caught.value)


def test_the_environment_cannot_do_what_the_flag_may_not(cheat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORK_CONDUCT", f"{cheat}:Late")
    with pytest.raises(BadSettings, match="refused"):
        rogue.chosen(settings("--subtensor.network", "test"), "h")
    assert type(rogue.chosen(settings("--subtensor.network", "local"), "h")).__name__ == "Late"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("Late", "'Late' is not FILE.py:CLASS"),
        ("cheat.py:", "is not FILE.py:CLASS"),
        ("gone.py:Late", "there is no file gone.py"),
        ("cheat.py:Gone", "cheat.py has no class Gone"),
        ("cheat.py:Other", "Other of cheat.py is no subclass of iota_subnet.miner.conduct.Conduct"),
        ("cheat.py:number", "number of cheat.py is no subclass"),
        ("cheat.py:Picky", "Picky of cheat.py cannot be made: ValueError: not today"),
        ("broken.py:Late", "broken.py cannot be loaded: SyntaxError"),
        ("failing.py:Late", "failing.py cannot be loaded: ZeroDivisionError: division by zero"),
        ("text.txt:Late", "text.txt is no Python file"),
        (".:Late", "there is no file ."),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(cheat: Path, what: str, words: str) -> None:
    for name, text in (("broken.py", "def"), ("failing.py", "1 / 0"), ("text.txt", CHEAT)):
        (cheat.parent / name).write_text(text)
    with pytest.raises(BadSettings) as caught:
        rogue.chosen(settings("--subtensor.network", "local", "--work.conduct", what), "h")
    line = str(caught.value)
    assert line.startswith("--work.conduct (WORK_CONDUCT): ") and words in line and "\n" not in line


def test_friends_know_each_other_and_their_numbers(cheat: Path) -> None:
    here = settings(
        "--subtensor.network", "local", "--work.conduct", f"{cheat}:Late", "--work.conduct_friends", "a, h,c"
    )
    assert rogue.chosen(here, "h").me == Me("h", 1, 3, ("a", "c"))
    with pytest.raises(BadSettings, match="own hotkey z"):
        rogue.chosen(here, "z")
