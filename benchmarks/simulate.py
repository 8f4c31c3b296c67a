"""The simulator's own figures: disasters per second, and how many seeds it needs to find bugs planted in the core.

python benchmarks/simulate.py [--json] [--seeds 40]
python benchmarks/simulate.py --planted [--most 200]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from typing import Any

from iota_subnet.sim.planted import PLANTED, seeds_needed
from iota_subnet.sim.runs import play_all
from iota_subnet.sim.storms import FAULTS, draw

#: What is asked: 1,000 seeds in ten minutes on two cores, and every planted bug found.
TARGET_S = 600.0


def _hunt(name: str, most: int) -> tuple[str, int, str, float]:
    bug = {bug.__name__: bug for bug in PLANTED}[name]
    began = time.perf_counter()
    return name, *seeds_needed(bug, most), time.perf_counter() - began


def hunt(most: int, jobs: int) -> list[dict[str, Any]]:
    """One row per planted bug."""
    words = {bug.__name__: what for bug, what in PLANTED.items()}
    with get_context("fork").Pool(jobs) as pool:
        found = pool.map(partial(_hunt, most=most), list(words), chunksize=1)
    return [
        {"bug": words[name], "name": name, "seeds": seeds, "seconds": round(seconds, 1), "caught_by": violation}
        for name, seeds, violation, seconds in found
    ]


def row(name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None) -> dict[str, Any]:
    ratio = value / peer_value if peer_value else None
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": round(ratio, 4) if ratio is not None else None,
        "n": 1,
        "min": round(value, 3),
        "max": round(value, 3),
    }


def speed(seeds: int, jobs: int, check: int) -> list[dict[str, Any]]:
    """How long 1,000 seeds would take at this speed, and what went wrong in these."""
    plans = [draw(seed, 24, 4, 3, 24, tuple(FAULTS)) for seed in range(seeds)]
    began = time.perf_counter()
    results = list(play_all(plans, check, jobs))
    wall = time.perf_counter() - began
    events = sum(result.events for result in results)
    return [
        row("1,000 seeds of 24 miners, 4 stages, all faults", 1000 * wall / seeds, "s", "target, at most", TARGET_S),
        row("events per second", events / wall, "1/s"),
        row("violations", sum(bool(result.violation) for result in results), "seeds"),
        row("microbatches lost", sum(result.lost for result in results), "microbatches"),
    ]


def table(found: list[dict[str, Any]]) -> str:
    """The planted bugs as a Markdown table."""
    lines = ["| planted bug | seeds needed | caught by |", "|---|---|---|"]
    for bug in found:
        caught = str(bug["caught_by"]).split("\n")[0].replace("|", "/")
        lines.append(f"| {bug['bug']} | {bug['seeds'] or 'not found'} | {caught[:90]} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--seeds", type=int, default=40, help="seeds to play for the speed (default 40)")
    parser.add_argument("--check", type=int, default=8, help="invariants after every N-th event (default 8)")
    parser.add_argument("--planted", action="store_true", help="look for the planted bugs instead")
    parser.add_argument("--most", type=int, default=200, help="seeds per planted bug, at most (default 200)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args()
    run: Callable[[], list[dict[str, Any]]] = partial(speed, options.seeds, options.jobs, options.check)
    rows = hunt(options.most, options.jobs) if options.planted else run()
    if options.json:
        print(json.dumps({"machine": f"{platform.machine()}, Python {platform.python_version()}", "rows": rows}))
    elif options.planted:
        print(table(rows))
    else:
        for item in rows:
            peer = f"  ({item['peer']} {item['peer_value']:.0f}: {item['ratio']:.2f})" if item["peer_value"] else ""
            print(f"{item['name']:50} {item['value']:>12,.1f} {item['unit']}{peer}")
    return int(options.planted and not all(bug["seeds"] for bug in rows))


if __name__ == "__main__":
    sys.exit(main())
