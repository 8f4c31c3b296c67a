"""Runs in parallel, rows, and the cheats that there are."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, Literal

from iota_subnet.miner.conduct import Conduct
from iota_subnet.rehearsal.plan import DEFENDED, Defences, Member, nano
from iota_subnet.rehearsal.result import Result
from iota_subnet.rehearsal.world import Rehearsal, Stuck
from iota_subnet.spec import RunSpec

ROOT = Path(__file__).resolve().parents[2]

#: Where cheats are looked for; the first that exists has them.
SOURCES = ("tests/adversaries.py", "tests/rehearsal/cheats.py")

STAGES, REPLICAS = 3, 4

#: Kinds that cheat in some stages only; -1 is the tail.
PLACES: dict[str, tuple[int, ...]] = {
    "copy_cat": (1,),
    "pair_colluder": (1,),
    "wrong_data": (0,),
    "forged_low": (-1,),
    "forged_high": (-1,),
    "FreeRider": (0, 1),
    "ForgedLoss": (-1,),
}

#: Kinds that are nothing alone: so many in a stage.
RINGS = {"pair_colluder": 2}

#: Passes of an epoch by its microbatches in which `selective` is honest: 8 at 48. In a shorter epoch it would have none
#: left to cheat in.
SELECTIVE = 8 / 48

#: Kinds whose members share one machine.
SHARED = ("sybils",)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seat:
    """A member by names, so that it can be sent to another process; `kind` "" is honest."""

    stage: int
    kind: str = ""
    speed: float = 1.0
    threads: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    machine: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One run. `label` says which, whatever it is made of."""

    label: tuple[Any, ...]
    seed: int
    spec: RunSpec
    seats: tuple[Seat, ...]
    defences: Defences = DEFENDED


@lru_cache(maxsize=1)
def kinds() -> dict[str, type[Conduct]]:
    """The known cheats by name: a registry KINDS (names to classes, or classes), else all that the file defines."""
    path = next(ROOT / source for source in SOURCES if (ROOT / source).exists())
    module = _module(path)
    found = getattr(module, "KINDS", None)
    if isinstance(found, Mapping):
        return {str(name): kind for name, kind in found.items()}
    if found is None:
        found = [
            kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__
        ]
    return {kind.__name__: kind for kind in found}


def where(name: str) -> list[int]:
    """The stages in which a kind can do what it does."""
    return sorted(stage % STAGES for stage in PLACES.get(name, range(STAGES)))


def swarm(name: str = "", cheats: int = 1) -> tuple[Seat, ...]:
    """3 stages of 4; the first `cheats` of each stage in which the kind can act are of it, more where it needs a friend
    in the stage."""
    stages, cheats = where(name) if name else [], max(cheats, RINGS.get(name, 1))
    seats = []
    for number in range(STAGES * REPLICAS):
        stage = number % STAGES
        kind = name if stage in stages and number // STAGES < cheats else ""
        seats.append(Seat(stage, kind, machine=0 if kind in SHARED else None))
    return tuple(seats)


def spec_of(epochs: int, batches: int, audit_miners: float | None = None, stages: int = STAGES) -> RunSpec:
    spec = nano(epochs, batches, stages)
    if audit_miners is not None:
        spec = replace(spec, swarm=replace(spec.swarm, audit_miners=audit_miners))
    return spec


def play(task: Task) -> tuple[Task, Result | str]:
    """One run, in a worker: its result, or why there is none."""
    known = kinds()
    if "selective" in known:
        known["selective"].HONEST = round(SELECTIVE * task.spec.swarm.epoch_batches)  # type: ignore[attr-defined]
    members = [
        Member(
            seat.stage,
            seat.speed,
            known[seat.kind] if seat.kind else Conduct,
            seat.threads,
            seat.precision,
            seat.machine,
        )
        for seat in task.seats
    ]
    try:
        return task, Rehearsal(task.spec, members, task.seed, task.defences).run()
    except Stuck as error:
        return task, str(error)


def play_all(tasks: Sequence[Task], jobs: int) -> list[tuple[Task, Result]]:
    """All of them, `jobs` at a time, in the order of the tasks. A run that got stuck is told and left out; one that an
    earlier section has played is not played again."""
    # A corpus is read once per seed and worker.
    ordered = sorted((task for task in tasks if task not in _PLAYED), key=lambda task: task.seed)
    began = time.perf_counter()
    for done, (task, result) in enumerate(_mapped(ordered, jobs), 1):
        what = f"[{done}/{len(ordered)}, {time.perf_counter() - began:.0f} s] {' '.join(map(str, task.label))}"
        if isinstance(result, str):
            print(f"{what}, seed {task.seed}: {result}", file=sys.stderr)
            continue
        _PLAYED[task] = result
        loss, spent = result.held_out[-1], result.cpu.everything
        print(f"{what}, seed {task.seed}: held-out loss {loss:.3f}, {spent:.1f} CPU s", file=sys.stderr)
    return [(task, _PLAYED[task]) for task in tasks if task in _PLAYED]


#: Runs of this process that are over.
_PLAYED: dict[Task, Result] = {}


def row(name: str, unit: str, values: Iterable[float], peer: str = "", peers: Iterable[float] = ()) -> Row:
    """A median over runs beside the median of its peer."""
    ours, theirs = list(values), list(peers)
    value = median(ours) if ours else None
    peer_value = median(theirs) if theirs else None
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": value / peer_value if value is not None and peer_value else None,
        "n": len(ours),
        "min": min(ours, default=None),
        "max": max(ours, default=None),
    }


def earnings(task: Task, result: Result) -> list[float]:
    """What each cheat has earned, as a share of the median of the honest ones that began in its stage. Those of one
    machine are one: all of them together, against the median of all honest ones, each of which has a machine."""
    honest: dict[int, list[float]] = {}
    shared: dict[int, float] = {}
    for number, seat in enumerate(task.seats):
        if not seat.kind:
            honest.setdefault(seat.stage, []).append(result.of(number).weight)
    found = []
    for number, seat in enumerate(task.seats):
        if seat.kind and seat.machine is not None:
            shared[seat.machine] = shared.get(seat.machine, 0.0) + result.of(number).weight
        elif seat.kind:
            found.append(_against(result.of(number).weight, honest[seat.stage]))
    everybody = [weight for weights in honest.values() for weight in weights]
    return [*found, *(_against(weight, everybody) for weight in shared.values())]


def _against(weight: float, peers: list[float]) -> float:
    usual = median(peers)
    return weight / usual if usual else float("inf")


def blamed(task: Task, result: Result, faults_only: bool = False) -> list[bool]:
    """For each honest miner: whether anything was held against it."""
    found = []
    for number, seat in enumerate(task.seats):
        if not seat.kind:
            why = [what for _, what in result.suspicions(result.hotkey(number))]
            found.append(any(not faults_only or not what.startswith("harm") for what in why))
    return found


def caught(task: Task, result: Result) -> list[int | None]:
    """For each cheat: in how many epochs it was named, None for never. Harm that CLASP sees counts."""
    found: list[int | None] = []
    for number, seat in enumerate(task.seats):
        if seat.kind:
            epochs = [epoch for epoch, _ in result.suspicions(result.hotkey(number))]
            found.append(min(epochs) + 1 if epochs else None)
    return found


def _mapped(tasks: Sequence[Task], jobs: int) -> Iterable[tuple[Task, Result | str]]:
    if jobs < 2:
        yield from map(play, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(play, tasks)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kinds_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module
