"""One seed, or many side by side: play a plan, say what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

from iota_subnet.core import invariants
from iota_subnet.sim.canonical import combined, ledger_hash
from iota_subnet.sim.conclude import conclude
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World


@dataclass(frozen=True)
class EpochRow:
    """One epoch: simulated seconds, microbatches retired, stages merged, and what was waited for longest."""

    epoch: int
    seconds: float
    microbatches: int
    merges: int
    reason: str
    waited_s: float


@dataclass(frozen=True)
class Result:
    """What came of one plan. `violation` is empty, or the first promise that was not kept."""

    seed: int
    events: int
    violation: str
    lost: int
    ledger_hash: str
    simulated_s: float
    wall_s: float
    lies_caught: int
    epochs: tuple[EpochRow, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def play(plan: Plan, check: int = 1) -> Result:
    """Run one world to its end. Never raises for what the core does wrong: that is the result."""
    began = time.perf_counter()
    world = World(plan, check)
    violation = ""
    try:
        world.run()
        invariants.check(world.orchestrator.state)
        conclude(world)
    except Exception as error:
        # A core that raises has a bug too, whatever it raises.
        violation = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Result(
        seed=plan.seed,
        events=len(world.journal),
        violation=violation,
        lost=world.orchestrator.state.lost,
        ledger_hash=ledger_hash(world.journal),
        simulated_s=world.now,
        wall_s=time.perf_counter() - began,
        lies_caught=world.lies_caught,
        epochs=tuple(_rows(world)),
        counts=dict(world.counts),
    )


def _rows(world: World) -> Iterator[EpochRow]:
    reports = {report.epoch: report for report in world.orchestrator.state.reports}
    for epoch in world.watch.epochs:
        report = reports.get(epoch.number)
        if report is None:
            continue
        reason, waited = epoch.longest()
        seconds = (epoch.ended or world.now) - epoch.began
        yield EpochRow(
            epoch.number,
            round(seconds, 3),
            report.microbatches,
            sum(share == 1.0 for share in report.coverage),
            reason,
            round(waited, 3),
        )


def play_all(plans: Iterable[Plan], check: int, jobs: int) -> Iterator[Result]:
    """Play many plans on `jobs` processes; results come in the order of the plans."""
    if jobs <= 1:
        yield from map(partial(play, check=check), plans)
        return
    with get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(partial(play, check=check), plans, chunksize=4)


@dataclass
class Summary:
    """Many results in one."""

    results: list[Result]
    wall_s: float
    jobs: int

    @property
    def failed(self) -> list[Result]:
        """The results in which something was violated."""
        return [result for result in self.results if result.violation]

    def counts(self) -> dict[str, int]:
        """How often each thing happened in all worlds together, by name."""
        total: Counter[str] = Counter()
        for result in self.results:
            total.update(result.counts)
        return dict(sorted(total.items()))

    def to_dict(self, command: Callable[[int], str]) -> dict[str, Any]:
        """What `--json` prints. `ledger_hash` is over the seeds' hashes, in the order of the seeds."""
        events = sum(result.events for result in self.results)
        lengths = [row.seconds for result in self.results for row in result.epochs]
        return {
            "seeds": len(self.results),
            "events": events,
            "violations": len(self.failed),
            "microbatches": sum(row.microbatches for result in self.results for row in result.epochs),
            "microbatches_lost": sum(result.lost for result in self.results),
            "ledger_hash": combined(result.ledger_hash for result in self.results),
            "events_per_second": round(events / self.wall_s, 1),
            "epoch_seconds": round(median(lengths), 3) if lengths else None,
            "epochs": len(lengths),
            "lies_caught": sum(result.lies_caught for result in self.results),
            "simulated_seconds": round(sum(result.simulated_s for result in self.results), 1),
            "wall_seconds": round(self.wall_s, 1),
            "jobs": self.jobs,
            "faults": self.counts(),
            "failures": [
                {"seed": r.seed, "violation": r.violation, "lost": r.lost, "replay": command(r.seed)}
                for r in self.failed
            ],
        }
