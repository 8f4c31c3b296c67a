"""Every kind on many seeds, one run after the other, with results on disk: what is there is not run again.

Each line of the file is one run: the kind ("" without cheats), defended or not, the seed, and what came of it. Runs go
seed by seed, so that whenever it stops all kinds have as many.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from credit.common import Task, blamed, caught, earnings, kinds, play, spec_of, swarm
from iota_subnet.rehearsal.plan import DEFENDED, UNDEFENDED

Line = dict[str, Any]

#: Seeds that are run without defences too.
UNDEFENDED_SEEDS = 2

#: Passes of an epoch by its microbatches in which `selective` is honest: 8 at 48. In a shorter epoch it would have none
#: left to cheat in.
SELECTIVE = 8 / 48


def fill(path: Path, options: Any) -> list[Line]:
    """Run what is missing, and return all lines of runs of this size."""
    known = [line for line in _read(path) if (line["epochs"], line["batches"]) == (options.epochs, options.batches)]
    done = {(line["kind"], line["defended"], line["seed"]) for line in known}
    kinds()["selective"].HONEST = round(SELECTIVE * options.batches)  # type: ignore[attr-defined]
    for kind, defended, seed in _wanted(options):
        if (kind, defended, seed) in done:
            continue
        spec = spec_of(options.epochs, options.batches, options.audit_miners)
        task = Task((kind,), seed, spec, swarm(kind), DEFENDED if defended else UNDEFENDED)
        began = time.process_time()
        _, result = play(task)
        line: Line = {"kind": kind, "defended": defended, "seed": seed}
        line |= {"epochs": options.epochs, "batches": options.batches}
        if isinstance(result, str):
            line["stuck"] = result
        else:
            line |= {
                "pay": earnings(task, result),
                "caught": caught(task, result),
                "honest": len(blamed(task, result)),
                "flagged": sum(blamed(task, result)),
                "at_fault": sum(blamed(task, result, faults_only=True)),
                "loss": result.held_out[-1],
                "cpu": time.process_time() - began,
                "audits_cpu": result.cpu.audits / result.cpu.training,
            }
        known.append(line)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return known


def markdown(lines: list[Line]) -> str:
    """A row for each kind; `loss` beside that of the same seeds without cheats."""
    clean = {line["seed"]: line["loss"] for line in lines if not line["kind"] and "loss" in line}
    rows = [
        "| kind | seeds | pay, median (mean, most) | found | median epoch | held-out loss: without cheats, defended, "
        "undefended | honest flagged |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in [*kinds()]:
        runs = [line for line in lines if line["kind"] == kind and line["defended"] and "pay" in line]
        bare = [line["loss"] for line in lines if line["kind"] == kind and not line["defended"] and "loss" in line]
        if not runs:
            continue
        pay = [value for line in runs for value in line["pay"]]
        found = [epoch for line in runs for epoch in line["caught"]]
        when = [epoch for epoch in found if epoch is not None]
        losses = [
            median(clean[line["seed"]] for line in runs if line["seed"] in clean),
            median(line["loss"] for line in runs),
            median(bare) if bare else float("nan"),
        ]
        rows.append(
            f"| {kind} | {len(runs)} | {median(pay):.2f} ({sum(pay) / len(pay):.2f}, {max(pay):.2f}) "
            f"| {100 * len(when) / len(found):.0f} % | {median(when) if when else '-'} "
            f"| {', '.join(f'{loss:.3f}' for loss in losses)} "
            f"| {sum(line['flagged'] for line in runs)} of {sum(line['honest'] for line in runs)} |"
        )
    return "\n".join(rows)


def _wanted(options: Any) -> Iterator[tuple[str, bool, int]]:
    names = [name for name in kinds() if not options.kinds or name in options.kinds.split(",")]
    for seed in range(options.seeds):
        yield "", True, seed
        for name in names:
            yield name, True, seed
            if seed < UNDEFENDED_SEEDS:
                yield name, False, seed


def _read(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    print(f"{path}: {len(lines)} runs are there", file=sys.stderr)
    return [json.loads(line) for line in lines]
