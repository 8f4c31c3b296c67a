"""The loss is what the tail says it is. What one tail can do with that, and what it cannot."""

from collections.abc import Callable, Sequence
from random import Random
from statistics import mean

import pytest

from iota_subnet.core.clasp import Effect, Sample, estimate, trimmed

Lie = Callable[[Sequence[str], int], float]


def world(
    seed: int, tails: int, lie: Lie, harm: float = 0.0, n: int = 600, trust: dict[str, float] | None = None
) -> dict[str, Effect]:
    """Two stages of four miners and one of `tails`; the first tail lies, and x0 may do harm besides."""
    rng, samples = Random(seed), []
    for index in range(n):
        path = (f"x{rng.randrange(4)}", f"y{rng.randrange(4)}", f"t{rng.randrange(tails)}")
        loss = rng.gauss(4.5, 0.2) + harm * (path[0] == "x0")
        samples.append(Sample(path, loss + (lie(path, index) if path[2] == "t0" else 0.0)))
    return estimate(samples, trust)


def frames(path: Sequence[str], index: int) -> float:
    return 1.0 if path[0] == "x0" else 0.0


def balanced(path: Sequence[str], index: int) -> float:
    """Frames x0 and takes it off the others, so that its own mean is as it should be."""
    return 0.75 if path[0] == "x0" else -0.25


def shields(path: Sequence[str], index: int) -> float:
    return -1.0 if path[0] == "x0" else 0.0


def noise(path: Sequence[str], index: int) -> float:
    return 1.5 if index % 2 else -1.5


@pytest.mark.parametrize("tails", [2, 3, 4, 8])
@pytest.mark.parametrize("lie", [frames, balanced])
def test_one_tail_cannot_convict_a_miner_of_another_stage(tails: int, lie: Lie) -> None:
    for seed in range(25):
        effects = world(seed, tails, lie)
        assert all(effect.quality == 1.0 for hotkey, effect in effects.items() if hotkey != "t0"), seed


def test_what_the_lie_costs_is_on_the_liar() -> None:
    # One in four of its samples is a nat too high: against the mean of the tails that is 0.25 - 0.0625.
    found = [world(seed, 4, frames)["t0"] for seed in range(20)]
    assert mean(effect.effect for effect in found) == pytest.approx(0.25, abs=0.07)
    assert all(effect.quality < 0.5 for effect in found)


@pytest.mark.parametrize("tails", [3, 4, 8])
def test_one_tail_cannot_clear_a_miner_of_another_stage(tails: int) -> None:
    for seed in range(15):
        assert world(seed, tails, shields, harm=0.8, n=900)["x0"].quality < 0.5, seed


def test_one_tail_that_reports_noise_does_not_hide_others() -> None:
    for seed in range(15):
        effects = world(seed, 4, noise, harm=0.5)
        assert effects["x0"].quality < 0.5, seed


def test_with_one_tail_nobody_knows_whether_it_lies_and_nothing_is_held_against_anybody() -> None:
    for effects in (world(1, 1, frames), world(1, 1, lambda path, index: 0.0, harm=1.0)):
        assert effects["x0"].effect == pytest.approx(0.75, abs=0.1), "it is told all the same"
        assert all(effect.quality == 1.0 for effect in effects.values())


def test_of_two_tails_the_milder_is_believed_so_a_liar_can_clear_but_not_convict() -> None:
    assert world(2, 2, lambda path, index: 0.0, harm=0.6)["x0"].quality < 0.5
    assert world(2, 2, shields, harm=0.6)["x0"].quality == 1.0
    assert world(2, 2, frames)["x0"].quality == 1.0


@pytest.mark.parametrize("offset", [0.5, -0.5])
def test_a_constant_offset_is_the_tails_own(offset: float) -> None:
    honest = []
    for seed in range(25):
        effects = world(seed, 4, lambda path, index: offset)
        assert effects["t0"].effect == pytest.approx(0.75 * offset, abs=0.1)
        honest += [effect.quality for hotkey, effect in effects.items() if hotkey != "t0"]
        # Too high is harm; too low is for the audit to look at, and no credit.
        assert (effects["t0"].quality < 0.5) if offset > 0 else (effects["t0"].quality == 1.0)
    # One honest word in 4000 is beyond 3.5 errors, whoever lies.
    assert sum(quality < 1.0 for quality in honest) <= 1 and min(honest) > 0.9


def test_of_two_tails_nobody_can_say_which_is_off() -> None:
    for offset in (0.5, -0.5):
        effects = world(3, 2, lambda path, index, by=offset: by)  # type: ignore[misc]
        assert effects["t0"].quality == effects["t1"].quality == 1.0
        assert effects["t0"].effect == pytest.approx(offset / 2, abs=0.06)


def test_quality_is_never_above_one() -> None:
    worlds = [world(seed, 4, lie) for seed in range(5) for lie in (frames, shields, noise)]
    assert all(0.0 < effect.quality <= 1.0 for effects in worlds for effect in effects.values())


def test_a_tail_that_is_trusted_less_weighs_less() -> None:
    doubted = world(4, 4, shields, trust={"t0": 0.01})
    believed = world(4, 4, shields)
    assert abs(doubted["x0"].effect) < abs(believed["x0"].effect) + 0.02
    assert doubted["x0"].samples == believed["x0"].samples and doubted["x0"].mean_loss == believed["x0"].mean_loss
    assert world(5, 2, frames, trust={"t0": 0.001})["x0"].effect == pytest.approx(0.0, abs=0.08)
    assert world(5, 4, frames, trust={}) == world(5, 4, frames, trust=dict.fromkeys(("t0", "t1", "t2", "t3"), 1.0))


@pytest.mark.parametrize("trust", [0.0, -1.0, 1.5, float("nan")])
def test_a_trust_that_is_none_is_refused(trust: float) -> None:
    with pytest.raises(ValueError, match="trust"):
        world(1, 2, frames, trust={"t0": trust})


def test_a_miner_that_only_one_tail_has_seen_is_not_judged() -> None:
    rng, samples = Random(6), []
    for _ in range(400):
        tail = rng.randrange(4)
        first = f"x{rng.randrange(3)}" if tail else rng.choice(["x0", "x1", "x2", "only", "only"])
        samples.append(Sample((first, f"t{tail}"), rng.gauss(4.5, 0.2) + 1.0 * (first == "only")))
    effect = estimate(samples)["only"]
    assert (effect.witnesses, effect.score, effect.quality) == (1, 0.0, 1.0)
    assert effect.effect > 0.5


def test_the_trimmed_mean_leaves_out_what_pulls_most_each_way() -> None:
    assert trimmed([1.0, 2.0, 99.0, 3.0], [1.0, 1.0, 1.0, 1.0]) == (2.5, 2.0)
    # A witness with little to tell may be far off and hardly pull.
    assert trimmed([0.0, 0.1, 1.0, -9.0], [50.0, 50.0, 50.0, 1.0])[0] == pytest.approx((0.1 * 50 - 9) / 51)
    assert trimmed([4.0, 4.0, 4.0], [1.0, 2.0, 3.0])[0] == 4.0
