"""The merge in plain Python: no numpy, every single operation rounded to float32 by `struct`.

One float64 operation on float32 values, rounded once more to float32, is the correctly rounded float32 result: float64
has more than twice the digits. CPython keeps each operation apart, so nothing is fused here.
"""

from __future__ import annotations

import math
import struct

from iota_subnet.train.allreduce import LANES

#: (count, values) of one contributor.
Given = tuple[int, list[float]]


def f32(value: float) -> float:
    """`value` rounded to float32, ties to even; too large is infinite."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def packed(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def norm(values: list[float]) -> float:
    lanes = [0.0] * LANES
    for place, value in enumerate(values):
        lanes[place % LANES] += value * value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [low + high for low, high in zip(lanes[:half], lanes[half:], strict=True)]
    return math.sqrt(lanes[0])


def clipped(contributions: list[Given], clip: float) -> list[Given]:
    if not clip:
        return contributions
    norms = [norm(values) for _, values in contributions]
    limit = clip * sorted(norms)[len(norms) // 2]
    result = []
    for (count, values), length in zip(contributions, norms, strict=True):
        if limit > 0 and length > limit:
            values = [f32(value * f32(limit / length)) for value in values]
        result.append((count, values))
    return result


def mean(contributions: list[Given], clip: float, trim: float) -> list[float]:
    given = clipped(contributions, clip)
    cut = math.floor(trim * len(given))
    result = []
    for i in range(len(given[0][1])):
        order = sorted(range(len(given)), key=lambda place, i=i: (given[place][1][i], place))
        kept = set(order[cut : len(given) - cut])
        total, count_sum = 0.0, 0
        for place, (count, values) in enumerate(given):
            if place in kept:
                total = f32(total + f32(values[i] * count))
                count_sum += count
        result.append(f32(total / count_sum))
    return result


def outer_step(
    weights: list[float], momentum: list[float], mean: list[float], lr: float, mu: float
) -> tuple[list[float], list[float]]:
    lr, mu = f32(lr), f32(mu)
    new_weights, new_momentum = [], []
    for w, m, g in zip(weights, momentum, mean, strict=True):
        m = f32(f32(m * mu) + g)
        new_momentum.append(m)
        new_weights.append(f32(w - f32(f32(f32(m * mu) + g) * lr)))
    return new_weights, new_momentum


def quantised(values: list[float], scale: float) -> list[int]:
    if scale == 0:
        return [0] * len(values)
    return [max(-127, min(127, round(f32(value / scale)))) for value in values]


def int8(values: list[float], block: int) -> tuple[list[float], list[int]]:
    """Scales and values of codec int8."""
    scales, encoded = [], []
    for lo in range(0, len(values), block):
        part = values[lo : lo + block]
        scales.append(f32(max(map(abs, part)) / 127))
        encoded += quantised(part, scales[-1])
    return scales, encoded


def topk(values: list[float], block: int, share: float) -> tuple[list[float], list[int], list[int]]:
    """Scales, places and values of codec topk."""
    scales, places, encoded = [], [], []
    for lo in range(0, len(values), block):
        part = values[lo : lo + block]
        largest = sorted(range(len(part)), key=lambda place, part=part: (-abs(part[place]), place))
        kept = sorted(largest[: math.ceil(len(part) * share)])
        scales.append(f32(max(map(abs, part)) / 127))
        places += kept
        encoded += quantised([part[place] for place in kept], scales[-1])
    return scales, places, encoded
