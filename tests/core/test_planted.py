"""Bugs planted on purpose: the world and its invariants must catch each. A net that catches nothing proves nothing."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from iota_subnet.core import assignment, balance, draw, merge, phases, routing, safety, scoring
from iota_subnet.core.actions import Action
from iota_subnet.core.events import LeaseFinished, ShardRecomputed
from iota_subnet.core.state import Fault, Lease, Microbatch, Miner, Phase, RunState, Shard, StageMerge
from iota_subnet.spec import shard_bounds

from .conclude import conclude
from .plans import Plan, Trait
from .world import World

Patch = pytest.MonkeyPatch

CALM = Plan(21, stages=2, miners=4)
SLOW = Plan(22, stages=2, miners=4, traits={0: Trait(seconds=7.0)})
LIAR = Plan(23, stages=1, miners=3, traits={0: Trait(lies_in_reduce=True)})
BROKEN = Plan(24, stages=1, miners=2, latency=0.0, traits={0: Trait(fails_all=True), 1: Trait(seconds=3.0)})
DEAF = Plan(25, stages=2, miners=4, auditor_loss=0.6, traits={0: Trait(lies_in_reduce=True)})
CRASH = Plan(26, stages=2, miners=4, incidents=((4.5, "crash", 0), (5.5, "crash", 1)))
# Nothing but the seat's end takes its work back.
GONE = replace(CRASH, swarm={"reconnect_s": 2.0, "lease_min_s": 6.0})
MUFFLED = Plan(27, stages=2, miners=4, loss=0.15)
FORGETFUL = Plan(28, stages=2, miners=4, token_loss=0.3)
ORPHAN = Plan(
    30, stages=1, miners=2, epochs=1, copy_s=1.0, incidents=((5.5, "restart_miner", 0), (5.5, "restart_miner", 1))
)
LOSSY = replace(Plan(29, stages=3, miners=6), blob_loss=0.3)


def credit_twice(patch: Patch) -> None:
    right = routing._retire

    def wrong(state: RunState, batch: Microbatch) -> list[Action]:
        actions = right(state, batch)
        state.volume[batch.path[0]] += 0.5
        return actions

    patch.setattr(routing, "_retire", wrong)


def leases_never_expire(patch: Patch) -> None:
    patch.setattr(routing, "expire", lambda state: [])


def twins_are_not_compared(patch: Patch) -> None:
    right = merge.settle

    def wrong(state: RunState, stage: StageMerge, shard: Shard) -> list[Action]:
        if shard.results and shard.accepted is None:
            merge._accept(shard, *next(iter(shard.results.values())))
        return right(state, stage, shard)

    patch.setattr(merge, "settle", wrong)


def dropped_in_silence(patch: Patch) -> None:
    right = routing._failed

    def wrong(state: RunState, lease: Lease) -> list[Action]:
        actions = right(state, lease)
        state.batches.pop(lease.batch, None)
        return actions

    patch.setattr(routing, "_failed", wrong)


def coverage_gap(patch: Patch) -> None:
    patch.setattr(merge, "shard_bounds", lambda size, shards: shard_bounds(size - 1, shards))


def all_reducers_are_blamed(patch: Patch) -> None:
    right = merge.recomputed

    def wrong(state: RunState, event: ShardRecomputed) -> list[Action]:
        for hotkey in state.merges[event.stage].shards[event.shard].results:
            state.faults.append(Fault(event.at, state.epoch, hotkey, "was there"))
        return right(state, event)

    patch.setattr(merge, "recomputed", wrong)


def liars_go_free(patch: Patch) -> None:
    right = merge.recomputed

    def wrong(state: RunState, event: ShardRecomputed) -> list[Action]:
        actions = right(state, event)
        state.faults.clear()
        return actions

    patch.setattr(merge, "recomputed", wrong)


def commit_waits_for_the_dead(patch: Patch) -> None:
    def wrong(state: RunState) -> list[Action]:
        if any(hotkey not in stage.commits for stage in state.merges for hotkey in stage.eligible):
            return []
        return phases._commit(state)

    patch.setitem(phases._STEPS, Phase.COMMIT, wrong)
    patch.setattr(merge, "release", lambda state, miner: [])


def work_for_the_absent(patch: Patch) -> None:
    patch.setattr(RunState, "ready", lambda self, miner: miner.stage >= 0 and miner.installed == self.epoch)


def work_without_the_manifest(patch: Patch) -> None:
    patch.setattr(RunState, "ready", lambda self, miner: miner.connected and miner.stage >= 0)


def chance_from_outside(patch: Patch) -> None:
    ticker = count()
    patch.setattr(routing, "_seed", lambda *_: draw.digest(next(ticker))[:16])


def no_rest_after_failure(patch: Patch) -> None:
    # As the core was first written: an instant failure is given again in the same instant.
    patch.setattr(routing, "_rest", lambda state, failures: 0.0)


def the_auditor_is_asked_once(patch: Patch) -> None:
    patch.setattr(merge, "resend_recomputes", lambda state, older=0.0: [])


def the_feed_is_asked_once(patch: Patch) -> None:
    right = routing.expire

    def wrong(state: RunState) -> list[Action]:
        return [action for action in right(state) if type(action).__name__ != "PublishBatch"]

    patch.setattr(routing, "expire", wrong)


def the_gone_keep_their_leases(patch: Patch) -> None:
    patch.setattr(routing, "release", lambda state, miner: [])


def receipts_count_for_ever(patch: Patch) -> None:
    right = routing.finished

    def wrong(state: RunState, event: LeaseFinished) -> list[Action]:
        lease = state.leases.get(event.lease)
        actions = right(state, event)
        if lease is not None:
            state.leases[lease.id] = lease
        return actions

    patch.setattr(routing, "finished", wrong)


def a_lost_manifest_stays_lost(patch: Patch) -> None:
    patch.setattr(merge, "_homeless", lambda state, stage, shard: False)
    patch.setattr(safety, "watch", lambda state, stages: [])


def lost_inputs_are_not_made_again(patch: Patch) -> None:
    patch.setattr(routing, "_unmake", lambda state, batch, lease, digest: [])


def nobody_is_told_why(patch: Patch) -> None:
    right = phases.advance

    def wrong(state: RunState) -> list[Action]:
        actions = right(state)
        state.waiting_for = "" if state.draining else state.waiting_for
        return actions

    patch.setattr(phases, "advance", wrong)


def faults_still_pay(patch: Patch) -> None:
    patch.setattr(scoring, "score", lambda state, hotkey: sum(p.volume for p in state.parts.get(hotkey, [])))


def everybody_sits_in_front(patch: Patch) -> None:
    def wrong(state: RunState, miner: Miner) -> list[Action]:
        assignment.take(state, miner, 0)
        return assignment.offer(state, miner)

    patch.setattr(assignment, "seat", wrong)
    patch.setattr(balance, "rescue", lambda state: [])


PLANTED: list[tuple[Callable[[Patch], None], Plan]] = [
    (credit_twice, CALM),
    (leases_never_expire, SLOW),
    (twins_are_not_compared, LIAR),
    (dropped_in_silence, SLOW),
    (coverage_gap, CALM),
    (all_reducers_are_blamed, LIAR),
    (liars_go_free, LIAR),
    (commit_waits_for_the_dead, MUFFLED),
    (work_for_the_absent, CRASH),
    (work_without_the_manifest, CALM),
    (chance_from_outside, CALM),
    (no_rest_after_failure, replace(BROKEN, miners=1, traits={0: Trait(fails_all=True)})),
    (the_auditor_is_asked_once, DEAF),
    (the_feed_is_asked_once, FORGETFUL),
    (the_gone_keep_their_leases, GONE),
    (receipts_count_for_ever, CALM),
    (lost_inputs_are_not_made_again, LOSSY),
    (a_lost_manifest_stays_lost, ORPHAN),
    (nobody_is_told_why, CALM),
    (faults_still_pay, LIAR),
    (everybody_sits_in_front, CALM),
]


@pytest.mark.parametrize(("plant", "plan"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_bug_is_caught(plant: Callable[[Patch], None], plan: Plan, monkeypatch: Patch) -> None:
    # The same world is well without the bug: it is the bug that is caught.
    conclude(World(plan).run())
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        conclude(World(plan).run())
