"""How far two vectors are apart, and what is too far.

Law: every measure is a number that is larger when it is worse, and never NaN, so that nothing passes a limit by not
being a number. Error alone does not do: a gradient times 0.5 has the right direction, and one that is lost in noise may
have the right length. So there are three: error, angle, and the ratio of norms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iota_subnet.train.codec import Floats, blocks
from iota_subnet.train.order import Check

#: The largest number in a finding; JSON has no infinity.
MOST = 1e9


class Distance(NamedTuple):
    """|theirs - ours| / |ours|; 1 - cosine; the larger norm divided by the smaller one."""

    error: float
    angle: float
    norm: float


SAME = Distance(0.0, 0.0, 1.0)


@dataclass
class Sums:
    """Sums over two finite vectors that come in parts, in float64."""

    theirs: float = 0.0
    ours: float = 0.0
    product: float = 0.0
    gap: float = 0.0

    def add(self, theirs: Floats, ours: Floats) -> None:
        """One part of each, of the same shape."""
        told, known = theirs.reshape(-1), ours.reshape(-1)
        for lo, hi in blocks(told.size):
            a, b = told[lo:hi].astype(np.float64), known[lo:hi].astype(np.float64)
            self.theirs += _dot(a, a)
            self.ours += _dot(b, b)
            self.product += _dot(a, b)
            a -= b
            self.gap += _dot(a, a)

    def distance(self) -> Distance:
        """Zeros are as far as can be from what is not zero."""
        if self.gap == 0:
            return SAME
        if self.theirs == 0 or self.ours == 0:
            return Distance(1.0 if self.theirs == 0 else MOST, 1.0, MOST)
        cosine = self.product / math.sqrt(self.theirs) / math.sqrt(self.ours)
        ratio = math.sqrt(self.theirs / self.ours)
        return Distance(bounded(math.sqrt(self.gap / self.ours)), max(0.0, 1 - cosine), bounded(max(ratio, 1 / ratio)))


def bounded(value: float) -> float:
    """The value, within `MOST` of zero; what is no number is `MOST`."""
    return max(-MOST, min(value, MOST)) if value == value else MOST


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """By numpy itself: the threads of its library of linear algebra cost more than they save, on a busy machine 100
    times as much."""
    return float(np.einsum("i,i->", a, b))


@dataclass(frozen=True)
class Limits:
    """What an honest replica on another device may come to, and a cheat seldom does not.

    From `benchmarks/replay_noise.py`, with docs/audits.md for the distributions on both sides: at least 3 times what
    honest replicas in bfloat16 came to in their worst epoch, most of them 5 to 50 times. No GPU took part yet. `error`
    and `norm` are of activations and input gradients, `worst` of one pass and `typical` the median over an epoch's
    passes, which is only looked at from `enough` passes on. `loss` is in nats per token, of one sample; `loss_mean` of
    all samples of the epoch, with their signs, so that noise cancels and a steady lie does not. `delta_*` are of the
    pseudo-gradient.
    """

    output_worst: float = 0.2
    output_typical: float = 0.03
    output_norm: float = 1.1
    gradient_worst: float = 0.25
    gradient_typical: float = 0.05
    gradient_norm: float = 1.1
    loss: float = 0.1
    loss_mean: float = 0.01
    delta_angle: float = 0.02
    delta_norm: float = 1.1
    enough: int = 5


LIMITS = Limits()

#: What a check that failed says; `at` is a pass.
WORDS = {
    "output error": "output of {at} differs by {value} relative",
    "output error, median": "outputs differ by {value} relative, in the median of all passes",
    "output norm": "output of {at} has a norm that is off by a factor of {value}",
    "gradient error": "input gradient of {at} differs by {value} relative",
    "gradient error, median": "input gradients differ by {value} relative, in the median of all passes",
    "gradient norm": "input gradient of {at} has a norm that is off by a factor of {value}",
    "loss": "a loss of {at} is off by {value} nats",
    "loss, mean": "losses are off by {value} nats, in the mean of all passes",
    "pseudo-gradient angle": "the pseudo-gradient has another direction: 1 - cosine is {value}",
    "pseudo-gradient norm": "the pseudo-gradient has a norm that is off by a factor of {value}",
}


@dataclass
class Series:
    """One measure over the passes of an epoch."""

    values: list[tuple[float, int]] = field(default_factory=list)

    def add(self, value: float, place: int) -> None:
        """One measured value; `place` is the pass that it was measured at."""
        self.values.append((value, place))

    def worst(self, what: str, limit: float) -> Check:
        """The largest value against `limit`, with its place."""
        value, place = max(self.values, key=lambda pair: pair[0])
        return check(what, value, limit, place)

    def typical(self, what: str, limit: float) -> Check:
        """The median against `limit`."""
        return check(what, median(value for value, _ in self.values), limit)


def check(what: str, value: float, limit: float, place: int = -1) -> Check:
    """`bad` if the value is above the limit, or no number."""
    value = bounded(value)
    return Check(what, value, limit, place, value > limit)


class Tally:
    """All comparisons of an audit, and the checks that they come to."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._error = {"output": Series(), "gradient": Series()}
        self._norm = {"output": Series(), "gradient": Series()}
        self._loss, self._gaps = Series(), list[float]()
        self._delta: Distance | None = None

    def vector(self, kind: str, distance: Distance, place: int) -> None:
        """An activation (`kind` "output") or an input gradient ("gradient")."""
        self._error[kind].add(distance.error, place)
        self._norm[kind].add(distance.norm, place)

    def losses(self, gaps: Sequence[float], place: int) -> None:
        """Theirs minus ours, of each sample of a pass."""
        bound = [bounded(gap) for gap in gaps]
        self._gaps += bound
        self._loss.add(max(map(abs, bound)), place)

    def delta(self, distance: Distance) -> None:
        """The pseudo-gradient as a whole."""
        self._delta = distance

    def checks(self) -> tuple[Check, ...]:
        """The worst of each kind that was compared."""
        limits, found = self._limits, list[Check]()
        for kind in ("output", "gradient"):
            error, norm = self._error[kind], self._norm[kind]
            if error.values:
                found.append(error.worst(f"{kind} error", getattr(limits, f"{kind}_worst")))
                if len(error.values) >= limits.enough:
                    found.append(error.typical(f"{kind} error, median", getattr(limits, f"{kind}_typical")))
                found.append(norm.worst(f"{kind} norm", getattr(limits, f"{kind}_norm")))
        if self._gaps:
            found.append(self._loss.worst("loss", limits.loss))
            if len(self._loss.values) >= limits.enough:
                found.append(check("loss, mean", abs(math.fsum(self._gaps)) / len(self._gaps), limits.loss_mean))
        if self._delta is not None:
            found.append(check("pseudo-gradient angle", self._delta.angle, limits.delta_angle))
            found.append(check("pseudo-gradient norm", self._delta.norm, limits.delta_norm))
        return tuple(found)

    def false(self) -> list[int]:
        """Passes that are bad by themselves, in their order."""
        limits = self._limits
        all_of = [(self._loss, limits.loss)]
        for kind in ("output", "gradient"):
            all_of.append((self._error[kind], getattr(limits, f"{kind}_worst")))
            all_of.append((self._norm[kind], getattr(limits, f"{kind}_norm")))
        return sorted({place for series, limit in all_of for value, place in series.values if bounded(value) > limit})

    def explain(self, bad: Check, name: Callable[[int], str]) -> str:
        """One line for the miner; `name` gives a pass in words."""
        at = name(bad.place) if bad.place >= 0 else ""
        return f"{WORDS[bad.what].format(at=at, value=f'{bad.value:.3g}')}; limit {bad.limit:.3g}"
