"""The runtime's I32F32 arithmetic on plain integers: a number is its value times 2^32, every step truncates.

Vectors are lists of such integers; a sparse matrix is a list of rows, a row a list of ``(column, value)``. Everything
here is nonnegative unless said otherwise, so that no step can overflow the 31 integer bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Vector: TypeAlias = list[int]
SparseRow: TypeAlias = list[tuple[int, int]]
Matrix: TypeAlias = list[SparseRow]

BITS = 32
ONE = 1 << BITS
U16 = 65535
_EXP_TERMS = 32
_EXP_LIMIT = 20 << BITS


def from_u16(value: int) -> int:
    """65535 is 1."""
    return (value << BITS) // U16


def to_u16(value: int) -> int:
    """1 is 65535; larger values saturate."""
    return min(value * U16 >> BITS, U16)


def mul(a: int, b: int) -> int:
    """Rounds down, also below zero."""
    return a * b >> BITS


def div(a: int, b: int) -> int:
    """0 for a zero divisor; rounds towards zero, as the runtime does."""
    if b == 0:
        return 0
    quotient = (abs(a) << BITS) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def exp(value: int) -> int:
    """e to the power of ``value`` (any sign), by the Taylor sum of the runtime; the argument is kept within -20..20."""
    value = max(-_EXP_LIMIT, min(_EXP_LIMIT, value))
    if value == 0:
        return ONE
    operand = abs(value)
    term, total = operand, operand + ONE
    for i in range(2, _EXP_TERMS):
        term = mul(term, operand) // i
        total += term
    return total if value > 0 else div(ONE, total)


def normalized(vector: Sequence[int]) -> Vector:
    """Divided by the sum; as it is when the sum is zero."""
    total = sum(vector)
    return [(value << BITS) // total for value in vector] if total else list(vector)


def upscaled_to_u16(vector: Sequence[int]) -> list[int]:
    """Scaled so that the largest is 65535; the one place where the runtime rounds to the nearest."""
    peak = max(vector, default=0)
    if peak == 0:
        return [0] * len(vector)
    return [(((value * U16) << BITS) // peak + ONE // 2) >> BITS for value in vector]


def rows_normalized(matrix: Matrix) -> Matrix:
    """Every row divided by its sum; empty and zero rows stay."""
    result: Matrix = []
    for row in matrix:
        total = sum(value for _, value in row)
        result.append([(j, (value << BITS) // total) for j, value in row] if total else row)
    return result


def _columns_divided(matrix: Matrix, divisors: Vector) -> Matrix:
    return [[(j, (value << BITS) // divisors[j]) if divisors[j] else (j, value) for j, value in row] for row in matrix]


def columns_normalized(matrix: Matrix) -> Matrix:
    """Every column divided by its sum."""
    sums = [0] * len(matrix)
    for row in matrix:
        for j, value in row:
            sums[j] += value
    return _columns_divided(matrix, sums)


def columns_upscaled(matrix: Matrix) -> Matrix:
    """Every column divided by its largest value."""
    peaks = [0] * len(matrix)
    for row in matrix:
        for j, value in row:
            peaks[j] = max(peaks[j], value)
    return _columns_divided(matrix, peaks)


def column_products(matrix: Matrix, vector: Vector) -> Vector:
    """Sum over i of ``matrix[i][j] * vector[i]`` for every column j."""
    result = [0] * len(matrix)
    for row, factor in zip(matrix, vector, strict=True):
        if factor:
            for j, value in row:
                result[j] += factor * value >> BITS
    return result


def row_products(matrix: Matrix, vector: Vector) -> Vector:
    """Sum over j of ``matrix[i][j] * vector[j]`` for every row i."""
    return [sum(vector[j] * value >> BITS for j, value in row) for row in matrix]


def rows_scaled(matrix: Matrix, vector: Vector) -> Matrix:
    """Row i times ``vector[i]``."""
    pairs = zip(matrix, vector, strict=True)
    return [[(j, value * factor >> BITS) for j, value in row] if factor else [] for row, factor in pairs]


def columns_clipped(matrix: Matrix, limits: Vector) -> Matrix:
    """Values of column j cut to ``limits[j]``; what becomes zero goes."""
    return [[(j, clipped) for j, value in row if (clipped := min(value, limits[j]))] for row in matrix]


def interpolated(first: Matrix, second: Matrix, ratio: int) -> Matrix:
    """``first + ratio * (second - first)``; what becomes zero goes. Columns of ``second`` are also in ``first``."""
    if ratio == 0:
        return first
    if ratio == ONE:
        return second
    result: Matrix = []
    for row, other in zip(first, second, strict=True):
        others = dict(other)
        mixed = ((j, value + mul(ratio, others.get(j, 0) - value)) for j, value in row)
        result.append([(j, value) for j, value in mixed if value > 0])
    return result


def moving_average(fresh: Matrix, old: Matrix, alpha: int) -> Matrix:
    """``alpha * fresh + (1 - alpha) * old`` with sorted columns; what becomes zero goes."""
    keep = ONE - alpha
    result: Matrix = []
    for new_row, old_row in zip(fresh, old, strict=True):
        mixed = {j: alpha * value >> BITS for j, value in new_row}
        for j, value in old_row:
            mixed[j] = mixed.get(j, 0) + (keep * value >> BITS)
        result.append([(j, mixed[j]) for j in sorted(mixed) if mixed[j] > 0])
    return result
