"""Training that goes on during merges against training that waits for them, on equal tokens.

    python benchmarks/overlap.py --json [FILE] [--runs 5] [--batches 192 96] [--jobs 2]
    python benchmarks/overlap.py --json [FILE] --real [--runs 5] [--miners 6] [--stages 3] [--graphs 4]

The first: the real core and real tensors in virtual time, each miner a machine of its own. Three stages of two
replicas, of equal cost, four microbatches on their way per replica, two in a step, merges that take 3 % of an epoch of
192 microbatches over each miner's line, and 6 % of one of 96. The second: `iota localnet` with and without --overlap,
in turn, which on one computer also says how its processes get in each other's way.

Prints JSON: {"rows": [{"name", "value", "unit", "peer", "peer_value", "ratio", "n", "min", "max"}]}; a value is the
median over the runs with overlap, its peer that of the same seeds without; `min` and `max` are of those with it.
The last epoch's merge, after which there is nothing to do, is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

from iota_subnet.core.state import Phase
from iota_subnet.rehearsal.plan import UNDEFENDED, Member, nano
from iota_subnet.rehearsal.world import Rehearsal
from iota_subnet.spec import ModelSpec, RunSpec

#: Of each stage, and microbatches on their way for each of them.
REPLICAS, LIVE = 2, 4

#: Eight blocks, each as dear as the LM head.
MODEL = ModelSpec("even", 256, 32, 8, 2, 1, 32, 32, stages=3, bottleneck=0, split=(3, 3, 2))

#: Microbatches in all, whatever an epoch has.
BATCHES = 960

#: Bytes of a merge per virtual second that each miner's line carries.
LINE = 20_000.0

MERGE = (Phase.COMMIT, Phase.REDUCE, Phase.INSTALL)


def spec_of(batches: int, overlap: bool) -> RunSpec:
    epochs = BATCHES // batches
    spec = nano(epochs, batches)
    steps = BATCHES // REPLICAS // 2
    train = replace(spec.train, accumulate=2, decay=steps, warmup=20, outer_warmup=epochs)
    return replace(spec, model=MODEL, train=train, swarm=replace(spec.swarm, overlap=overlap, live_per_replica=LIVE))


def rehearse(task: tuple[int, int, bool]) -> dict[str, Any]:
    """One run in virtual time."""
    seed, batches, overlap = task
    turns: list[tuple[float, Phase, int]] = []

    def look(world: Rehearsal) -> None:
        turns.append((world.now, world.core.state.phase, world.core.state.epoch))

    spec = spec_of(batches, overlap)
    members = [Member(number % MODEL.stages) for number in range(MODEL.stages * REPLICAS)]
    world = Rehearsal(spec, members, seed, replace(UNDEFENDED, clip=True, trim=True), look, LINE)
    result = world.run()

    def idle(*phases: Phase) -> list[float]:
        spans = [
            (began, turns[place + 1][0])
            for place, (began, phase, epoch) in enumerate(turns[:-1])
            if phase in phases and epoch < spec.swarm.epochs - 1
        ]
        whole = sum(ended - began for began, ended in spans)
        return [1 - sum(within(span, player.worked) for span in spans) / whole for player in world.players.values()]

    merges = idle(*MERGE)
    return {
        "loss": result.held_out[-1],
        "seconds": result.seconds,
        "train": fmean(idle(Phase.TRAIN)),
        "merge": fmean(merges),
        "worst": max(merges),
    }


def within(span: tuple[float, float], worked: list[tuple[float, float]]) -> float:
    """Seconds of `span` that were worked."""
    return sum(max(0.0, min(span[1], ended) - max(span[0], began)) for began, ended in worked)


def virtual(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for batches in options.batches:
        tasks = [(seed, batches, overlap) for seed in range(options.runs) for overlap in (False, True)]
        with get_context("spawn").Pool(options.jobs) as pool:
            found = []
            for task, run in zip(tasks, pool.imap(rehearse, tasks), strict=True):
                found.append(run)
                print(f"{task}: {', '.join(f'{name} {value:.4f}' for name, value in run.items())}", file=sys.stderr)
        without, with_it = found[::2], found[1::2]
        what = f"epochs of {batches // REPLICAS} microbatches a replica"
        rows += [
            row(f"{what}: {name}", unit, [run[key] for run in with_it], [run[key] for run in without])
            for name, unit, key in (
                ("held-out loss after equal tokens", "nats per token", "loss"),
                ("idle share in merges, mean of miners", "share", "merge"),
                ("idle share in merges, worst miner", "share", "worst"),
                ("idle share in TRAIN, mean of miners", "share", "train"),
                ("the whole run", "virtual seconds", "seconds"),
            )
        ]
        gaps = [one["loss"] / other["loss"] - 1 for one, other in zip(with_it, without, strict=True)]
        rows.append(row(f"{what}: gap in held-out loss of the same seed", "share", gaps, [0.0] * len(gaps)))
    return rows


def run(seed: int, options: argparse.Namespace, overlap: bool) -> dict[str, Any]:
    """The summary of one localnet. Raises SystemExit with its last lines when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "iota_subnet.cli", "localnet", "--no-ui", "--run-dir", f"{folder}/run",
            "--json", f"{folder}/summary.json", "--seed", str(seed), "--miners", str(options.miners),
            "--stages", str(options.stages), "--epochs", "5", "--batches", "120", "--graphs", str(options.graphs),
            *(["--overlap"] if overlap else []),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        summary: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    how = "overlap" if overlap else "waits  "
    idle = list(summary["merge_idle_share"].values())
    print(
        f"seed {seed} {how}: held-out loss {summary['eval_loss_last']:.4f}, {summary['tokens_per_second']:,.0f} "
        f"tokens/s, idle in merges {100 * median(idle):.1f} % ({100 * max(idle):.1f} % at most)",
        file=sys.stderr,
    )
    return summary


