"""Effects against exact Shapley values, over all coalitions of small games.

The game: a pathway has one of two miners in each stage, and the loss is a function of who is on it. A coalition S is
who is present; where a miner is absent its stage-mate does the work, so the players are the stages' first miners and
the value of S is the loss of the pathway with the first miner where it is in S and the second elsewhere.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import factorial
from random import Random

import pytest

from iota_subnet.core.clasp import Sample, estimate

Game = Callable[[Sequence[int]], float]


def shapley(game: Game, players: int) -> list[float]:
    """Marginal contributions, averaged over all orders, by coalitions."""
    values = [0.0] * players
    for present in product((0, 1), repeat=players):
        weight = factorial(sum(present)) * factorial(players - sum(present) - 1) if sum(present) < players else 0
        for player in range(players):
            if not present[player]:
                joined = [*present[:player], 1, *present[player + 1 :]]
                values[player] += weight / factorial(players) * (game(joined) - game(present))
    return values


def effects(game: Game, players: int, often: int = 1) -> list[float]:
    """Twice the effect of each stage's first miner (against its stage's mean), every pathway `often` times."""
    paths = list(product((0, 1), repeat=players)) * often
    Random(1).shuffle(paths)
    # An honest tail of its own, so that the players are all of other stages, is one of four.
    samples = [
        Sample((*(f"s{s}m{1 - there}" for s, there in enumerate(path)), f"t{tail}"), game(path))
        for path in paths
        for tail in range(4)
    ]
    found = estimate(samples)
    return [2 * found[f"s{s}m0"].effect for s in range(players)]


@pytest.mark.parametrize("players", [2, 3, 5, 8])
def test_additive_games_have_their_shapley_values(players: int) -> None:
    rng = Random(players)
    harm = [rng.uniform(-0.3, 0.3) for _ in range(players)]

    def game(path: Sequence[int]) -> float:
        return 4.0 + sum(h * there for h, there in zip(harm, path, strict=True))

    assert shapley(game, players) == pytest.approx(harm, abs=1e-12)
    assert effects(game, players, often=4) == pytest.approx(harm, abs=0.01)


@pytest.mark.parametrize("players", [3, 5])
def test_games_of_pairs_have_their_shapley_values_too(players: int) -> None:
    # Half of what a pair does together is either's, in both views.
    rng = Random(players)
    harm = [rng.uniform(-0.3, 0.3) for _ in range(players)]
    pair = {(i, j): rng.uniform(-0.2, 0.2) for i in range(players) for j in range(i)}

    def game(path: Sequence[int]) -> float:
        return sum(h * p for h, p in zip(harm, path, strict=True)) + sum(
            v * path[i] * path[j] for (i, j), v in pair.items()
        )

    assert effects(game, players, often=8) == pytest.approx(shapley(game, players), abs=0.01)


def test_games_of_three_at_once_do_not() -> None:
    # All three together do harm: a third each by Shapley; a quarter each by random pathways (Banzhaf's value).
    def game(path: Sequence[int]) -> float:
        return 0.6 * path[0] * path[1] * path[2]

    assert shapley(game, 3) == pytest.approx([0.2] * 3)
    assert effects(game, 3, often=16) == pytest.approx([0.15] * 3, abs=0.01)
