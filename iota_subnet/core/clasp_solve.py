"""Symmetric positive definite systems in plain Python: exactly by Cholesky, or by conjugate gradients when many.

`fsum` throughout: the built-in `sum` of floats differs between versions of Python, and a replay must agree to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum, sqrt
from operator import mul

#: Conjugate gradients stop when the residual has fallen to this share, or after so many steps.
ACCURACY = 1e-5
STEPS = 200


def cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """The lower triangle L with L L' = matrix, which must be positive definite."""
    factor: list[list[float]] = []
    for i, given in enumerate(matrix):
        row: list[float] = []
        for j in range(i):
            # `map` ends with the shorter one: the j values that `row` has so far.
            row.append((given[j] - fsum(map(mul, row, factor[j]))) / factor[j][j])
        row.append(sqrt(given[i] - fsum(map(mul, row, row))))
        factor.append(row)
    return factor


def forward(factor: list[list[float]], b: Sequence[float]) -> list[float]:
    """x with L x = b."""
    x: list[float] = []
    for row, value in zip(factor, b, strict=True):
        x.append((value - fsum(map(mul, x, row))) / row[-1])
    return x


def backward(factor: list[list[float]], b: Sequence[float]) -> list[float]:
    """x with L' x = b."""
    x = list(b)
    for i in range(len(factor) - 1, -1, -1):
        x[i] /= factor[i][i]
        for j in range(i):
            x[j] -= factor[i][j] * x[i]
    return x


def conjugate(
    times: Callable[[Sequence[float]], list[float]], diagonal: Sequence[float], b: Sequence[float]
) -> list[float]:
    """x with matrix x = b to `ACCURACY`, by conjugate gradients scaled with the diagonal; `times(x)` is matrix x.

    Random routing leaves the scaled matrix near the identity, so that a handful of steps is enough.
    """
    x = [0.0] * len(b)
    rest = list(b)
    scaled = [r / d for r, d in zip(rest, diagonal, strict=True)]
    direction = scaled
    size = fsum(map(mul, rest, scaled))
    goal = size * ACCURACY * ACCURACY
    for _ in range(STEPS):
        if size <= goal:
            break
        image = times(direction)
        step = size / fsum(map(mul, direction, image))
        x = [value + step * d for value, d in zip(x, direction, strict=True)]
        rest = [value - step * i for value, i in zip(rest, image, strict=True)]
        scaled = [r / d for r, d in zip(rest, diagonal, strict=True)]
        former, size = size, fsum(map(mul, rest, scaled))
        direction = [s + size / former * d for s, d in zip(scaled, direction, strict=True)]
    return x
