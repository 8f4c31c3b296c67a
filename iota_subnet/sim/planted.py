"""Bugs planted in the core on purpose, and how many seeds the simulator needs to find each.

A net that catches nothing proves nothing: `benchmarks/simulate.py --planted` prints the table of docs/simulate.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, Protocol

from iota_subnet.core import assignment, balance, draw, flow, lapses, merge, phases, recompute, routing, safety, scoring
from iota_subnet.core.actions import Action
from iota_subnet.core.events import LeaseFinished, ShardRecomputed, ShardRef, StageInstalled
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Fault, Lease, Microbatch, Miner, Phase, RunState, Shard, StageMerge
from iota_subnet.sim import storms
from iota_subnet.sim.runs import play
from iota_subnet.spec import shard_bounds


class Patch(Protocol):
    """Changes a module or a dict for a while; pytest's `monkeypatch` is one too."""

    def setattr(self, target: Any, name: str, value: Any, /) -> None:
        """Give a module or class another attribute until the block ends."""

    def setitem(self, dic: Any, name: Any, value: Any, /) -> None:
        """Give a dict another value until the block ends."""


class _Patches:
    def __init__(self) -> None:
        self.undo: list[Callable[[], None]] = []

    def setattr(self, target: Any, name: str, value: Any, /) -> None:
        before = getattr(target, name)
        self.undo.append(lambda: setattr(target, name, before))
        setattr(target, name, value)

    def setitem(self, dic: Any, name: Any, value: Any, /) -> None:
        before = dic[name]
        self.undo.append(lambda: dic.__setitem__(name, before))
        dic[name] = value


@contextmanager
def planted(bug: Callable[[Patch], None]) -> Iterator[None]:
    """The core with a bug, inside the block."""
    patches = _Patches()
    try:
        bug(patches)
        yield
    finally:
        for undo in reversed(patches.undo):
            undo()


def seeds_needed(bug: Callable[[Patch], None], most: int, miners: int = 8, stages: int = 2) -> tuple[int, str]:
    """How many seeds were played until one failed, and how it failed; 0 if `most` were not enough.

    A seed counts only if it is well without the bug: it is the bug that is caught.
    """
    for seed in range(most):
        plan = storms.draw(seed, miners, stages, 2, 12, tuple(storms.FAULTS))
        with planted(bug):
            violation = play(plan).violation
        if violation and not play(plan).violation:
            return seed + 1, violation
    return 0, ""


def credit_twice(patch: Patch) -> None:
    """A retired microbatch is paid twice."""
    right = flow.retire

    def wrong(state: RunState, batch: Microbatch) -> list[Action]:
        actions = right(state, batch)
        state.volume[batch.path[0]] += 0.5
        return actions

    patch.setattr(flow, "retire", wrong)


def leases_never_expire(patch: Patch) -> None:
    """No lease ever expires."""
    patch.setattr(lapses, "expire", lambda state: [])


def twins_are_not_compared(patch: Patch) -> None:
    """The first reducer is believed."""
    right = merge.settle

    def wrong(state: RunState, stage: StageMerge, shard: Shard) -> list[Action]:
        if shard.results and shard.accepted is None:
            shard.accepted = next(iter(shard.results.values()))
        return right(state, stage, shard)

    patch.setattr(merge, "settle", wrong)


def dropped_in_silence(patch: Patch) -> None:
    """A failed microbatch vanishes."""
    right = lapses.lapse

    def wrong(state: RunState, lease: Lease) -> list[Action]:
        actions = right(state, lease)
        state.batches.pop(lease.batch, None)
        return actions

    patch.setattr(lapses, "lapse", wrong)


def coverage_gap(patch: Patch) -> None:
    """The shards leave a parameter out."""
    patch.setattr(merge, "shard_bounds", lambda size, shards: shard_bounds(size - 1, shards))


def all_reducers_are_blamed(patch: Patch) -> None:
    """Honest twins of a liar are named too."""
    right = recompute.recomputed

    def wrong(state: RunState, event: ShardRecomputed) -> list[Action]:
        for hotkey in state.merges[event.stage].shards[event.shard].results:
            state.faults.append(Fault(event.at, state.epoch, hotkey, "was there"))
        return right(state, event)

    patch.setattr(recompute, "recomputed", wrong)


def liars_go_free(patch: Patch) -> None:
    """Nobody is ever named."""
    right = recompute.recomputed

    def wrong(state: RunState, event: ShardRecomputed) -> list[Action]:
        actions = right(state, event)
        state.faults.clear()
        return actions

    patch.setattr(recompute, "recomputed", wrong)


def nothing_is_checked_by_chance(patch: Patch) -> None:
    """Twins that agree are never checked."""
    patch.setattr(recompute, "by_chance", lambda state, stage, shard: [])


def a_check_compares_where_bytes_lie(patch: Patch) -> None:
    """A check takes the same bits at another place for a lie."""

    def wrong(state: RunState, event: ShardRecomputed, shard: Shard) -> list[str]:
        truth = ShardRef(shard.lo, shard.hi, event.weights, event.momentum, event.mean)
        liars = [hotkey for hotkey, made in shard.results.items() if made != truth]
        state.faults += [Fault(event.at, event.epoch, hotkey, "another result") for hotkey in liars]
        return liars

    patch.setattr(recompute, "_name", wrong)


def commit_waits_for_the_dead(patch: Patch) -> None:
    """COMMIT waits for replicas that are gone."""

    def wrong(state: RunState) -> list[Action]:
        if any(hotkey not in stage.commits for stage in state.merges for hotkey in stage.eligible):
            return []
        return phases._commit(state)

    patch.setitem(phases._STEPS, Phase.COMMIT, wrong)
    patch.setattr(merge, "release", lambda state, miner: [])


