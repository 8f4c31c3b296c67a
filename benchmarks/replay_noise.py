"""How far honest replicas on unlike machines are apart in an audit, and how far cheats are: the source of `Limits`.

    python benchmarks/replay_noise.py [--json] [--full] [--minutes M]

Honest: a pipeline is rehearsed on another kind of machine than the auditor's (threads, bfloat16 matrices as on a GPU,
float32 matrices of lower precision), and each stage is audited by one thread in float32 on the CPU. A GPU takes part
only where torch sees one. Cheats: one stage cheats, on the auditor's kind of machine, which is the easiest for it to be
told from noise, so that a value between both distributions must be read with care. Each row is one measure over all
runs: specifications (codecs, depth, learning rates) x ages of the model x lengths of the epoch x stages x seeds.

The default (one seed, two specifications, two ages) takes about two CPU minutes; of `--full` three took 16
minutes on two busy cores. With `--minutes` nothing is begun after that time; `done` names what was measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from audits import rehearsal
from audits.rehearsal import Base, Miner, Store, merged, run_epoch

from iota_subnet.spec import PRESETS, ModelSpec, RunSpec, TrainSpec
from iota_subnet.train.data import Feed
from iota_subnet.train.order import Finding
from iota_subnet.train.replay import LIMITS, replay
from iota_subnet.train.runner import StageRunner
from iota_subnet.train.state import initial_state

SMALL = ModelSpec("", 256, 64, 3, 4, 2, 176, 64, stages=3, bottleneck=16)
BASE = TrainSpec()

#: Specifications by name: small models, and what may make noise larger.
SPECS = {
    "default": RunSpec(model=SMALL, train=BASE),
    "fp32 activations": RunSpec(model=SMALL, train=replace(BASE, activation_codec="fp32", delta_codec="fp32")),
    "4 blocks a stage": RunSpec(model=replace(SMALL, blocks=12), train=BASE),
    "lr x4, no warm-up": RunSpec(model=SMALL, train=replace(BASE, lr=4 * BASE.lr, warmup=0)),
    "betas 0.9, 4 passes a step": RunSpec(model=SMALL, train=replace(BASE, betas=(0.9, 0.95), accumulate=4)),
    "tiny": RunSpec(model=PRESETS["tiny"], train=BASE),
}

#: Microbatches trained before the epoch that is audited; the state before the last 40 of them is the stale one.
AGES = (0, 50, 200)

OLD_EPOCH = 40

#: Microbatches of an epoch; the middle stage computes two passes for each.
LENGTHS = dict.fromkeys(SPECS, (10, 2, 40)) | {"4 blocks a stage": (10, 2), "tiny": (4,)}
CHEAT_BATCHES = 6

#: (specification, seed), the most telling first.
PLAN = [
    ("default", 0),
    ("fp32 activations", 0),
    ("lr x4, no warm-up", 0),
    ("4 blocks a stage", 0),
    ("tiny", 0),
    ("betas 0.9, 4 passes a step", 0),
    ("default", 1),
    ("lr x4, no warm-up", 1),
]


class Young(NamedTuple):
    """A state of all stages, and the one an epoch before."""

    age: int
    bases: list[Base]
    old: list[Base]


class Kind(NamedTuple):
    """A machine of a miner: threads, its runner, and torch's word for the precision of float32 matrices."""

    threads: int = 1
    runner: rehearsal.MakeRunner = StageRunner
    precision: str = "highest"


KINDS = {
    "same": Kind(),
    "2 threads": Kind(threads=2),
    "float32 matrices at 'medium'": Kind(precision="medium"),
    "bfloat16": Kind(runner=rehearsal.HalfRunner),
}
if torch.cuda.is_available():
    KINDS["GPU"] = Kind(runner=partial(StageRunner, device="cuda"))

#: These are exact at most sizes; one length of the epoch is enough.
SHORT = ("same", "2 threads")

