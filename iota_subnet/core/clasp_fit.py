"""CLASP's regression: losses on who was on the way, stage by stage, next to the training's own progress.

Law: the normal equations are made of counts of who met whom, and one code makes them for ten samples and for a million.
Only how they are solved depends on their number: exactly up to `EXACT` seats; above, the coefficients by conjugate
gradients (to a thousandth of their error), and the spread of a contrast by regressing a seat on each other stage alone.

`fsum`, or addition in the order of the samples: the result is the same to the bit anywhere.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import fsum
from operator import mul, sub

from iota_subnet.core.clasp_data import Design, sums
from iota_subnet.core.clasp_solve import backward, cholesky, conjugate, forward

#: Ridge penalty on miner effects, in pseudo-samples.
RIDGE = 0.1

#: Columns beside the seats: a cubic of time, and difficulty.
BESIDE = 5

#: Time advances in at most so many steps.
MOMENTS = 128

#: With more seats than this the spread of contrasts is approximated.
EXACT = 160


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients and what is needed to judge them. Seats are numbered stage by stage, from `first[stage]`.

    `met[a][b]` is the weight of samples that went through both seats, `size[a]` that of those through one, `total` of
    all. `spread` is the variance of a seat's contrast with its stage's mean, per variance of a loss. `left[stage]
    [tail][code]` is the weighted sum of residuals by tail; `squares[tail]` the sum of their squares, unweighted.
    `count[stage]` and `mean[stage]` are samples and mean loss as reported, by code.
    """

    first: list[int]
    total: float
    size: list[float]
    kish: list[float]
    met: list[list[float]]
    effect: list[float]
    spread: list[float]
    left: list[list[array[float]]]
    squares: list[float]
    rank: int
    effective: float
    count: list[list[float]]
    mean: list[list[float]]


def fit(data: Design, exact: int = EXACT) -> Fit:
    """The regression; at least one sample."""
    n, weights = len(data.losses), data.weights
    sizes = list(map(len, data.hotkeys))
    first = [BESIDE + sum(sizes[:stage]) for stage in range(len(sizes))]
    width = BESIDE + sum(sizes)
    weighted = list(map(mul, weights, data.losses)) if weights else data.losses
    gram, moment = [[0.0] * width for _ in range(width)], [0.0] * width
    blocks = _blocks(n)
    _beside(data, gram, moment, blocks, weighted, first)
    for at, codes, size in zip(first, data.codes, sizes, strict=True):
        moment[at : at + size] = sums(codes, weighted, size)
        for code in range(size):
            gram[at + code][at + code] = gram[0][at + code]
    for one, (at, size) in enumerate(zip(first, sizes, strict=True)):
        later = range(one + 1, len(sizes))
        for other, met in zip(later, _met(data, one, later), strict=True):
            beside = first[other]
            for seat, row in enumerate(met, at):
                gram[seat][beside : beside + sizes[other]] = row
            for seat, column in enumerate(zip(*met, strict=True), beside):
                gram[seat][at : at + size] = column
    seats = range(BESIDE, width)
    size_of = [gram[0][i] for i in range(width)]
    for i in range(BESIDE):
        gram[i][i] += 1e-6
    if len(seats) <= exact:
        # What a seat's row holds on the diagonal is its size, but for this.
        for i in seats:
            gram[i][i] += RIDGE
        factor = cholesky(gram)
        for i in seats:
            gram[i][i] = size_of[i]
        beta = backward(factor, forward(factor, moment))
        spread = _exact(factor, first, sizes, size_of)
    else:
        # Conjugate gradients need no ridge: they never leave the part of space that the samples tell of.
        beta = conjugate(_times(gram, first, sizes), [gram[i][i] for i in range(width)], moment)
        spread = _nearly(gram, len(sizes), size_of)
    effect = list(beta)
    for at, size in zip(first, sizes, strict=True):
        inside = slice(at, at + size)
        centre = fsum(map(mul, size_of[inside], beta[inside])) / size_of[0]
        effect[inside] = [value - centre for value in beta[inside]]
    left, squares = _residuals(data, beta, blocks, first)
    kish, effective = [1.0] * width, float(n)
    if weights:
        heavy = list(map(mul, weights, weights))
        for at, codes, size in zip(first, data.codes, sizes, strict=True):
            squared = sums(codes, heavy, size)
            kish[at : at + size] = [v / w for v, w in zip(squared, size_of[at : at + size], strict=True)]
        effective = size_of[0] ** 2 / fsum(heavy)
    count, mean = _means(data, first, size_of, moment)
    rank = BESIDE - (data.difficulty is None) + len(seats) - len(sizes)
    return Fit(first, size_of[0], size_of, kish, gram, effect, spread, left, squares, rank, effective, count, mean)


