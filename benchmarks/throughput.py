"""Tokens a second of a whole subnet with one miner per stage, against torch's pipelines and hivemind's experts.

    python benchmarks/throughput.py [--rounds 3] [--link 100mbit] [--ratio 1 32] [--hivemind PYTHON] [--json FILE]

Ours: `iota localnet`'s own launcher with 4 miners in 4 stages: chain, validator, signatures, ledger, evidence, audits,
a merge after each epoch; an epoch, merge included, is one repetition, the first of each run warms up. Peers, in turn
with it: torch.distributed.pipelining (GPipe, 1F1B) with 4 gloo processes, one process with the whole model, hivemind's
remote experts with 4 servers and a trainer. All: the same modules (hivemind: the same blocks), microbatches of one
sequence of 256, 8 of them in a step of AdamW, float32, one torch thread a process; ours sends bfloat16, the others
float32. CPU seconds are those of all processes of a side; they say more than the clock where others use the machine.
With --link every process of a side is behind an emulated line of its own (docs/faults.md), ours and the peers' alike.

JSON: {"rows": [{"name", "value", "unit", "peer", "peer_value", "ratio", "n", "min", "max"}]}; ratio = value / peer.
A repetition in which this process itself stood still has no tokens a second: the machine was not ours then. Its CPU
seconds count all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from peers.group import Group, cpu_seconds
from peers.rivals import interpreter
from rich.console import Console

from iota_subnet.localnet.lanes import Link
from iota_subnet.localnet.launch import Launcher
from iota_subnet.localnet.network import Wan
from iota_subnet.localnet.options import Options
from iota_subnet.localnet.processes import Child, Family
from iota_subnet.localnet.usage import cpu_seconds as alone_seconds
from iota_subnet.spec import DataSpec, ModelSpec, RunSpec, SwarmSpec, TrainSpec

HERE = Path(__file__).parent

#: 8.92M parameters: hidden 256, 8 layers, vocabulary 4096.
MODEL = ModelSpec("llama-9m", 4096, 256, 8, 4, 4, 768, 256, stages=4, bottleneck=0)
#: Sequences in a step of the optimiser. Peers cut them into microbatches of one, which fills their pipelines best; ours
#: is never flushed and takes four at a time.
SEQUENCES, TOGETHER = 8, 4
STEP_TOKENS = SEQUENCES * MODEL.seq

#: A repetition in which this process slept so much longer than it asked for is none.
STILL_S = 1.0

#: The validator's own loop, and the process in which it measures held-out loss and replays miners for audits.
VALIDATOR, CHECKS = "validator", "evaluation and audits"
LOOK_S = 0.2


@dataclass
class Repetition:
    """`parts` are CPU seconds by who used them; `seconds` None where the clock says nothing."""

    tokens: int
    seconds: float | None
    cpu: float
    parts: dict[str, float]


class Watch:
    """Remembers when this process stood still, and what processes have used, as time goes by (both clocks)."""

    def __init__(self) -> None:
        self.still: list[tuple[float, float]] = []
        self.used: list[tuple[float, dict[str, float]]] = []
        #: Leaders of sessions, by what their CPU seconds are for; `loop` is a process without its children.
        self.groups: dict[str, list[int]] = {}
        self.loop = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        last = time.time()
        while True:
            time.sleep(LOOK_S)
            now = time.time()
            if now - last > LOOK_S + STILL_S:
                self.still.append((last, now))
            last = now
            groups = dict(self.groups)
            if groups:
                used = {name: cpu_seconds(pids) for name, pids in groups.items()}
                alone = alone_seconds(self.loop) if self.loop else None
                if alone is not None and VALIDATOR in used:
                    used[CHECKS], used[VALIDATOR] = used[VALIDATOR] - alone, alone
                self.used.append((now, used))

    def stood_still(self, began: float, ended: float) -> bool:
        return any(began < to and since < ended for since, to in self.still)

    def between(self, began: float, ended: float) -> dict[str, float]:
        first, last = self._at(began), self._at(ended)
        return {name: last[name] - first.get(name, 0.0) for name in last}

    def _at(self, when: float) -> dict[str, float]:
        """Linear between the looks around `when`."""
        before = max((used for used in self.used if used[0] <= when), key=lambda used: used[0], default=self.used[0])
        after = min((used for used in self.used if used[0] >= when), key=lambda used: used[0], default=self.used[-1])
        part = (when - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
        return {name: before[1].get(name, v) + part * (v - before[1].get(name, v)) for name, v in after[1].items()}


class Subnet(Launcher):
    """The launcher, with a specification that no flag describes."""

    def __init__(self, options: Options, ratio: int, stash: int, watch: Watch) -> None:
        super().__init__(options, Console(file=io.StringIO()))
        self._ratio, self._stash, self._watched = ratio, stash, watch

    def spec(self) -> RunSpec:
        options = self.options
        model = MODEL if self._ratio == 1 else replace(MODEL, bottleneck=MODEL.dim // self._ratio)
        swarm = SwarmSpec(
            epochs=options.epochs, epoch_batches=options.batches, start_miners=options.miners, start_s=120.0,
            live_per_replica=options.graphs, audit_miners=options.audit_miners,
        )  # fmt: skip
        train = TrainSpec(microbatch=TOGETHER, accumulate=SEQUENCES // TOGETHER, stash=self._stash)
        return RunSpec("throughput", options.seed, model=model, train=train, swarm=swarm, data=DataSpec("stdlib"))

    def restart(self, name: str) -> None:
        super().restart(name)
        self._note()

    def _look(self) -> None:
        self._note()
        super()._look()

    def _note(self) -> None:
        groups: dict[str, list[int]] = {}
        for name, child in self._processes.items():
            groups.setdefault("miners" if name.startswith("miner") else name, []).append(child.process.pid)
            if name == VALIDATOR:
                self._watched.loop = child.process.pid
        relay: Child | None = getattr(self.network, "_relay", None)
        if relay is not None:
            groups["relay"] = [relay.process.pid]
        self._watched.groups = groups


def ours(asked: argparse.Namespace, watch: Watch, ratio: int, folder: Path) -> list[Repetition]:
    """The epochs of one run, but for the first."""
    link = Link.parse(asked.link) if asked.link else None
    options = Options(
        MODEL.stages, MODEL.stages, asked.epochs + 1, asked.batches, "tiny", "stdlib", 0, (), link, None, False,
        folder, False, 0.25, None, graphs=asked.graphs, audit_miners=asked.audit_miners,
    )  # fmt: skip
    watch.used.clear()
    subnet = Subnet(options, ratio, asked.stash, watch)
    try:
        summary = subnet.run()
    finally:
        watch.groups, watch.loop = {}, 0
    assert summary["complete"] and not summary["microbatches_lost"], summary
    reports = (subnet.picture.status or {})["reports"]
    found = []
    for report in reports[1:]:
        began, ended = report["started_at"], report["ended_at"]
        parts = watch.between(began, ended)
        tokens = report["microbatches"] * TOGETHER * MODEL.seq
        seconds = None if watch.stood_still(began, ended) else ended - began
        found.append(Repetition(tokens, seconds, sum(parts.values()), parts))
    return found


class Lines:
    """The namespaces of a rival's processes, each behind its own line; none without a link."""

    def __init__(self, link: str | None, count: int, folder: Path) -> None:
        self.hosts = ["127.0.0.1"] * count
        self.namespaces: list[Path | None] = [None] * count
        self.environ: dict[str, str] = {}
        self.relay: list[int] = []
        self._wan: Wan | None = None
        if link:
            # A relay says in its log where its lines are: one that has ended must not be heard again.
            own = Path(tempfile.mkdtemp(dir=folder))
            self._family = Family(own)
            self._wan = Wan(Link.parse(link), count, 0, own, self._family)
            self.relay = [self._wan._relay.process.pid]
            self.hosts = [self._wan.address(n) for n in range(count)]
            self.namespaces = [self._wan.namespace(n) for n in range(count)]
            self.environ = {"GLOO_SOCKET_IFNAME": "iota0"}

    def close(self) -> None:
        if self._wan is not None:
            self._family.stop()
            self._wan.leave()


