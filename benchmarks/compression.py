"""Held-out loss against compression at the stage boundaries, the same optimiser, tokens and seeds on both sides.

    python benchmarks/compression.py --json [--svg docs/compression.svg] [--out FILE]
        [--width 128] [--steps 250] [--seeds 3] [--optimisers adamw,muon] [--codecs resbm,resbm+tokens,subspace]
        [--ratios 8,16,32,64,128] [--int8] [--designs]

A model of 6 blocks in 3 stages is trained on the built-in corpus by one process, a microbatch of 8 x 128 bytes a step;
whatever crosses a boundary is the real blob, so rounding and bytes are those of the wire. A ratio is that of values:
b = width / ratio in bfloat16, against `width` of them; `wire` in a row is that of measured bytes, forward and back over
all boundaries, headers included. `--int8` sends 2b values of a byte each instead. The peer of a row is the same model
without a bottleneck. `--designs` tries what is not in the product (`quality/designs.py`), at ratio 32.

A run takes 40 s (width 128) or 3 minutes (256, 400 steps) of one core. With `--out` each is kept in FILE as soon as it
is over, and not made again; `--minutes` begins nothing after that time.

Prints JSON: {"rows": [{"name", "value", "unit", "peer", "peer_value", "ratio", "gap_percent", "gaps", "n", ...}]}.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from quality import designs, single
from quality.book import Book, machine, row
from quality.designs import Knobs
from quality.plot import Series, lines

from iota_subnet.model import bottleneck, parameters
from iota_subnet.spec import ActivationCodec, Bottleneck, ModelSpec, OptimiserName, RunSpec, TrainSpec
from iota_subnet.train.data import Feed

#: Found by trial at width 128 without a bottleneck; the best of 2e-3, 4e-3 for AdamW and of 4e-3, 1e-2 for Muon.
RATES = {"adamw": 4e-3, "muon": 1e-2}

#: Not in the product. The codec says whether the boundary carries token ids.
DESIGNS: dict[str, tuple[Bottleneck, Knobs]] = {
    "one matrix each, no hidden layer": ("resbm", Knobs(encoder=0, decoder=0)),
    "no identity path": ("resbm", Knobs(identity=0)),
    "identity on half of b": ("resbm", Knobs(identity=0.5)),
    "no normalisation": ("resbm", Knobs(norms=False)),
    "last matrices start at 1 instead of 0.1": ("resbm", Knobs(gain=1.0)),
    "3 times the learning rate": ("resbm", Knobs(rate=3.0)),
    "hidden 2 dim and 8 dim": ("resbm", Knobs(encoder=2, decoder=8)),
    "tokens, rank 32": ("resbm+tokens", Knobs(tokens="low")),
    "tokens, no encoder's hidden layer": ("resbm+tokens", Knobs(tokens="full", encoder=0)),
    "tokens, no identity path": ("resbm+tokens", Knobs(tokens="full", identity=0)),
    "tokens alone, z is not read": ("resbm+tokens", Knobs(tokens="full", cut=True)),
    "tokens and 3 before it, mixed": ("resbm+tokens", Knobs(tokens="full", grams=4)),
}


@dataclass(frozen=True)
class Arm:
    """One run. `ratio` 0 has no bottleneck; `design` names one of DESIGNS."""

    optimiser: OptimiserName
    seed: int
    ratio: int = 0
    codec: Bottleneck = "resbm"
    wire: ActivationCodec = "bf16"
    design: str = ""

    def name(self, options: argparse.Namespace) -> str:
        boundary = "1x" if not self.ratio else f"{self.design or self.codec} {self.ratio}x {self.wire}"
        return f"{boundary}, {self.optimiser}, seed {self.seed}, width {options.width}, {options.steps} steps"


def spec_of(arm: Arm, options: argparse.Namespace) -> RunSpec:
    width = options.width
    narrow = width // arm.ratio * (2 if arm.wire == "int8" else 1) if arm.ratio else 0
    model = ModelSpec("sweep", 256, width, 6, 4, 2, width * 11 // 4, 128, stages=3, bottleneck=narrow)
    model = replace(model, boundary_codec=arm.codec)
    lr = RATES[arm.optimiser]
    train = TrainSpec(
        lr=lr,
        lr_min=lr / 10,
        warmup=20,
        decay=options.steps,
        betas=(0.9, 0.95),
        activation_codec=arm.wire,
        optimiser=arm.optimiser,
    )
    return RunSpec(name="compression", seed=arm.seed, model=model, train=train)


@lru_cache(maxsize=1)
def feed_of(seed: int) -> Feed:
    return Feed(RunSpec(seed=seed))


def run(arm: Arm, options: argparse.Namespace) -> dict[str, Any]:
    before = dict(bottleneck.CODECS), dict(parameters.BOUNDARIES)
    try:
        if arm.design:
            designs.use(arm.codec, DESIGNS[arm.design][1])
        spec = spec_of(arm, options)
        trained = single.train(spec, feed_of(arm.seed), options.steps, max(1, options.steps // 10))
        counts = [parameters.parameter_count(spec.model, stage) for stage in range(spec.model.stages)]
    finally:
        bottleneck.CODECS.update(before[0])
        parameters.BOUNDARIES.update(before[1])
    return {
        "loss": trained.loss,
        "curve": trained.curve,
        "sent": trained.sent,
        "parameters": sum(counts),
        "cpu_s": round(trained.cpu_s, 1),
    }


def arms(options: argparse.Namespace) -> Iterator[Arm]:
    """All that was asked for; one seed after the other, so that what is stopped early is of one seed, and complete."""
    ratios = [int(ratio) for ratio in options.ratios.split(",")]
    for seed in range(options.seeds):
        optimisers = options.optimisers.split(",")
        yield from (Arm(optimiser, seed) for optimiser in optimisers)
        for ratio in ratios:
            for codec in options.codecs.split(","):
                yield from (Arm(optimiser, seed, ratio, codec) for optimiser in optimisers)
                if options.int8:
                    yield from (Arm(optimiser, seed, ratio, codec, "int8") for optimiser in optimisers)
        if options.designs:
            for design, (codec, _) in ((d, c) for d, c in DESIGNS.items() if options.only in d):
                yield from (Arm(optimiser, seed, 32, codec, "bf16", design) for optimiser in optimisers)


def rows_of(book: Book, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each boundary and optimiser of which there are runs, over the seeds of which there is a peer too."""
    found: dict[Arm, dict[int, dict[str, Any]]] = {}
    for arm in arms(options):
        made = book.runs.get(arm.name(options))
        if made is not None:
            found.setdefault(replace(arm, seed=0), {})[arm.seed] = made
    rows = []
    for arm, runs in found.items():
        base = found[Arm(arm.optimiser, 0)] if Arm(arm.optimiser, 0) in found else {}
        seeds = [seed for seed in runs if seed in base]
        if not seeds:
            continue
        name = arm.name(options).replace(", seed 0", "")
        one = row(name, "nats/byte", [runs[s]["loss"] for s in seeds], "1x", [base[s]["loss"] for s in seeds])
        sent = sum(sum(pair) for pair in runs[seeds[0]]["sent"])
        # Of values alone, as the ratio is: what a boundary without a bottleneck sends in bfloat16.
        whole = 2 * 8 * 128 * options.width * 2 * len(runs[seeds[0]]["sent"])
        one["bytes"], one["wire"] = runs[seeds[0]]["sent"], whole / sent
        one["parameters"] = runs[seeds[0]]["parameters"]
        one["arm"] = [arm.codec, arm.ratio, arm.optimiser, arm.wire, arm.design]
        rows.append(one)
    return rows


