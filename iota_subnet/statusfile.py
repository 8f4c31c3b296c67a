"""A neuron's status on disk: one small JSON file beside its state file, for `iota status` and for other programs.

Law: the file is whole or absent, never half written; it holds nothing secret; a reader can tell an old one from a live
one. Standard library only: the miner's memory has no room for more.

Every file has `kind` (miner or validator), `hotkey`, `wallet`, `wallet_hotkey`, `netuid`, `pid`, `host`, `state` (one
line), `written_at` (Unix seconds) and `ended` (true when the process has stopped on purpose). A miner's also has
`idle_share`, `compute_share` and `fetch_share`: parts of the time, summing to 1 (all 0 before it began), in which it
computed, only fetched, or did neither, from its first epoch to now or to the end of the run. docs/status.md has the
rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "status.json"

#: Seconds between two writings, and after which a file that was not written again is not believed.
EVERY_S = 2.0
STALE_S = 20.0

#: A status is a few kilobytes; more is not one of ours.
MAX_BYTES = 8 << 20

_EPOCH = re.compile(r"\bepoch (\d{1,9})\b")


def write_status(path: Path, document: dict[str, Any]) -> None:
    """Replace the file at once. Raises OSError."""
    stamp = {"pid": os.getpid(), "host": platform.node(), "written_at": time.time(), "ended": False}
    draft = path.with_suffix(".draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    # No fsync: after a crash of the machine an old status is as good as none.
    draft.write_text(json.dumps(stamp | document), encoding="utf-8")
    draft.replace(path)


def read_status(path: Path | str) -> dict[str, Any]:
    """The newest status in `path`. Raises OSError when there is none, ValueError when it is not a status."""
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is too large for a status")
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("kind") not in ("miner", "validator"):
        raise ValueError(f"{path} is not a status")
    return document


def gone(document: dict[str, Any], now: float) -> str:
    """Why the process that wrote this can be taken for gone, or nothing. `now` is in Unix seconds."""
    age = max(0.0, now - float(document.get("written_at", 0.0)))
    if document.get("ended"):
        return f"it stopped {ago(age)} ago"
    here = document.get("host") == platform.node()
    alive = _alive(int(document.get("pid", 0))) if here else age <= STALE_S
    if not alive:
        return f"its process is gone; it last wrote {ago(age)} ago"
    if age > STALE_S:
        return f"it has written nothing for {ago(age)}: it hangs, or its pid belongs to another process by now"
    return ""


def from_one(text: str) -> str:
    """A text in which epochs count from 0, as the ledger and logs do, with epochs that count from 1, as people do."""
    return _EPOCH.sub(lambda found: f"epoch {int(found[1]) + 1}", text)


def ago(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `2 days`."""
    for unit, size, up_to in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < up_to:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0


class StatusFile:
    """Keeps one neuron's file up to date. A disk that is full costs the status, never the work."""

    def __init__(self, path: Path, document: Callable[[], dict[str, Any]]) -> None:
        self.path = path
        self.trouble = ""
        self._document = document

    def write(self, **more: Any) -> None:
        """Write now; `trouble` says what went wrong, or nothing."""
        try:
            write_status(self.path, self._document() | more)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self.path} cannot be written: {error.strerror}"

    async def keep(self, every_s: float = EVERY_S) -> None:
        """Write for ever."""
        while True:
            self.write()
            await asyncio.sleep(every_s)
