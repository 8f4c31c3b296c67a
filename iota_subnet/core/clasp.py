"""CLASP: who helped? Each microbatch is an experiment: a random pathway and a loss (arXiv 2507.17766, section 6).

Two estimators side by side. `mean_loss` is the paper's: the average loss of the pathways a miner took part in. It
punishes the honest neighbours of a bad miner. `effect` is ours: a regression of loss on miner indicators within their
stage, next to the training's own progress and what was known of a sample's difficulty, so that neighbours keep what is
theirs. Effects are additive, and additive effects are Shapley values. Units: nats per token; a positive effect is harm,
measured against the mean of the miner's stage.

Law: nobody is convicted, and nobody cleared, by the word of one. The loss is what the tail says it is; so each tail is
a witness by itself, and the one that incriminates a miner most and the one that speaks for it most are both left out.

Why the details:

* The error is that of the *contrast* (a miner against its stage), not of the raw coefficient. Indicators of one stage
  add up to the intercept, so only the ridge fixes their common level; the raw coefficient's error is mostly about that
  level, several times too large, and a bad miner would hide behind it.
* The ridge is small. It is there to keep the matrix regular, not to shrink: shrinking moves harm to neighbours.
* Where two miners only ever travel together nobody can tell them apart. The contrast's variance is then far above what
  random routing gives (`ENTANGLED`), and nothing is held against either.
* Losses are clipped to where most of them lie, or one absurd number would widen all errors and so hide its sender. The
  noise is measured tail by tail for the same reason.
* Each sample weighs by the inverse of its propensity: who is drawn more when data happen to be hard would look bad.
* Residuals that hang together in time do no harm: routing is random, so indicators do not hang together with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, sqrt
from operator import mul

from iota_subnet.core.clasp_data import Columns, Sample, columns, design
from iota_subnet.core.clasp_fit import EXACT, Fit, fit

__all__ = ["Columns", "Effect", "Sample", "estimate"]

#: Harm is only counted beyond this many standard errors: less than 1 in 1000 for one honest miner in one epoch.
SIGMAS = 3.5

#: Harm, in nats, at which quality has fallen to 1/e.
TOLERANCE = 0.1

#: How many times the variance under random routing a contrast may have and still say something.
ENTANGLED = 10.0

#: The largest of so many standard normal numbers, on average; between two entries the later one is taken.
LARGEST = (
    *((1, 0.0), (2, 0.5642), (3, 0.8463), (4, 1.0294), (5, 1.1630), (6, 1.2672), (8, 1.4236), (10, 1.5388)),
    *((16, 1.7660), (32, 2.0697), (64, 2.3437), (128, 2.5936), (256, 2.8250), (1024, 3.2486), (65536, 4.2934)),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one epoch's samples say of a miner. `quality` is 1 unless the harm is significant.

    `effect` and `error` are the best estimate and its standard error. `score` is what may be held against the miner,
    in standard errors: at most standard normal for an honest one, even if one tail lies. `witnesses` is the number of
    tails that it rests on; with fewer than two the score is 0.
    """

    samples: int
    mean_loss: float
    effect: float
    error: float
    quality: float
    score: float = 0.0
    witnesses: int = 0


def estimate(
    samples: Iterable[Sample] | Columns, trust: Mapping[str, float] | None = None, exact: int = EXACT
) -> dict[str, Effect]:
    """Effects by hotkey; samples are in the order of training. Nothing for nobody.

    `trust` is the weight in (0, 1] of losses that a tail reported, by hotkey, 1 for those that are not named. Who sat
    in two stages in one epoch gets the worse of its two effects: moving house clears nobody. Above `exact` seats
    standard errors are approximated (see `clasp_fit`). ValueError for pathways of different lengths, or such a trust.
    """
    given = samples if isinstance(samples, Columns) else columns(samples)
    if not len(given.losses) or not given.stages:
        return {}
    data = design(given, trust)
    found = fit(data, exact)
    tails = len(data.hotkeys) - 1
    noise, freedom = _noise(found, len(data.losses))
    enough = found.effective > 2 * len(found.size)
    result: dict[str, Effect] = {}
    for stage, hotkeys in enumerate(data.hotkeys):
        for code, hotkey in enumerate(hotkeys):
            seat = found.first[stage] + code
            size = found.size[seat]
            alone, spread = size - size * size / found.total, found.spread[seat] * found.kish[seat]
            effect, error, score, seen = 0.0, 0.0, 0.0, 0
            # A stage of one has nobody to be compared with: its effect is not identified.
            if len(hotkeys) > 1:
                values, weights, own = (_as_tail if stage == tails else _by_tails)(found, stage, code)
                effect, error = found.effect[seat], sqrt(noise * spread)
                effect, error, score = _heard(effect, error, alone, values, weights, own)
                seen = len(values)
                told_apart = found.spread[seat] <= ENTANGLED * (1 / size - 1 / found.total)
                score = _normal(score, freedom) if enough and told_apart else 0.0
            harm = effect * (1 - SIGMAS / score) if score > SIGMAS else 0.0
            judged = Effect(
                int(found.count[stage][code]),
                found.mean[stage][code],
                effect,
                error,
                round(exp(-max(0.0, harm) / TOLERANCE), 9),
                score,
                seen,
            )
            known = result.get(hotkey)
            if known is None or (judged.quality, -judged.samples) < (known.quality, -known.samples):
                result[hotkey] = judged
    return result


