"""Runs with faults, and what must hold after any of them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from iota_subnet.localnet.launch import Launcher
from iota_subnet.localnet.options import add_arguments, parse
from iota_subnet.spec import RunSpec

ROOT = Path(__file__).resolve().parents[2]
WRONG_CLOCK = Path(__file__).with_name("wrong_clock.py")


def iota(folder: Path, *argv: str, timeout_s: float) -> dict[str, Any]:
    """`iota localnet` in a process of its own; its summary, once it has completed."""
    command = [sys.executable, "-m", "iota_subnet.cli", "localnet", *argv, "--no-ui", "--run-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


class Drilled(Launcher):
    """The launcher in this process. Miners with a wrong clock: `clocks` are seconds by the miner's number; who is off
    by more than is allowed is not waited for."""

    def __init__(self, folder: Path, *argv: str, clocks: dict[int, float] | None = None, hopeless: int = 0) -> None:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        options = parse(parser.parse_args([*argv, "--no-ui", "--run-dir", str(folder)]))
        super().__init__(options, Console(file=sys.stdout))
        self._clocks = clocks or {}
        self._hopeless = hopeless

    def spec(self) -> RunSpec:
        spec = super().spec()
        ready = spec.swarm.start_miners - self._hopeless
        return replace(spec, swarm=replace(spec.swarm, start_miners=ready))

    def miner_program(self, index: int) -> list[str]:
        if index not in self._clocks:
            return super().miner_program(index)
        return [sys.executable, str(WRONG_CLOCK), str(self._clocks[index])]

    def run(self) -> dict[str, Any]:
        with signals_kept():
            return super().run()

    def log(self, name: str) -> str:
        return (self.dir / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def assert_whole(summary: dict[str, Any], folder: Path, epochs: int, stages: int, batches: int) -> None:
    """What no fault may cost."""
    assert summary["complete"] and summary["epochs"] == epochs
    assert summary["microbatches_lost"] == 0 and summary["microbatches_retired"] >= epochs * batches
    assert summary["merge_coverage"] == [1.0] * (epochs * stages)
    assert summary["twin_disagreements"] == 0 and summary["replicas_identical"] is True
    assert summary["faults"] == []
    assert summary["eval_loss_last"] < 0.8 * summary["eval_loss_first"]
    assert processes_of(folder) == []
    if not summary["killed"]:
        assert sum(summary["weights"].values()) > 0.99


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found
