"""What one event costs the core, from 100 to 10,000 miners in 16 stages, every seat busy.

    python benchmarks/scale.py [--json] [--svg docs/scale.svg] [--miners 100,300,1000,3000,10000] [--seconds 15]

A light driver answers the core's actions in virtual time: seats, leases, tokens, a tick per second, and one miner in
a thousand per second that loses its channel. Only `handle` is timed, event by event: its cost by the processor time of
the thread, so that a busy machine does not count, its p99 and longest by the wall clock, so that everything does. Each
size runs in a process of its own, with Python's collector of cycles as the validator sets it; the largest once more
without it and once more as Python sets it. A full collection, which the validator makes when an INSTALL begins, is
timed by itself. No invariants are checked here: `iota simulate` does that.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import json
import math
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from iota_subnet.core import orchestrator
from iota_subnet.core.actions import Action, AssignLayer, GiveLease, PublishBatch, SetPhase
from iota_subnet.core.events import (
    BatchPublished,
    Event,
    LeaseFinished,
    Manifest,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    RunStarted,
    ShardRef,
    StageInstalled,
    Tick,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase
from iota_subnet.spec import BlobRef, ModelSpec, RunSpec, SwarmSpec
from iota_subnet.validator.collector import calm

STAGES = 16
SIZES = (100, 300, 1_000, 3_000, 10_000)

#: Who looks for cycles: Python as the validator has it do so, nobody, Python left to itself.
COLLECTORS = ("validator", "none", "default")

#: What is asked of the largest size: events per second, milliseconds, bytes.
TARGET = {"events_per_s": 30_000.0, "p99_ms": 1.0, "rss_mb": 1_500.0}


def spec(miners: int) -> RunSpec:
    """One endless TRAIN, with enough microbatches on their way to keep every seat busy."""
    swarm = SwarmSpec(
        start_miners=miners,
        start_s=600.0,
        epoch_batches=1 << 40,
        live_per_replica=STAGES + 8,
        leases_per_miner=2,
        lease_s=60.0,
        train_s=1e9,
        max_miners=miners + 16,
    )
    return RunSpec(model=ModelSpec(stages=STAGES, blocks=STAGES), swarm=swarm)


class Driver:
    """Answers actions with events, in virtual time. `timings` are nanoseconds of `handle`, one per event, by the wall
    clock; `spent` are nanoseconds of processor time, likewise."""

    def __init__(self, miners: int) -> None:
        self.rng = Random(f"scale {miners}")
        self.spec = spec(miners)
        self.core = Orchestrator(self.spec)
        self.hotkeys = [f"miner-{number}" for number in range(miners)]
        self.seconds = {hotkey: self.rng.uniform(0.5, 2.0) for hotkey in self.hotkeys}
        self.busy = dict.fromkeys(self.hotkeys, 0.0)
        self.losses = (3.0,) * self.spec.train.microbatch
        self.heap: list[tuple[float, int, Event]] = []
        self.posted = 0
        self.now = 0.0
        self.timings: list[int] = []
        self.spent: list[int] = []

    def post(self, event: Event) -> None:
        self.posted += 1
        heapq.heappush(self.heap, (event.at, self.posted, event))

    def handle(self, event: Event) -> None:
        began, busy = time.perf_counter_ns(), time.thread_time_ns()
        actions = self.core.handle(event)
        self.spent.append(time.thread_time_ns() - busy)
        self.timings.append(time.perf_counter_ns() - began)
        for action in actions:
            self.answer(action)

    def answer(self, action: Action) -> None:
        now = self.now
        match action:
            case GiveLease():
                start = max(now, self.busy[action.hotkey])
                # As measured on one GPU: a backward pass takes about twice a forward one.
                seconds = self.seconds[action.hotkey] * {"forward": 1.0, "loss": 3.0, "backward": 2.0}[action.op]
                self.busy[action.hotkey] = done = start + seconds
                last = action.op != "forward" and action.stage == 0
                self.post(
                    LeaseFinished(
                        at=done + 0.05,
                        hotkey=action.hotkey,
                        lease=action.lease,
                        output=None if last else BlobRef(f"{action.lease:x}", 64, ("u",)),
                        losses=self.losses if action.op == "loss" else (),
                        seconds=seconds,
                        inner_step=0,
                    )
                )
            case PublishBatch():
                self.post(BatchPublished(at=now + 0.02, batch=action.batch, tokens=BlobRef("t", 64, ("feed",))))
            case AssignLayer():
                self.install(action.hotkey, action.manifest, 0.5)
            case SetPhase() if action.manifest is not None:
                self.install(action.hotkey, action.manifest, 0.5)
            case _:
                pass

    def install(self, hotkey: str, manifest: Manifest, seconds: float) -> None:
        self.post(
            StageInstalled(
                at=self.now + seconds,
                hotkey=hotkey,
                stage=manifest.stage,
                epoch=manifest.epoch,
                digest="same",
                manifest=manifest.name,
            )
        )

    def begin(self) -> None:
        """Everybody joins, within ten simulated seconds."""
        blob = BlobRef("b", 64, ("u",))
        manifests = tuple(Manifest(k, 0, (ShardRef(0, 64, blob, blob),)) for k in range(STAGES))
        self.handle(
            RunStarted(at=0.0, spec_digest=self.spec.digest(), secret="s", sizes=(64,) * STAGES, manifests=manifests)
        )
        for number, hotkey in enumerate(self.hotkeys):
            at = 10.0 * number / len(self.hotkeys)
            self.post(MinerJoined(at=at, hotkey=hotkey, boot="0"))
            self.post(MinerConnected(at=at, hotkey=hotkey))
        self.post(Tick(at=1.0))

    def step(self) -> None:
        self.now, _, event = heapq.heappop(self.heap)
        self.handle(event)
        if isinstance(event, Tick):
            self.post(Tick(at=self.now + 1.0))
            if self.core.state.phase is Phase.TRAIN:
                for hotkey in self.rng.sample(self.hotkeys, max(1, len(self.hotkeys) // 1000)):
                    self.post(MinerDisconnected(at=self.now + 0.5, hotkey=hotkey, reason="churn"))
                    self.post(MinerConnected(at=self.now + 2.5, hotkey=hotkey))


def collected(miners: int, seconds: float, events: int, collector: str) -> dict[str, float]:
    """`measure` with one of `COLLECTORS`."""
    if collector == "none":
        gc.disable()
    with calm() if collector == "validator" else contextlib.nullcontext():
        return measure(miners, seconds, events)


def measure(miners: int, seconds: float, events: int) -> dict[str, float]:
    """One size: joining, a warm-up until half as many microbatches have retired as are on their way, so that all kinds
    of events come as often as they will; then up to `events` events or `seconds` of wall time."""
    driver = Driver(miners)
    driver.begin()
    limit = time.perf_counter() + 4 * seconds
    while driver.core.state.phase is not Phase.TRAIN and time.perf_counter() < limit:
        driver.step()
    joining = list(driver.spent)
    if driver.core.state.phase is not Phase.TRAIN:
        raise SystemExit(f"{miners} miners: no TRAIN after {4 * seconds:.0f} s and {len(joining)} events")
    state = driver.core.state
    limit = time.perf_counter() + 4 * seconds
    while 2 * state.reports[-1].microbatches < len(state.batches) and time.perf_counter() < limit:
        driver.step()
    retired = state.reports[-1].microbatches
    driver.timings.clear()
    driver.spent.clear()
    limit = time.perf_counter() + seconds
    while len(driver.timings) < events and time.perf_counter() < limit:
        driver.step()
    wall, count, spent = sorted(driver.timings), len(driver.timings), sum(driver.spent)
    began = time.perf_counter()
    gc.collect()
    full = time.perf_counter() - began
    return {
        "miners": miners,
        "events": count,
        "us_per_event": spent / count / 1e3,
        "events_per_s": count / spent * 1e9,
        "p50_ms": wall[count // 2] / 1e6,
        "p99_ms": wall[count * 99 // 100] / 1e6,
        "max_ms": wall[-1] / 1e6,
        "full_ms": full * 1e3,
        "join_us_per_event": sum(joining) / len(joining) / 1e3,
        "retired": state.reports[-1].microbatches - retired,
        "live_batches": len(driver.core.state.batches),
        "open_leases": len(driver.core.state.leases),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def apart(miners: int, seconds: float, events: int, collector: str = COLLECTORS[0]) -> dict[str, float]:
    """`measure` in a process of its own, so that no size pays for another's memory."""
    command = [sys.executable, __file__, "--one", str(miners), "--seconds", str(seconds), "--events", str(events)]
    command += ["--collector", collector]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{miners} miners: failed")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def row(name: str, values: list[float], unit: str, peer: str = "", peer_value: float | None = None) -> dict[str, Any]:
    value = median(values)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": value / peer_value if peer_value else None,
        "n": len(values),
        "min": min(values),
        "max": max(values),
    }


