"""The collector: cycles go in the end, and never while miners train."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from iota_subnet.core.state import Phase
from iota_subnet.validator.collector import LONGEST_S, Rounds, calm


class Knot:
    """What refers to itself is let go by a collection only."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def calmed() -> Iterator[None]:
    with calm():
        yield


def old_knot() -> weakref.ref[Knot]:
    """A cycle that only a full collection finds."""
    knot = Knot()
    gc.collect()
    return weakref.ref(knot)


def much_is_made() -> None:
    """More than Python leaves unlooked at."""
    gc.collect(0)


def test_train_is_never_interrupted_within_an_hour() -> None:
    knot, rounds = old_knot(), Rounds(0.0)
    for second in range(0, int(LONGEST_S), 60):
        assert not rounds.look(Phase.TRAIN, float(second))
    assert knot() is not None


def test_install_lets_go_of_cycles_once() -> None:
    knot, rounds = old_knot(), Rounds(0.0)
    rounds.look(Phase.REDUCE, 1.0)
    much_is_made()
    assert rounds.look(Phase.INSTALL, 2.0) and knot() is None
    much_is_made()
    assert not rounds.look(Phase.INSTALL, 3.0)
    rounds.look(Phase.TRAIN, 4.0)
    assert rounds.look(Phase.INSTALL, 5.0)


def test_install_looks_at_nothing_when_little_was_made() -> None:
    rounds = Rounds(0.0)
    old_knot()
    assert not rounds.look(Phase.INSTALL, 1.0)


def test_an_hour_without_install_is_long_enough() -> None:
    knot, rounds = old_knot(), Rounds(0.0)
    assert rounds.look(Phase.TRAIN, LONGEST_S) and knot() is None
    assert not rounds.look(Phase.TRAIN, LONGEST_S + 1.0)


def test_many_short_lived_cycles_do_not_pile_up() -> None:
    knots = [weakref.ref(Knot()) for _ in range(200_000)]
    assert sum(knot() is not None for knot in knots) < 100_000


def test_the_collector_is_left_as_it_was_found() -> None:
    within, frozen = gc.get_threshold(), gc.get_freeze_count()
    with calm():
        assert gc.get_freeze_count() >= frozen
    assert gc.get_threshold() == within