async def _measured(group: Group, lines: Lines, only: list[int], asked: argparse.Namespace) -> list[Repetition]:
    """`--epochs` times `--steps` steps, after two that warm up."""
    found = []
    for turn in range(asked.epochs + 1):
        steps = asked.steps if turn else 2
        pids = [*group.pids, *lines.relay]
        began, cpu = time.time(), cpu_seconds(pids)
        answers = await group.ask("go", only=only, steps=steps)
        assert all(answers), "a process of the peer has died"
        used, ended = cpu_seconds(pids) - cpu, time.time()
        seconds = max(a["ended"] for a in answers) - min(a["began"] for a in answers)
        if turn:
            clean = None if asked.watch.stood_still(began, ended) else seconds
            found.append(Repetition(steps * STEP_TOKENS, clean, used, {}))
    return found


async def pipeline(schedule: str, asked: argparse.Namespace, folder: Path) -> list[Repetition]:
    model = replace(MODEL, stages=1) if schedule == "single" else MODEL
    lines = Lines(None if schedule == "single" else asked.link, model.stages, folder)
    script, spec = str(HERE / "peers" / "pipeline.py"), json.dumps(asdict(model))
    commands = [
        [sys.executable, script, str(rank), schedule, spec, str(SEQUENCES), str(folder / f"store-{schedule}")]
        for rank in range(model.stages)
    ]
    group = Group(commands, {"PYTHONPATH": str(HERE.parent), **lines.environ}, lines.namespaces)
    try:
        await group.start()
        assert all(answer is not None for answer in await group.heard())
        return await _measured(group, lines, list(range(model.stages)), asked)
    finally:
        await group.close()
        lines.close()