def _by_tails(found: Fit, stage: int, code: int) -> tuple[list[float], list[float], float]:
    """What each tail says of a miner of another stage, and what its word weighs."""
    seat, tail = found.first[stage] + code, found.first[-1]
    effect = found.effect[seat]
    heard = zip(found.met[seat][tail:], found.size[tail:], found.left[stage], strict=True)
    # A tail that met nobody else of the stage has nothing to compare with.
    words = [
        (effect + left[code] / weight, weight * (1 - weight / whole))
        for weight, whole, left in heard
        if 0.0 < weight < whole * (1 - 1e-9)
    ]
    return [value for value, _ in words], [weight for _, weight in words], 0.0


def _as_tail(found: Fit, stage: int, code: int) -> tuple[list[float], list[float], float]:
    """How a tail does by its own word, against the word of each other tail; and what its own share of error is."""
    at = found.first[stage]
    others = [seat for seat in range(at, len(found.size)) if seat != at + code]
    mine, share = found.effect[at + code], 1 - found.size[at + code] / found.total
    values = [share * (mine - found.effect[seat]) for seat in others]
    return values, [found.size[seat] for seat in others], 1 / found.size[at + code]


def _heard(
    effect: float, error: float, alone: float, values: Sequence[float], weights: Sequence[float], own: float
) -> tuple[float, float, float]:
    """Effect, error and score from what witnesses say; `own` is the variance they have in common, in their units.

    Without the two whose word moves the mean most, one each way. Three or more can do without; of two the milder is
    believed; one is not. Who is left out may have told the truth, and then the mean has moved towards the liar: by no
    more than the largest error of an honest witness, which is what the score allows for.
    """
    count = len(values)
    unit = error * sqrt(alone)
    if count < 2 or not unit:
        return effect, error, 0.0
    if count == 2:
        return effect, error, min(v / (unit * sqrt(own + 1 / w)) for v, w in zip(values, weights, strict=True))
    mean, kept = trimmed(values, weights)
    # The mean of the middle varies less than that of as many anybodies. A tail has one witness fewer than there are
    # tails, so a liar among them is felt more.
    error = unit * sqrt(own + ((count - 1) / count if own else (count - 2) / (count - 1)) / kept)
    allowed = unit * sqrt(max(weights)) / kept * next(most for size, most in LARGEST if count - 1 <= size)
    return mean, error, (mean - allowed) / error


def trimmed(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """The weighted mean without the two that pull it most, one each way; and the weight that is left. At least 3."""
    said = list(map(mul, weights, values))
    mean = fsum(said) / fsum(weights)
    pull = [word - weight * mean for word, weight in zip(said, weights, strict=True)]
    high, low = pull.index(max(pull)), pull.index(min(pull))
    if high == low:
        low = (high + 1) % len(pull)
    # `fsum` is exact: what is taken away leaves nothing behind.
    left = fsum([*weights, -weights[high], -weights[low]])
    return fsum([*said, -said[high], -said[low]]) / left, left


def _noise(found: Fit, n: int) -> tuple[float, float]:
    """The variance of one loss, and on how many degrees of freedom that rests.

    Measured by tails when there are three: one that reports noise must not hide others behind it. A middle one of few
    variances is below their mean; the last factor is Wilson and Hilferty's for the median.
    """
    tails, counts = len(found.squares), found.count[-1]
    freedom = max(1.0, float(n - found.rank))
    if tails < 3:
        return fsum(found.squares) / freedom, freedom
    each = [square * n / (count * freedom) for square, count in zip(found.squares, counts, strict=True)]
    variance, kept = trimmed(each, counts)
    return variance * (1 + 2 * tails / (3 * freedom)), freedom * kept / n


def _normal(score: float, freedom: float) -> float:
    """A standard normal number as rare as this one of Student's with so many degrees of freedom (Wallace's, to 1 %)."""
    return score * (1 - 1 / (4 * freedom)) / sqrt(1 + score * score / (2 * freedom))
