"""Three hotkeys on one machine: what they are paid, and what that machine has computed for it.

More pay for the same work would be a cheat; the same pay for more work is none. So both stand side by side, and the one
over the other, for several numbers of microbatches on their way: the fewer, the more machines idle.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

from credit.common import Row, Task, play_all, row, spec_of, swarm
from iota_subnet.rehearsal.result import Result

#: Microbatches on their way per replica.
LIVE = (2, 3, 4)


def sybils(options: Any) -> list[Row]:
    """Against the median honest machine of the same run."""
    spec = spec_of(options.epochs, options.batches, options.audit_miners)
    tasks = [
        Task((live, "sybils"), seed, replace(spec, swarm=replace(spec.swarm, live_per_replica=live)), swarm("sybils"))
        for live in LIVE
        for seed in range(options.seeds)
    ]
    played = play_all(tasks, options.jobs)
    rows: list[Row] = []
    for live in LIVE:
        found = [_against(task, result) for task, result in played if task.label[0] == live]
        what = f"sybils, {live} on their way per replica"
        rows += [
            row(f"{what}: pay together", "ratio", [pay for pay, _, _ in found], "goal, at most", [1.05]),
            row(f"{what}: FLOPs together", "ratio", [flops for _, flops, _ in found]),
            row(f"{what}: pay per FLOP", "ratio", [each for _, _, each in found], "honest", [1.0]),
        ]
    return rows


def _against(task: Task, result: Result) -> tuple[float, float, float]:
    """Pay and FLOPs of the shared machine over those of the median honest one, and pay per FLOP over that of all
    honest ones."""
    ours = [result.of(number) for number, seat in enumerate(task.seats) if seat.kind]
    theirs = [result.of(number) for number, seat in enumerate(task.seats) if not seat.kind]
    pay, flops = sum(one.weight for one in ours), sum(one.flops for one in ours)
    rate = sum(one.weight for one in theirs) / sum(one.flops for one in theirs)
    return (
        pay / median(one.weight for one in theirs),
        flops / median(one.flops for one in theirs),
        pay / flops / rate,
    )
