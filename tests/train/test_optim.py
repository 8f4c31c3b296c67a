"""Schedules, clipping shares, and our AdamW against torch's."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import torch

from iota_subnet.model.parameters import parameter_count
from iota_subnet.model.stage import Stage, bind_flat, init_stage
from iota_subnet.spec import ModelSpec, TrainSpec
from iota_subnet.train.optim import AdamW, clip_norm, learning_rate
from tests.train.conftest import SMALL


def test_learning_rate() -> None:
    train = TrainSpec(lr=1.0, lr_min=0.1, warmup=10, decay=110)
    assert learning_rate(train, 0) == pytest.approx(0.1)
    assert learning_rate(train, 9) == learning_rate(train, 10) == 1.0
    assert learning_rate(train, 60) == pytest.approx(0.55)
    assert learning_rate(train, 110) == learning_rate(train, 10_000) == pytest.approx(0.1)
    falling = [learning_rate(train, step) for step in range(10, 111)]
    assert falling == sorted(falling, reverse=True)
    assert learning_rate(TrainSpec(lr=1.0, warmup=0, decay=0), 1) == TrainSpec().lr_min


def test_the_stages_clips_add_up_to_the_models() -> None:
    train = TrainSpec(clip=2.0)
    for model in (SMALL, ModelSpec(), ModelSpec(stages=1)):
        squares = [clip_norm(train, model, stage) ** 2 for stage in range(model.stages)]
        assert math.sqrt(sum(squares)) == pytest.approx(2.0)
        assert squares[0] / sum(squares) == pytest.approx(
            parameter_count(model, 0) / sum(parameter_count(model, s) for s in range(model.stages))
        )


def test_adamw_equals_torchs() -> None:
    train = dataclasses.replace(TrainSpec(), weight_decay=0.3)
    ours, theirs = (init_stage(Stage(SMALL, 1), seed=0) for _ in range(2))
    weights, _ = bind_flat(ours)
    mine = AdamW(train, SMALL, 1, weights)
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    norms = [p for p in theirs.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": norms, "weight_decay": 0.0}]
    torchs = torch.optim.AdamW(groups, lr=1e-2, betas=train.betas)
    for step in range(5):
        gradient = torch.randn(weights.numel(), generator=torch.Generator().manual_seed(step))
        at = 0
        for p in theirs.parameters():
            p.grad = gradient[at : at + p.numel()].view_as(p)
            at += p.numel()
        torchs.step()
        mine.step(gradient, 1e-2)
    expected = torch.cat([p.detach().flatten() for p in theirs.parameters()])
    assert torch.allclose(weights, expected, atol=1e-6)


def test_reset_forgets() -> None:
    gradient = torch.ones(parameter_count(SMALL, 1))
    results = []
    for warm in (True, False):
        weights, _ = bind_flat(init_stage(Stage(SMALL, 1), seed=0))
        adam = AdamW(TrainSpec(), SMALL, 1, weights)
        if warm:
            start = weights.clone()
            adam.step(-gradient, 1e-2)
            adam.reset()
            weights.copy_(start)
        adam.step(gradient, 1e-2)
        results.append(weights)
    assert torch.equal(*results)


def test_a_runner_imports_no_heavy_library() -> None:
    code = (
        "import sys; from iota_subnet.train.runner import StageRunner, initial_state\n"
        "from iota_subnet.train import codec; from iota_subnet.spec import RunSpec\n"
        "import numpy as np; spec = RunSpec(); r = StageRunner(spec, 0)\n"
        "r.install(0, [(0, r.parameters, *initial_state(spec, 0))])\n"
        "shape = (spec.train.microbatch, spec.model.seq)\n"
        "tokens = codec.tokens_to_bytes(np.zeros((shape[0], shape[1] + 1), np.int32))\n"
        "grad = np.ones((*shape, spec.model.boundary), np.float32)\n"
        "r.forward(0, tokens); r.backward(0, tokens, codec.encode(grad, spec.train.activation_codec))\n"
        "assert r.batches == 1\n"
        "print([m for m in ('transformers', 'datasets', 'torch._dynamo', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_validators_half_needs_no_torch() -> None:
    code = (
        "import sys; import iota_subnet.train.data, iota_subnet.train.state, iota_subnet.model.parameters\n"
        "print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
