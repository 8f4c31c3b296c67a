"""The sequential test: it may be read after every epoch, and hardly ever accuses the honest."""

import json
from dataclasses import asdict
from math import exp
from random import Random

import pytest

from iota_subnet.core.clasp import Effect, Sample, estimate
from iota_subnet.core.evidence import FALSE_ALARMS, MARGIN, Evidence, flagged, standing, threshold, update

MINERS = 12


def told(effect: float, error: float = 0.02, rng: Random | None = None, witnesses: int = 4) -> Effect:
    """An epoch's word, with its noise."""
    seen = effect + (rng.gauss(0.0, error) if rng else 0.0)
    return Effect(30, 4.0, seen, error, 1.0, seen / error, witnesses)


def run(seed: int, epochs: int, harm: float = 0.0, since: int = 0) -> tuple[dict[str, Evidence], int]:
    """Miners exactly as different as honest ones may be; m0 does harm. Evidence, and when m0 was flagged (or never)."""
    rng, evidence, found = Random(seed), dict[str, Evidence](), 0
    for epoch in range(epochs):
        effects = {f"m{k}": told(MARGIN, rng=rng) for k in range(MINERS)}
        if harm and epoch >= since:
            effects["m0"] = told(harm, rng=rng)
        evidence = update(evidence, effects)
        if not found and "m0" in flagged(evidence):
            found = epoch + 1
    return evidence, found


def test_the_honest_are_hardly_ever_flagged_even_at_the_margin() -> None:
    # At a rate of 1 % more than eight of 300 runs would be a matter of 1 in 250; about one is what we see.
    assert sum(bool(flagged(run(seed, 40)[0])) for seed in range(300)) <= 8


def test_chances_of_a_false_alarm_add_up_to_what_is_stated() -> None:
    total = sum(exp(-threshold(number)) for number in range(1, 20_000))
    assert 0.99 * FALSE_ALARMS < total <= FALSE_ALARMS * (1 + 1e-9)
    assert threshold(1) == threshold(64) < threshold(65)


@pytest.mark.parametrize(("harm", "within"), [(0.03, 45), (0.05, 15), (0.2, 2)])
def test_small_harm_that_lasts_is_found(harm: float, within: int) -> None:
    for seed in range(10):
        evidence, found = run(seed, within, harm)
        assert 0 < found <= within, seed
        assert flagged(evidence) == ["m0"]


def test_one_epoch_would_not_have_told() -> None:
    one = update({}, {"m0": told(0.03)})
    assert not flagged(one) and standing(one["m0"]) == 1.0


def test_a_hundred_honest_epochs_shield_nobody() -> None:
    for seed in range(5):
        _, found = run(seed, 130, harm=0.1, since=100)
        assert 100 < found <= 112, seed


def test_a_flag_stays_and_the_standing_follows_the_evidence() -> None:
    evidence, _ = run(1, 10, harm=0.2)
    low = standing(evidence["m0"])
    assert low == pytest.approx(0.2, abs=0.15)
    assert all(standing(found) == 1.0 for hotkey, found in evidence.items() if hotkey != "m0")
    rng = Random(2)
    for _ in range(40):
        evidence = update(evidence, {"m0": told(0.0, rng=rng)})
    assert standing(evidence["m0"]) > low
    assert flagged(evidence) == ["m0"]


def test_standing_is_one_below_the_threshold_and_continuous_above() -> None:
    evidence: dict[str, Evidence] = {}
    last = 1.0
    for _ in range(4000):
        evidence = update(evidence, {"m0": told(0.02, error=0.05)})
        now = standing(evidence["m0"])
        assert 0.0 < now <= 1.0 and abs(now - last) < 0.05
        last = now
    assert last < 0.9 and flagged(evidence) == ["m0"]


@pytest.mark.parametrize("effect", [told(0.5, error=0.0001), told(1e6, error=1e-9), told(-1e6, error=1e-9)])
def test_any_effect_leaves_evidence_that_can_be_written_down(effect: Effect) -> None:
    evidence = update(update({}, {"m0": effect}), {"m0": effect})["m0"]
    again = json.loads(json.dumps(asdict(evidence)))
    assert Evidence(again["number"], again["epochs"], tuple(again["bets"]), again["peak"]) == evidence
    assert 0.0 < standing(evidence) <= 1.0


@pytest.mark.parametrize(
    "effect", [told(0.9, witnesses=1), Effect(9, 4.0, 0.0, 0.0, 1.0, 0.0, 4), Effect(9, 4.0, 9.0, 0.1, 0.1)]
)
def test_an_epoch_that_says_nothing_changes_nothing(effect: Effect) -> None:
    known = update({}, {"m0": told(0.1)})
    assert update(known, {"m0": effect, "m1": effect}) == known
    assert update(known, {}) == known


def test_numbers_are_given_once_and_the_given_evidence_is_not_changed() -> None:
    first = update({}, {"a": told(0.0), "b": told(0.0)})
    second = update(first, {"c": told(0.0), "a": told(0.0)})
    assert [second[hotkey].number for hotkey in "abc"] == [1, 2, 3]
    assert (first["a"].epochs, second["a"].epochs, "c" in first) == (1, 2, False)


def epochs_of_losses(seed: int, epochs: int, harm: float) -> dict[str, Evidence]:
    rng, evidence = Random(seed), dict[str, Evidence]()
    for _ in range(epochs):
        samples = []
        for index in range(120):
            path = tuple(f"s{s}m{rng.randrange(4)}" for s in range(3))
            samples.append(Sample(path, rng.gauss(4 - 0.5 * index / 120, 0.15) + harm * (path[1] == "s1m3")))
        evidence = update(evidence, estimate(samples))
    return evidence


def test_from_losses_to_flags() -> None:
    assert flagged(epochs_of_losses(1, 25, 0.12)) == ["s1m3"]
    assert flagged(epochs_of_losses(2, 25, 0.0)) == []


def test_a_tail_that_frames_somebody_epoch_after_epoch_does_not_get_it_flagged() -> None:
    rng, evidence = Random(5), dict[str, Evidence]()
    for _ in range(60):
        samples = []
        for _ in range(120):
            path = tuple(f"s{s}m{rng.randrange(4)}" for s in range(3))
            lie = (0.75 if path[0] == "s0m1" else -0.25) * (path[2] == "s2m0")
            samples.append(Sample(path, rng.gauss(4.0, 0.15) + lie))
        evidence = update(evidence, estimate(samples))
    assert flagged(evidence) == []