def picture(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    series = []
    kinds = dict.fromkeys((r["arm"][0], r["arm"][2], r["arm"][3]) for r in rows if r["arm"][1] and not r["arm"][4])
    for number, (codec, optimiser, wire) in enumerate(kinds):
        mine = [r for r in rows if [r["arm"][0], *r["arm"][2:]] == [codec, optimiser, wire, ""] and r["arm"][1]]
        points = [(1.0, 0.0), *sorted((float(r["arm"][1]), float(r["gap_percent"])) for r in mine)]
        label = f"{codec}, {optimiser}" + (", int8" if wire == "int8" else "")
        series.append(
            Series(label, points, dashed=optimiser == "adamw", colour=number // len(options.optimisers.split(",")))
        )
    ratios = [1, *map(int, options.ratios.split(","))]
    n = min((r["n"] for r in rows), default=0)
    title = f"Held-out loss against 1x with the same optimiser, width {options.width}, {options.steps} steps, n >= {n}"
    return lines(title, "compression", "percent above 1x", series, [(r, f"{r}x") for r in ratios], math.log2)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--svg", type=Path, help="write the picture to this file")
    parser.add_argument("--out", type=Path, help="keep runs here, and do not repeat those that are there")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, with seeds 0, 1, ... (default 3)")
    parser.add_argument("--optimisers", default="adamw,muon")
    parser.add_argument("--codecs", default="resbm,resbm+tokens,subspace")
    parser.add_argument("--ratios", default="8,16,32,64,128")
    parser.add_argument("--int8", action="store_true", help="also twice the values in a byte each")
    parser.add_argument("--designs", action="store_true", help="also what is not in the product")
    parser.add_argument("--only", default="", help="of these, only those whose name has this in it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after that time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    book, until = Book(options.out), time.monotonic() + 60 * options.minutes
    for arm in arms(options):
        if time.monotonic() < until:
            book.get(arm.name(options), lambda arm=arm: run(arm, options))  # type: ignore[misc]
    rows = rows_of(book, options)
    if options.svg:
        options.svg.write_text(picture(rows, options), encoding="utf-8")
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}))
    else:
        for one in rows:
            print(f"{one['name']}: {one['value']:.4f}, {one['gap_percent']:+.2f} % (n={one['n']})", file=sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