def _means(
    data: Design, first: list[int], size_of: list[float], moment: list[float]
) -> tuple[list[list[float]], list[list[float]]]:
    """The paper's estimator: how often, and the mean loss. Much of it is known already where every sample weighs 1."""
    count, mean = [], []
    for at, codes, hotkeys in zip(first, data.codes, data.hotkeys, strict=True):
        size = len(hotkeys)
        plain = data.weights is None
        often = size_of[at : at + size] if plain else sums(codes, repeat(1.0, len(codes)), size)
        if data.reported is not None:
            means = [total / times for total, times in zip(sums(codes, data.reported, size), often, strict=True)]
        else:
            totals = moment[at : at + size] if plain else sums(codes, data.losses, size)
            means = [data.middle + total / times for total, times in zip(totals, often, strict=True)]
        count.append(often)
        mean.append(means)
    return count, mean


def _blocks(n: int) -> list[tuple[int, int, tuple[float, float, float, float]]]:
    """From where to where a moment lasts, and the cubic there: Legendre's polynomials, which hardly hang together."""
    steps = min(n, MOMENTS)
    edges = [-(-block * n // steps) for block in range(steps + 1)]
    found = []
    for block in range(steps):
        t = 2 * block / max(1, steps - 1) - 1
        found.append((edges[block], edges[block + 1], (1.0, t, (3 * t * t - 1) / 2, (5 * t * t - 3) * t / 2)))
    return found


def _beside(
    data: Design,
    gram: list[list[float]],
    moment: list[float],
    blocks: list[tuple[int, int, tuple[float, float, float, float]]],
    weighted: list[float],
    first: list[int],
) -> None:
    """Rows and columns of time and difficulty. Those of the intercept hold everybody's weight."""
    weights, difficulty = data.weights, data.difficulty
    hard: list[float] | None = None
    if difficulty:
        hard = list(map(mul, weights, difficulty)) if weights else difficulty
    for begin, end, time in blocks:
        mass = fsum(weights[begin:end]) if weights else float(end - begin)
        loss = fsum(weighted[begin:end])
        harder = fsum(hard[begin:end]) if hard else 0.0
        for i in range(4):
            moment[i] += time[i] * loss
            gram[i][4] += time[i] * harder
            for j in range(i, 4):
                gram[i][j] += time[i] * time[j] * mass
        for at, codes in zip(first, data.codes, strict=True):
            there = _tally(codes[begin:end], weights[begin:end] if weights else None)
            for i in range(4):
                row, value = gram[i], time[i]
                for code, weight in there.items():
                    row[at + code] += value * weight
    if difficulty and hard:
        gram[4][4] = fsum(map(mul, hard, difficulty))
        moment[4] = fsum(map(mul, hard, data.losses))
        for at, codes, hotkeys in zip(first, data.codes, data.hotkeys, strict=True):
            gram[4][at : at + len(hotkeys)] = sums(codes, hard, len(hotkeys))
    for i in range(BESIDE):
        for j in range(i + 1, len(gram)):
            gram[j][i] = gram[i][j]


def _tally(codes: list[int], weights: list[float] | None) -> dict[int, float] | Counter[int]:
    if weights is None:
        return Counter(codes)
    found: dict[int, float] = {}
    for code, weight in zip(codes, weights, strict=True):
        found[code] = found.get(code, 0.0) + weight
    return found


def _met(data: Design, one: int, others: Sequence[int]) -> list[list[list[float]]]:
    """Samples, or their weights, counted by the codes of a stage and of each other one."""
    codes, rows = data.codes[one], len(data.hotkeys[one])
    if data.weights:
        return [
            list(map(list, _cells(codes, data.codes[other], data.weights, rows, len(data.hotkeys[other]))))
            for other in others
        ]
    # Whole numbers stay so: they add up faster.
    found: list[list[list[float]]] = [[[0] * len(data.hotkeys[other]) for _ in range(rows)] for other in others]
    todo = list(zip(found, (data.codes[other] for other in others), strict=True))
    # Two stages at a time take a quarter less time than one by one.
    for (these, left), (those, right) in zip(todo[::2], todo[1::2], strict=False):
        for code, i, j in zip(codes, left, right, strict=True):
            these[code][i] += 1
            those[code][j] += 1
    for these, last in todo[len(todo) // 2 * 2 :]:
        for row, i in zip(map(these.__getitem__, codes), last, strict=True):
            row[i] += 1
    return found


def _cells(one: list[int], other: list[int], values: list[float], rows: int, width: int) -> list[array[float]]:
    """Values added up by two codes, in the order of the samples. Arrays: floats by themselves leave the cache."""
    found = [array("d", bytes(8 * width)) for _ in range(rows)]
    for row, code, value in zip(map(found.__getitem__, one), other, values, strict=True):
        row[code] += value
    return found


def _exact(factor: list[list[float]], first: list[int], sizes: list[int], size_of: list[float]) -> list[float]:
    """c' (X'X)^-1 c for the contrast c of each seat with the mean of its stage."""
    spread = [0.0] * len(factor)
    for at, size in zip(first, sizes, strict=True):
        contrast = [0.0] * len(factor)
        contrast[at : at + size] = [-weight / size_of[0] for weight in size_of[at : at + size]]
        for seat in range(at, at + size):
            contrast[seat] += 1.0
            spread[seat] = fsum(value * value for value in forward(factor, contrast))
            contrast[seat] -= 1.0
    return spread


def _times(gram: list[list[float]], first: list[int], sizes: list[int]) -> Callable[[Sequence[float]], list[float]]:
    """x -> gram x, without the zeros of those who sit in one stage and so never meet."""
    short = [
        [[*gram[seat][:at], gram[seat][seat], *gram[seat][at + size :]] for seat in range(at, at + size)]
        for at, size in zip(first, sizes, strict=True)
    ]

    def times(x: Sequence[float]) -> list[float]:
        image = [fsum(map(mul, row, x)) for row in gram[:BESIDE]]
        for at, size, rows in zip(first, sizes, short, strict=True):
            met = [*x[:at], 0.0, *x[at + size :]]
            for own, row in zip(x[at : at + size], rows, strict=True):
                met[at] = own
                image.append(fsum(map(mul, row, met)))
        return image

    return times


def _nearly(gram: list[list[float]], stages: int, size_of: list[float]) -> list[float]:
    """The same from how well each other stage, time and difficulty, each by itself, tell who sat in a seat."""
    total, spread = size_of[0], [0.0] * len(gram)
    inverse = [0.0] * BESIDE + [1 / weight for weight in size_of[BESIDE:]]
    for seat in range(BESIDE, len(gram)):
        row, weight = gram[seat], size_of[seat]
        alone = weight - weight * weight / total
        if alone <= 0.0:
            continue
        # Of its own stage it has met itself alone, and that makes its weight.
        told = fsum(map(mul, map(mul, row, row), inverse)) - weight - (stages - 1) * weight * weight / total
        for i in range(1, BESIDE):
            norm = gram[i][i] - size_of[i] * size_of[i] / total
            told += (row[i] - weight * size_of[i] / total) ** 2 / norm if norm > 1e-3 else 0.0
        spread[seat] = (1 / weight - 1 / total) / max(1e-3, 1 - told / alone)
    return spread


def _residuals(
    data: Design,
    beta: list[float],
    blocks: list[tuple[int, int, tuple[float, float, float, float]]],
    first: list[int],
) -> tuple[list[list[array[float]]], list[float]]:
    """What the regression leaves, added up by tail and seat; and its squares by tail."""
    left: list[float] = []
    for begin, end, time in blocks:
        left += map(sub, data.losses[begin:end], repeat(fsum(map(mul, time, beta))))
    if data.difficulty:
        left = list(map(sub, left, map(mul, data.difficulty, repeat(beta[4]))))
    known = [(beta[at : at + len(names)], c) for at, c, names in zip(first, data.codes, data.hotkeys, strict=True)]
    if len(known) % 2:
        effect, codes = known.pop()
        left = list(map(sub, left, map(effect.__getitem__, codes)))
    # Two stages at a time take a third less time than one by one.
    for (effect, codes), (other, besides) in zip(known[::2], known[1::2], strict=True):
        left = [loss - effect[i] - other[j] for loss, i, j in zip(left, codes, besides, strict=True)]
    tails, size = data.codes[-1], len(data.hotkeys[-1])
    squares = sums(tails, map(mul, left, left), size)
    if data.weights:
        left = list(map(mul, data.weights, left))
    by_tail = [
        _cells(tails, codes, left, size, len(hotkeys))
        for codes, hotkeys in zip(data.codes[:-1], data.hotkeys[:-1], strict=True)
    ]
    return by_tail, squares
