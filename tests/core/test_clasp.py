import time
from dataclasses import replace
from itertools import pairwise
from math import exp, inf, isfinite, nan
from random import Random
from statistics import mean

import pytest

from iota_subnet.core.clasp import Columns, Effect, Sample, estimate


def toy(seed: int, bad: str = "s2m3", n: int = 500, stages: int = 5, miners: int = 5) -> dict[str, Effect]:
    """The paper's experiment: honest losses are N(4.5, 0.2), a bad miner on the way adds a tenth."""
    rng = Random(seed)
    samples = []
    for _ in range(n):
        path = tuple(f"s{s}m{rng.randrange(miners)}" for s in range(stages))
        samples.append(Sample(path, rng.gauss(4.5, 0.2) * (1.1 if bad in path else 1.0)))
    return estimate(samples)


@pytest.mark.parametrize("seed", range(10))
def test_the_papers_bad_miner_is_found_and_its_neighbours_keep_what_is_theirs(seed: int) -> None:
    effects = toy(seed)
    assert effects["s2m3"].quality < 0.2
    assert min(effect.quality for hotkey, effect in effects.items() if hotkey != "s2m3") > 0.97


def test_the_papers_mean_loss_punishes_the_bad_miners_whole_stage_and_neighbourhood_ours_does_not() -> None:
    # "Intrinsic balancing": the bad miner's own stage looks better than it is, all other stages look worse.
    peers, others, ours = [], [], []
    for seed in range(20):
        effects = toy(seed)
        peers += [
            effect.mean_loss - 4.5 for hotkey, effect in effects.items() if hotkey[:2] == "s2" and hotkey != "s2m3"
        ]
        others += [effect.mean_loss - 4.5 for hotkey, effect in effects.items() if hotkey[:2] != "s2"]
        ours += [effect.effect for hotkey, effect in effects.items() if hotkey[:2] != "s2"]
    assert mean(others) - mean(peers) > 0.07
    assert abs(mean(ours)) < 0.005


def test_the_effect_is_the_harm_against_the_stage_without_bias() -> None:
    # One in five adds 0.45: against its stage's mean that is 0.36, and -0.09 for each of the others.
    found = [toy(seed)["s2m3"].effect for seed in range(40)]
    assert mean(found) == pytest.approx(0.36, abs=0.01)


def test_the_stated_error_is_the_true_error() -> None:
    runs = [toy(seed, bad="nobody", n=200, stages=3, miners=2)["s1m0"] for seed in range(300)]
    spread = mean(run.effect**2 for run in runs) ** 0.5
    assert mean(run.error for run in runs) == pytest.approx(spread, rel=0.12)


def honest_epoch(seed: int, stages: int = 3, miners: int = 2, n: int = 120) -> dict[str, Effect]:
    """Falling losses, noise, and noise that hangs together in time."""
    rng, drift, samples = Random(seed), 0.0, []
    for index in range(n):
        drift = 0.9 * drift + rng.gauss(0, 0.05)
        path = tuple(f"s{s}m{rng.randrange(miners)}" for s in range(stages))
        samples.append(Sample(path, 2.5 + 3 * exp(-index / 30) + drift + rng.gauss(0, 0.15)))
    return estimate(samples)


def test_honest_miners_are_hardly_ever_flagged() -> None:
    epochs = [honest_epoch(seed) for seed in range(1000)]
    flagged = [effect for epoch in epochs for effect in epoch.values() if effect.quality < 1]
    assert len(flagged) / 6000 < 0.002
    assert sum(any(effect.quality < 1 for effect in epoch.values()) for epoch in epochs) / 1000 < 0.01
    assert sum(1 - effect.quality for effect in flagged) / 6000 < 0.001, "and what it costs them is less still"


def test_a_bad_miner_is_found_while_losses_fall() -> None:
    rng, samples = Random(1), []
    for index in range(120):
        path = tuple(f"s{s}m{rng.randrange(2)}" for s in range(3))
        samples.append(Sample(path, 2.5 + 3 * exp(-index / 30) + rng.gauss(0, 0.15) + 0.5 * ("s1m1" in path)))
    effects = estimate(samples)
    assert effects["s1m1"].quality < 0.5
    assert all(effect.quality == 1 for hotkey, effect in effects.items() if hotkey != "s1m1")


def test_absurd_losses_do_not_hide_their_sender() -> None:
    rng, samples = Random(2), []
    for index in range(300):
        path = tuple(f"s{s}m{rng.randrange(3)}" for s in range(2))
        loss = rng.gauss(4.5, 0.2) + 0.5 * ("s0m1" in path) + (9000.0 if "s1m2" in path and index % 3 == 0 else 0.0)
        samples.append(Sample(path, loss))
    effects = estimate(samples)
    assert effects["s0m1"].quality < 0.5 and effects["s1m2"].quality < 0.2
    assert min(effects[h].quality for h in ("s0m0", "s0m2", "s1m0", "s1m1")) == 1.0


