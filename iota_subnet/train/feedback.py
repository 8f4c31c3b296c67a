"""What a replica publishes of its epoch, and what it keeps of it: error feedback and the carry.

Error feedback, for the lossy codecs int8 and topk: with d the pseudo-gradient and r what earlier epochs left,
x = d + r is encoded, and x minus what its readers decode is left for the next epoch. r begins at zero.

Carry: passes that were run after the commit are not lost when the merged state comes. With v the local weights at the
commit, u those now and w the new global weights, the local weights become w + (u - v), in float32, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from iota_subnet.spec import TrainSpec
from iota_subnet.train import allreduce, codec
from iota_subnet.train.codec import Floats, blocks
from iota_subnet.train.pieces import Pieces


class Commit(NamedTuple):
    """What was so when a pseudo-gradient was published: local weights, backward passes, and what it leaves behind.

    `weights` is None as long as the local ones are still those.
    """

    weights: Floats | None
    batches: int
    residual: Floats | None


def publish(
    train: TrainSpec, start: Pieces, weights: Floats, residual: Floats | None, bounds: Sequence[tuple[int, int]]
) -> tuple[list[bytes], Floats | None]:
    """The pseudo-gradient `start` - `weights` in blobs, one per slice, and the residual that they leave, None if exact.

    The codec bf16 rounds too, but to nearest and by 2^-9 at most: it has no residual.

    Raises:
        BadPayload: a value is not finite after rounding. No argument is changed.
    """
    if train.delta_codec == "fp32":
        return [_exact(start[lo:hi], weights[lo:hi]) for lo, hi in bounds], None
    delta: Floats = np.empty_like(weights)
    for lo, part in start:
        np.subtract(part, weights[lo : lo + part.size], out=delta[lo : lo + part.size])
    lossy = train.delta_codec in ("int8", "topk")
    if lossy and residual is not None:
        np.add(delta, residual, out=delta)
    blobs = [allreduce.encode_delta(delta[lo:hi], train) for lo, hi in bounds]
    if not lossy:
        return blobs, None
    for (lo, hi), blob in zip(bounds, blobs, strict=True):
        np.subtract(delta[lo:hi], allreduce.decode_delta(blob, hi - lo, train), out=delta[lo:hi])
    return blobs, delta


def _exact(start: Floats, weights: Floats) -> bytes:
    """The difference, written where the blob will be."""
    draft = codec.Draft(start.size)
    with np.errstate(over="ignore", invalid="ignore"):
        for lo, hi in blocks(start.size):
            np.subtract(start[lo:hi], weights[lo:hi], out=draft.values[lo:hi])
            if not np.isfinite(draft.values[lo:hi]).all():
                raise codec.BadPayload("pseudo-gradient: there are values that are not finite")
    return draft.finish()


def rebase(weights: Pieces, commit: Commit, now: Floats) -> tuple[Floats, Floats] | None:
    """(w + c, c) with w the new global `weights` and c = `now` minus the weights at `commit`; None if not finite."""
    before = now if commit.weights is None else commit.weights
    carry, local = np.empty_like(now), np.empty_like(now)
    with np.errstate(over="ignore", invalid="ignore"):
        for lo, hi in blocks(now.size):
            np.subtract(now[lo:hi], before[lo:hi], out=carry[lo:hi])
            np.add(weights[lo:hi], carry[lo:hi], out=local[lo:hi])
    return (local, carry) if codec.is_finite(local) else None
