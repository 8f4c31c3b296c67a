"""A stage's global state (weights, outer momentum) as bytes. No torch: the validator keeps and recomputes it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from iota_subnet.model.parameters import initial_vector
from iota_subnet.spec import RunSpec, TrainSpec
from iota_subnet.train import allreduce, codec
from iota_subnet.train.codec import BadPayload, Floats

#: (lo, hi, fp32 weights blob, fp32 momentum blob) of the slice [lo, hi) of a stage's flat vector.
Shard = tuple[int, int, bytes, bytes]


class ReducedShard(NamedTuple):
    """What a reducer publishes: the mean, and what the outer step makes of it."""

    mean: bytes
    weights: bytes
    momentum: bytes


def outer_momentum(train: TrainSpec, epoch: int) -> float:
    """Outer momentum at the end of epoch 0, 1, ...: linear from its start value over `outer_warmup` epochs."""
    done = min(1.0, epoch / train.outer_warmup) if train.outer_warmup > 0 else 1.0
    return train.outer_momentum_start + (train.outer_momentum - train.outer_momentum_start) * done


def initial_state(spec: RunSpec, stage: int) -> tuple[bytes, bytes]:
    """The state before epoch 0: weights drawn from the seed and zero momentum, fp32 blobs of the whole stage."""
    weights = initial_vector(spec.model, stage, spec.seed)
    return pack_state(weights, np.zeros_like(weights))


def pack_state(weights: Floats, momentum: Floats) -> tuple[bytes, bytes]:
    """Weights and momentum, each float32 [n], as fp32 blobs."""
    return codec.encode(weights, "fp32", "weights"), codec.encode(momentum, "fp32", "momentum")


def unpack_state(shards: Sequence[Shard], size: int) -> tuple[Floats, Floats]:
    """Weights and momentum [size] from shards in any order.

    Raises:
        BadPayload: the shards do not cover [0, size) exactly, or one is malformed.
    """
    weights: Floats = np.empty(size, np.float32)
    momentum: Floats = np.empty(size, np.float32)
    at = 0
    for lo, hi, weights_blob, momentum_blob in sorted(shards, key=lambda shard: shard[:2]):
        if lo != at or not lo <= hi <= size:
            raise BadPayload(f"install: shard [{lo}, {hi}) does not continue at {at} of {size}")
        weights[lo:hi] = codec.decode(weights_blob, (hi - lo,), "fp32", f"weights [{lo}, {hi})")
        momentum[lo:hi] = codec.decode(momentum_blob, (hi - lo,), "fp32", f"momentum [{lo}, {hi})")
        at = hi
    if at != size:
        raise BadPayload(f"install: shards end at {at} of {size}")
    return weights, momentum


def state_digest(weights: Floats, momentum: Floats) -> str:
    """blake3 of the weights' and momentum's little-endian float32 bytes, one after the other."""
    return codec.digest(weights.astype("<f4", copy=False).tobytes() + momentum.astype("<f4", copy=False).tobytes())


def reduce_blobs(
    train: TrainSpec, epoch: int, weights: Floats, momentum: Floats, contributions: Sequence[tuple[int, bytes]]
) -> ReducedShard:
    """The outer step of `epoch` on one shard, from pseudo-gradient blobs to fp32 blobs of new weights and momentum.

    Raises:
        BadPayload: a malformed contribution, or as `allreduce.reduce_shard`.
    """
    deltas = [
        (count, allreduce.decode_delta(blob, weights.size, train.delta_codec, index))
        for index, (count, blob) in enumerate(contributions)
    ]
    mu = outer_momentum(train, epoch)
    mean = codec.encode(allreduce.weighted_mean(deltas, weights.size), "fp32", "mean")
    return ReducedShard(mean, *pack_state(*allreduce.reduce_shard(weights, momentum, deltas, train.outer_lr, mu)))


def step_blobs(train: TrainSpec, epoch: int, weights: Floats, momentum: Floats, mean: bytes) -> tuple[bytes, bytes]:
    """The outer step of `epoch` on one shard from the mean alone."""
    given = [(1, codec.decode(mean, weights.shape, "fp32", "mean"))]
    return pack_state(*allreduce.reduce_shard(weights, momentum, given, train.outer_lr, outer_momentum(train, epoch)))
