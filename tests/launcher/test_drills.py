"""What is done to processes, and when."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iota_subnet.localnet.drill import Drill
from iota_subnet.localnet.faults import Fault, Schedule
from iota_subnet.localnet.processes import Family
from iota_subnet.localnet.usage import Usage, cpu_seconds

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def state_of(pid: int) -> str:
    """R, S, T (stopped), Z, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_begins_and_ends_come_in_the_order_of_their_times_each_once() -> None:
    long, short = Fault("freeze", 5.0, "miner-0", 10.0), Fault("freeze", 6.0, "chain", 1.0)
    kill = Fault("kill", 6.5, "miner-1")
    schedule = Schedule([long, kill, short])
    assert schedule.due(4.9) == []
    assert schedule.due(6.5) == [(long, True), (short, True), (kill, True)]
    assert schedule.due(8.0) == [(short, False)] and not schedule.over
    assert schedule.due(99.0) == [(long, False)] and schedule.over and schedule.due(999.0) == []


@linux
def test_a_frozen_process_stands_still_goes_on_and_can_be_stopped_while_frozen(tmp_path: Path) -> None:
    family = Family(tmp_path)
    child = family.start("miner-0", [sys.executable, "-c", "import time; time.sleep(60)"])
    faults = (Fault("freeze", 1.0, "miner-0", 2.0), Fault("freeze", 5.0, "miner-0", 2.0))
    drill = Drill(faults, {"miner-0": child}, lambda name: None, lambda text: None)
    for seconds, stopped in ((0.5, False), (1.0, True), (3.0, False), (5.5, True)):
        drill.act(seconds)
        deadline = time.monotonic() + 5
        while (state_of(child.process.pid) == "T") is not stopped:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    began = time.monotonic()
    family.stop()
    assert time.monotonic() - began < 5.0
    assert drill.frozen == ["miner-0"] * 2 and not drill.over


@linux
def test_a_killed_validator_is_started_again_and_its_recovery_is_timed(tmp_path: Path) -> None:
    family = Family(tmp_path)
    processes = {name: family.start(name, [sys.executable, "-c", "input()"]) for name in ("validator", "miner-1")}
    started: list[str] = []
    faults = (Fault("kill", 1.0, "validator"), Fault("kill", 2.0, "miner-1"))
    drill = Drill(faults, processes, started.append, lambda text: None)
    drill.act(2.0)
    assert started == ["validator"] and drill.killed == ["miner-1"] and drill.over
    assert all(child.process.wait(5) is not None for child in processes.values())
    row = {"connected": True, "leases": 0}
    drill.note({"miners": [row]})
    assert drill.recoveries == []
    drill.note({"miners": [row | {"leases": 1}]})
    drill.note({"miners": [row | {"leases": 1}]})
    assert len(drill.recoveries) == 1
    family.stop()


@linux
def test_cpu_shares_are_those_between_the_first_look_and_the_last() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        usage = Usage()
        usage.look("busy", busy.pid)
        first = cpu_seconds(busy.pid)
        assert first is not None
        deadline = time.monotonic() + 20
        while (now := cpu_seconds(busy.pid)) is None or now < first + 0.2:
            assert time.monotonic() < deadline
        usage.look("busy", busy.pid)
    finally:
        busy.kill()
        busy.wait()
    usage.look("busy", busy.pid)
    assert usage.shares(0.1)["busy"] >= 2.0
    assert usage.shares(0.0) == {} and cpu_seconds(os.getpid()) is not None and cpu_seconds(1 << 30) is None
