"""What cheats earn and what they cost: a quarter of each stage in which a kind can act, and two fifths that collude."""

from __future__ import annotations

from typing import Any

from credit.common import SHARED, Row, Seat, Task, blamed, caught, earnings, kinds, play_all, row, spec_of, swarm, where
from iota_subnet.rehearsal.plan import UNDEFENDED
from iota_subnet.rehearsal.result import Result

Played = dict[tuple[Any, ...], tuple[Task, Result]]


def cheats(options: Any) -> list[Row]:
    """Each kind against the same seeds without cheats, and without defences."""
    names = [name for name in kinds() if not options.kinds or name in options.kinds.split(",")]
    spec = spec_of(options.epochs, options.batches, options.audit_miners)
    seeds = range(options.seeds)
    tasks = [Task(("clean",), seed, spec, swarm()) for seed in seeds]
    for name in names:
        for seed in seeds:
            tasks.append(Task((name, "defended"), seed, spec, swarm(name)))
            tasks.append(Task((name, "undefended"), seed, spec, swarm(name), UNDEFENDED))
    played = _by_label(play_all(tasks, options.jobs))
    clean = [pair for label, pair in played.items() if label[0] == "clean"]
    rows = _honest("no cheats", clean)
    for name in names:
        rows += _kind(name, played, options.epochs)
    return rows


def collusion(options: Any) -> list[Row]:
    """Five of twelve are of one kind: two of four in the first stages where it can act, and one more."""
    names = [name for name in kinds() if not options.kinds or name in options.kinds.split(",")]
    spec = spec_of(options.epochs, options.batches, options.audit_miners)
    seeds = range(options.seeds)
    tasks = [Task(("clean",), seed, spec, swarm()) for seed in seeds]
    tasks += [Task((name, "ring"), seed, spec, _ring(name)) for name in names for seed in seeds]
    played = _by_label(play_all(tasks, options.jobs))
    rows: list[Row] = []
    for name in names:
        runs = [pair for label, pair in played.items() if label[:2] == (name, "ring")]
        if not runs:
            continue
        peers = [played["clean", task.seed][1] for task, _ in runs]
        seats = [sum(bool(seat.kind) for seat in task.seats) / len(task.seats) for task, _ in runs]
        what = f"collusion, {name}"
        rows += [
            row(f"{what}: share of all pay", "share", [_share(*pair) for pair in runs], "share of seats", seats),
            row(f"{what}: honest earn something", "share", [_paid(*pair) for pair in runs]),
            row(f"{what}: honest at fault", "share", [_mean(blamed(*pair, faults_only=True)) for pair in runs]),
            row(f"{what}: honest flagged at all", "share", [_mean(blamed(*pair)) for pair in runs]),
            row(f"{what}: replicas identical", "share", [float(result.identical) for _, result in runs]),
            row(
                f"{what}: held-out loss at the end", "nats", [result.held_out[-1] for _, result in runs],
                "without cheats", [result.held_out[-1] for result in peers],
            ),
        ]  # fmt: skip
    return rows


def _ring(name: str) -> tuple[Seat, ...]:
    """Five seats of twelve, as many as fit into the stages of the kind without taking a whole stage."""
    seats = list(swarm())
    order = [number for number in range(len(seats)) if seats[number].stage in where(name)]
    for number in order[: min(5, 3 * len(where(name)))]:
        seats[number] = Seat(seats[number].stage, name, machine=0 if name in SHARED else None)
    return tuple(seats)


def _kind(name: str, played: Played, epochs: int) -> list[Row]:
    up = [pair for label, pair in played.items() if label[:2] == (name, "defended")]
    down = [pair for label, pair in played.items() if label[:2] == (name, "undefended")]
    with_, without = ([value for pair in runs for value in earnings(*pair)] for runs in (up, down))
    found = [epoch for pair in up for epoch in caught(*pair)]
    clean = [played["clean", task.seed][1].held_out[-1] for task, _ in up if ("clean", task.seed) in played]
    return [
        row(f"{name}: pay against honest peers", "ratio", with_, "without defences", without),
        row(f"{name}: found out", "share", [_mean([epoch is not None for epoch in found])] if found else []),
        row(f"{name}: epochs until found out, of {epochs}", "epochs", [epoch for epoch in found if epoch is not None]),
        row(f"{name}: honest flagged", "share", [_mean(blamed(*pair)) for pair in up]),
        row(f"{name}: honest at fault", "share", [_mean(blamed(*pair, faults_only=True)) for pair in up]),
        row(
            f"{name}: held-out loss at the end", "nats", [result.held_out[-1] for _, result in up],
            "without cheats", clean,
        ),
        row(
            f"{name}: the same without defences", "nats", [result.held_out[-1] for _, result in down],
            "without cheats", clean,
        ),
    ]  # fmt: skip


def _honest(what: str, runs: list[tuple[Task, Result]]) -> list[Row]:
    return [
        row(f"{what}: held-out loss at the end", "nats", [result.held_out[-1] for _, result in runs],
            "before training", [result.held_out[0] for _, result in runs]),
        row(f"{what}: honest flagged", "share", [_mean(blamed(*pair)) for pair in runs]),
        row(f"{what}: processor time of a run", "s", [result.cpu.everything for _, result in runs]),
    ]  # fmt: skip


def _by_label(runs: list[tuple[Task, Result]]) -> Played:
    return {(*task.label, task.seed): (task, result) for task, result in runs}


def _share(task: Task, result: Result) -> float:
    return sum(result.of(number).weight for number, seat in enumerate(task.seats) if seat.kind)


def _paid(task: Task, result: Result) -> float:
    return _mean([result.of(number).weight > 0.0 for number, seat in enumerate(task.seats) if not seat.kind])


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