EVERY = (0, 1, 2)
#: Cheats, and the stages at which they make sense.
CHEATS: dict[str, tuple[type[Miner], tuple[int, ...]]] = {
    "noise 0.1 %": (rehearsal.noisy(0.001), EVERY),
    "noise 1 %": (rehearsal.noisy(0.01), EVERY),
    "noise 10 %": (rehearsal.noisy(0.1), EVERY),
    "noise 100 %": (rehearsal.noisy(1.0), EVERY),
    "output x0.5": (rehearsal.scaled(0.5), EVERY),
    "output x2": (rehearsal.scaled(2.0), EVERY),
    "gradient x0.5": (rehearsal.scaled(0.5, "backward", "loss"), (1, 2)),
    "gradient x2": (rehearsal.scaled(2.0, "backward", "loss"), (1, 2)),
    "gradient x-1": (rehearsal.scaled(-1.0, "backward", "loss"), (1, 2)),
    "random gradient": (rehearsal.random_gradients(), (1, 2)),
    "pass-through": (rehearsal.PassThrough, (1,)),
    "replayed output": (rehearsal.Replaying, EVERY),
    "other text": (rehearsal.OtherText, (0,)),
    "loss -1 %": (rehearsal.forged(0.99), (2,)),
    "loss -5 %": (rehearsal.forged(0.95), (2,)),
    "loss +5 %": (rehearsal.forged(1.05), (2,)),
    "loss -50 %": (rehearsal.forged(0.5), (2,)),
    "stale weights": (rehearsal.Stale, EVERY),
    "every 2nd backward skipped": (rehearsal.lazy(2), EVERY),
    "every 10th backward skipped": (rehearsal.lazy(10), (1,)),
    "learns nothing": (rehearsal.Idle, EVERY),
    "pseudo-gradient zero": (rehearsal.merging(lambda values, chance: values * 0), EVERY),
    "pseudo-gradient x-1": (rehearsal.merging(lambda values, chance: -values), EVERY),
    "pseudo-gradient x2": (rehearsal.merging(lambda values, chance: values * 2), EVERY),
    "pseudo-gradient x1.1": (rehearsal.merging(lambda values, chance: values * 1.1), EVERY),
    "pseudo-gradient noise 10 %": (
        rehearsal.merging(lambda v, chance: v + 0.1 * _like(v, chance)),
        EVERY,
    ),
    "pseudo-gradient noise 100 %": (rehearsal.merging(lambda v, chance: v + _like(v, chance)), EVERY),
}