def real(options: argparse.Namespace) -> list[dict[str, Any]]:
    with_it: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    for seed in range(options.runs):
        # The order changes, so that a machine that grows busier favours nobody.
        for overlap in (True, False) if seed % 2 else (False, True):
            (with_it if overlap else without).append(run(seed, options, overlap))

    def both(name: str, unit: str, key: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
        return row(name, unit, [key(summary) for summary in with_it], [key(summary) for summary in without])

    return [
        both("held-out loss after equal tokens", "nats per token", lambda s: float(s["eval_loss_last"])),
        both("tokens per second", "1/s", lambda s: float(s["tokens_per_second"])),
        both("idle share in merges, mean of miners", "share", lambda s: fmean(s["merge_idle_share"].values())),
        both("idle share in merges, worst miner", "share", lambda s: float(max(s["merge_idle_share"].values()))),
        both("idle share over the run, mean of miners", "share", lambda s: fmean(s["idle_share"].values())),
    ]


def row(name: str, unit: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    value, peer = median(ours), median(theirs)
    return {
        "name": name, "value": round(value, 4), "unit": unit, "peer": "waiting for merges",
        "peer_value": round(peer, 4),
        "ratio": round(value / peer, 4) if peer else None, "n": len(ours), "min": round(min(ours), 4),
        "max": round(max(ours), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind, with seeds 0, 1, ... (default 5)")
    parser.add_argument("--batches", type=int, nargs="+", default=[192, 96], help="microbatches of an epoch")
    parser.add_argument("--jobs", type=int, default=2, help="runs in virtual time at once (default 2)")
    parser.add_argument("--real", action="store_true", help="real processes")
    parser.add_argument("--miners", type=int, default=6, help="with --real (default 6)")
    parser.add_argument("--stages", type=int, default=3, help="with --real (default 3)")
    parser.add_argument("--graphs", type=int, default=4, help="with --real: on their way per replica (default 4)")
    parser.add_argument("--json", type=Path, nargs="?", const=Path("-"), help="also write the rows to this file")
    options = parser.parse_args()
    text = json.dumps({"rows": real(options) if options.real else virtual(options)}, indent=1)
    if options.json is not None and str(options.json) != "-":
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
