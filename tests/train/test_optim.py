"""Schedules, clipping shares, and our AdamW and Muon against torch's."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import torch

from iota_subnet.model.parameters import parameter_count, parameters
from iota_subnet.model.stage import Stage, bind_flat, init_stage
from iota_subnet.spec import ModelSpec, TrainSpec
from iota_subnet.train.optim import AdamW, Muon, clip_norm, is_muons, learning_rate, make, orthogonalise
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
    weights = bind_flat(ours)
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
        mine.step(weights, gradient, 1e-2)
    expected = torch.cat([p.detach().flatten() for p in theirs.parameters()])
    assert torch.allclose(weights, expected, atol=1e-6)


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


def muon_of(train: TrainSpec, index: int) -> tuple[Muon, torch.Tensor]:
    weights = bind_flat(init_stage(Stage(SMALL, index), seed=0))
    return Muon(train, SMALL, index, weights), weights


@pytest.mark.parametrize("shape", [(32, 32), (8, 32), (48, 8), (1, 16)])
def test_orthogonalised_singular_values_are_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    made = u.T @ orthogonalise(matrix) @ v.T
    assert 0.6 < float(made.diagonal().min()) and float(made.diagonal().max()) < 1.3
    assert float((made - made.diagonal().diag()).abs().max()) < 1e-4
    assert torch.equal(orthogonalise(torch.zeros(shape)), torch.zeros(shape))


def test_muon_is_torchs_but_for_bfloat16() -> None:
    train = dataclasses.replace(TrainSpec(), weight_decay=0.3, optimiser="muon", betas=(0.9, 0.95))
    mine, weights = muon_of(train, 1)
    start = weights.clone()
    theirs = init_stage(Stage(SMALL, 1), seed=0)
    named = dict(theirs.named_parameters())
    matrices = [p for p in named.values() if p.ndim == 2]
    norms = [p for p in named.values() if p.ndim == 1]
    assert len(matrices) == 11
    moved = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    others = torch.optim.AdamW(norms, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(5):
        gradient = torch.randn(weights.numel(), generator=torch.Generator().manual_seed(step))
        at = 0
        for p in theirs.parameters():
            p.grad = gradient[at : at + p.numel()].view_as(p)
            at += p.numel()
        moved.step()
        others.step()
        mine.step(weights, gradient, 1e-2)
    flat = torch.cat([p.detach().flatten() for p in theirs.parameters()])
    # bfloat16 has 8 bits, and five products of it are made one after the other.
    assert float((weights - flat).norm() / (flat - start).norm()) < 0.03
    at = 0
    for p in theirs.parameters():
        if p.ndim == 1:
            assert torch.allclose(weights[at : at + p.numel()], p.detach(), atol=1e-6)
        at += p.numel()


def test_muon_moves_every_matrix_by_the_same_root_mean_square() -> None:
    train = dataclasses.replace(TrainSpec(), weight_decay=0.0, optimiser="muon", muon_rms=0.5)
    for index in range(SMALL.stages):
        mine, weights = muon_of(train, index)
        start = weights.clone()
        mine.step(weights, torch.randn(weights.numel(), generator=torch.Generator().manual_seed(0)), 1e-2)
        at = 0
        for p in parameters(SMALL, index):
            moved = (weights - start)[at : at + p.size]
            at += p.size
            if is_muons(p):
                assert float(moved.square().mean().sqrt()) == pytest.approx(0.5e-2, rel=0.25), p.name


def test_muon_leaves_tables_of_tokens_and_norms_to_adamw() -> None:
    model = dataclasses.replace(SMALL, boundary_codec="resbm+tokens")
    named = {p.name: is_muons(p) for index in range(3) for p in parameters(model, index)}
    assert {name for name, mine in named.items() if not mine and "norm" not in name} == {
        "embed.weight",
        "head.weight",
        "decoders.0.tokens.weight",
        "decoders.1.tokens.weight",
    }
    assert named["encoders.0.out.weight"] and named["decoders.1.hidden.weight"]
    assert not any(mine for name, mine in named.items() if "norm" in name)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_reset_optimiser_is_a_new_one(name: str) -> None:
    train = dataclasses.replace(TrainSpec(), optimiser=name)
    gradient = torch.randn(parameter_count(SMALL, 0), generator=torch.Generator().manual_seed(0))
    results = []
    for warm in (True, False):
        weights = bind_flat(init_stage(Stage(SMALL, 0), seed=0))
        optimiser = make(train, SMALL, 0, weights)
        if warm:
            start = weights.clone()
            optimiser.step(weights, -gradient, 1e-2)
            optimiser.reset()
            weights.copy_(start)
        optimiser.step(weights, gradient, 1e-2)
        results.append(weights)
    assert torch.equal(*results)
