"""Bugs planted on purpose: a small world made for each must catch it at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from iota_subnet.sim import planted as p
from iota_subnet.sim.conclude import conclude
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.planted import Patch, planted
from iota_subnet.sim.world import World

CALM = Plan(21, stages=2, miners=4)
SLOW = Plan(22, stages=2, miners=4, traits={0: Trait(seconds=7.0)})
LIAR = Plan(23, stages=1, miners=3, traits={0: Trait(lies_in_reduce=True)})
BROKEN = Plan(24, stages=1, miners=2, latency=0.0, traits={0: Trait(fails_all=True), 1: Trait(seconds=3.0)})
DEAF = Plan(25, stages=2, miners=4, auditor_loss=0.9, traits={0: Trait(lies_in_reduce=True)})
CRASH = Plan(26, stages=2, miners=4, incidents=((4.5, "crash", 0), (5.5, "crash", 1)))
# Nothing but the seat's end takes its work back.
GONE = replace(CRASH, swarm={"reconnect_s": 2.0, "lease_min_s": 6.0})
MUFFLED = Plan(27, stages=2, miners=4, loss=0.15)
FORGETFUL = Plan(28, stages=2, miners=4, token_loss=0.3)
ORPHAN = Plan(
    30, stages=1, miners=2, epochs=1, copy_s=1.0, incidents=((5.5, "restart_miner", 0), (5.5, "restart_miner", 1))
)
CHECKED = Plan(31, stages=1, miners=6, epochs=1)
LOSSY = replace(Plan(29, stages=3, miners=6), blob_loss=0.3)


PLANTED: list[tuple[Callable[[Patch], None], Plan]] = [
    (p.credit_twice, CALM),
    (p.leases_never_expire, SLOW),
    (p.twins_are_not_compared, LIAR),
    (p.dropped_in_silence, SLOW),
    (p.coverage_gap, CALM),
    (p.all_reducers_are_blamed, LIAR),
    (p.liars_go_free, LIAR),
    (p.nothing_is_checked_by_chance, CHECKED),
    (p.a_check_compares_where_bytes_lie, CHECKED),
    (p.commit_waits_for_the_dead, MUFFLED),
    (p.work_for_the_absent, CRASH),
    (p.work_without_the_manifest, CALM),
    (p.chance_from_outside, CALM),
    (p.no_rest_after_failure, replace(BROKEN, miners=1, traits={0: Trait(fails_all=True)})),
    (p.the_auditor_is_asked_once, DEAF),
    (p.the_feed_is_asked_once, FORGETFUL),
    (p.the_gone_keep_their_leases, GONE),
    (p.receipts_count_for_ever, CALM),
    (p.lost_inputs_are_not_made_again, LOSSY),
    (p.a_lost_manifest_stays_lost, ORPHAN),
    (p.nobody_is_told_why, CALM),
    (p.faults_still_pay, LIAR),
    (p.everybody_sits_in_front, CALM),
]


@pytest.mark.parametrize(("bug", "plan"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_bug_is_caught(bug: Callable[[Patch], None], plan: Plan) -> None:
    # The same world is well without the bug: it is the bug that is caught.
    conclude(World(plan).run())
    with planted(bug), pytest.raises((AssertionError, KeyError)):
        conclude(World(plan).run())
