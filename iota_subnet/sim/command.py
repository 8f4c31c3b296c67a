"""`iota simulate`: the subcommand's options, what it prints, and its exit code."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path

from iota_subnet.sim import planfile
from iota_subnet.sim.planfile import BadPlan
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.runs import Result, Summary, play, play_all
from iota_subnet.sim.shrink import shrink
from iota_subnet.sim.storms import FAULTS, draw

#: With many seeds, the invariants are checked after every so many events: a broken one mostly stays broken.
SAMPLE = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota simulate`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seeds", type=int, metavar="N", help="play seeds 0 .. N-1 (default: seed 0 alone)")
    which.add_argument("--seed", type=int, metavar="S", help="play this one seed, an epoch per line")
    which.add_argument("--plan", metavar="FILE", help="play the fault plan in FILE (docs/simulate.md)")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="with --seeds: begin at this seed")
    parser.add_argument("--miners", type=int, default=24, help="miners at the start (default 24)")
    parser.add_argument("--stages", type=int, default=4, help="pipeline stages (default 4)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train (default 3)")
    parser.add_argument("--batches", type=int, default=24, help="microbatches per epoch (default 24)")
    parser.add_argument(
        "--faults", default="all", metavar="LIST", help=f"all, none, or some of: {','.join(FAULTS)} (default all)"
    )
    parser.add_argument(
        "--check",
        metavar="WHEN",
        help="invariants after `every` event, every N-th (and each tick and change of phase), or at the `end` "
        f"(default: every for one seed, {SAMPLE} for many)",
    )
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one per core)")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON to FILE, - for standard output")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller plan that fails too, and print it")


def main(options: argparse.Namespace) -> int:
    """Exit code: 0 nothing was violated, 1 something was, 2 the options or the plan are wrong."""
    try:
        check = _check(options.check or ("every" if options.seeds is None else str(SAMPLE)))
        plans = _plans(options)
    except (BadPlan, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    jobs = min(options.jobs or len(os.sched_getaffinity(0)), len(plans))
    began = time.perf_counter()
    results: list[Result] = []
    for result in play_all(plans, check, jobs):
        results.append(result)
        if result.violation:
            _say(f"seed {result.seed}: {result.violation}\n  replay: {_command(options, result.seed)}", options)
    summary = Summary(results, time.perf_counter() - began, jobs)
    if len(results) == 1:
        _tell(results[0], options)
    else:
        _sum_up(summary, options)
    if options.json:
        _write(options.json, json.dumps(summary.to_dict(lambda seed: _command(options, seed)), indent=1) + "\n")
    if options.shrink and summary.failed:
        _shrink(next(plan for plan in plans if plan.seed == summary.failed[0].seed), check, options)
    return 1 if summary.failed or any(result.lost for result in results) else 0


def _check(text: str) -> int:
    if text in ("every", "end"):
        return int(text == "every")
    if not text.isdigit() or int(text) < 1:
        raise BadPlan(f"--check {text}: it is `every`, `end`, or a number of events")
    return int(text)


def _plans(options: argparse.Namespace) -> list[Plan]:
    if options.plan:
        return [planfile.from_json(Path(options.plan).read_text(encoding="utf-8"))]
    faults = _faults(options.faults)
    if not 1 <= options.stages <= options.miners <= 4096:
        raise BadPlan(f"--stages {options.stages} --miners {options.miners}: each stage needs a miner, 4096 at most")
    if options.epochs < 1 or options.batches < 1:
        raise BadPlan("--epochs and --batches must be at least 1")
    seeds = [options.seed or 0]
    if options.seeds is not None:
        if options.seeds < 1:
            raise BadPlan(f"--seeds {options.seeds}: at least 1")
        seeds = list(range(options.first, options.first + options.seeds))
    return [draw(seed, options.miners, options.stages, options.epochs, options.batches, faults) for seed in seeds]


def _faults(text: str) -> tuple[str, ...]:
    if text in ("all", "none"):
        return tuple(FAULTS) if text == "all" else ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in FAULTS]
    if unknown or not names:
        name = unknown[0] if unknown else text
        raise BadPlan(f"--faults {text}: no fault is called {name!r}; known: {', '.join(FAULTS)}")
    return names


def _command(options: argparse.Namespace, seed: int) -> str:
    """What replays one seed exactly."""
    if options.plan:
        return shlex.join(["iota", "simulate", "--plan", options.plan])
    size = [f"--{name}={getattr(options, name)}" for name in ("miners", "stages", "epochs", "batches", "faults")]
    return shlex.join(["iota", "simulate", f"--seed={seed}", *size])


def _say(text: str, options: argparse.Namespace) -> None:
    """People read standard error when standard output carries JSON."""
    print(text, file=sys.stderr if options.json == "-" else sys.stdout, flush=True)


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def _tell(result: Result, options: argparse.Namespace) -> None:
    for row in result.epochs:
        wait = f"longest wait {row.waited_s:.1f} s: {row.reason}" if row.reason else "no waits"
        _say(
            f"epoch {row.epoch}: {row.seconds:7.1f} s  {row.microbatches:4} microbatches  {row.merges} merges  {wait}",
            options,
        )
    verdict = "FAILED" if result.violation else "ok"
    happened = ", ".join(f"{name} {count}" for name, count in sorted(result.counts.items()) if count) or "nothing"
    _say(
        f"seed {result.seed}: {verdict}, {result.events} events, {result.lost} microbatches lost, "
        f"{result.wall_s:.2f} s, ledger {result.ledger_hash[:16]}\n  what happened: {happened}",
        options,
    )


def _sum_up(summary: Summary, options: argparse.Namespace) -> None:
    raw = summary.to_dict(lambda seed: _command(options, seed))
    _say(
        f"{raw['seeds']} seeds: {raw['violations']} violations, {raw['microbatches_lost']} of {raw['microbatches']} "
        f"microbatches lost, {raw['events']} events in {raw['wall_seconds']} s ({raw['events_per_second']:.0f}/s, "
        f"{raw['jobs']} processes), epoch {raw['epoch_seconds']} s (median), ledgers {raw['ledger_hash'][:16]}",
        options,
    )


def _shrink(plan: Plan, check: int, options: argparse.Namespace) -> None:
    smallest, tries = shrink(plan, lambda smaller: bool(play(smaller, check).violation))
    path = f"shrunk-{smallest.seed}.json"
    Path(path).write_text(planfile.to_json(smallest), encoding="utf-8")
    _say(f"smallest plan that fails, after {tries} tries ({play(smallest, check).violation}):", options)
    _say(planfile.to_json(smallest), options)
    _say(f"  replay: iota simulate --plan {path}", options)
