"""Child processes that never outlive the launcher: stopped in order, killed in groups, and bound to its life."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000


class Child:
    """One process in its own group, its output in a log file; in the network namespace `netns`, if one is given."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: dict[str, str] | None = None,
        netns: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.started_at = time.monotonic()
        self._file = log.open("ab")
        self.process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            preexec_fn=_before_it_begins(os.getpid(), netns) if sys.platform == "linux" else None,
        )

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def send(self, number: int) -> None:
        """Signal the whole group; a group that is gone is not an error."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            # macOS says "not permitted" of a group that only zombies are left of.
            return

    def tail(self, lines: int = 12) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        """Close our handle of its log; the process is left as it is."""
        self._file.close()


class Family:
    """All children of one launcher."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def start(
        self, name: str, argv: Sequence[str], env: dict[str, str] | None = None, netns: Path | None = None
    ) -> Child:
        """Start a process whose output goes to `NAME.log`, in a network namespace if one is given."""
        child = Child(name, argv, self._logs / f"{name}.log", env, netns)
        self._children.append(child)
        return child

    def stop(self, patience_s: float = 6.0) -> None:
        """Ask all to end, last started first; kill what has not ended after `patience_s`. Safe to call twice."""
        for child in reversed(self._children):
            if child.alive:
                child.send(signal.SIGTERM)
                # A frozen one hears nothing.
                child.send(signal.SIGCONT)
        deadline = time.monotonic() + patience_s
        for child in self._children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
        for child in self._children:
            # The group may hold a grandchild although its leader has ended.
            child.send(signal.SIGKILL)
            child.process.wait()
            child.close()
        self._children.clear()


def _before_it_begins(parent: int, netns: Path | None) -> Callable[[], None]:
    """Linux ends the child when the launcher is gone, even by kill -9; SIGKILL, because nobody is left to insist."""
    libc = ctypes.CDLL(None)
    prctl, setns = libc.prctl, libc.setns

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if netns is not None and setns(os.open(netns, os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWNET) != 0:
            os._exit(1)

    return bind
