"""How busy the processes were while the run trained: their CPU seconds by the kernel's count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iota_subnet.statusfile import NAME, read_status


def cpu_seconds(pid: int) -> float | None:
    """CPU seconds of all threads of a living process so far; None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        # proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold anything but is in parentheses.
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


class Usage:
    """CPU time of some processes between the first look at each and the last."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def look(self, name: str, pid: int) -> None:
        """Take the present figure of a process; one that is gone keeps its last."""
        seconds = cpu_seconds(pid)
        if seconds is not None:
            self._first.setdefault(name, seconds)
            self._last[name] = seconds

    def shares(self, wall_s: float) -> dict[str, float]:
        """CPU seconds per second of `wall_s`, by name; 1.0 is one core kept busy throughout."""
        if wall_s <= 0:
            return {}
        return {name: round((last - self._first[name]) / wall_s, 3) for name, last in self._last.items()}


def idle_shares(state_dir: Path) -> dict[str, float]:
    """What the miners under `state_dir` say of the time in which they had nothing to compute and nothing to fetch."""
    return {name: float(status["idle_share"]) for name, status in _miners(state_dir)}


def merge_idle_shares(state_dir: Path, epochs: int) -> dict[str, float]:
    """The same of the time of merges alone; that of the last epoch, after which there is nothing to do, left out."""
    found: dict[str, float] = {}
    for name, status in _miners(state_dir):
        merges = [status["time"].get(f"merge {epoch}") for epoch in range(epochs - 1)]
        seconds = sum(merge["seconds"] for merge in merges if merge)
        if seconds:
            found[name] = round(sum(merge["idle_share"] * merge["seconds"] for merge in merges if merge) / seconds, 4)
    return found


def _miners(state_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(state_dir.glob(f"*/*/*/{NAME}")):
        try:
            status = read_status(path)
        except (OSError, ValueError):
            continue
        if status["kind"] == "miner":
            yield str(status["wallet_hotkey"]), status
