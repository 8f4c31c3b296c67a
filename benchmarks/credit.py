"""What work earns and what cheating earns, on a whole swarm with real tensors and the real core, in virtual time.

    python benchmarks/credit.py --table RUNS.jsonl --seeds 20 --batches 24
    python benchmarks/credit.py --json [--SECTION ...] [--seeds 5] [--jobs 2]

Without a section all are run. `--cheats`: for each known kind a quarter of every stage in which it can act, against the
same seeds without cheats and without defences (no audits, no CLASP, no clipping or trimming). `--honest`: pay per FLOP
over stages, speeds, threads and precisions. `--collusion`: five of twelve are of one kind. `--cost`: what audits cost
and how soon they find, by the share that is audited. `--shapley`: CLASP's credit against exact leave-one-out values.
`--sybils`: pay and FLOPs of a machine with three hotkeys against honest ones.
`--table`: every kind on every seed, one run at a time, appended to a file from which an interrupted run goes on; prints
the table of docs/credit.md.

Prints JSON: {"rows": [{"name", "value", "unit", "peer", "peer_value", "ratio", "n", "min", "max"}]}; a value is the
median over runs. Kinds are those of `tests/adversaries.py`; where that is missing, three small ones of the tests.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from credit.cheats import cheats, collusion
from credit.cost import cost, plot
from credit.honest import honest
from credit.seeds import fill, markdown
from credit.shapley import shapley
from credit.sybils import sybils

SECTIONS = ("cheats", "honest", "collusion", "cost", "shapley", "sybils")


RUNS = {"cheats": cheats, "honest": honest, "collusion": collusion, "shapley": shapley, "sybils": sybils}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    for section in SECTIONS:
        parser.add_argument(f"--{section}", action="store_true", help="run this section; without any, all are run")
    parser.add_argument("--kinds", default="", help="only these cheats, with commas")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each kind, with seeds 0, 1, ... (default 5)")
    parser.add_argument("--epochs", type=int, default=8, help="of each run (default 8)")
    parser.add_argument("--batches", type=int, default=48, help="microbatches of an epoch (default 48)")
    parser.add_argument(
        "--audit-miners", type=float, help="share of epochs that is audited (default: as the run has it)"
    )
    parser.add_argument("--svg", type=Path, help="with --cost: write the chance to be found over epochs to this file")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="many seeds, kept in FILE; prints a table only")
    options = parser.parse_args()
    if options.table:
        print(markdown(fill(options.table, options)))
        return 0
    wanted = [section for section in SECTIONS if getattr(options, section)] or list(SECTIONS)
    rows: list[dict[str, Any]] = []
    for section in wanted:
        began = time.perf_counter()
        if section == "cost":
            found, curves = cost(options)
            if options.svg:
                options.svg.write_text(plot(curves), encoding="utf-8")
        else:
            found = RUNS[section](options)
        rows += found
        print(f"{section}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if options.json:
        print(json.dumps({"machine": f"{platform.machine()}, Python {platform.python_version()}", "rows": rows}))
        return 0
    for item in rows:
        value = "none" if item["value"] is None else f"{item['value']:.3f}"
        peer = f"  ({item['peer']} {item['peer_value']:.3f})" if item["peer_value"] is not None else ""
        extent = f" [{item['min']:.3f}, {item['max']:.3f}], n {item['n']}" if item["n"] else ""
        print(f"{item['name']:70} {value:>8} {item['unit']}{extent}{peer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
