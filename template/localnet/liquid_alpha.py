"""Liquid alpha of Yuma3: how fast a bond follows its weight depends on how far it lies from the consensus."""

from __future__ import annotations

from template.localnet import fixed
from template.localnet.fixed import ONE, Matrix, Vector


def liquid_alpha(consensus: int, weight: int, bond: int, low: int, high: int, steepness: int) -> int:
    """Share of the new weight in the bond, between ``low`` and ``high``; all I32F32, ``steepness`` in hundredths.

    A bond being bought looks at weight - consensus, one being sold at bond - weight.
    """
    difference = weight - consensus if weight >= bond else bond - weight
    difference = max(0, min(ONE, difference))
    slope = fixed.div(steepness << fixed.BITS, -100 << fixed.BITS)
    sigmoid = fixed.div(ONE, ONE + fixed.exp(fixed.mul(slope, difference - ONE // 2)))
    return max(low, min(high, low + fixed.mul(sigmoid, high - low)))


def liquid_average(weights: Matrix, bonds: Matrix, consensus: Vector, low: int, high: int, steepness: int) -> Matrix:
    """Moving average of bonds towards weights, each with its own alpha; a bond never exceeds 1."""
    result: Matrix = []
    for new_row, old_row in zip(weights, bonds, strict=True):
        new, old = dict(new_row), dict(old_row)
        row = []
        for j in sorted(new.keys() | old.keys()):
            weight, bond = new.get(j, 0), old.get(j, 0)
            alpha = liquid_alpha(consensus[j], weight, bond, low, high, steepness)
            kept = fixed.mul(ONE - alpha, bond)
            value = kept + min(fixed.mul(alpha, weight), ONE - kept)
            if value > 0:
                row.append((j, value))
        result.append(row)
    return result
