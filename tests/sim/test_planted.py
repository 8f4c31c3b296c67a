"""Bugs planted in the core: the simulator finds each in few seeds, without being told where to look."""

from collections.abc import Callable

import pytest

from iota_subnet.sim.planted import PLANTED, Patch, planted, seeds_needed

#: These need a rare coincidence; `benchmarks/simulate.py --planted` looks longer than a test should.
RARE = {
    "any_manifest_of_the_epoch_counts",
    "a_lost_manifest_stays_lost",
    "faults_still_pay",
    "liars_go_free",
    "lost_inputs_are_not_made_again",
    "no_rest_after_failure",
    "the_auditor_is_asked_once",
    "the_gone_keep_their_leases",
}


def test_there_are_enough_bugs_to_mean_something() -> None:
    assert len(PLANTED) >= 15 and len(set(PLANTED.values())) == len(PLANTED)


@pytest.mark.parametrize("bug", [bug for bug in PLANTED if bug.__name__ not in RARE], ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[[Patch], None]) -> None:
    seeds, violation = seeds_needed(bug, most=20)
    assert seeds and violation


def test_what_is_planted_is_taken_out_again() -> None:
    from iota_subnet.core import lapses

    before = lapses.expire
    with planted(lambda patch: patch.setattr(lapses, "expire", lambda state: [])):
        assert lapses.expire is not before
    assert lapses.expire is before
    assert seeds_needed(lambda patch: None, most=5) == (0, "")
