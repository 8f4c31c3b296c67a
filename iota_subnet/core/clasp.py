"""CLASP: who helped? Each microbatch is an experiment: a random pathway and a loss (arXiv 2507.17766, section 6).

Two estimators side by side. `mean_loss` is the paper's: the average loss of the pathways a miner took part in. It
punishes the honest neighbours of a bad miner. `effect` is ours: a regression of loss on miner indicators within their
stage, next to a cubic trend for the training's own progress, so that neighbours keep what is theirs. Effects are
additive, and additive effects are Shapley values. Units: nats per token; a positive effect is harm, measured against
the mean of the miner's stage.

Why the details:

* The error is that of the *contrast* (a miner against its stage), not of the raw coefficient. Indicators of one stage
  add up to the intercept, so only the ridge fixes their common level; the raw coefficient's error is mostly about that
  level, several times too large, and a bad miner would hide behind it.
* The ridge is small. It is there to keep the matrix regular, not to shrink: shrinking moves harm to neighbours.
* Where two miners only ever travel together nobody can tell them apart. The contrast's variance is then far above what
  random routing gives (`ENTANGLED`), and nothing is held against either.
* Losses are clipped to where most of them lie, or one absurd number would widen all errors and so hide its sender.
* `fsum` and a rounded `exp`: the built-in `sum` of floats differs between versions of Python, `exp` between libraries,
  and a replay must agree to the bit.
* Residuals that hang together in time do no harm: routing is random, so indicators do not hang together with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, sqrt
from operator import mul

#: Ridge penalty on miner effects, in pseudo-samples.
RIDGE = 0.1

#: Harm is only counted beyond this many standard errors: less than 1 in 1000 for one honest miner in one epoch.
SIGMAS = 3.5

#: Harm, in nats, at which quality has fallen to 1/e.
TOLERANCE = 0.1

#: How many times the variance under random routing a contrast may have and still say something.
ENTANGLED = 10.0

#: Losses are clipped this many (scaled) median deviations from their median.
CLIP = 8.0

#: Columns of the training's own progress: a cubic.
TREND = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One retired microbatch: who was on its way, and its mean loss in nats per token.

    `propensity` says stage by stage how likely the one who took part was to be drawn, among those with room then.
    """

    pathway: tuple[str, ...]
    loss: float
    propensity: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """What one epoch's samples say of a miner. `quality` is 1 unless the harm is significant."""

    samples: int
    mean_loss: float
    effect: float
    error: float
    quality: float


def estimate(samples: Sequence[Sample]) -> dict[str, Effect]:
    """Effects by hotkey; samples are in the order of training. Nothing for nobody.

    Who sat in two stages in one epoch gets the worse of its two effects: moving house clears nobody.
    """
    if not samples:
        return {}
    n = len(samples)
    counts, totals = _tally(samples)
    column = {seat: TREND + index for index, seat in enumerate(counts)}
    factor, beta, variance = _fit(samples, column)
    stages: dict[int, list[tuple[int, str]]] = {}
    for seat in counts:
        stages.setdefault(seat[0], []).append(seat)
    result: dict[str, Effect] = {}
    for seats in stages.values():
        centre = fsum(counts[seat] * beta[column[seat]] for seat in seats) / n
        for seat in seats:
            count, effect, error, harm = counts[seat], 0.0, 0.0, 0.0
            # A stage of one has nobody to be compared with: its effect is not identified.
            if len(seats) > 1:
                contrast = [0.0] * len(beta)
                for other in seats:
                    contrast[column[other]] = (other == seat) - counts[other] / n
                spread = fsum(value * value for value in _forward(factor, contrast))
                effect, error = beta[column[seat]] - centre, sqrt(variance * spread)
                told_apart = spread <= ENTANGLED * (1 / count - 1 / n) and n > 2 * len(beta)
                harm = max(0.0, effect - SIGMAS * error) if told_apart else 0.0
            found = Effect(count, totals[seat] / count, effect, error, round(exp(-harm / TOLERANCE), 9))
            known = result.get(seat[1])
            if known is None or (found.quality, -found.samples) < (known.quality, -known.samples):
                result[seat[1]] = found
    return result


def _tally(samples: Sequence[Sample]) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], float]]:
    """How many samples went through each (stage, hotkey), in sorted order, and the sum of their losses."""
    counts = {seat: 0 for seat in sorted({seat for sample in samples for seat in enumerate(sample.pathway)})}
    totals = dict.fromkeys(counts, 0.0)
    for sample in samples:
        for seat in enumerate(sample.pathway):
            counts[seat] += 1
            totals[seat] += sample.loss
    return counts, totals


def _fit(samples: Sequence[Sample], column: dict[tuple[int, str], int]) -> tuple[list[list[float]], list[float], float]:
    """Cholesky factor of the normal equations, coefficients, and variance of what they leave unexplained.

    Rows are sparse (a cubic and one miner per stage), so that fifty miners a stage cost tenths of a second.
    """
    width = TREND + len(column)
    losses = _clipped([sample.loss for sample in samples])
    gram = [[0.0] * width for _ in range(width)]
    for i in range(width):
        gram[i][i] = RIDGE if i >= TREND else 1e-6
    moment = [0.0] * width
    rows = [_row(sample, index, len(samples), column) for index, sample in enumerate(samples)]
    for row, loss in zip(rows, losses, strict=True):
        for i, x in row:
            moment[i] += x * loss
            for j, z in row:
                gram[i][j] += x * z
    factor = _cholesky(gram)
    beta = _backward(factor, _forward(factor, moment))
    left = [loss - fsum(x * beta[i] for i, x in row) for row, loss in zip(rows, losses, strict=True)]
    rank = width - len({stage for stage, _ in column})
    return factor, beta, fsum(value * value for value in left) / max(1, len(samples) - rank)


def _row(sample: Sample, index: int, n: int, column: dict[tuple[int, str], int]) -> list[tuple[int, float]]:
    t = 2 * index / max(1, n - 1) - 1
    return [(0, 1.0), (1, t), (2, t * t), (3, t * t * t), *((column[seat], 1.0) for seat in enumerate(sample.pathway))]


def _clipped(losses: list[float]) -> list[float]:
    """Losses from their median, none further than `CLIP` (scaled) median deviations away."""
    middle = sorted(losses)[len(losses) // 2]
    away = [loss - middle for loss in losses]
    deviation = sorted(abs(loss) for loss in away)[len(losses) // 2]
    reach = CLIP * 1.4826 * deviation
    return [min(max(loss, -reach), reach) for loss in away] if reach else away


def _cholesky(matrix: list[list[float]]) -> list[list[float]]:
    """The lower triangle L with L L' = matrix; the ridge keeps the matrix positive definite."""
    factor: list[list[float]] = []
    for i, given in enumerate(matrix):
        row: list[float] = []
        for j in range(i):
            # `map` ends with the shorter one: the j values that `row` has so far.
            row.append((given[j] - fsum(map(mul, row, factor[j]))) / factor[j][j])
        row.append(sqrt(given[i] - fsum(map(mul, row, row))))
        factor.append(row)
    return factor


def _forward(factor: list[list[float]], b: list[float]) -> list[float]:
    """x with L x = b."""
    x: list[float] = []
    for row, value in zip(factor, b, strict=True):
        x.append((value - fsum(map(mul, x, row))) / row[-1])
    return x


def _backward(factor: list[list[float]], b: list[float]) -> list[float]:
    """x with L' x = b."""
    x = list(b)
    for i in range(len(factor) - 1, -1, -1):
        x[i] /= factor[i][i]
        for j in range(i):
            x[j] -= factor[i][j] * x[i]
    return x
