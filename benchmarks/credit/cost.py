"""What audits cost and how soon they find: against the share of epochs that is audited in full.

Audits of first passes are off here: with them this cheat is named in its first epoch, whatever the share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from credit.common import Row, Task, kinds, play_all, row, spec_of, swarm
from iota_subnet.rehearsal.result import Result
from iota_subnet.spec import RunSpec

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)

#: A cheat that every audit finds and that does not slow the swarm down; the first that exists is taken.
PREFERRED = ("sign_flipped", "SignFlip")

#: What one audit costs does not depend on how many there are, so small epochs do.
BATCHES = 24


def cost(options: Any) -> tuple[list[Row], dict[float, list[float]]]:
    """Rows, and for each share of audits the measured chance to be named within 1, 2, ... epochs."""
    name = next((name for name in PREFERRED if name in kinds()), next(iter(kinds())))
    tasks = [
        Task((share,), seed, _full_only(spec_of(options.epochs, BATCHES, share)), swarm(name))
        for share in SHARES
        for seed in range(options.seeds)
    ]
    played = play_all(tasks, options.jobs)
    rows: list[Row] = []
    curves: dict[float, list[float]] = {}
    for share in SHARES:
        runs = [pair for pair in played if pair[0].label == (share,)]
        if not runs:
            continue
        percent = f"{100 * share:g} % audited"
        passes = [result.audit_passes / result.train_passes for _, result in runs]
        spent = [result.cpu.audits / result.cpu.training for _, result in runs]
        rows.append(row(f"{percent}: passes of audits against training", "share", passes, "formula", [share]))
        rows.append(row(f"{percent}: processor time of audits against training", "share", spent, "formula", [share]))
        curves[share] = _curve(runs, options.epochs)
        for epoch in (1, options.epochs // 2, options.epochs):
            rows.append(
                row(f"{percent}: {name} named within {epoch} epochs", "share", [curves[share][epoch - 1]],
                    "formula", [1 - (1 - share) ** epoch])
            )  # fmt: skip
            # How many cheats that share is of.
            rows[-1]["n"] = len(_named(runs))
    return rows, curves


def _full_only(spec: RunSpec) -> RunSpec:
    return replace(spec, swarm=replace(spec.swarm, audit_passes=0.0))


def _named(runs: list[tuple[Task, Result]]) -> list[int | None]:
    """The epoch in which each cheat's fault was found, None for never."""
    found: list[int | None] = []
    for task, result in runs:
        for number, seat in enumerate(task.seats):
            if seat.kind:
                hotkey = result.hotkey(number)
                found.append(min((fault.epoch for fault in result.faults if fault.hotkey == hotkey), default=None))
    return found


def _curve(runs: list[tuple[Task, Result]], epochs: int) -> list[float]:
    named = _named(runs)
    return [sum(epoch is not None and epoch < k for epoch in named) / len(named) for k in range(1, epochs + 1)]


def plot(curves: dict[float, list[float]]) -> str:
    """Chance to be named over epochs: measured as points, 1 - (1 - p)^k as lines."""
    width, height, left, bottom, top, right = 640, 360, 60, 50, 40, 110
    epochs = max(len(curve) for curve in curves.values())

    def x(epoch: float) -> float:
        return left + (width - left - right) * epoch / epochs

    def y(chance: float) -> float:
        return height - bottom - (height - bottom - top) * chance

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<style>text{font:12px sans-serif;fill:#222}.axis{stroke:#222}.line{stroke:#868e96}.dot{fill:#087f5b}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#ddd}.line{stroke:#adb5bd}"
        ".dot{fill:#38d9a9}}</style>",
        f'<text x="{left}" y="20">Chance that a cheat has been named, over epochs, by the share audited</text>',
        f'<line class="axis" x1="{left}" y1="{y(0)}" x2="{width - right}" y2="{y(0)}"/>',
        f'<line class="axis" x1="{left}" y1="{y(0)}" x2="{left}" y2="{y(1)}"/>',
    ]
    for chance in (0.0, 0.5, 1.0):
        parts.append(f'<text x="{left - 8}" y="{y(chance) + 4:.1f}" text-anchor="end">{100 * chance:.0f} %</text>')
    for epoch in range(1, epochs + 1):
        parts.append(f'<text x="{x(epoch):.1f}" y="{height - bottom + 18}" text-anchor="middle">{epoch}</text>')
    for share, curve in curves.items():
        line = " ".join(f"{x(k):.1f},{y(1 - (1 - share) ** k):.1f}" for k in range(epochs + 1))
        parts.append(f'<polyline class="line" fill="none" stroke-width="1.5" stroke-dasharray="5 4" points="{line}"/>')
        for epoch, chance in enumerate(curve, 1):
            parts.append(f'<circle class="dot" cx="{x(epoch):.1f}" cy="{y(chance):.1f}" r="4"/>')
        last = 1 - (1 - share) ** epochs
        parts.append(f'<text x="{width - right + 8}" y="{y(last) + 4:.1f}">{100 * share:g} %</text>')
    note = "dashed: 1 - (1 - p)^k, by draws alone; dots: measured, with what one verdict leads to"
    parts.append(f'<text x="{width - 8}" y="{height - 10}" text-anchor="end">{note}</text>')
    return "\n".join([*parts, "</svg>", ""])