def _like(values: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    noise = chance.standard_normal(values.shape)
    return noise * np.linalg.norm(values) / np.linalg.norm(noise)


def states(spec: RunSpec, feed: Feed, ages: tuple[int, ...]) -> Iterator[Young]:
    """States at these ages, trained honestly."""
    bases = [initial_state(spec, stage) for stage in range(spec.model.stages)]
    at, old = 0, bases
    for age in ages:
        while at < age:
            few = min(OLD_EPOCH, age - at)
            miners = [Miner(spec, stage, Store()) for stage in range(spec.model.stages)]
            run_epoch(miners, feed.batch, range(at, at + few), bases, at)
            old, bases = bases, [merged(miner) for miner in miners]
            at += few
        yield Young(age, bases, old)


def rehearsed(
    spec: RunSpec,
    feed: Feed,
    young: Young,
    batches: int,
    kind: Kind,
    cheat: type[Miner] = Miner,
    stages: tuple[int, ...] = (),
) -> list[Miner]:
    """One epoch of a pipeline on such machines, with a cheat at some stages."""
    store = Store()
    miners = []
    for stage in range(spec.model.stages):
        miners.append((cheat if stage in stages else Miner)(spec, stage, store, kind.runner))
        miners[-1].old = young.old[stage]
    torch.set_num_threads(kind.threads)
    torch.set_float32_matmul_precision(kind.precision)
    try:
        run_epoch(miners, feed.batch, range(young.age, young.age + batches), young.bases, young.age)
    finally:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
    return miners


def audited(miner: Miner) -> Finding:
    return replay(miner.order(), miner.store.get)


class Rows:
    """Values of each measure by name, and how many runs were found to be sound."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}
        self.verdicts: dict[str, list[bool]] = {}
        self.named: dict[str, dict[str, int]] = {}

    def add(self, name: str, finding: Finding) -> None:
        for check in finding.checks:
            self.values.setdefault(name, {}).setdefault(check.what, []).append(check.value)
        self.verdicts.setdefault(name, []).append(finding.verdict == "sound")
        bad = next((check.what for check in finding.checks if check.bad), "")
        counts = self.named.setdefault(name, {})
        counts[bad] = counts.get(bad, 0) + 1

    def table(self) -> dict[str, Any]:
        return {
            name: {
                "runs": len(self.verdicts[name]),
                "sound": sum(self.verdicts[name]),
                "first_bad": {what: count for what, count in self.named[name].items() if what},
                "measures": {what: spread(values) for what, values in self.values.get(name, {}).items()},
            }
            for name in self.verdicts
        }


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high, most = np.quantile(values, [0, 0.5, 0.99, 1])
    return {"min": float(low), "median": float(middle), "p99": float(high), "max": float(most)}


def cost(runs: int) -> dict[str, float]:
    """CPU seconds of a replay divided by those of the miner's own passes and commit, by stage, on `tiny`."""
    spec = SPECS["tiny"]
    feed, young = Feed(spec), next(states(spec, Feed(spec), (0,)))
    ratios: dict[str, list[float]] = {}
    for _ in range(runs):
        for stage in range(spec.model.stages):
            miner = rehearsed(spec, feed, young, 12, Kind())[stage]
            order = miner.order()
            began = time.process_time()
            _again(miner)
            own = time.process_time() - began
            began = time.process_time()
            replay(order, miner.store.get)
            ratios.setdefault(f"stage {stage}", []).append((time.process_time() - began) / own)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _again(miner: Miner) -> None:
    """What the miner computed in its epoch, alone."""
    miner.runner.install(0, [(0, miner.runner.parameters, *miner.base)], miner.first)
    for done in miner.passes:
        miner.honest(done.op, done.batch, *(miner.store[digest] for digest in done.inputs))
    miner.runner.pseudo_gradient(3)


def measure_honest(
    spec: RunSpec, feed: Feed, young: Young, lengths: tuple[int, ...], name: str, rows: dict[str, Rows]
) -> None:
    """Every kind of machine."""
    for length, (kind, machine) in product(lengths, KINDS.items()):
        if length == lengths[0] or kind not in SHORT:
            for miner in rehearsed(spec, feed, young, length, machine):
                finding = audited(miner)
                rows["honest"].add(kind, finding)
                if kind == "bfloat16":
                    rows["bfloat16 by specification"].add(name, finding)


def measure_cheats(spec: RunSpec, feed: Feed, young: Young, rows: Rows) -> None:
    """Every cheat; who only commits to something else does not disturb the others, so all stages do it at once."""
    for cheat, (made, places) in CHEATS.items():
        if made is rehearsal.Stale and not young.age:
            continue
        together = made.__name__ == "Merging"
        for stages in [places] if together else [(place,) for place in places]:
            batches = 40 if "10th" in cheat else CHEAT_BATCHES
            miners = rehearsed(spec, feed, young, batches, Kind(), made, stages)
            for stage in stages:
                rows.add(cheat, audited(miners[stage]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--full", action="store_true", help="all specifications, ages and lengths")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing new after so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, done = {name: Rows() for name in ("honest", "bfloat16 by specification", "cheats")}, []
    began = time.perf_counter()
    ratios = cost(3 if options.full else 1)
    for name, seed in PLAN if options.full else PLAN[:2]:
        spec = replace(SPECS[name], seed=seed)
        feed = Feed(spec)
        lengths = LENGTHS[name] if options.full else LENGTHS[name][:1]
        for young in states(spec, feed, AGES if options.full and name != "tiny" else AGES[:2]):
            if time.perf_counter() - began > 60 * options.minutes:
                break
            measure_honest(spec, feed, young, lengths, name, rows)
            if (name, seed) == PLAN[0]:
                measure_cheats(spec, feed, young, rows["cheats"])
            done.append(f"{name}, seed {seed}, age {young.age}")
            print(f"{done[-1]}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    result = {
        **{title: row.table() for title, row in rows.items()},
        "cost": ratios,
        "done": done,
        "limits": LIMITS.__dict__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    if options.json:
        print(json.dumps(result))
        return
    for title in rows:
        show(title, result[title])
    print(f"CPU seconds of a replay by those of the miner: {result['cost']}; GPU: {result['gpu']}")


def show(title: str, table: dict[str, Any]) -> None:
    print(f"\n{title}: min / median / p99 / max")
    for name, row in table.items():
        print(f"  {name}: {row['sound']} of {row['runs']} sound {row['first_bad'] or ''}")
        for what, s in row["measures"].items():
            print(f"    {what:<24} {s['min']:10.3g} {s['median']:10.3g} {s['p99']:10.3g} {s['max']:10.3g}")


if __name__ == "__main__":
    main()
