"""A swarm of honest miners, on machines alike and on others."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from iota_subnet.model.parameters import parameter_count
from iota_subnet.rehearsal.plan import Member, nano, seated
from iota_subnet.rehearsal.result import Result
from iota_subnet.rehearsal.world import Rehearsal
from iota_subnet.spec import RunSpec


def audited(spec: RunSpec, share: float) -> RunSpec:
    return replace(spec, swarm=replace(spec.swarm, audit_miners=share, audit_shards=share))


@pytest.fixture(scope="module")
def alike() -> Result:
    return Rehearsal(audited(nano(4, 32), 0.5), [Member(number % 3) for number in range(12)]).run()


def test_the_model_learns_the_built_in_text(alike: Result) -> None:
    assert len(alike.held_out) == 5
    assert alike.held_out[0] > 5.4  # log 256 = 5.545: it knows nothing yet.
    assert all(later < earlier for earlier, later in pairwise(alike.held_out))
    assert alike.held_out[-1] < 3.5


def test_nothing_is_held_against_anybody(alike: Result) -> None:
    assert alike.audited > 10
    assert {audit.verdict for audit in alike.verdicts} == {"sound"}
    assert [what for hotkey in alike.miners for what in alike.suspicions(hotkey)] == []


def test_all_replicas_of_a_stage_hold_the_same(alike: Result) -> None:
    assert alike.identical


def test_everybody_computes_and_is_paid(alike: Result) -> None:
    assert all(miner.passes and miner.weight > 0.0 for miner in alike.miners.values())
    assert sum(miner.weight for miner in alike.miners.values()) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    members = [Member(number % 3) for number in range(6)]
    one, again, other = (Rehearsal(audited(nano(2, 12), 0.5), members, seed).run() for seed in (5, 5, 6))
    assert one == again
    assert one.digests != other.digests


def test_pay_per_flop_is_the_same_on_fast_and_on_slow_machines() -> None:
    speeds = (1.0, 2.0, 3.0, 4.0)
    spec = nano(4, 48)
    members = [Member(number % 3, speeds[number // 3]) for number in range(12)]
    result = Rehearsal(replace(spec, swarm=replace(spec.swarm, merge_share=0.0)), members).run()
    per_flop = [miner.score / miner.flops for miner in result.miners.values()]
    flops = [result.of(number).flops for number in range(12)]
    assert max(per_flop) < 1.05 * min(per_flop)
    # Else there would be nothing to compare.
    assert max(flops) > 2 * min(flops)


def test_a_merge_takes_as_long_as_its_bytes_need_on_the_line_() -> None:
    members = [Member(number % 3) for number in range(6)]
    at_once, slowly = (Rehearsal(nano(2, 12), members, line=line).run() for line in (math.inf, 10_000.0))
    assert slowly.identical and len(slowly.held_out) == len(at_once.held_out)
    # Of each pair's two contributions one is the other's, in bfloat16, and the new state is its own.
    least = 2 * parameter_count(nano().model, 1) * 2 / 10_000.0
    assert slowly.seconds > at_once.seconds + least


def test_members_sit_where_they_say() -> None:
    members = [Member(2), Member(0), Member(1), Member(None), Member(0), Member(2)]
    result = Rehearsal(nano(1, 6), members).run()
    assert [result.of(number).stage for number in (0, 1, 2, 4, 5)] == [2, 0, 1, 0, 2]
    assert result.of(3).stage == 1


def test_seats_that_the_core_would_not_give_are_refused() -> None:
    with pytest.raises(ValueError, match="member 1 wants stage 0"):
        seated(nano(), [Member(0), Member(0), Member(0)])