def rows(results: dict[int, list[dict[str, float]]], others: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    largest, smallest = max(results), min(results)
    out = [
        row(f"core events per second, {largest} miners", [r["events_per_s"] for r in results[largest]], "1/s",
            "target, at least", TARGET["events_per_s"]),
        row("the same without the cyclic collector", [r["events_per_s"] for r in others["none"]], "1/s",
            "target, at least", TARGET["events_per_s"]),
        row("the same, the collector as Python sets it", [r["events_per_s"] for r in others["default"]], "1/s",
            "target, at least", TARGET["events_per_s"]),
        row(f"p99 of handle, {largest} miners", [r["p99_ms"] for r in results[largest]], "ms",
            "target, at most", TARGET["p99_ms"]),
        row(f"longest handle, {largest} miners", [r["max_ms"] for r in results[largest]], "ms"),
        row("the same, the collector as Python sets it", [r["max_ms"] for r in others["default"]], "ms"),
        row("a full collection, when INSTALL begins", [r["full_ms"] for r in results[largest]], "ms"),
        row(f"resident memory, {largest} miners", [r["rss_mb"] for r in results[largest]], "MB",
            "target, at most", TARGET["rss_mb"]),
    ]  # fmt: skip
    base = median([r["us_per_event"] for r in results[smallest]])
    for miners, runs in results.items():
        allowed = base * math.log(miners) / math.log(smallest)
        out.append(
            row(f"cost per event, {miners} miners", [r["us_per_event"] for r in runs], "us", "growth by log n", allowed)
        )
    for miners, runs in results.items():
        out.append(row(f"cost per event while joining, {miners} miners", [r["join_us_per_event"] for r in runs], "us"))
    return out


def plot(results: dict[int, list[dict[str, float]]]) -> str:
    """Cost per event over the number of miners (log scale), with a curve that grows by log n from the first point."""
    width, height, left, bottom, top = 640, 360, 70, 50, 40
    sizes = sorted(results)
    costs = [median([r["us_per_event"] for r in results[n]]) for n in sizes]
    allowed = [costs[0] * math.log(n) / math.log(sizes[0]) for n in sizes]
    most = 1.15 * max(costs + allowed)

    def x(n: float) -> float:
        return left + (width - left - 20) * math.log(n / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(us: float) -> float:
        return height - bottom - (height - bottom - top) * us / most

    def line(values: list[float], style: str) -> str:
        points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in zip(sizes, values, strict=True))
        return f'<polyline fill="none" {style} points="{points}"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<style>text{font:12px sans-serif;fill:#222}.axis{stroke:#222}.cost{stroke:#087f5b}.dot{fill:#087f5b}"
        ".log{stroke:#868e96}@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#ddd}"
        ".cost{stroke:#38d9a9}.dot{fill:#38d9a9}.log{stroke:#adb5bd}}</style>",
        f'<text x="{left}" y="20">Cost per event (µs) over miners, {STAGES} stages, every seat busy</text>',
        line(allowed, 'class="log" stroke-width="1.5" stroke-dasharray="5 4"'),
        line(costs, 'class="cost" stroke-width="2.5"'),
        f'<line class="axis" x1="{left}" y1="{y(0):.1f}" x2="{width - 20}" y2="{y(0):.1f}"/>',
    ]
    for n, cost in zip(sizes, costs, strict=True):
        parts.append(f'<circle class="dot" cx="{x(n):.1f}" cy="{y(cost):.1f}" r="4"/>')
        parts.append(f'<text x="{x(n):.1f}" y="{y(cost) + 20:.1f}" text-anchor="middle">{cost:.1f}</text>')
        parts.append(f'<text x="{x(n):.1f}" y="{height - bottom + 18}" text-anchor="middle">{n:,}</text>')
    parts.append(f'<text x="{width - 20}" y="{height - 8}" text-anchor="end">dashed: growth by log n</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--svg", type=Path, help="write a plot of cost per event to this file")
    parser.add_argument("--miners", default=",".join(map(str, SIZES)), help="sizes, with commas")
    parser.add_argument("--seconds", type=float, default=15.0, help="wall time per size, at most (default 15)")
    parser.add_argument("--events", type=int, default=200_000, help="events per size, at most (default 200000)")
    parser.add_argument("--runs", type=int, default=1, help="repetitions per size (default 1)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--collector", choices=COLLECTORS, default=COLLECTORS[0], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(collected(options.one, options.seconds, options.events, options.collector)))
        return 0
    sizes = [int(part) for part in options.miners.split(",")]
    results = {n: [apart(n, options.seconds, options.events) for _ in range(options.runs)] for n in sizes}
    limits = options.seconds, options.events
    others = {name: [apart(max(sizes), *limits, name) for _ in range(options.runs)] for name in COLLECTORS[1:]}
    if options.svg:
        options.svg.write_text(plot(results), encoding="utf-8")
    core = "the sources" if str(orchestrator.__file__).endswith(".py") else "machine code (make compile)"
    machine = f"{platform.machine()}, Python {platform.python_version()}, core: {core}"
    result: dict[str, Any] = {"machine": machine, "rows": rows(results, others)}
    if options.json:
        print(json.dumps(result | {"runs": [run for runs in results.values() for run in runs]}))
        return 0
    print(machine)
    for item in result["rows"]:
        peer = f"  ({item['peer']} {item['peer_value']:,.2f}: {item['ratio']:.2f})" if item["peer_value"] else ""
        print(f"{item['name']:44} {item['value']:>12,.2f} {item['unit']}{peer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
