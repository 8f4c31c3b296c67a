"""What CLASP reads: retired microbatches, as rows or as columns, and the same made fit for arithmetic.

Law: nothing a stranger reported gets into the arithmetic unbounded. A loss that is no number, or beyond all reason, is
the worst loss there is; a propensity that is no chance weighs nothing. Hotkeys become numbers in the order of their
first sample, so that no result depends on how anybody is called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from math import fsum, isfinite, sqrt
from operator import attrgetter, itemgetter, mul, sub, truediv

#: No loss in nats per token is larger; what is no number counts as this.
ABSURD = 1e6

#: Losses are clipped this many (scaled) median deviations from their median.
CLIP = 8.0

#: The median and the deviation are those of about so many losses, evenly spaced: to sort a million takes a while.
SORTED = 4096

#: Inverse-propensity weights stay between 1 / this and this, about their median. One unlikely pathway must not speak
#: for a whole epoch: where the real core routes four stages by who has room, unclipped weights span a factor of 100
#: between the outer tenths; clipped, 100 samples are still worth 77.
HEAVIEST = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One retired microbatch: who was on its way, and its mean loss in nats per token.

    The last of the pathway, the tail, is who reported the loss. `propensity` says stage by stage how likely the one who
    took part was to be drawn, among those with room then. `difficulty` is a covariate known before training, in any
    unit, such as the compressed bits per byte of the text. `at` is when the loss was measured.
    """

    pathway: tuple[str, ...]
    loss: float
    propensity: tuple[float, ...] = ()
    difficulty: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Columns:
    """The same as many samples, column by column: `stages[s][i]` is who took sample i through stage s."""

    stages: Sequence[Sequence[str]]
    losses: Sequence[float]
    propensities: Sequence[Sequence[float]] = ()
    difficulties: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Design:
    """Columns of numbers. `losses` are clipped and counted from `middle`; `reported` are as they came, but bounded.

    `reported` is None where nothing was clipped, `weights` where every sample weighs 1, `difficulty` (centred, of
    deviation 1) where all are alike.
    """

    hotkeys: list[list[str]]
    codes: list[list[int]]
    reported: Sequence[float] | None
    losses: list[float]
    middle: float
    weights: list[float] | None
    difficulty: list[float] | None


def columns(samples: Iterable[Sample]) -> Columns:
    """Rows turned into columns. ValueError for pathways of different lengths."""
    rows = list(samples)
    paths = list(map(attrgetter("pathway"), rows))
    width = len(paths[0]) if paths else 0
    if any(length != width for length in map(len, paths)):
        raise ValueError("pathways of one epoch have different lengths; estimate each length by itself")
    given = list(map(attrgetter("propensity"), rows))
    # Nobody is drawn with chance 0, so that 0 says: not known.
    chances = [p if len(p) == width else (0.0,) * width for p in given] if any(given) else []
    return Columns(
        [list(map(itemgetter(stage), paths)) for stage in range(width)],
        list(map(attrgetter("loss"), rows)),
        [list(map(itemgetter(stage), chances)) for stage in range(width)] if chances else (),
        list(map(attrgetter("difficulty"), rows)),
    )


def design(given: Columns, trust: Mapping[str, float] | None) -> Design:
    """ValueError for columns of different lengths, and for a trust outside (0, 1]."""
    n = len(given.losses)
    columns = [*given.stages, *given.propensities, *([given.difficulties] if given.difficulties else [])]
    if any(len(column) != n for column in columns) or len(given.propensities) not in (0, len(given.stages)):
        raise ValueError(f"columns of {n} losses must all have {n} entries, and propensities one column per stage")
    hotkeys: list[list[str]] = []
    codes: list[list[int]] = []
    for stage in given.stages:
        # Whoever is met for the first time gets the next number.
        number: defaultdict[str, int] = defaultdict(count().__next__)
        codes.append(list(map(number.__getitem__, stage)))
        hotkeys.append(list(number))
    bounded, least, most = _bounded(given.losses)
    middle, losses, clipped = _clipped(bounded, least, most)
    weights = _weights(given.propensities, hotkeys, codes, trust)
    return Design(hotkeys, codes, bounded if clipped else None, losses, middle, weights, _scaled(given.difficulties))


