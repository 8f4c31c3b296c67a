"""How much of its throughput a swarm has back after half the miners of one stage were killed.

    python benchmarks/recovery.py [--json] [--worlds 20]

24 miners, 4 stages, speeds that differ by a factor of 4. Half the miners of a random stage are killed (and stay dead)
in the middle of the second epoch. Throughput is that of the third epoch: microbatches per simulated second between a
tenth and nine tenths of it, with the real core deciding. It is compared with the best possible for those who are left,
in two ways. The same swarm: a world of the survivors alone, seated from the start so that the poorest stage is as fast
as any placement allows, where nothing ever happens, in its own third epoch. And the bound: every survivor of that
placement always busy, as if nothing had to travel. The peer is the same core without rebalancing, in the same worlds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import median
from typing import Any

from iota_subnet.core import assignment, balance
from iota_subnet.core.actions import Action
from iota_subnet.core.events import Event
from iota_subnet.core.state import Miner, Phase, RunState
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.planted import Patch, planted
from iota_subnet.sim.world import World

MINERS, STAGES, BATCHES = 24, 4, 400

#: What is asked, of the best possible for the remaining miners.
TARGET = 0.90


def world(seed: int) -> Plan:
    rng = Random(f"recovery {seed}")
    traits = {
        number: Trait(seconds=0.2 * 4 ** rng.random(), latency_s=rng.uniform(0.01, 0.05)) for number in range(MINERS)
    }
    swarm: dict[str, Any] = {"epoch_batches": BATCHES, "live_per_replica": 6, "lease_s": 30.0, "train_s": 3600.0}
    return Plan(seed, STAGES, MINERS, 3, traits, costs=(1.0, 3.0, 2.0), storm_s=0.0, latest_s=20_000.0, swarm=swarm)


def best_placement(rates: list[float]) -> list[list[int]]:
    """Miners by stage, by number: the poorest stage is as fast as greedy moves and swaps can make it.

    All stages cost the same here: a forward and a backward pass, or the tail's both in one.
    """
    stages: list[list[int]] = [[] for _ in range(STAGES)]

    def strength(stage: int) -> float:
        return sum(rates[number] for number in stages[stage])

    for number in sorted(range(len(rates)), key=lambda number: -rates[number]):
        stages[min(range(STAGES), key=strength)].append(number)
    while True:
        low = min(range(STAGES), key=strength)
        best = (strength(low) + 1e-12, -1, -1, -1)
        for high in range(STAGES):
            for give in stages[high] if high != low else ():
                for take in (-1, *stages[low]):
                    change = rates[give] - (rates[take] if take >= 0 else 0.0)
                    best = max(best, (min(strength(low) + change, strength(high) - change), high, give, take))
        _, high, give, take = best
        if high < 0:
            return stages
        stages[high].remove(give)
        stages[low].append(give)
        if take >= 0:
            stages[low].remove(take)
            stages[high].append(take)


def play(seed: int) -> dict[str, float]:
    """Throughput of the third epoch over the best possible, in both ways."""
    plan = world(seed)
    run = World(plan, check=0)
    times = watch(run, Random(f"victims {seed}"))
    run.run()
    assert run.orchestrator.state.phase is Phase.DONE and run.orchestrator.state.lost == 0
    survivors = [miner.trait for miner in run.miners.values() if miner.alive]
    assert len(survivors) < MINERS
    rates = [1 / (trait.seconds * plan.costs[1]) for trait in survivors]
    placement = best_placement(rates)
    ours = throughput(times)
    return {
        "the same swarm": ours / undisturbed(plan, survivors, placement),
        "the bound": ours / min(sum(rates[number] for number in stage) for stage in placement),
    }


def undisturbed(plan: Plan, survivors: list[Trait], placement: list[list[int]]) -> float:
    """Throughput of the third epoch when only the survivors were ever there, each in its place."""
    seats = {f"miner-{number}": stage for stage, numbers in enumerate(placement) for number in numbers}

    def placed(state: RunState, miner: Miner) -> list[Action]:
        if miner.stage < 0:
            assignment.take(state, miner, seats[miner.hotkey])
        return assignment.offer(state, miner)

    def patch(patches: Patch) -> None:
        unbalanced(patches)
        patches.setattr(assignment, "seat", placed)

    with planted(patch):
        run = World(replace(plan, miners=len(survivors), traits=dict(enumerate(survivors))), check=0)
        times = watch(run, None)
        run.run()
    return throughput(times)


def watch(run: World, victims: Random | None) -> dict[int, list[float]]:
    """When microbatches retire, by epoch; and half of a stage dies on the way, if `victims` is given."""
    times: dict[int, list[float]] = {}
    retired = 0
    handle: Callable[[Event], None] = run.handle

    def watched(event: Event) -> None:
        nonlocal retired
        handle(event)
        state = run.orchestrator.state
        done = sum(report.microbatches for report in state.reports) + state.early
        if done == retired:
            return
        times.setdefault(state.epoch, []).extend([run.now] * (done - retired))
        retired = done
        if victims is not None and state.epoch == 1 and len(times[1]) == BATCHES // 2:
            members = sorted(miner.hotkey for miner in state.members(victims.randrange(STAGES)))
            for hotkey in victims.sample(members, len(members) // 2):
                run.incident("crash", run.miners[hotkey].number)

    run.handle = watched  # type: ignore[method-assign]
    return times


def throughput(times: dict[int, list[float]]) -> float:
    """Of the third epoch, without its beginning and its end."""
    first, last = BATCHES // 10, BATCHES * 9 // 10
    return (last - first) / (times[2][last] - times[2][first])


def unbalanced(patch: Patch) -> None:
    patch.setattr(balance, "even_out", lambda state: [])


def rows(worlds: int) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {"core": [], "peer": []}
    for seed in range(worlds):
        found["core"].append(play(seed))
        with planted(unbalanced):
            found["peer"].append(play(seed))
    result = []
    for against in ("the same swarm", "the bound"):
        ours, theirs = ([one[against] for one in found[who]] for who in ("core", "peer"))
        result.append(
            {
                "name": f"throughput one epoch after half a stage was killed, over {against}",
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
        print(f"{row['name']}: {row['value']:.3f} ({row['min']:.3f} .. {row['max']:.3f}, n={row['n']}); "
              f"{row['peer']}: {row['peer_value']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
