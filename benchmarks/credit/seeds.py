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


#: A cheat that keeps so much of the median honest pay has not lost money.
HALF = 0.5


def fill(path: Path, options: Any) -> list[Line]:
    """Run what is missing, and return all lines of runs of this size."""
    known = [line for line in _read(path) if (line["epochs"], line["batches"]) == (options.epochs, options.batches)]
    done = {(line["kind"], line["defended"], line["seed"]) for line in known}
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
    """A line on all runs, and a row for each kind. What a kind does to the held-out loss is told against the same seed
    without cheats."""
    good = [line for line in lines if "loss" in line]
    clean = {line["seed"]: line["loss"] for line in good if not line["kind"]}
    defended = [line for line in good if line["defended"]]
    rows = []
    seeds: list[int] = []
    for kind in kinds():
        runs = [line for line in defended if line["kind"] == kind]
        bare = [line for line in good if line["kind"] == kind and not line["defended"]]
        if not runs:
            continue
        seeds.append(len(runs))
        pay = [value for line in runs for value in line["pay"]]
        unpunished = [value for line in bare for value in line["pay"]]
        found = [epoch for line in runs for epoch in line["caught"]]
        when = [epoch for epoch in found if epoch is not None]
        harm = [[line["loss"] - clean[line["seed"]] for line in some if line["seed"] in clean] for some in (runs, bare)]
        rows.append(
            f"| {kind} | {median(pay):.2f} ({sum(pay) / len(pay):.2f}, {max(pay):.2f}) "
            f"| {median(unpunished) if unpunished else float('nan'):.2f} "
            f"| {sum(value >= HALF for value in pay)} of {len(pay)} "
            f"| {100 * len(when) / len(found):.0f} % | {f'{median(when):g}' if when else '-'} "
            f"| {', '.join(f'{median(part):+.3f}' if part else '-' for part in harm)} |"
        )
    if not rows:
        return "no runs yet"
    flagged, honest = (sum(line[what] for line in defended) for what in ("flagged", "honest"))
    return "\n".join(
        [
            f"{len(good)} runs, {min(seeds)} to {max(seeds)} seeds of a kind; held-out loss without cheats "
            f"{median(clean.values()) if clean else float('nan'):.3f}; honest miners flagged: {flagged} of {honest}",
            "",
            "| kind | pay, median (mean, most) | without defences | half or more | found | median epoch "
            "| harm to the loss, defended, not |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


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
