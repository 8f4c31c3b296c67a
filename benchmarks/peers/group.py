"""A group of peer processes that are led by lines of JSON, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: list[int]) -> float:
    """CPU seconds so far of the living processes in the sessions that `pids` lead, with their reaped children."""
    total = 0
    sessions = {str(pid) for pid in pids}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[3] in sessions:
                total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def loopback_bytes() -> int:
    """Bytes that this machine, or this network namespace, has sent over loopback."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    return 0


class Group:
    """Processes that answer each line with one that begins with "> "."""

    def __init__(
        self,
        commands: list[list[str]],
        environ: dict[str, str] | None = None,
        namespaces: list[Path | None] | None = None,
    ) -> None:
        self._commands = commands
        self._namespaces = namespaces or [None] * len(commands)
        self._environ = {**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})}
        self._peers: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        for command, namespace in zip(self._commands, self._namespaces, strict=True):
            # A descriptor of the namespace is enough to enter it before the program begins.
            inside = ["nsenter", f"--net={namespace}"] if namespace else []
            self._peers.append(
                await asyncio.create_subprocess_exec(
                    *inside, *command, stdin=pipe, stdout=pipe, stderr=none, env=self._environ, start_new_session=True
                )
            )

    @property
    def pids(self) -> list[int]:
        return [peer.pid for peer in self._peers]

    async def ask(self, do: str, only: list[int] | None = None, **more: Any) -> list[dict[str, Any]]:
        """One word to all, or to `only`; their answers, {} of who died."""
        asked = [peer for index, peer in enumerate(self._peers) if only is None or index in only]
        for peer in asked:
            assert peer.stdin is not None
            if peer.returncode is None:
                peer.stdin.write((json.dumps({"do": do, **more}) + "\n").encode())
        return list(await asyncio.gather(*(self.hear(peer) for peer in asked)))

    async def heard(self) -> list[dict[str, Any]]:
        """One answer of each that nobody asked for."""
        return list(await asyncio.gather(*(self.hear(peer) for peer in self._peers)))

    @staticmethod
    async def hear(peer: asyncio.subprocess.Process, limit_s: float = 1200.0) -> dict[str, Any]:
        """The next answer; {} of who died, even if a helper of its own outlives it and keeps the pipe open."""
        assert peer.stdout is not None
        deadline = asyncio.get_running_loop().time() + limit_s
        while True:
            line = asyncio.ensure_future(peer.stdout.readline())
            while not line.done() and peer.returncode is None and asyncio.get_running_loop().time() < deadline:
                await asyncio.wait({line}, timeout=0.2)
            if not line.done() or not line.result():
                line.cancel()
                return {}
            if line.result().startswith(b"> "):
                return dict(json.loads(line.result()[2:]))

    def kill(self, index: int) -> None:
        """SIGKILL one with all its helpers."""
        os.killpg(self._peers[index].pid, signal.SIGKILL)

    async def close(self) -> None:
        for peer in self._peers:
            if peer.stdin is not None:
                peer.stdin.close()
        for _ in range(100):
            if all(peer.returncode is not None for peer in self._peers):
                break
            await asyncio.sleep(0.1)
        for peer in self._peers:
            # So that nothing of it is left for a loop that is closed.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(peer.wait(), 2.0)
        for peer in self._peers:
            # Helpers may be left of those who were killed, and of those who did not end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(peer.pid, signal.SIGKILL)
