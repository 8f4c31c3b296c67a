"""Held-out loss of a swarm against that of a single process, on the same tokens with the same optimiser and batch.

    python benchmarks/training.py --json [--svg docs/training.svg] [--out FILE]
        [--seeds 3] [--optimisers adamw,muon] [--passes 20] [--accumulate 2] [--epochs 6] [--width 128]
        [--variants [TEXT]]

Swarm: 3 stages x 2 replicas of the real core with real tensors in virtual time (`iota_subnet/rehearsal`), which merge
after `--passes` microbatches (8 x 128 bytes) of each replica; blobs in bfloat16, nothing compressed. Single: one
process with the whole model, in a step twice as many of the same microbatches, so that it has as many tokens as one of
both replicas together; its moments are never reset, its gradients never late. Both have the same learning rates.
`--variants` changes one thing at a time, to say where a gap comes from: all, or those with a text in their name.

With `--out` each run is kept in FILE as soon as it is over, and not made again.

Prints JSON: {"rows": [{"name", "value", "unit", "peer", "peer_value", "ratio", "gap_percent", "gaps", "n", ...}]}.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from quality import single, swarm
from quality.book import Book, machine, row
from quality.plot import Series, lines

from iota_subnet.spec import ModelSpec, OptimiserName, RunSpec, SwarmSpec, TrainSpec
from iota_subnet.train.data import Feed

REPLICAS = 2

#: What is changed against the arm of the same name, field by field of `train` and `swarm`.
VARIANTS: dict[str, dict[str, Any]] = {
    "swarm": {},
    "swarm, stash 2": {"stash": 2},
    "swarm, stash 0": {"stash": 0},
    "swarm, stash 0, one graph a replica": {"stash": 0, "live_per_replica": 1},
    "swarm, stash 0, plain mean (outer lr 1, momentum 0)": {
        "stash": 0,
        "outer_lr": 1.0,
        "outer_momentum": 0.0,
        "outer_momentum_start": 0.0,
    },
    "single, moments reset at every merge": {},
}

MAIN = ["single", "swarm"]

RATES = {"adamw": 1.5e-3, "muon": 8e-3}


@dataclass(frozen=True)
class Arm:
    kind: str
    optimiser: OptimiserName
    seed: int

    def name(self, options: argparse.Namespace) -> str:
        rest = f"{options.epochs} epochs of {options.passes} / {options.accumulate} steps, width {options.width}"
        return f"{self.kind}, {self.optimiser}, seed {self.seed}, {rest}"


def spec_of(arm: Arm, options: argparse.Namespace) -> RunSpec:
    width, lr = options.width, RATES[arm.optimiser]
    changes = VARIANTS.get(arm.kind, {})
    model = ModelSpec("training", 256, width, 6, 4, 2, width * 11 // 4, 128, stages=3, bottleneck=0)
    steps = options.passes // options.accumulate * options.epochs
    train = TrainSpec(lr=lr, lr_min=lr / 10, warmup=min(20, steps // 5), decay=steps, optimiser=arm.optimiser)
    train = replace(train, accumulate=options.accumulate)
    limits = SwarmSpec(epochs=options.epochs, epoch_batches=options.passes * REPLICAS)
    for name, value in changes.items():
        if hasattr(train, name):
            train = replace(train, **{name: value})
        else:
            limits = replace(limits, **{name: value})
    return RunSpec(name="training", seed=arm.seed, model=model, train=train, swarm=limits)


@lru_cache(maxsize=1)
def feed_of(seed: int) -> Feed:
    return Feed(RunSpec(seed=seed))


def run(arm: Arm, options: argparse.Namespace) -> dict[str, Any]:
    spec = spec_of(arm, options)
    if arm.kind.startswith("swarm"):
        return swarm.train(spec, REPLICAS)
    train = replace(spec.train, accumulate=REPLICAS * spec.train.accumulate)
    whole = replace(spec, model=replace(spec.model, stages=1), train=train)
    batches = spec.swarm.epoch_batches
    reset = batches if "reset" in arm.kind else 0
    trained = single.train(whole, feed_of(arm.seed), batches * options.epochs, batches, reset)
    return {"loss": trained.loss, "curve": trained.curve, "cpu_s": trained.cpu_s}


def arms(options: argparse.Namespace) -> Iterator[Arm]:
    some = options.variants
    kinds = MAIN if some is None else ["single", *(kind for kind in VARIANTS if some in kind)]
    for seed in range(options.seeds):
        for optimiser in options.optimisers.split(","):
            yield from (Arm(kind, optimiser, seed) for kind in kinds)


def rows_of(book: Book, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for arm in (arm for arm in arms(options) if arm.seed == 0 and arm.kind != "single"):
        pairs = []
        for seed in range(options.seeds):
            mine, other = (replace(a, seed=seed).name(options) for a in (arm, replace(arm, kind="single")))
            if mine in book.runs and other in book.runs:
                pairs.append((book.runs[mine]["loss"], book.runs[other]["loss"]))
        if pairs:
            name = arm.name(options).replace(", seed 0", "")
            rows.append(row(name, "nats/byte", [a for a, _ in pairs], "single process", [b for _, b in pairs]))
    return rows


def picture(book: Book, options: argparse.Namespace) -> str:
    series: list[Series] = []
    for number, optimiser in enumerate(options.optimisers.split(",")):
        for kind in ("single", "swarm"):
            names = [Arm(kind, optimiser, seed).name(options) for seed in range(options.seeds)]
            curves = [book.runs[name]["curve"][1:] for name in names if name in book.runs]
            if curves:
                points = [(step[0][0] / 1e3, fmean(loss for _, loss in step)) for step in zip(*curves, strict=True)]
                band = [(min(x for _, x in s), max(x for _, x in s)) for s in zip(*curves, strict=True)]
                label = f"{kind}, {optimiser} (n={len(curves)})"
                series.append(Series(label, points, band, dashed=kind == "single", colour=number))
    last = max(x for one in series for x, _ in one.points)
    ticks = [(last * k / 4, f"{last * k / 4:.0f}") for k in range(1, 5)]
    title = (
        f"Held-out loss over tokens: 3 stages x 2 replicas, merged every {options.passes // options.accumulate} steps"
    )
    return lines(title, "thousand tokens", "nats/byte", series, ticks)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--svg", type=Path, help="write the curves to this file")
    parser.add_argument("--out", type=Path, help="keep runs here, and do not repeat those that are there")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--passes", type=int, default=20, help="microbatches of a replica between merges (default 20)")
    parser.add_argument("--accumulate", type=int, default=2, help="microbatches of a replica in a step (default 2)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, with seeds 0, 1, ... (default 3)")
    parser.add_argument("--optimisers", default="adamw,muon")
    parser.add_argument("--variants", nargs="?", const="", metavar="TEXT", help="swarms in which one thing is changed")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after that time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    book, until = Book(options.out), time.monotonic() + 60 * options.minutes
    for arm in arms(options):
        if time.monotonic() < until:
            book.get(arm.name(options), lambda arm=arm: run(arm, options))  # type: ignore[misc]
    rows = rows_of(book, options)
    if options.svg and rows:
        options.svg.write_text(picture(book, options), encoding="utf-8")
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}))
    else:
        for one in rows:
            print(f"{one['name']}: {one['value']:.4f}, {one['gap_percent']:+.2f} % (n={one['n']})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
