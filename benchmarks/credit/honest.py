"""Whether the same work is paid the same: on machines of other speeds, with more threads, in other precisions."""

from __future__ import annotations

from statistics import median
from typing import Any

from credit.common import REPLICAS, STAGES, Row, Seat, Task, blamed, play_all, row, spec_of
from iota_subnet.rehearsal.result import Earned, Result

#: Against the slowest; one of each in every stage.
SPEEDS = (1.0, 2.0, 3.0, 4.0)


def honest(options: Any) -> list[Row]:
    """Four kinds of swarms without cheats: alike, other speeds, other machines, and both."""
    spec = spec_of(options.epochs, options.batches, options.audit_miners)
    swarms = {
        "alike": _swarm(False, False),
        "speeds 1 to 4": _swarm(True, False),
        "threads and precisions": _swarm(False, True),
        "speeds, threads and precisions": _swarm(True, True),
    }
    tasks = [Task((name,), seed, spec, seats) for name, seats in swarms.items() for seed in range(options.seeds)]
    played = play_all(tasks, options.jobs)
    rows: list[Row] = []
    for name in swarms:
        runs = [pair for pair in played if pair[0].label == (name,)]
        rows += [
            row(f"{name}: pay of passes per FLOP, largest deviation", "share", [_passes(result) for _, result in runs]),
            row(f"{name}: the same between stages", "share", [_stages(result) for _, result in runs]),
            row(f"{name}: the same with merge duties", "share", [_whole(result) for _, result in runs]),
            row(f"{name}: FLOPs, most against least", "ratio", [_spread(result) for _, result in runs]),
            row(f"{name}: honest flagged", "share", [sum(found) / len(found) for found in _blamed(runs)]),
            row(f"{name}: audits that failed", "share", [_failed(result) for _, result in runs if result.audited]),
        ]
    return rows


def _swarm(speeds: bool, machines: bool) -> tuple[Seat, ...]:
    """Every stage has each speed once; every other machine multiplies in bfloat16 or has two threads."""
    seats = []
    for number in range(STAGES * REPLICAS):
        turn = number // STAGES
        seats.append(
            Seat(
                number % STAGES,
                speed=SPEEDS[turn] if speeds else 1.0,
                threads=2 if machines and turn % 2 else 1,
                precision="bfloat16" if machines and turn >= 2 else "float32",
            )
        )
    return tuple(seats)


def _deviation(values: list[float]) -> float:
    usual = median(values)
    return max(abs(value - usual) for value in values) / usual


def _working(result: Result) -> list[Earned]:
    return [miner for miner in result.miners.values() if miner.flops]


def _passes(result: Result) -> float:
    return _deviation([miner.volume / miner.flops for miner in _working(result)])


def _whole(result: Result) -> float:
    return _deviation([miner.score / miner.flops for miner in _working(result)])


def _stages(result: Result) -> float:
    stages: dict[int, list[Earned]] = {}
    for miner in _working(result):
        stages.setdefault(miner.number % STAGES, []).append(miner)
    return _deviation([sum(m.volume for m in stage) / sum(m.flops for m in stage) for stage in stages.values()])


def _spread(result: Result) -> float:
    flops = [miner.flops for miner in _working(result)]
    return max(flops) / min(flops)


def _failed(result: Result) -> float:
    return sum(audit.verdict != "sound" for audit in result.verdicts) / len(result.verdicts)


def _blamed(runs: list[tuple[Task, Result]]) -> list[list[bool]]:
    return [blamed(*pair) for pair in runs]
