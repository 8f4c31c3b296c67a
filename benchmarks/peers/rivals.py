"""hivemind and gloo as `benchmarks/butterfly.py` sees them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from peers.group import Group, cpu_seconds, loopback_bytes

HERE = Path(__file__).parent


@dataclass
class Reduce:
    """One all-reduce. `sent` is what loopback carried meanwhile, per peer: others on this machine count too."""

    seconds: float
    cpu: float
    sent: float
    ok: bool
    answers: list[dict[str, Any]]


def interpreter(asked: str | None) -> str | None:
    """An interpreter that can import hivemind."""
    for python in (asked, os.environ.get("HIVEMIND_PYTHON"), sys.executable):
        if python and subprocess.run([python, "-c", "import hivemind"], capture_output=True).returncode == 0:
            return python
    return None


async def _timed(group: Group, peers: int, do: str) -> Reduce:
    cpu, sent = cpu_seconds(group.pids), loopback_bytes()
    answers = await group.ask(do)
    living = [answer for answer in answers if answer]
    seconds = max(a["ended"] for a in living) - min(a["began"] for a in living)
    sent = (loopback_bytes() - sent) // peers
    return Reduce(seconds, cpu_seconds(group.pids) - cpu, sent, all(a["ok"] for a in living), answers)


class Hivemind:
    """`peers` averagers, one process each, with their own DHT."""

    def __init__(self, python: str, peers: int, values: int, codec: str) -> None:
        script = str(HERE / "hivemind_averager.py")
        self.peers = peers
        commands = [[python, script, str(index), str(peers), str(values), codec] for index in range(peers)]
        self._group = Group(commands, {"HIVEMIND_LOGLEVEL": "ERROR", "PYTHONPATH": ""})

    async def start(self, name: str) -> None:
        await self._group.start()
        first = (await self._group.ask("dht", only=[0], peers=[]))[0]["addresses"]
        await self._group.ask("dht", only=list(range(1, self.peers)), peers=first)
        await self._group.ask("averager", group=name)

    async def reduce(self) -> Reduce:
        """The all-reduce alone: the group has been found before the clock starts."""
        for _ in range(5):
            if all(answer["ok"] for answer in await self._group.ask("match")):
                return await _timed(self._group, self.peers, "go")
        raise RuntimeError("hivemind found no group in five tries")

    async def step(self) -> Reduce:
        """With matchmaking."""
        return await _timed(self._group, self.peers, "step")

    async def judge(self, only: list[int] | None = None) -> list[dict[str, Any]]:
        return await self._group.ask("judge", only=only)

    async def killed(self, kill: int, random: Random, reduce_s: float) -> tuple[Reduce, list[dict[str, Any]]]:
        """An all-reduce in which `kill` peers die within `reduce_s` seconds; afterwards only `close` makes sense."""
        for _ in range(5):
            if all(answer["ok"] for answer in await self._group.ask("match")):
                break
        victims = random.sample(range(self.peers), kill)
        delay_s = random.uniform(0.0, reduce_s)
        running = asyncio.create_task(_timed(self._group, self.peers, "go"))
        await asyncio.sleep(delay_s)
        for index in victims:
            self._group.kill(index)
        result = await running
        alive = [index for index in range(self.peers) if index not in victims]
        return result, await self.judge(alive)

    async def close(self) -> None:
        await self._group.close()


class Gloo:
    """`ranks` of torch.distributed, one process each."""

    def __init__(self, ranks: int, values: int, folder: Path) -> None:
        script, store = str(HERE / "gloo.py"), str(folder / "gloo")
        self.ranks = ranks
        commands = [[sys.executable, script, str(rank), str(ranks), str(values), store] for rank in range(ranks)]
        self._group = Group(commands)

    async def start(self) -> None:
        await self._group.start()
        await self._group.heard()

    async def reduce(self) -> Reduce:
        return await _timed(self._group, self.ranks, "go")

    async def close(self) -> None:
        await self._group.close()
