"""A stage's global state (weights, outer momentum) as bytes. No torch: the validator keeps and recomputes it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from iota_subnet.model.parameters import initial_vector
from iota_subnet.spec import RunSpec, TrainSpec
from iota_subnet.train import allreduce, codec
from iota_subnet.train.allreduce import Delta
from iota_subnet.train.codec import BadPayload, Draft, Floats
from iota_subnet.train.pieces import Pieces

#: (lo, hi, fp32 weights blob, fp32 momentum blob) of the slice [lo, hi) of a stage's flat vector.
Shard = tuple[int, int, bytes, bytes]


class ReducedShard(NamedTuple):
    """What a reducer makes of one shard: the mean as it is published, and the fp32 blobs that follow from it."""

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


def view_state(
    shards: Sequence[Shard], size: int, known: Mapping[tuple[int, int], tuple[bytes, bytes]] | None = None
) -> tuple[Pieces, Pieces]:
    """Weights and momentum [size] from shards in any order; the values stay where they are, in the blobs.

    `known` are weights and momentum by slice that the caller has made and found finite: these very objects, and no
    others, are not looked through again.

    Raises:
        BadPayload: the shards do not cover [0, size) exactly, or one is malformed.
    """
    weights: list[Floats] = []
    momentum: list[Floats] = []
    at = 0
    for lo, hi, weights_blob, momentum_blob in sorted(shards, key=lambda shard: shard[:2]):
        if lo != at or not lo <= hi <= size:
            raise BadPayload(f"install: shard [{lo}, {hi}) does not continue at {at} of {size}")
        made = (known or {}).get((lo, hi), (b"", b""))
        seen = made[0] is weights_blob and made[1] is momentum_blob
        weights.append(codec.view(weights_blob, hi - lo, f"weights [{lo}, {hi})", finite=not seen))
        momentum.append(codec.view(momentum_blob, hi - lo, f"momentum [{lo}, {hi})", finite=not seen))
        at = hi
    if at != size:
        raise BadPayload(f"install: shards end at {at} of {size}")
    return Pieces(weights), Pieces(momentum)


def unpack_state(shards: Sequence[Shard], size: int) -> tuple[Floats, Floats]:
    """As `view_state`, each in one array of its own."""
    weights, momentum = view_state(shards, size)
    return np.array(weights), np.array(momentum)


def state_digest(weights: Floats | Pieces, momentum: Floats | Pieces) -> str:
    """blake3 of the weights' and momentum's little-endian float32 bytes, one after the other."""
    vectors = (vector[lo:hi] for vector in (weights, momentum) for lo, hi in codec.blocks(vector.size))
    return codec.digest(*(vector.astype("<f4", copy=False) for vector in vectors))


def reduce_blobs(
    train: TrainSpec, epoch: int, weights: Floats, momentum: Floats, contributions: Sequence[tuple[int, bytes | Delta]]
) -> ReducedShard:
    """Mean and outer step of `epoch` on one shard, from pseudo-gradients: blobs, or what `allreduce.read_delta` made.

    The step uses the mean as it is after encoding, so that `step_blobs` of the published mean gives the same bits.

    Raises:
        BadPayload: a malformed contribution, or as `allreduce.mean` and `allreduce.outer_step`.
    """
    size = weights.size
    deltas = [
        (count, given if isinstance(given, Delta) else allreduce.read_delta(given, size, train, index))
        for index, (count, given) in enumerate(contributions)
    ]
    vectors = [(count, delta.values) for count, delta in deltas]
    norms = [delta.norm for _, delta in deltas]
    draft = Draft(size)
    allreduce.mean(vectors, size, train.delta_clip, train.delta_trim, norms, draft.values)
    if train.mean_codec == "fp32":
        made = _step(train, epoch, weights, momentum, draft.values)
        return ReducedShard(draft.finish(), *made)
    mean = allreduce.encode_mean(draft.values, train)
    return ReducedShard(mean, *step_blobs(train, epoch, weights, momentum, mean))


def step_blobs(train: TrainSpec, epoch: int, weights: Floats, momentum: Floats, mean: bytes) -> tuple[bytes, bytes]:
    """The outer step of `epoch` on one shard with a published mean: fp32 blobs of new weights and new momentum.

    Raises:
        BadPayload: a malformed mean, or a result that is not finite.
    """
    if train.mean_codec == "fp32":
        # Not asked to be finite: no step with a mean that is not could be.
        values = codec.view(mean, weights.size, "mean", finite=False)
    else:
        values = allreduce.decode_mean(mean, weights.size, train)
    return _step(train, epoch, weights, momentum, values)


def _step(train: TrainSpec, epoch: int, weights: Floats, momentum: Floats, mean: Floats) -> tuple[bytes, bytes]:
    new_weights, new_momentum = Draft(weights.size), Draft(weights.size)
    made = new_weights.values, new_momentum.values
    allreduce.outer_step(weights, momentum, mean, train.outer_lr, outer_momentum(train, epoch), made)
    del made
    return new_weights.finish(), new_momentum.finish()
