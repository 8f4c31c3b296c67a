"""Total epoch time under the core's routing, and under two other rules, in the setting of the public routing contest.

    python benchmarks/routing.py [--json] [--worlds 20] [--jobs N]

96 miners, 3 to 8 stages, 5 graphs in a miner's cache, stale after 60 s, 5 epochs of 500 microbatches. An epoch's time
runs from the opening of TRAIN to its 500th microbatch; more are opened all the while, so no rule waits for its tail.
Speeds, links, drop-outs and rejoins differ from miner to miner (`world`); all rules play the same worlds.

Peers, both choosing among the replicas of a stage whose cache has room, and queueing at the miner as the contest does:
uniform random; and the reference's `select_by_capacity`, at random with weight ln(free cache) + 1 / (1 + queue).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from random import Random
from statistics import median
from typing import Any

from iota_subnet.core import choice, speed
from iota_subnet.core.actions import Action, SetPhase
from iota_subnet.core.index import StageIndex
from iota_subnet.core.sampler import BOUND
from iota_subnet.core.state import Miner, Phase
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.world import World

MINERS = 96
CACHE = 5
STALE_S = 60.0
EPOCHS = 5
BATCHES = 500

#: Leases that the core gives a miner at a time; the peers give up to the cache.
LEASES = 3

#: What is asked of the median ratio of total epoch times, core over peer.
TARGETS = {"uniform": 0.70, "capacity": 0.90}

#: What a miner weighs by (graphs that it holds, leases that are open); nobody who weighs nothing is drawn.
Weight = Callable[[int, int], int]


def uniform(held: int, leases: int) -> int:
    """Anybody whose cache has room, with the same chance."""
    return int(held + leases < CACHE)


def capacity(held: int, leases: int) -> int:
    """The reference's weight, in thousandths: ln(free cache) + 1 / (1 + forward queue)."""
    free = CACHE - held - leases
    return round(1000 * (math.log(free) + 1 / (1 + leases))) if free > 0 else 0


RULES: dict[str, Weight | None] = {"core": None, "uniform": uniform, "capacity": capacity}


