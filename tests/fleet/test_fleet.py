"""Several miners from one command: each with its own hotkey and ports, started again when it dies, ended together."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iota_subnet.fleet import Miner, keep, planned
from iota_subnet.wire.backoff import Backoff
from template.errors import BadSettings

QUICK = Backoff(first_s=0.01, max_s=0.02)


def wallet(folder: Path, *hotkeys: str) -> list[str]:
    keys = folder / "w" / "hotkeys"
    keys.mkdir(parents=True)
    for name in hotkeys:
        (keys / name).touch()
        (keys / f"{name}pub.txt").touch()
    return ["--netuid", "1", "--wallet.name", "w", "--wallet.path", str(folder)]


def value(miner: Miner, flag: str) -> str:
    return [after for before, after in zip(miner.argv, miner.argv[1:], strict=False) if before == flag][-1]


def test_each_miner_has_its_own_hotkey_and_ports(tmp_path: Path) -> None:
    flags = [*wallet(tmp_path, "c", "a", "b"), "--axon.port", "8091", "--blobs.port", "8092"]
    miners = planned(2, None, flags)
    assert [miner.name for miner in miners] == ["a", "b"]
    assert [value(miner, "--wallet.hotkey") for miner in miners] == ["a", "b"]
    ports = [value(miner, flag) for miner in miners for flag in ("--axon.port", "--blobs.port")]
    assert ports == ["8091", "8092", "8101", "8102"]
    assert "--local.port" not in miners[1].argv  # 0, a free one for each


@pytest.mark.parametrize(
    ("count", "hotkeys", "more", "words"),
    [
        (4, None, [], "--count 4: .* has 2 hotkeys"),
        (0, None, [], "--count"),
        (None, "a,a", [], "different hotkeys"),
        (None, "a,b", ["--axon.port", "65530"], "axon.port"),
        (None, "a", ["--no.such", "1"], "no.such"),
    ],
)
def test_what_cannot_be_run_is_named(
    tmp_path: Path, count: int | None, hotkeys: str | None, more: list[str], words: str
) -> None:
    with pytest.raises(BadSettings, match=words):
        planned(count, hotkeys, [*wallet(tmp_path, "a", "b"), *more])


#: Says that it was started, and does what it is told: end with a code, or wait for SIGINT and end in good order.
SCRIPT = """
import signal, sys, time
path, code = sys.argv[1:]
def drained(*_):
    open(path, "a").write("drained\\n")
    sys.exit(0)
signal.signal(signal.SIGINT, drained)
open(path, "a").write("started\\n")
if code != "wait":
    sys.exit(int(code))
time.sleep(600)
"""


def child(folder: Path, name: str, code: str) -> Miner:
    return Miner(name, [sys.executable, "-c", SCRIPT, str(folder / name), code])


def said(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().split() if path.exists() else []


async def until(condition: Callable[[], object]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 120.0)


async def test_one_that_dies_is_started_again_and_all_drain_together(tmp_path: Path) -> None:
    miners = [child(tmp_path, "steady", "wait"), child(tmp_path, "dying", "1")]
    running = asyncio.create_task(keep(miners, 120.0, QUICK))
    await until(lambda: said(tmp_path, "dying").count("started") >= 3 and said(tmp_path, "steady"))
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(running, 120.0) == 0
    assert said(tmp_path, "steady") == ["started", "drained"]


async def test_a_wrong_setting_is_not_tried_again(tmp_path: Path) -> None:
    assert await asyncio.wait_for(keep([child(tmp_path, "wrong", "2")], 120.0, QUICK), 120.0) == 2
    assert said(tmp_path, "wrong") == ["started"]


async def test_who_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); open(sys.argv[1], 'w').write('up'); "
    )
    miner = Miner("deaf", [sys.executable, "-c", deaf + "time.sleep(600)", str(tmp_path / "deaf")])
    running = asyncio.create_task(keep([miner], 0.2, QUICK))
    await until(lambda: said(tmp_path, "deaf"))
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 120.0) == 0
    assert miner.process is not None and miner.process.returncode == -signal.SIGKILL
