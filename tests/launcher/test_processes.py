"""No process is left behind: not by an end, not by one that will not hear, not by kill -9 of the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iota_subnet.localnet.processes import Family

ROOT = Path(__file__).resolve().parents[2]

#: Says that it is there, with its own number and that of a grandchild; hears SIGTERM only if told to.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
print(os.getpid(), grandchild.pid, flush=True)
time.sleep(120)
"""

POLITE = """
import signal, sys, time
def end(number, frame):
    print("goodbye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("hello", flush=True)
time.sleep(120)
"""

EARLY = """
import subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
print(0, grandchild.pid, flush=True)
"""

LAUNCHER = """
import sys, time
from pathlib import Path
from iota_subnet.localnet.processes import Family
child = Family(Path(sys.argv[1])).start("child", [sys.executable, "-c", sys.argv[2]])
print("started", flush=True)
time.sleep(120)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def numbers(log: Path) -> list[int]:
    until(lambda: log.is_file() and len(log.read_text().split()) >= 2)
    return [int(word) for word in log.read_text().split()]


def test_a_child_that_hears_is_let_finish(tmp_path: Path) -> None:
    family = Family(tmp_path)
    child = family.start("polite", [sys.executable, "-c", POLITE])
    until(lambda: child.tail() == "hello")
    family.stop()
    assert child.tail() == "hello\ngoodbye" and child.process.returncode == 0
    family.stop()


def test_a_child_that_does_not_hear_and_its_own_child_are_killed(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.start("stubborn", [sys.executable, "-c", STUBBORN])
    pids = numbers(tmp_path / "stubborn.log")
    began = time.monotonic()
    family.stop(patience_s=0.3)
    assert time.monotonic() - began < 3.0
    until(lambda: all(map(gone, pids)))


def test_a_grandchild_whose_parent_has_ended_is_killed(tmp_path: Path) -> None:
    family = Family(tmp_path)
    child = family.start("early", [sys.executable, "-c", EARLY])
    grandchild = numbers(tmp_path / "early.log")[1]
    until(lambda: not child.alive)
    assert not gone(grandchild)
    family.stop()
    until(lambda: gone(grandchild))


def test_a_killed_child_is_seen_to_be_dead(tmp_path: Path) -> None:
    family = Family(tmp_path)
    child = family.start("stubborn", [sys.executable, "-c", STUBBORN])
    pids = numbers(tmp_path / "stubborn.log")
    assert child.alive
    child.send(signal.SIGKILL)
    until(lambda: not child.alive)
    until(lambda: all(map(gone, pids)))
    child.send(signal.SIGKILL)
    family.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_children_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path), STUBBORN],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child, grandchild = numbers(tmp_path / "child.log")
    launcher.kill()
    launcher.wait()
    until(lambda: gone(child))
    os.kill(grandchild, signal.SIGKILL)  # its own parent had no say; a neuron's worker watches for itself


def test_the_end_of_a_log_is_there_for_an_error_message(tmp_path: Path) -> None:
    family = Family(tmp_path)
    child = family.start("many", [sys.executable, "-c", "print(*range(100), sep=chr(10))"])
    until(lambda: not child.alive)
    assert child.tail(3) == "97\n98\n99"
    family.stop()
