"""What the ledger costs: appending with one commit for 1, 8 and 64 events, snapshots, and a file that is kept small.

    python benchmarks/ledger.py [--json] [--events 40000] [--runs 3] [--folder DIR] [--clock wall|cpu]

Events are receipts as a run writes them. States are those of a busy run of 16 stages (benchmarks/scale.py). `--folder`
says on which disk to measure; `--clock cpu` leaves out what other programs and the disk take.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from scale import Driver, row

from iota_subnet.core.actions import Action
from iota_subnet.core.events import Event, LeaseFinished
from iota_subnet.core.state import Phase
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.validator import snapshots
from iota_subnet.validator.ledger import SNAPSHOT_EVERY, Ledger, replay

Clock = Callable[[], float]

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}

GROUPS = (1, 8, 64)
SIZES = (24, 1_000)
OUTPUT = BlobRef("ab" * 32, 1 << 20, ("http://203.0.113.7:8093/v1/blobs/" + "ab" * 32,))


def receipt(number: int) -> Event:
    return LeaseFinished(
        at=float(number), hotkey="5" * 48, lease=number, output=OUTPUT, losses=(), seconds=1.0, inner_step=number
    )


def appended(folder: Path, events: int, group: int, clock: Clock) -> tuple[float, float, float]:
    """Events per second, milliseconds of the longest commit, and bytes per event."""
    path = folder / "appended.sqlite"
    ledger = Ledger(path, RunSpec())
    longest, began = 0.0, clock()
    for first in range(0, events, group):
        start = clock()
        ledger.append(*(receipt(first + k) for k in range(group)))
        longest = max(longest, clock() - start)
    seconds = clock() - began
    ledger.close()
    return events / seconds, longest * 1e3, path.stat().st_size / events


def bounded(folder: Path, events: int, clock: Clock) -> tuple[float, float, float]:
    """With a tenth of the events kept: events per second once some are deleted, file size when the bound was first
    reached, and at the end (bytes)."""
    driver = Driver(24)
    ledger = Ledger(folder / "bounded.sqlite", driver.spec, keep=events // 10)
    every, sizes = events // 40, []
    spent = 0.0
    for first in range(0, events, every):
        began = clock()
        for number in range(first, first + every):
            ledger.append(receipt(number))
        spent += clock() - began
        ledger.save(driver.core.state)
        sizes.append(sum(file.stat().st_size for file in folder.glob("bounded.sqlite*")))
    ledger.close()
    return events / spent, sizes[len(sizes) // 4], sizes[-1]


def busy(miners: int) -> Driver:
    """A run in which every seat is taken and every miner has leases."""
    driver = Driver(miners)
    driver.begin()
    while driver.core.state.phase is not Phase.TRAIN:
        driver.step()
    for _ in range(20 * miners):
        driver.step()
    return driver


def saved(folder: Path, driver: Driver, runs: int, clock: Clock) -> dict[str, list[float]]:
    """Milliseconds to encode, to save in all, and to load; bytes."""
    found: dict[str, list[float]] = {"encode": [], "save": [], "load": [], "bytes": []}
    ledger = Ledger(folder / f"saved-{len(driver.hotkeys)}.sqlite", driver.spec)
    for number in range(runs):
        ledger.append(receipt(number))
        began = clock()
        body = snapshots.encode(driver.core.state)
        encoded = clock()
        ledger.save(driver.core.state)
        written = clock()
        ledger.load(number + 1, driver.spec)
        loaded = clock()
        found["encode"].append(1e3 * (encoded - began))
        found["save"].append(1e3 * (written - encoded))
        found["load"].append(1e3 * (loaded - written))
        found["bytes"].append(len(body))
    ledger.close()
    return found


def started(folder: Path, clock: Clock) -> float:
    """The longest start: seconds to load a snapshot and to play the events until the next one was due."""
    driver = busy(24)
    ledger = Ledger(folder / "started.sqlite", driver.spec)
    ledger.append(receipt(0))
    ledger.save(driver.core.state)
    right = driver.core.handle

    def journaled(event: Event) -> list[Action]:
        ledger.append(event)
        return right(event)

    driver.core.handle = journaled  # type: ignore[method-assign]
    while not ledger.due:
        driver.step()
    ledger.close()
    again = Ledger(folder / "started.sqlite", driver.spec)
    began = clock()
    core = replay(driver.spec, again)
    seconds = clock() - began
    assert snapshots.encode(core.state) == snapshots.encode(driver.core.state)
    again.close()
    return seconds


def measure(folder: Path, events: int, runs: int, clock: Clock) -> list[dict[str, Any]]:
    out = []
    speeds: dict[int, list[float]] = {}
    for group in GROUPS:
        results = []
        for _ in range(runs):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                results.append(appended(Path(place), events, group, clock))
        speeds[group] = [speed for speed, _, _ in results]
        base = median(speeds[1]) if group > 1 else None
        out.append(row(f"appended, {group} per commit", speeds[group], "events/s", "1 per commit", base))
        out.append(row(f"longest commit, {group} per commit", [longest for _, longest, _ in results], "ms"))
    out.append(row("file, per receipt", [size for _, _, size in results], "bytes"))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        speed, first, last = bounded(Path(place), events, clock)
        peer = median(speeds[1])
        out.append(row("appended, 9 of 10 deleted", [speed], "events/s", "nothing deleted", peer))
        out.append(row("file at the end, 9 of 10 deleted", [last / 1e6], "MB", "at the bound", first / 1e6))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out.append(row(f"start, {SNAPSHOT_EVERY} events after a snapshot", [started(Path(place), clock)], "s"))
    for miners in SIZES:
        driver = busy(miners)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            found = saved(Path(place), driver, max(5, 3 * runs), clock)
        out.append(row(f"snapshot, {miners} miners", [value / 1e6 for value in found["bytes"]], "MB"))
        for what, text in (("encode", "encode only"), ("save", "encode and write"), ("load", "read and decode")):
            out.append(row(f"snapshot, {miners} miners: {text}", found[what], "ms"))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--events", type=int, default=40_000, help="events per size of commit (default 40000)")
    parser.add_argument("--runs", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where to write (default: here)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what is measured (default: wall)")
    options = parser.parse_args()
    rows = measure(options.folder, options.events, options.runs, CLOCKS[options.clock])
    if options.json:
        print(json.dumps({"machine": f"{platform.machine()}, Python {platform.python_version()}", "rows": rows}))
        return 0
    for item in rows:
        peer = f"  ({item['peer']} {item['peer_value']:,.2f}: {item['ratio']:.2f})" if item["peer_value"] else ""
        print(f"{item['name']:48} {item['value']:>12,.2f} {item['unit']}{peer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
