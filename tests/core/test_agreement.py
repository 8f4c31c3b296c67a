"""The agreement matrix: who differs from one may have met a liar, who differs from most is one."""

from iota_subnet.core import agreement
from iota_subnet.core.events import ShardRef
from iota_subnet.core.state import Met, RunState
from iota_subnet.spec import RunSpec

from .bench import blob

RIGHT = ShardRef(0, 4, blob("w"), blob("m"), blob("d"))
WRONG = ShardRef(0, 4, blob("lie"), blob("m"), blob("d"))


def met(state: RunState, liars: str, *pairs: str) -> None:
    for pair in pairs:
        agreement.compare(state, {hotkey: WRONG if hotkey in liars else RIGHT for hotkey in pair})


def test_equal_bits_agree_wherever_they_lie() -> None:
    state = RunState(RunSpec())
    elsewhere = ShardRef(0, 4, blob("w"), blob("m"), blob("d"))
    assert agreement.compare(state, {"a": RIGHT, "b": elsewhere})
    assert not agreement.compare(state, {"b": WRONG, "a": RIGHT})
    assert state.agreement == {("a", "b"): Met(1, 1, 0.0)}


def test_a_wrong_mean_is_a_lie_although_the_weights_are_right() -> None:
    assert not agreement.compare(
        RunState(RunSpec()), {"a": RIGHT, "b": ShardRef(0, 4, blob("w"), blob("m"), blob("x"))}
    )


def test_the_one_whom_all_its_twins_contradict_stands_out_and_they_do_not() -> None:
    state = RunState(RunSpec())
    met(state, "l", "ab", "ac", "ad", "bc", "bd", "cd", "al", "bl", "cl", "dl")
    assert agreement.shares(state) == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "l": 0.0}


def test_two_liars_among_five_do_not_drag_the_others_down() -> None:
    state = RunState(RunSpec())
    met(state, "xy", "ab", "ac", "bc", "ax", "bx", "cx", "ay", "by", "cy", "xy")
    shares = agreement.shares(state)
    assert {shares[hotkey] for hotkey in "abc"} == {1.0}
    assert shares["x"] == shares["y"] == 0.25, "they agree with each other"


def test_what_has_left_the_window_is_forgotten() -> None:
    state = RunState(RunSpec())
    met(state, "b", "ab")
    state.now = state.spec.swarm.score_window_s
    agreement.forget(state)
    assert not state.agreement