@contextmanager
def routed_by(rule: Weight | None) -> Iterator[None]:
    """The one place where a rule takes the core's place: on which rung a miner stands, and what a rung weighs."""
    own = speed.level, choice.draw
    if rule is not None:
        pairs = [(held, leases) for held in range(CACHE) for leases in range(CACHE + 1)]
        weights = [rule(*pair) for pair in pairs]
        rungs = {pair: rung for rung, pair in enumerate(pairs) if weights[rung]}

        def level(miner: Miner, held: int, keeps: int) -> int:
            return rungs.get((held, len(miner.leases)), BOUND)

        def draw(stage: StageIndex, seed: bytes) -> tuple[int, float]:
            filled = [rung for rung in rungs.values() if stage.room.mask >> rung & 1]
            total = sum(weights[rung] * len(stage.room.rungs[rung]) for rung in filled)
            number = int.from_bytes(seed, "big") % total
            for rung in filled:
                slots = stage.room.rungs[rung]
                if number < weights[rung] * len(slots):
                    return slots[number // weights[rung]], weights[rung] / total
                number -= weights[rung] * len(slots)
            raise AssertionError("beyond the sum of all weights")

        speed.level, choice.draw = level, draw
    try:
        yield
    finally:
        speed.level, choice.draw = own


def world(seed: int) -> Plan:
    """One world of the contest. Fields that the contest leaves open are drawn wide: a factor of 10 in speed."""
    rng = Random(f"routing {seed}")
    stages = 3 + seed % 6
    traits = {
        number: Trait(
            seconds=0.2 * 10 ** rng.random(),
            bytes_per_s=4e6 * 10 ** rng.random(),
            latency_s=rng.uniform(0.01, 0.2),
            graphs=CACHE,
            dropout=rng.choice((0.0, 0.0, 0.002, 0.01)),
            rejoin_s=rng.uniform(10.0, 60.0),
        )
        for number in range(MINERS)
    }
    return Plan(
        seed,
        stages,
        MINERS,
        EPOCHS,
        traits,
        blob_bytes=2_000_000,
        costs=(1.0, 3.0, 2.0),
        stale_s=STALE_S,
        storm_s=0.0,
        latest_s=20_000.0,
        swarm={
            # With more than can be open at a time: none is the last before the 500th retires.
            "epoch_batches": BATCHES + 2 * CACHE * (MINERS // stages),
            "min_batches": 1,
            "commit_s": 1.0,
            "quorum": 0.0,
            "live_per_replica": CACHE,
            "leases_per_miner": LEASES,
            "lease_s": STALE_S,
            "train_s": 3600.0,
            "drain_s": 5.0,
            "max_miners": 2 * MINERS,
        },
    )


def total_s(seed: int, name: str) -> float:
    """Simulated seconds of all epochs' training, one rule in one world."""
    plan, rule = world(seed), RULES[name]
    if rule is not None:
        # The contest's miners hold their own queue, up to their cache.
        plan = replace(plan, swarm=plan.swarm | {"leases_per_miner": CACHE})
    with routed_by(rule):
        return Race(plan, check=0).total()


class Race(World):
    """A world that closes each epoch at its 500th microbatch and adds up how long they took.

    Nobody is asked to commit: merges are not timed here, and took half of the benchmark's own time.
    """

    def send_down(self, action: Action) -> None:
        if isinstance(action, SetPhase) and action.shards:
            action = replace(action, shards=0)
        super().send_down(action)

    def total(self) -> float:
        spent, began = 0.0, {0: 0.0}
        done: dict[int, None] = {}
        self.start()
        while len(done) < EPOCHS:
            self.step()
            state = self.orchestrator.state
            if state.phase is Phase.TRAIN and state.epoch not in done:
                began.setdefault(state.epoch, self.now) if state.epoch else None
                if state.epoch == 0 and not began[0]:
                    began[0] = self.now
                if state.reports[-1].microbatches >= BATCHES:
                    done[state.epoch] = None
                    spent += self.now - began[state.epoch]
        return spent


def _job(job: tuple[int, str]) -> tuple[int, str, float]:
    return *job, total_s(*job)


def compare(worlds: int, jobs: int) -> dict[str, dict[int, float]]:
    """Total epoch times by rule and world."""
    todo = [(seed, name) for seed in range(worlds) for name in RULES]
    times: dict[str, dict[int, float]] = {name: {} for name in RULES}
    with get_context("fork").Pool(jobs) as pool:
        for seed, name, seconds in pool.imap_unordered(_job, todo):
            times[name][seed] = seconds
    return times


def rows(times: dict[str, dict[int, float]]) -> list[dict[str, Any]]:
    out = []
    for peer, target in TARGETS.items():
        ratios = [times["core"][seed] / times[peer][seed] for seed in times["core"]]
        out.append(
            {
                "name": f"total epoch time against {peer} routing",
                "value": round(median(times["core"].values()), 2),
                "unit": "s",
                "peer": {"uniform": "uniform random", "capacity": "reference, by capacity"}[peer],
                "peer_value": round(median(times[peer].values()), 2),
                "ratio": round(median(ratios), 4),
                "n": len(ratios),
                "min": round(min(ratios), 4),
                "max": round(max(ratios), 4),
                "target": target,
            }
        )
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--worlds", type=int, default=20, help="worlds to play (default 20)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args()
    times = compare(options.worlds, options.jobs)
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "rows": rows(times),
    }
    if options.json:
        print(json.dumps(result | {"seconds": times}))
        return 0
    for item in result["rows"]:
        print(
            f"{item['name']:45} {item['value']:8.1f} s, {item['peer']} {item['peer_value']:8.1f} s: ratio "
            f"{item['ratio']:.3f} (median of {item['n']} worlds, {item['min']:.3f} to {item['max']:.3f}; "
            f"asked: {item['target']:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
