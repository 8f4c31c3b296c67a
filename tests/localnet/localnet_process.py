"""Real processes: an embedded chain, and the real btcli with a home directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BTCLI = Path(sys.executable).with_name("btcli")
needs_btcli = pytest.mark.skipif(not BTCLI.exists(), reason=f"btcli is not installed beside {sys.executable}")


@dataclass(frozen=True)
class ChainProcess:
    """A chain that answered: ``genesis`` is the hash it named, with 0x."""

    process: subprocess.Popen[str]
    endpoint: str
    genesis: str


@contextmanager
def running(*options: str) -> Iterator[ChainProcess]:
    """A chain in a process on a free port, killed at the end.

    With ``--on-demand`` nothing depends on the clock: no era runs out and nobody earns while a slow client starts.
    """
    command = [sys.executable, "-m", "template.localnet", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:2] == ["localnet", "ready:"], words
            yield ChainProcess(process, words[3], words[5])
        finally:
            process.kill()


class Btcli:
    """Runs btcli from an empty home directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "COLUMNS": "4000",  # else JSON would be wrapped within words
            "PYTHONPATH": "",
        }

    def text(self, *words: str, answers: str = "") -> str:
        """Output of a command that must succeed; ``answers`` go to whatever it still asks."""
        done = subprocess.run(
            [str(BTCLI), *words],
            input=answers,
            env=self._environment,
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert "❌" not in done.stdout, (words, done.stdout)
        return done.stdout

    def json(self, *words: str, answers: str = "") -> Any:
        output = self.text(*words, "--json-output", answers=answers)
        return json.loads(output[min(output.find(mark) % len(output) for mark in "{[") :])
