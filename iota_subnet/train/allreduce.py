"""One shard of the Butterfly All-Reduce: weighted mean of pseudo-gradients, then the outer step (design section 7).

Law: two machines that reduce the same contributions in the same order get the same bits. So there are only separate
float32 additions, multiplications and divisions, element by element, which IEEE 754 fixes exactly: no fused
multiply-add, no matmul, no sum whose order a library may choose. Callers sort contributions by hotkey; this module
takes them as they come, because the order is part of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iota_subnet.spec import Codec
from iota_subnet.train import codec as wire
from iota_subnet.train.codec import BadPayload, Floats

#: Integers up to here are exact in float32.
_TOTAL_MAX = 1 << 24


def encode_delta(values: Floats, codec: Codec) -> bytes:
    """One shard of a pseudo-gradient, float32 [n], as a blob. Raises BadPayload if a value is not finite."""
    return wire.encode(values, codec, "pseudo-gradient")


def decode_delta(blob: bytes, size: int, codec: Codec, index: int = 0) -> Floats:
    """One shard of a pseudo-gradient, float32 [size]. Raises BadPayload, naming contribution `index`, for all else."""
    return wire.decode(blob, (size,), codec, f"pseudo-gradient of contribution {index}")


def weighted_mean(contributions: Sequence[tuple[int, Floats]], size: int) -> Floats:
    """sum(count * delta) / sum(count), float32 [size], accumulated in the given order.

    Raises:
        BadPayload: no contribution, a count below 1, a wrong shape or dtype, or a value that is not finite.
    """
    total = sum(count for count, _ in contributions)
    if not contributions or total > _TOTAL_MAX:
        raise BadPayload(f"reduce: {len(contributions)} contributions with {total} passes cannot be averaged")
    accumulated: Floats = np.zeros(size, np.float32)
    for index, (count, delta) in enumerate(contributions):
        if count < 1:
            raise BadPayload(f"reduce: contribution {index} counts {count} passes; it needs at least 1")
        _check(f"contribution {index}", delta, size)
        np.add(accumulated, np.multiply(delta, np.float32(count)), out=accumulated)
    return np.divide(accumulated, np.float32(total), out=accumulated)


def reduce_shard(
    weights: Floats, momentum: Floats, contributions: Sequence[tuple[int, Floats]], lr: float, mu: float
) -> tuple[Floats, Floats]:
    """The outer step with Nesterov momentum on one shard; all vectors float32 [n].

    With g the weighted mean: m' = mu m + g; w' = w - lr (g + mu m').

    Args:
        weights: global weights before the step.
        momentum: outer momentum before the step.
        contributions: (verified backward passes, global minus local weights), sorted by the caller.
        lr: outer learning rate.
        mu: outer momentum of this epoch.

    Returns:
        New weights and new momentum; the inputs are left as they were.

    Raises:
        BadPayload: as `weighted_mean`, or the result is not finite.
    """
    size = weights.size
    _check("weights", weights, size)
    _check("momentum", momentum, size)
    rate, decay = np.float32(lr), np.float32(mu)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = weighted_mean(contributions, size)
        new_momentum = np.add(np.multiply(momentum, decay), mean)
        step = np.multiply(np.add(np.multiply(new_momentum, decay), mean), rate)
        new_weights = np.subtract(weights, step)
    _check("new momentum", new_momentum, size)
    _check("new weights", new_weights, size)
    return new_weights, new_momentum


def _check(what: str, values: Floats, size: int) -> None:
    if values.dtype != np.float32 or values.shape != (size,):
        raise BadPayload(f"reduce: {what} is {values.dtype} {list(values.shape)}, not float32 [{size}]")
    if not np.isfinite(values).all():
        raise BadPayload(f"reduce: {what} has values that are not finite")
