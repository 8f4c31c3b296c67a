"""From a plan that fails to a smaller one that fails: fewer incidents and miners, less time. Greedy, to a fixpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from iota_subnet.sim.planfile import to_json
from iota_subnet.sim.plans import Plan, Trait


def shrink(plan: Plan, fails: Callable[[Plan], bool], most: int = 400) -> tuple[Plan, int]:
    """The smallest plan found in at most `most` tries, and how many it took.

    A smaller plan draws other chances, so it may fail for another reason: what counts is that it fails.
    """
    tries, again = 0, True
    tried: dict[str, None] = {}
    while again:
        again = False
        for smaller in candidates(plan):
            key = to_json(smaller)
            if key in tried:
                continue
            if tries >= most:
                return plan, tries
            tries += 1
            tried[key] = None
            if fails(smaller):
                plan, again = smaller, True
                break
    return plan, tries


def candidates(plan: Plan) -> Iterator[Plan]:
    """Smaller plans, those that leave out most first."""
    count = len(plan.incidents)
    size = count
    while size:
        for start in range(0, count, size):
            yield replace(plan, incidents=plan.incidents[:start] + plan.incidents[start + size :])
        size //= 2
    for name in ("loss", "twice", "jitter", "blob_loss", "token_loss", "auditor_loss", "copy_s"):
        calm: dict[str, Any] = {name: 0.0}
        if getattr(plan, name):
            yield replace(plan, **calm)
    if plan.epochs > 1:
        yield replace(plan, epochs=1)
        yield replace(plan, epochs=plan.epochs - 1)
    for miners in (plan.miners // 2, plan.miners - plan.stages, plan.miners - 1):
        if plan.stages <= miners < plan.miners:
            yield _fewer_miners(plan, miners)
    if plan.stages > 1:
        yield replace(plan, stages=plan.stages - 1)
    numbers = list(plan.traits)
    size = len(numbers)
    while size:
        for start in range(0, len(numbers), size):
            gone = numbers[start : start + size]
            yield replace(plan, traits={n: t for n, t in plan.traits.items() if n not in gone})
        size //= 2
    for number, trait in plan.traits.items():
        others = {n: t for n, t in plan.traits.items() if n != number}
        if trait.seconds != Trait().seconds and trait != Trait(seconds=trait.seconds):
            yield replace(plan, traits=others | {number: replace(trait, seconds=Trait().seconds)})
    batches = plan.swarm.get("epoch_batches", 10)
    if batches > 10:
        yield replace(plan, swarm={**plan.swarm, "epoch_batches": batches // 2})
    ends = max((incident.at + incident.seconds for incident in plan.incidents), default=0.0)
    if plan.storm_s > ends:
        yield replace(plan, storm_s=ends)
    yield from _rounder(plan)


def _fewer_miners(plan: Plan, miners: int) -> Plan:
    """Whatever befell a miner that is not there any more befalls another."""
    incidents = tuple(
        incident._replace(
            miner=incident.miner % miners, miners=tuple(sorted({number % miners for number in incident.miners}))
        )
        for incident in plan.incidents
    )
    traits = {number: trait for number, trait in plan.traits.items() if number < miners}
    return replace(plan, miners=miners, incidents=incidents, traits=traits)


def _rounder(plan: Plan) -> Iterator[Plan]:
    """Numbers that a person can read."""
    for index, incident in enumerate(plan.incidents):
        for name in ("at", "seconds", "amount"):
            value = getattr(incident, name)
            if value != round(value, 1):
                rounded = incident._replace(**{name: round(value, 1)})
                yield replace(plan, incidents=(*plan.incidents[:index], rounded, *plan.incidents[index + 1 :]))