def work_for_the_absent(patch: Patch) -> None:
    """Leases go to miners whose channel is closed."""
    patch.setattr(RunState, "ready", lambda self, miner: miner.stage >= 0 and miner.installed == self.epoch)


def work_without_the_manifest(patch: Patch) -> None:
    """Leases go to miners that hold another epoch."""
    patch.setattr(RunState, "ready", lambda self, miner: miner.connected and miner.stage >= 0)


def chance_from_outside(patch: Patch) -> None:
    """Routing draws from outside the ledger."""
    ticker = count()
    patch.setattr(routing, "_seed", lambda *_: draw.digest(next(ticker))[:16])


def no_rest_after_failure(patch: Patch) -> None:
    """A failed lease is given again in the same instant."""
    # As the core was first written: an instant failure is given again in the same instant.
    patch.setattr(lapses, "_rest", lambda state, failures: 0.0)


def the_auditor_is_asked_once(patch: Patch) -> None:
    """An audit that got lost is never asked for again."""
    patch.setattr(recompute, "resend", lambda state, older=0.0: [])


def the_feed_is_asked_once(patch: Patch) -> None:
    """Tokens that got lost are never asked for again."""
    right = lapses.expire

    def wrong(state: RunState) -> list[Action]:
        return [action for action in right(state) if type(action).__name__ != "PublishBatch"]

    patch.setattr(lapses, "expire", wrong)


def the_gone_keep_their_leases(patch: Patch) -> None:
    """A miner that is gone keeps its leases."""
    patch.setattr(lapses, "release", lambda state, miner: [])


def receipts_count_for_ever(patch: Patch) -> None:
    """A receipt does not close its lease."""
    right = routing.finished

    def wrong(state: RunState, event: LeaseFinished) -> list[Action]:
        lease = state.leases.get(event.lease)
        actions = right(state, event)
        if lease is not None:
            state.leases[lease.id] = lease
        return actions

    patch.setattr(routing, "finished", wrong)


def a_lost_manifest_stays_lost(patch: Patch) -> None:
    """A manifest whose makers died is neither made again nor given up."""
    patch.setattr(merge, "_homeless", lambda state, stage, shard: False)
    patch.setattr(safety, "watch", lambda state, stages: [])


def any_manifest_of_the_epoch_counts(patch: Patch) -> None:
    """Who has installed a manifest that was replaced counts as a replica."""
    # As the core was until a seed told: who held what had been replaced was taken for a replica, and named a liar.
    right = Orchestrator._installed

    def wrong(self: Orchestrator, event: StageInstalled) -> list[Action]:
        return right(self, replace(event, manifest=self.state.manifests[event.stage].name))

    patch.setattr(Orchestrator, "_installed", wrong)


def everybody_sits_in_front(patch: Patch) -> None:
    """All newcomers get stage 0."""

    def wrong(state: RunState, miner: Miner) -> list[Action]:
        assignment.take(state, miner, 0)
        return assignment.offer(state, miner)

    patch.setattr(assignment, "seat", wrong)
    patch.setattr(balance, "rescue", lambda state: [])


def lost_inputs_are_not_made_again(patch: Patch) -> None:
    """An input that cannot be had is asked for for ever."""
    patch.setattr(lapses, "_doubt", lambda state, batch, lease, digest: [])


def nobody_is_told_why(patch: Patch) -> None:
    """There is no reason for waiting while draining."""
    right = phases.advance

    def wrong(state: RunState) -> list[Action]:
        actions = right(state)
        state.waiting_for = "" if state.draining else state.waiting_for
        return actions

    patch.setattr(phases, "advance", wrong)


def faults_still_pay(patch: Patch) -> None:
    """A named liar is paid."""
    patch.setattr(scoring, "score", lambda state, hotkey: sum(p.volume for p in state.parts.get(hotkey, [])))


def who_comes_back_is_told_nothing(patch: Patch) -> None:
    """A miner that connects again is ignored."""
    patch.setattr(Orchestrator, "_connected", lambda self, event: [])


#: Every bug, with what it is in words.
PLANTED: dict[Callable[[Patch], None], str] = {
    credit_twice: "a retired microbatch is paid twice",
    leases_never_expire: "no lease ever expires",
    twins_are_not_compared: "the first reducer is believed",
    dropped_in_silence: "a failed microbatch vanishes",
    coverage_gap: "the shards leave a parameter out",
    all_reducers_are_blamed: "honest twins of a liar are named too",
    liars_go_free: "nobody is ever named",
    nothing_is_checked_by_chance: "twins that agree are never checked",
    a_check_compares_where_bytes_lie: "a check takes the same bits at another place for a lie",
    commit_waits_for_the_dead: "COMMIT waits for replicas that are gone",
    work_for_the_absent: "leases go to miners whose channel is closed",
    work_without_the_manifest: "leases go to miners that hold another epoch",
    chance_from_outside: "routing draws from outside the ledger",
    no_rest_after_failure: "a failed lease is given again in the same instant",
    the_auditor_is_asked_once: "an audit that got lost is never asked for again",
    the_feed_is_asked_once: "tokens that got lost are never asked for again",
    the_gone_keep_their_leases: "a miner that is gone keeps its leases",
    receipts_count_for_ever: "a receipt does not close its lease",
    a_lost_manifest_stays_lost: "a manifest whose makers died is neither made again nor given up",
    any_manifest_of_the_epoch_counts: "who has installed a manifest that was replaced counts as a replica",
    everybody_sits_in_front: "all newcomers get stage 0",
    lost_inputs_are_not_made_again: "an input that cannot be had is asked for for ever",
    nobody_is_told_why: "no reason for waiting while draining",
    faults_still_pay: "a named liar is paid",
    who_comes_back_is_told_nothing: "a miner that connects again is ignored",
}
