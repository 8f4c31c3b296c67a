"""A curve is bounded, loses nothing, and can be followed by what has changed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iota_subnet.dashboard.curve import Curve, Point

TIMES = st.lists(st.tuples(st.floats(0, 5000), st.floats(-10, 10)), max_size=120)


def follow(known: list[Point], curve: Curve) -> list[Point]:
    """What a reader holds after it has been told the changes."""
    whole, points = curve.changes()
    if whole or not points:
        return points if whole else known
    return [point for point in known if point[0] < points[0][0]] + points


@settings(max_examples=60, deadline=None)
@given(TIMES)
def test_no_microbatch_is_lost_however_coarse_it_becomes(samples: list[tuple[float, float]]) -> None:
    curve = Curve(1.0, most=16)
    for at, loss in samples:
        curve.add(at, loss)
    points = curve.points()
    assert len(points) <= 16
    assert math.isclose(sum(rate * curve.width for _, _, rate in points), len(samples), abs_tol=0.01 * curve.width)
    total = sum(loss * rate * curve.width for _, loss, rate in points)
    assert math.isclose(total, sum(loss for _, loss in samples), abs_tol=0.02 * max(1.0, curve.width))
    assert [at for at, _, _ in points] == sorted({at for at, _, _ in points})


@settings(max_examples=60, deadline=None)
@given(TIMES, st.integers(1, 9))
def test_who_is_told_the_changes_knows_the_curve(samples: list[tuple[float, float]], every: int) -> None:
    curve, known = Curve(1.0, most=16), []
    for number, (at, loss) in enumerate(samples):
        curve.add(at, loss)
        if number % every == 0:
            known = follow(known, curve)
    assert follow(known, curve) == curve.points()


def test_only_the_newest_is_kept_where_that_is_asked_for() -> None:
    curve = Curve(2.0, recent=100.0)
    for at in range(0, 1000, 2):
        curve.add(at, 1.0)
    points = curve.points()
    assert curve.width == 2.0 and points[0][0] >= 898 and points[-1][0] == 998


@pytest.mark.parametrize("absurd", [math.nan, math.inf, -math.inf, 1e300])
def test_a_loss_that_is_no_number_is_shown_as_the_worst(absurd: float) -> None:
    curve = Curve(1.0)
    curve.add(5.0, absurd)
    assert curve.points() == [(5.0, 1e6, 1.0)]
