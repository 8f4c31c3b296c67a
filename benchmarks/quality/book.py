"""Results of runs that take minutes each, in one JSON file: a sweep that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch


class Book:
    """Runs by name. `path` None keeps them in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.runs: dict[str, dict[str, Any]] = self._load()

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The run of this name, from the file if it was made before."""
        if name not in self.runs:
            began = time.perf_counter()
            self.runs[name] = make()
            self._save()
            loss = self.runs[name].get("loss", float("nan"))
            print(f"[{time.perf_counter() - began:.0f} s] {name}: held-out loss {loss:.4f}", file=sys.stderr)
        return self.runs[name]

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._path is None or not self._path.exists():
            return {}
        runs: dict[str, dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))["runs"]
        return runs

    def _save(self) -> None:
        if self._path is None:
            return
        # Another process may have added runs to the same file.
        self.runs = self._load() | self.runs
        partial = self._path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"machine": machine(), "runs": self.runs}, indent=1), encoding="utf-8")
        os.replace(partial, self._path)


def machine() -> str:
    return f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread"


def row(name: str, unit: str, values: Iterable[float], peer: str = "", peers: Iterable[float] = ()) -> dict[str, Any]:
    """A mean over seeds beside the mean of its peer, seed by seed; `gaps` are ours / theirs - 1, in percent."""
    ours, theirs = list(values), list(peers)
    gaps = [100 * (a / b - 1) for a, b in zip(ours, theirs, strict=False)]
    return {
        "name": name,
        "value": fmean(ours) if ours else None,
        "unit": unit,
        "peer": peer,
        "peer_value": fmean(theirs) if theirs else None,
        "ratio": fmean(ours) / fmean(theirs) if ours and theirs else None,
        "gap_percent": fmean(gaps) if gaps else None,
        "gaps": [round(gap, 3) for gap in gaps],
        "n": len(ours),
        "min": min(ours, default=None),
        "max": max(ours, default=None),
    }