async def experts(python: str, asked: argparse.Namespace, folder: Path) -> list[Repetition]:
    stages = MODEL.stages
    lines = Lines(asked.link, stages + 1, folder)
    script, spec = str(HERE / "peers" / "hivemind_experts.py"), json.dumps(asdict(MODEL))
    commands = [
        [python, script, str(index if index < stages else -1), spec, str(SEQUENCES), lines.hosts[index]]
        for index in range(stages + 1)
    ]
    environ = {"PYTHONPATH": str(HERE.parent), "HIVEMIND_LOGLEVEL": "ERROR"}
    group = Group(commands, environ, lines.namespaces)
    try:
        await group.start()
        first = (await group.ask("serve", only=[0], peers=[]))[0]["addresses"]
        await group.ask("serve", only=list(range(1, stages)), peers=first)
        await group.ask("join", only=[stages], peers=first)
        return await _measured(group, lines, [stages], asked)
    finally:
        await group.close()
        lines.close()


def speeds(found: list[Repetition]) -> list[float]:
    return [one.tokens / one.seconds for one in found if one.seconds]


def costs(found: list[Repetition], without: str = "") -> list[float]:
    """Of all processes, but for what went into `without`."""
    return [1000 * (one.cpu - one.parts.get(without, 0.0)) / one.tokens for one in found]


def row(name: str, unit: str, mine: list[float], peer: str, theirs: list[float]) -> dict[str, Any]:
    value, other = median(mine), median(theirs)
    return {
        "name": name, "value": round(value, 4), "unit": unit, "peer": peer, "peer_value": round(other, 4),
        "ratio": round(value / other, 4), "n": len(mine), "min": round(min(mine), 4), "max": round(max(mine), 4),
        "peer_n": len(theirs), "peer_min": round(min(theirs), 4), "peer_max": round(max(theirs), 4),
    }  # fmt: skip


