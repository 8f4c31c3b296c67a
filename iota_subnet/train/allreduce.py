"""One shard of the Butterfly All-Reduce: robust mean of pseudo-gradients, then the outer step (design section 7).

Law: two machines that reduce the same contributions in the same order get the same bits. So there are only separate
additions, subtractions, multiplications, divisions and one square root, element by element, which IEEE 754 fixes
exactly: no matmul, no sum whose order a library may choose. Callers sort contributions by hotkey; this module takes
them as they come, because the order is part of the result.

Nothing can be fused: a multiply-add in one rounding needs both operations in one loop, and here each is a call of its
own of a numpy ufunc, whose loop does this one operation and stores its rounded result. Where squares are added, a fused
loop would not even matter: the square of a float32 is exact in float64. What a process can do is to round subnormal
numbers to zero (`torch.set_flush_denormal`, libraries built with -ffast-math); that is looked for and refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iota_subnet.spec import TrainSpec
from iota_subnet.train import blockwise, codec
from iota_subnet.train.codec import BLOCK, BadPayload, Floats, blocks

#: (verified backward passes, float32 [n]).
Contribution = tuple[int, Floats]

#: Lanes of `norm`.
LANES = 1 << 14

#: Integers up to here are exact in float32.
_TOTAL_MAX = 1 << 24


def encode_delta(values: Floats, train: TrainSpec) -> bytes:
    """One shard of a pseudo-gradient, float32 [n], as a blob of `delta_codec`. Raises BadPayload if not finite."""
    return _encode(values, train.delta_codec, train.topk, "pseudo-gradient")


def decode_delta(blob: bytes, size: int, train: TrainSpec, index: int = 0, out: Floats | None = None) -> Floats:
    """One shard of a pseudo-gradient, float32 [size], in `out` if given.

    Raises:
        BadPayload: for whatever is wrong, naming contribution `index`; `out` is then as it was.
    """
    return _decode(blob, size, train.delta_codec, train.topk, f"pseudo-gradient of contribution {index}", out)


class Delta(NamedTuple):
    """A contribution that was looked at: all of `values`, float32 [n], is finite; `norm` is 0 where it is of no use."""

    values: Floats
    norm: float


def read_delta(blob: bytes, size: int, train: TrainSpec, index: int = 0) -> Delta:
    """One shard of a pseudo-gradient, and its norm. Values of fp32 stay where they are, in `blob`.

    Raises:
        BadPayload: for whatever is wrong, naming contribution `index`.
    """
    what = f"pseudo-gradient of contribution {index}"
    if train.delta_codec != "fp32" or not train.delta_clip:
        values = _decode(blob, size, train.delta_codec, train.topk, what, None)
        return Delta(values, norm(values) if train.delta_clip else 0.0)
    values = codec.view(blob, size, what, finite=False)
    length = norm(values)
    if not math.isfinite(length):
        # Finite float32 squares have a finite sum in float64.
        wrong = int(np.count_nonzero(~np.isfinite(values)))
        raise BadPayload(f"{what}: {wrong} of {size} values are not finite")
    return Delta(values, length)


def encode_mean(values: Floats, train: TrainSpec) -> bytes:
    """The mean of one shard, float32 [n], as a blob of `mean_codec`. Raises BadPayload if not finite."""
    return _encode(values, train.mean_codec, 1.0, "mean")


def decode_mean(blob: bytes, size: int, train: TrainSpec) -> Floats:
    """The mean of one shard, float32 [size]. Raises BadPayload for whatever is wrong."""
    return _decode(blob, size, train.mean_codec, 1.0, "mean", None)


def mean(
    contributions: Sequence[Contribution],
    size: int,
    clip: float,
    trim: float,
    norms: Sequence[float] | None = None,
    out: Floats | None = None,
) -> Floats:
    """The robust mean of one shard, float32 [size].

    1. Clip: with N the `norm` of each contribution and M the upper median of these (sorted, number n // 2), whoever has
       N > clip * M is multiplied by float32(clip * M / N), in float64 up to there. Nobody is clipped if `clip` is 0, or
       if M is: where more than half are silent there is no measure, and the others' work must not be lost for it.
    2. Trim: of the n values of a coordinate the floor(trim * n) smallest and as many of the largest are left out;
       equal ones (0.0 and -0.0 are) stand in the order of their contributions.
    3. Mean: sum(count * value) / sum(count) over what is left, in float32, from +0.0, in the given order.

    `norms` are given by who knows them; the result is put into `out`, if given.

    Raises:
        BadPayload: no contribution, a count below 1, a wrong shape or dtype, or a value that is not finite.
        RuntimeError: this thread rounds subnormal numbers to zero.
    """
    _require_subnormals()
    total = sum(count for count, _ in contributions)
    if not contributions or total > _TOTAL_MAX:
        raise BadPayload(f"reduce: {len(contributions)} contributions with {total} passes cannot be averaged")
    for index, (count, delta) in enumerate(contributions):
        if count < 1:
            raise BadPayload(f"reduce: contribution {index} counts {count} passes; it needs at least 1")
        _check_shape(f"contribution {index}", delta, size)
    deltas = [delta for _, delta in contributions]
    factors = _clip_factors(deltas, clip, norms)
    cut = min(int(trim * len(contributions)), (len(contributions) - 1) // 2)
    counts = [np.float32(count) for count, _ in contributions]
    result: Floats = np.empty(size, np.float32) if out is None else out
    scratch: Floats = np.empty((2, min(BLOCK, size)), np.float32)
    finite = True
    with np.errstate(over="ignore", invalid="ignore"):
        for lo, hi in blocks(size):
            values = [
                delta[lo:hi] if factor is None else np.multiply(delta[lo:hi], factor)
                for delta, factor in zip(deltas, factors, strict=True)
            ]
            part, work = result[lo:hi], scratch[:, : hi - lo]
            if cut:
                _trimmed_mean(values, counts, cut, work, part)
            else:
                _plain_mean(values, counts, np.float32(total), work[0], part)
            finite = finite and bool(np.isfinite(part).all())
    if not finite:
        _check_contributions(deltas)
        raise BadPayload("reduce: mean has values that are not finite")
    return result


def outer_step(
    weights: Floats, momentum: Floats, mean: Floats, lr: float, mu: float, out: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """The outer step with Nesterov momentum on one shard; all vectors float32 [n].

    With g the mean: m' = mu m + g; w' = w - lr (g + mu m').

    Args:
        weights: global weights before the step.
        momentum: outer momentum before the step.
        mean: what `mean` gave.
        lr: outer learning rate.
        mu: outer momentum of this epoch.
        out: where to put the result, else into fresh memory.

    Returns:
        New weights and new momentum; the inputs are left as they were.

    Raises:
        BadPayload: a wrong shape or dtype, or the result is not finite.
        RuntimeError: this thread rounds subnormal numbers to zero.
    """
    _require_subnormals()
    size = weights.size
    for what, vector in (("weights", weights), ("momentum", momentum), ("mean", mean)):
        _check_shape(what, vector, size)
    rate, decay = np.float32(lr), np.float32(mu)
    new_weights, new_momentum = out or (np.empty(size, np.float32), np.empty(size, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        for lo, hi in blocks(size):
            w, m, g = new_weights[lo:hi], new_momentum[lo:hi], mean[lo:hi]
            np.multiply(momentum[lo:hi], decay, out=m)
            np.add(m, g, out=m)
            np.multiply(m, decay, out=w)
            np.add(w, g, out=w)
            np.multiply(w, rate, out=w)
            np.subtract(weights[lo:hi], w, out=w)
            # A momentum that is not finite makes such weights, whatever the rates: mu m' and the sum with it are not.
            if not np.isfinite(w).all():
                _check_finite("new momentum", m)
                _check_finite("new weights", w)
    return new_weights, new_momentum


def norm(values: Floats) -> float:
    """Euclidean norm of float32 [n], in float64, in one order of additions that every machine follows.

    Lane j of `LANES` adds up the squares of the values j, j + LANES, j + 2 LANES, ... from 0.0 in this order; then the
    upper half of the lanes is added to the lower half, until one is left; its square root is the norm.
    """
    lanes: npt.NDArray[np.float64] = np.zeros(LANES, np.float64)
    buffer: npt.NDArray[np.float64] = np.empty(LANES, np.float64)
    whole = values.size - values.size % LANES
    for row in values[:whole].reshape(-1, LANES):
        buffer[:] = row
        np.multiply(buffer, buffer, out=buffer)
        np.add(lanes, buffer, out=lanes)
    rest = values[whole:].astype(np.float64)
    lanes[: rest.size] += rest * rest
    half = LANES
    while half > 1:
        half //= 2
        np.add(lanes[:half], lanes[half : 2 * half], out=lanes[:half])
    return math.sqrt(lanes[0])


def _clip_factors(deltas: Sequence[Floats], clip: float, given: Sequence[float] | None) -> list[np.float32 | None]:
    """What each contribution is multiplied by; None is one. Raises BadPayload if a norm is not finite."""
    # Of two the larger is the upper median, and `clip` is at least 1: nobody can exceed it.
    if not clip or len(deltas) < 3:
        return [None] * len(deltas)
    norms = list(given) if given is not None else [norm(delta) for delta in deltas]
    if not all(map(math.isfinite, norms)):
        # Finite float32 squares have a finite sum in float64.
        _check_contributions(deltas)
    limit = clip * sorted(norms)[len(norms) // 2]
    return [np.float32(limit / length) if 0 < limit < length else None for length in norms]


def _plain_mean(
    values: Sequence[Floats], counts: Sequence[np.float32], total: np.float32, term: Floats, out: Floats
) -> None:
    np.multiply(values[0], counts[0], out=out)
    # As if begun from +0.0: -0.0 becomes +0.0.
    np.add(out, np.float32(0), out=out)
    for count, value in zip(counts[1:], values[1:], strict=True):
        np.multiply(value, count, out=term)
        np.add(out, term, out=out)
    np.divide(out, total, out=out)


def _trimmed_mean(
    values: Sequence[Floats], counts: Sequence[np.float32], cut: int, scratch: Floats, out: Floats
) -> None:
    """Ranks come from comparing all pairs: as n members share out a stage in n (n - 1) / 2 shards, that is one
    comparison per parameter of the stage for each of a pair, whatever n is."""
    n = len(values)
    kind = np.uint8 if n <= 256 else np.uint16
    ranks = [np.full(out.size, n - 1 - place, kind) for place in range(n)]
    before: npt.NDArray[np.bool_] = np.empty(out.size, np.bool_)
    for first in range(n):
        for second in range(first + 1, n):
            np.less_equal(values[first], values[second], out=before)
            np.add(ranks[second], before.view(np.uint8), out=ranks[second])
            np.subtract(ranks[first], before.view(np.uint8), out=ranks[first])
    kept, total = scratch
    total[:] = 0
    out[:] = 0
    for rank, count, value in zip(ranks, counts, values, strict=True):
        # Ranks are unsigned: one below `cut` wraps to a large one. What is left out adds 0 times itself, which changes
        # no sum that began from +0.0, and makes it NaN if it was not finite: that cannot hide.
        np.copyto(kept, np.less(np.subtract(rank, kind(cut), out=rank), kind(n - 2 * cut), out=before))
        np.multiply(kept, count, out=kept)
        np.add(total, kept, out=total)
        # Zero or the count; the product with a finite value that is left out is zero, not NaN.
        np.multiply(value, kept, out=kept)
        np.add(out, kept, out=out)
    np.divide(out, total, out=out)


def _encode(values: Floats, kind: str, share: float, what: str) -> bytes:
    data = np.ascontiguousarray(values, np.float32)
    if kind == "int8":
        return blockwise.encode_int8(data, what)
    if kind == "topk":
        return blockwise.encode_topk(data, share, what)
    return codec.encode(data, "fp32" if kind == "fp32" else "bf16", what)


def _decode(blob: bytes, size: int, kind: str, share: float, what: str, out: Floats | None) -> Floats:
    if kind == "int8":
        return blockwise.decode_int8(blob, size, what, out)
    if kind == "topk":
        return blockwise.decode_topk(blob, size, share, what, out)
    if kind == "fp32" and out is None:
        return codec.view(blob, size, what, finite=True)
    return codec.decode(blob, (size,), "fp32" if kind == "fp32" else "bf16", what, out)


def _require_subnormals() -> None:
    least = np.array([1], np.uint32).view(np.float32)
    if np.multiply(least, np.float32(1)).view(np.uint32)[0] != 1:
        raise RuntimeError(
            "this thread rounds subnormal numbers to zero, so that it would merge to other bits than other machines; "
            "do not call torch.set_flush_denormal, nor load libraries that do it"
        )


def _check_shape(what: str, values: Floats, size: int) -> None:
    if values.dtype != np.float32 or values.shape != (size,):
        raise BadPayload(f"reduce: {what} is {values.dtype} {list(values.shape)}, not float32 [{size}]")


def _check_contributions(deltas: Sequence[Floats]) -> None:
    for index, delta in enumerate(deltas):
        _check_finite(f"contribution {index}", delta)


def _check_finite(what: str, values: Floats) -> None:
    if not codec.is_finite(values):
        raise BadPayload(f"reduce: {what} has values that are not finite")