def test_no_samples_say_nothing() -> None:
    assert estimate([]) == {}


@pytest.mark.parametrize("n", [1, 2, 3, 200])
def test_a_stage_of_one_has_nobody_to_be_compared_with(n: int) -> None:
    effects = estimate([Sample(("a", "b"), 4.0 + 0.1 * (k % 3)) for k in range(n)])
    assert all((e.effect, e.error, e.quality, e.samples) == (0.0, 0.0, 1.0, n) for e in effects.values())


def test_miners_that_only_travel_together_are_not_judged() -> None:
    rng = Random(4)
    samples = [Sample(("a1", "b1") if k % 2 else ("a2", "b2"), rng.gauss(4.5, 0.2) + 2.0 * (k % 2)) for k in range(300)]
    assert all(effect.quality == 1.0 for effect in estimate(samples).values())


def test_few_samples_are_not_judged() -> None:
    assert all(effect.quality == 1.0 for effect in toy(1, n=20).values())


def test_equal_losses_are_nobodys_fault() -> None:
    rng = Random(5)
    samples = [Sample(tuple(f"s{s}m{rng.randrange(3)}" for s in range(2)), 4.0) for _ in range(200)]
    assert all(effect.quality == 1.0 and abs(effect.effect) < 1e-9 for effect in estimate(samples).values())


def test_moving_to_another_stage_clears_nobody() -> None:
    rng, samples = Random(6), []
    for index in range(400):
        first, second = f"a{rng.randrange(3)}", f"b{rng.randrange(3)}"
        if index < 200 and first == "a0":
            first = "mover"
        if index >= 200 and second == "b0":
            second = "mover"
        samples.append(Sample((first, second), rng.gauss(4.5, 0.1) + 0.6 * (first == "mover")))
    assert estimate(samples)["mover"].quality < 0.5


def test_fifty_miners_a_stage_take_a_moment() -> None:
    rng = Random(3)
    samples = [Sample(tuple(f"s{s}m{rng.randrange(50)}" for s in range(3)), rng.gauss(4, 0.2)) for _ in range(1000)]
    start = time.process_time()
    estimate(samples)
    assert time.process_time() - start < 2.0


# -- what is asked of the input ---------------------------------------------------------------------------------------


def drawn(
    seed: int, n: int = 400, stages: int = 3, miners: int = 4, sigma: float = 0.2, harm: float = 0.0
) -> list[Sample]:
    """Random pathways; s1m2 does `harm`."""
    rng, samples = Random(seed), []
    for _ in range(n):
        path = tuple(f"s{s}m{rng.randrange(miners)}" for s in range(stages))
        samples.append(Sample(path, rng.gauss(4.5, sigma) + harm * ("s1m2" in path)))
    return samples


def test_honest_miners_keep_all_of_their_quality_in_a_hundred_of_a_hundred_epochs() -> None:
    for seed in range(100):
        assert all(effect.quality == 1.0 for effect in estimate(drawn(seed, n=120)).values()), seed


