"""Small runs that every test of this package shares."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from iota_subnet.spec import ModelSpec, RunSpec, TrainSpec
from iota_subnet.train import codec

SMALL = ModelSpec(vocab=64, dim=32, blocks=3, heads=4, kv_heads=2, ffn=48, seq=16, stages=3, bottleneck=8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_spec(model: dict[str, Any] | None = None, **train: object) -> RunSpec:
    """A run that takes milliseconds; exact codecs unless asked otherwise."""
    exact = dict(microbatch=2, accumulate=2, activation_codec="fp32", delta_codec="fp32", warmup=2)
    return RunSpec(model=dataclasses.replace(SMALL, **(model or {})), train=TrainSpec(**(exact | train)))


def token_blob(spec: RunSpec, n: int) -> bytes:
    """Microbatch `n` of made-up tokens."""
    shape = (spec.train.microbatch, spec.model.seq + 1)
    return codec.tokens_to_bytes(np.random.default_rng(n).integers(0, spec.model.vocab, shape).astype(np.int32))