def sums(codes: Sequence[int], values: Iterable[float], size: int) -> list[float]:
    """Values added up by code, in the order of the samples."""
    total = [0.0] * size
    for code, value in zip(codes, values, strict=True):
        total[code] += value
    return total


def _bounded(losses: Sequence[float]) -> tuple[Sequence[float], float, float]:
    """Losses as they are, or none beyond reason; the least and the most of them."""
    if all(map(isfinite, losses)):
        least, most = min(losses), max(losses)
        if -ABSURD <= least and most <= ABSURD:
            return losses, least, most
    # A comparison with what is no number is false.
    losses = [loss if -ABSURD <= loss <= ABSURD else ABSURD for loss in losses]
    return losses, min(losses), max(losses)


def _clipped(losses: Sequence[float], least: float, most: float) -> tuple[float, list[float], bool]:
    """The median, and losses counted from it, none further than `CLIP` (scaled) median deviations away; if any was."""
    some = sorted(losses[:: max(1, len(losses) // SORTED)])
    middle = some[len(some) // 2]
    away = list(map(sub, losses, repeat(middle)))
    reach = CLIP * 1.4826 * sorted(abs(loss - middle) for loss in some)[len(some) // 2]
    if reach and (least - middle < -reach or most - middle > reach):
        return middle, [min(max(loss, -reach), reach) for loss in away], True
    return middle, away, False


def _weights(
    propensities: Sequence[Sequence[float]],
    hotkeys: list[list[str]],
    codes: list[list[int]],
    trust: Mapping[str, float] | None,
) -> list[float] | None:
    """Stabilised inverse propensities, clipped, times the trust in the tail; None where that is 1 for all.

    Stage by stage a miner's share of all samples over the chance that it had this time: less than usual where it was
    nearly bound to be drawn, more where it was not, so that all miners of a stage are compared over the same times.
    """
    trusted = [trust.get(hotkey, 1.0) if trust else 1.0 for hotkey in hotkeys[-1]]
    if not all(0.0 < value <= 1.0 for value in trusted):
        raise ValueError("trust in a tail must be above 0 and at most 1; leave out samples that must not count")
    weights: list[float] | None = None
    for chances, names, stage in zip(propensities, hotkeys, codes, strict=bool(propensities)):
        often = sums(stage, repeat(1.0, len(stage)), len(names))
        share = [value / len(stage) for value in often]
        if not (all(map(isfinite, chances)) and 0.0 < min(chances) and max(chances) <= 1.0):
            chances = [p if 0.0 < p <= 1.0 else share[code] for p, code in zip(chances, stage, strict=True)]
        ratio = map(truediv, map(share.__getitem__, stage), chances)
        weights = list(map(mul, weights, ratio)) if weights else list(ratio)
    if weights:
        some = sorted(weights[:: max(1, len(weights) // SORTED)])
        middle = some[len(some) // 2]
        weights = [min(max(weight / middle, 1 / HEAVIEST), HEAVIEST) for weight in weights]
    if any(value != 1.0 for value in trusted):
        spoken = map(trusted.__getitem__, codes[-1])
        weights = list(map(mul, weights, spoken)) if weights else list(spoken)
    return weights


def _scaled(difficulties: Sequence[float]) -> list[float] | None:
    """Centred, and of deviation 1; what is no number is average. None if all are alike."""
    known = list(filter(isfinite, difficulties))
    if not known or min(known) == max(known):
        return None
    # Scaled first: the sum of two large floats may be none.
    largest = max(map(abs, known))
    small = [value / largest for value in known]
    mean = fsum(small) / len(small)
    deviation = sqrt(fsum((value - mean) ** 2 for value in small) / len(small))
    if not deviation:
        return None
    return [(value / largest - mean) / deviation if isfinite(value) else 0.0 for value in difficulties]