def test_who_does_harm_loses_quality_in_a_hundred_of_a_hundred_epochs_and_the_more_the_more_harm() -> None:
    for seed in range(100):
        assert estimate(drawn(seed, n=240, harm=0.5))["s1m2"].quality < 0.5, seed
    falling = [estimate(drawn(7, harm=harm))["s1m2"].quality for harm in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    assert falling == sorted(falling, reverse=True) and falling[0] == 1.0


def test_quality_is_continuous_in_harm() -> None:
    at = [estimate(drawn(7, harm=harm / 1000))["s1m2"].quality for harm in range(0, 600, 5)]
    assert max(abs(one - other) for one, other in pairwise(at)) < 0.08


def test_names_do_not_matter() -> None:
    samples = drawn(3, harm=0.3)
    names = sorted({hotkey for sample in samples for hotkey in sample.pathway})
    other = dict(zip(names, Random(9).sample(names, len(names)), strict=True))
    renamed = [Sample(tuple(other[hotkey] for hotkey in sample.pathway), sample.loss) for sample in samples]
    effects, again = estimate(samples), estimate(renamed)
    assert {other[hotkey]: effect for hotkey, effect in effects.items()} == again


def test_a_replay_agrees_to_the_bit_and_columns_agree_with_rows() -> None:
    samples = [replace(s, difficulty=k % 7, propensity=(0.25, 0.3, 0.2)) for k, s in enumerate(drawn(4, harm=0.2))]
    effects = estimate(samples, {"s2m1": 0.5})
    columns = Columns(
        list(zip(*(s.pathway for s in samples), strict=True)),
        [s.loss for s in samples],
        list(zip(*(s.propensity for s in samples), strict=True)),
        [s.difficulty for s in samples],
    )
    assert effects == estimate(iter(samples), {"s2m1": 0.5}) == estimate(columns, {"s2m1": 0.5})


@pytest.mark.parametrize("absurd", [inf, -inf, nan, 1e308, -1e308])
def test_what_is_no_loss_does_not_pass(absurd: float) -> None:
    samples = [replace(s, loss=absurd) if "s1m2" in s.pathway and k % 2 else s for k, s in enumerate(drawn(5))]
    effects = estimate(samples)
    assert all(
        isfinite(value) for effect in effects.values() for value in (effect.mean_loss, effect.effect, effect.error)
    )
    assert effects["s1m2"].quality < 0.2
    assert all(effect.quality == 1.0 for hotkey, effect in effects.items() if hotkey != "s1m2")


@pytest.mark.parametrize("absurd", [inf, nan, 0.0, -1.0, 2.0])
def test_what_is_no_chance_and_no_difficulty_weighs_nothing(absurd: float) -> None:
    samples = [
        replace(s, propensity=(absurd,) * 3, difficulty=absurd if k % 9 else nan) for k, s in enumerate(drawn(6))
    ]
    plain = estimate(drawn(6))
    for hotkey, effect in estimate(samples).items():
        assert effect.effect == pytest.approx(plain[hotkey].effect, abs=0.2 * plain[hotkey].error)
        assert effect.quality == 1.0


def test_pathways_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        estimate([Sample(("a", "b"), 4.0), Sample(("a",), 4.0)])
    with pytest.raises(ValueError, match="entries"):
        estimate(Columns([["a", "b"]], [4.0]))


# -- difficulty and propensity ----------------------------------------------------------------------------------------


def test_known_difficulty_is_nobodys_fault_and_makes_errors_smaller() -> None:
    rng, samples = Random(8), []
    for sample in drawn(8):
        hard = rng.gauss(3.0, 1.0)
        samples.append(Sample(sample.pathway, sample.loss + 0.5 * hard, (), hard))
    blind = estimate([replace(sample, difficulty=0.0) for sample in samples])
    seen = estimate(samples)
    assert mean(e.error for e in seen.values()) < 0.45 * mean(e.error for e in blind.values())
    shifted = estimate([replace(sample, difficulty=1000 + 7 * sample.difficulty) for sample in samples])
    assert all(shifted[h].effect == pytest.approx(seen[h].effect, abs=1e-6) for h in seen), "the unit does not matter"


def hard_times(seed: int, known: bool) -> dict[str, Effect]:
    """The data turn hard and easy again, and while they are hard a0 is free more often than a1."""
    rng, samples = Random(seed), []
    for index in range(1600):
        hard = index // 20 % 2
        chance = 0.6 if hard else 0.4
        first = rng.random() < chance
        path = ("a0" if first else "a1", f"b{rng.randrange(4)}")
        weights = (chance if first else 1 - chance, 0.25) if known else ()
        samples.append(Sample(path, rng.gauss(4.0 + 0.4 * hard, 0.1), weights))
    return estimate(samples)


def test_who_is_drawn_more_when_data_are_hard_does_not_look_bad_when_propensities_are_known() -> None:
    assert all(hard_times(seed, known=False)["a0"].quality < 1 for seed in range(10))
    found = [hard_times(seed, known=True)["a0"] for seed in range(10)]
    assert all(effect.quality == 1 for effect in found)
    assert abs(mean(effect.effect for effect in found)) < 0.005


def test_an_unlikely_pathway_does_not_speak_for_all() -> None:
    samples = drawn(9)
    lucky = [replace(samples[0], loss=5.2, propensity=(1e-9, 1e-9, 1e-9))]
    rest = [replace(sample, propensity=(0.25,) * 3) for sample in samples[1:]]
    assert all(effect.quality == 1 for effect in estimate([*lucky, *rest]).values())


def test_with_weights_the_stated_error_is_the_true_error_or_a_little_more() -> None:
    effects = []
    for seed in range(200):
        rng, samples = Random(seed), []
        for _ in range(240):
            chances = [rng.choice((0.1, 0.25, 0.5)) for _ in range(3)]
            path = tuple(f"s{s}m{0 if rng.random() < p else rng.randrange(1, 4)}" for s, p in enumerate(chances))
            given = tuple(p if path[s][-1] == "0" else (1 - p) / 3 for s, p in enumerate(chances))
            samples.append(Sample(path, rng.gauss(4.5, 0.2), given))
        effects += [estimate(samples)[hotkey] for hotkey in ("s0m0", "s0m1", "s1m0")]
    spread = mean(effect.effect**2 for effect in effects) ** 0.5
    assert spread < mean(effect.error for effect in effects) < 1.3 * spread
