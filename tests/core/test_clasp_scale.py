"""Many miners: what is approximated, and how well. Small problems are exact."""

from collections.abc import Sequence
from operator import mul
from random import Random

import pytest

from iota_subnet.core.clasp import Columns, Effect, Sample, estimate
from iota_subnet.core.clasp_solve import backward, cholesky, conjugate, forward


def swarm(seed: int, n: int, stages: int, miners: int, weighted: bool) -> list[Sample]:
    rng, samples = Random(seed), []
    for index in range(n):
        # Some are drawn three times as often; one comes late.
        drawn = [min(int(rng.random() ** 1.5 * miners), miners - 1) for _ in range(stages)]
        if drawn[0] == 0 and index < n // 2:
            drawn[0] = 1
        given = tuple(rng.uniform(0.5, 2) / miners for _ in drawn) if weighted else ()
        path = tuple(f"s{s}m{k}" for s, k in enumerate(drawn))
        samples.append(Sample(path, rng.gauss(4 - index / n, 0.2) + 0.5 * (path[1] == "s1m3"), given, rng.random()))
    return samples


def apart(one: dict[str, Effect], other: dict[str, Effect]) -> tuple[float, float]:
    """How far effects are apart, in standard errors, and errors, as a share."""
    return (
        max(abs(one[h].effect - other[h].effect) / one[h].error for h in one),
        max(abs(one[h].error / other[h].error - 1) for h in one),
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_the_fast_way_agrees_with_the_exact_one(weighted: bool) -> None:
    samples = swarm(1, 4000, 3, 30, weighted)
    exact, fast = estimate(samples), estimate(samples, exact=0)
    effect, error = apart(exact, fast)
    assert effect < 0.05, "nearly all of it the ridge, which the fast way does without"
    assert error < 0.01
    assert {h for h in exact if exact[h].quality < 1} == {h for h in fast if fast[h].quality < 1} == {"s1m3"}


def test_the_fast_way_agrees_where_there_are_few_samples_for_each() -> None:
    effect, error = apart(*(estimate(swarm(2, 700, 3, 40, False), exact=exact) for exact in (1000, 0)))
    assert effect < 0.3 and error < 0.12


def test_the_fast_way_does_not_judge_who_only_travels_together_either() -> None:
    rng, samples = Random(4), []
    for _ in range(3000):
        one = rng.randrange(30)
        path = (f"a{one}", f"b{one}", f"t{rng.randrange(5)}")
        samples.append(Sample(path, rng.gauss(4.5, 0.2) + 2.0 * (one == 7)))
    for exact in (1000, 0):
        assert all(effect.quality == 1.0 for effect in estimate(samples, exact=exact).values())


def test_hundreds_of_miners_replay_to_the_bit_and_the_one_is_found() -> None:
    rng = Random(5)
    stages = [[f"s{s}m{rng.randrange(100)}" for _ in range(20_000)] for s in range(3)]
    losses = [rng.gauss(4, 0.2) + 0.3 * (hotkey == "s0m9") for hotkey in stages[0]]
    effects = estimate(Columns(stages, losses))
    assert effects == estimate(Columns(stages, losses))
    assert [hotkey for hotkey, effect in effects.items() if effect.quality < 1] == ["s0m9"]


def test_both_solvers_solve() -> None:
    rng, size = Random(6), 30
    rows = [[rng.gauss(0, 1) for _ in range(size)] for _ in range(2 * size)]
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(size)] for i in range(size)]
    truth = [rng.gauss(0, 1) for _ in range(size)]
    b = [sum(m * t for m, t in zip(row, truth, strict=True)) for row in matrix]
    factor = cholesky(matrix)
    assert backward(factor, forward(factor, b)) == pytest.approx(truth, abs=1e-9)

    def times(x: Sequence[float]) -> list[float]:
        return [sum(map(mul, row, x)) for row in matrix]

    diagonal = [matrix[i][i] for i in range(size)]
    assert conjugate(times, diagonal, b) == pytest.approx(truth, abs=1e-4)
    assert conjugate(times, diagonal, [0.0] * size) == [0.0] * size
