"""How much of its throughput a swarm has back after half the miners of one stage were killed.

    python benchmarks/recovery.py [--json] [--worlds 20]

24 miners, 4 stages, speeds that differ by a factor of 4. Half the miners of a random stage are killed (and stay dead)
in the middle of the second epoch. Throughput is that of the third epoch: microbatches per simulated second between a
tenth and nine tenths of it, with the real core deciding. It is compared with the best possible for those who are left:
every one of them always busy, and placed so that the poorest stage is as fast as any placement allows. The peer is the
same core without rebalancing, in the same worlds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from random import Random
from statistics import median
from typing import Any

from iota_subnet.core import balance
from iota_subnet.core.events import Event
from iota_subnet.core.state import Phase
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.planted import Patch, planted
from iota_subnet.sim.world import World

MINERS, STAGES, BATCHES = 24, 4, 400
TARGET = 0.90


def world(seed: int) -> Plan:
    rng = Random(f"recovery {seed}")
    traits = {
        number: Trait(seconds=0.2 * 4 ** rng.random(), latency_s=rng.uniform(0.01, 0.05)) for number in range(MINERS)
    }
    swarm: dict[str, Any] = {"epoch_batches": BATCHES, "live_per_replica": 6, "lease_s": 30.0, "train_s": 3600.0}
    return Plan(
        seed, STAGES, MINERS, 3, traits, costs=(1.0, 3.0, 2.0), storm_s=0.0, latest_s=20_000.0, swarm=swarm
    )  # fmt: skip


def best_possible(seconds: list[float], costs: tuple[float, float, float]) -> float:
    """Microbatches per second through the poorest stage, for the best placement that greedy moves and swaps find.

    All stages cost the same here: a forward and a backward pass, or the tail's both in one.
    """
    rates = sorted((1 / (s * costs[1]) for s in seconds), reverse=True)
    stages: list[list[float]] = [[] for _ in range(STAGES)]
    for rate in rates:
        min(stages, key=sum).append(rate)
    better = True
    while better:
        better = False
        low = min(range(STAGES), key=lambda k: sum(stages[k]))
        for high in range(STAGES):
            for give in [*stages[high]] if high != low else []:
                for take in (0.0, *stages[low]):
                    gain = min(sum(stages[low]) + give - take, sum(stages[high]) - give + take)
                    if gain > sum(stages[low]) + 1e-12:
                        stages[high].remove(give)
                        stages[low].append(give)
                        if take:
                            stages[low].remove(take)
                            stages[high].append(take)
                        better = True
                        break
                if better:
                    break
            if better:
                break
    return min(map(sum, stages))


def play(seed: int) -> tuple[float, float]:
    """Throughput of the third epoch over the best possible, and of the first over its best possible."""
    plan = world(seed)
    run = World(plan, check=0)
    rng = Random(f"victims {seed}")
    times: dict[int, list[float]] = {}
    retired = 0
    handle: Callable[[Event], None] = run.handle

    def watched(event: Event) -> None:
        nonlocal retired
        handle(event)
        state = run.orchestrator.state
        done = sum(report.microbatches for report in state.reports)
        if done != retired:
            times.setdefault(state.epoch, []).extend([run.now] * (done - retired))
            retired = done
        if (
            state.epoch == 1
            and len(times.get(1, ())) == BATCHES // 2
            and len(run.miners) == sum(miner.alive for miner in run.miners.values())
        ):
            stage = rng.randrange(STAGES)
            members = sorted(miner.hotkey for miner in state.members(stage))
            for hotkey in rng.sample(members, len(members) // 2):
                run.incident("crash", run.miners[hotkey].number)

    run.handle = watched  # type: ignore[method-assign]
    run.run()
    assert run.orchestrator.state.phase is Phase.DONE and run.orchestrator.state.lost == 0
    alive = [miner.trait.seconds for miner in run.miners.values() if miner.alive]
    assert len(alive) < MINERS
    every = [trait.seconds for trait in plan.traits.values()]
    return (
        _throughput(times[2]) / best_possible(alive, plan.costs),
        _throughput(times[0]) / best_possible(every, plan.costs),
    )


def _throughput(times: list[float]) -> float:
    first, last = BATCHES // 10, BATCHES * 9 // 10
    return (last - first) / (times[last] - times[first])


def _unbalanced(patch: Patch) -> None:
    patch.setattr(balance, "even_out", lambda state: [])


def rows(worlds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {}
    peers: list[tuple[str, AbstractContextManager[None]]] = []
    for seed in range(worlds):
        peers = [("core", nullcontext()), ("no rebalancing", planted(_unbalanced))]
        for name, rule in peers:
            with rule:
                after, before = play(seed)
            found.setdefault(name, []).append(after)
            found.setdefault(f"{name}, undisturbed", []).append(before)
    result = []
    for name, what in (("core", "after half a stage was killed"), ("core, undisturbed", "first epoch, undisturbed")):
        ours, theirs = found[name], found[name.replace("core", "no rebalancing")]
        result.append(
            {
                "name": f"throughput over the best possible, {what}",
                "value": round(median(ours), 3),
                "unit": "share",
                "peer": "no rebalancing",
                "peer_value": round(median(theirs), 3),
                "ratio": round(median(ours) / median(theirs), 3),
                "n": len(ours),
                "min": round(min(ours), 3),
                "max": round(max(ours), 3),
            }
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--worlds", type=int, default=20)
    options = parser.parse_args()
    found = rows(options.worlds)
    if options.json:
        print(json.dumps({"rows": found, "target": TARGET}, indent=1))
        return
    for row in found:
        print(f"{row['name']}: {row['value']:.3f} ({row['min']:.3f}..{row['max']:.3f}, n={row['n']}), "
              f"without rebalancing {row['peer_value']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