def rows_of(taken: dict[str, list[Repetition]], link: str | None) -> list[dict[str, Any]]:
    where = f", links of {link}" if link else ""
    mine = {name: found for name, found in taken.items() if name.startswith("ours")}
    rows = []
    for name, found in mine.items():
        for peer, theirs in taken.items():
            if peer in mine or not theirs or not found:
                continue
            ratio = name.removeprefix("ours ")
            if speeds(found) and speeds(theirs):
                rows.append(row(f"4 stages, {ratio}{where}", "tokens/s", speeds(found), peer, speeds(theirs)))
            for what, mine_cost in (("", costs(found)), (", without checks", costs(found, CHECKS))):
                name_of = f"4 stages, {ratio}{where}{what}"
                rows.append(row(name_of, "CPU s per 1k tokens", mine_cost, peer, costs(theirs)))
    return rows


def told(name: str, found: list[Repetition]) -> str:
    if not found:
        return f"{name}: nothing"
    parts = {part: 1000 * median(one.parts[part] / one.tokens for one in found) for part in found[0].parts}
    shares = "".join(f", {part} {value:.3f}" for part, value in parts.items())
    fast = speeds(found)
    speed = f"{median(fast):,.0f} tokens/s [{min(fast):,.0f}..{max(fast):,.0f}] n={len(fast)}" if fast else "no clock"
    return f"{name}: {speed}, {median(costs(found)):.3f} CPU s per 1k tokens n={len(found)}{shares}"


def took(taken: dict[str, list[Repetition]], turn: int, name: str, found: list[Repetition]) -> None:
    taken.setdefault(name, []).extend(found)
    print(f"[{turn + 1}] {told(name, taken[name])}", file=sys.stderr, flush=True)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    asked.watch = watch = Watch()
    python = None if asked.no_hivemind else interpreter(asked.hivemind)
    taken: dict[str, list[Repetition]] = {}
    for turn in range(asked.rounds):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            for ratio in asked.ratio:
                found = ours(asked, watch, ratio, folder / f"run-{ratio}")
                took(taken, turn, f"ours {ratio}x", found)
            for schedule, name in (("gpipe", "torch GPipe"), ("1f1b", "torch 1F1B"), ("single", "single process")):
                took(taken, turn, name, asyncio.run(pipeline(schedule, asked, folder)))
            if python:
                took(taken, turn, "hivemind experts", asyncio.run(experts(python, asked, folder)))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    reps = {name: [asdict(one) for one in found] for name, found in taken.items()}
    return {"machine": machine, "link": asked.link, "rows": rows_of(taken, asked.link), "repetitions": reps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, by turns")
    parser.add_argument("--epochs", type=int, default=2, help="repetitions in a round, after one that warms up")
    parser.add_argument("--batches", type=int, default=240, help="microbatches of an epoch of ours")
    parser.add_argument("--steps", type=int, default=10, help="steps of a repetition of a peer")
    parser.add_argument("--graphs", type=int, default=4, help="microbatches on their way per replica of ours")
    parser.add_argument("--stash", type=int, default=2, help="inner steps for which replicas of ours keep weights")
    parser.add_argument("--audit-miners", type=float, default=SwarmSpec().audit_miners)
    parser.add_argument("--ratio", type=int, nargs="+", default=[1], help="compression of ours")
    parser.add_argument("--link", help="RATE,RTT,LOSS of each process's line, as in iota localnet --link")
    parser.add_argument("--hivemind", metavar="PYTHON", help="an interpreter that has hivemind")
    parser.add_argument("--no-hivemind", action="store_true")
    parser.add_argument("--json", metavar="FILE", type=Path)
    asked = parser.parse_args()
    result = measure(asked)
    for line in result["rows"]:
        print(f"{line['name']:<34} {line['value']:>10} {line['unit']:<20} {line['peer']}: {line['peer_value']} "
              f"ratio {line['ratio']}")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
