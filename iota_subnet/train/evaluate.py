"""Held-out loss of a whole model, computed as the swarm computes it: boundary values go through the wire's codec."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from iota_subnet.model.stage import Stage, load_flat
from iota_subnet.spec import ModelSpec, RunSpec
from iota_subnet.train import activations, codec
from iota_subnet.train.codec import BadPayload, Floats


def chain(model: ModelSpec, weights: Sequence[Floats]) -> list[Stage]:
    """All stages with these flat vectors, each float32 [P].

    Raises:
        BadPayload: not one vector per stage, or one of the wrong length.
    """
    if len(weights) != model.stages:
        raise BadPayload(f"evaluate: {len(weights)} weight vectors for {model.stages} stages")
    stages = [Stage(model, index) for index in range(model.stages)]
    for stage, vector in zip(stages, weights, strict=True):
        try:
            load_flat(stage, torch.from_numpy(vector))
        except ValueError as error:
            raise BadPayload(f"evaluate: {error}") from None
    return stages


@torch.no_grad()
def evaluate(spec: RunSpec, weights: Sequence[Floats], blobs: Sequence[bytes]) -> float:
    """Mean loss in nats per token over the token blobs [B, T+1].

    Raises:
        BadPayload: malformed weights or tokens, no blob, or a boundary value that is not finite.
    """
    stages = chain(spec.model, weights)
    losses = [_loss(spec, stages, blob) for blob in blobs]
    if not losses:
        raise BadPayload("evaluate: no held-out tokens")
    return sum(losses) / len(losses)


def _loss(spec: RunSpec, stages: Sequence[Stage], blob: bytes) -> float:
    shape = (spec.train.microbatch, spec.model.seq + 1)
    tokens = torch.from_numpy(codec.bytes_to_tokens(blob, shape, spec.model.vocab)).long()
    x: Tensor = tokens[:, :-1]
    for stage in stages:
        x = stage(x, tokens[:, :-1])
        if not stage.is_tail:
            x = torch.from_numpy(activations.round_trip(spec, x.numpy()))
    return float(F.cross_entropy(x.flatten(0, 1), tokens[:, 1:].flatten()))
