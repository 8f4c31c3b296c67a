"""The boundary codecs: what they lose, what they need, and that the parameter table says what torch builds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from iota_subnet.model.bottleneck import CODECS, basis
from iota_subnet.model.parameters import BOUNDARIES, parameter_count, parameters
from iota_subnet.model.stage import Stage, flat_size, init_stage
from iota_subnet.spec import ModelSpec, SpecError

DESIGNS = list(CODECS)
SMALL = ModelSpec("small", 64, 32, 4, 4, 2, 48, 16, stages=3, bottleneck=8)


def model_of(design: str, **changes: int) -> ModelSpec:
    return dataclasses.replace(SMALL, boundary_codec=design, **changes)


def tokens_of(model: ModelSpec) -> Tensor:
    return torch.randint(0, model.vocab, (2, model.seq), generator=torch.Generator().manual_seed(0))


def run(stages: list[Stage], tokens: Tensor) -> list[Tensor]:
    """What each stage gives on."""
    x, made = tokens, []
    for stage in stages:
        x = stage(x, tokens)
        made.append(x)
    return made


def test_both_tables_name_the_same_codecs() -> None:
    assert CODECS.keys() == BOUNDARIES.keys()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("bottleneck", [0, 1, 8, 32])
def test_the_table_lists_what_torch_builds(design: str, bottleneck: int) -> None:
    model = model_of(design, bottleneck=bottleneck)
    for index in range(model.stages):
        stage = Stage(model, index)
        assert [(n, tuple(p.shape)) for n, p in stage.named_parameters()] == [
            (p.name, p.shape) for p in parameters(model, index)
        ]
        assert flat_size(stage) == parameter_count(model, index)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_parameter_has_a_gradient_and_no_position_sees_the_next(design: str) -> None:
    model = model_of(design)
    stages = [init_stage(Stage(model, index), seed=1) for index in range(3)]
    tokens = tokens_of(model)
    *narrow, logits = run(stages, tokens)
    assert [tuple(z.shape) for z in narrow] == [(2, 16, 8)] * 2
    logits.square().mean().backward()
    for stage in stages:
        for name, p in stage.named_parameters():
            assert p.grad is not None and float(p.grad.abs().max()) > 0, name
    changed = tokens.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % model.vocab
    assert torch.allclose(run(stages, changed)[-1][:, :10], logits[:, :10], atol=1e-5)


def test_the_subspace_codec_loses_nothing() -> None:
    model = model_of("subspace")
    first, second = (init_stage(Stage(model, index), seed=1) for index in (0, 1))
    tokens = tokens_of(model)
    seen: list[Tensor] = []
    for stage in (first, second):
        # What the encoder is given, and what the next decoder makes of what it sends.
        stage.exit.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    restored = second.entry(first(tokens, tokens), tokens)
    assert float((restored - seen[0]).abs().max().detach()) < 1e-5
    second(first(tokens, tokens), tokens)
    third = Stage(model, 2)
    restored = third.entry(second.exit(seen[-1], tokens), tokens)
    assert float((restored - seen[-1]).abs().max().detach()) < 1e-5


def test_the_basis_is_orthonormal_and_the_same_for_all() -> None:
    model = model_of("subspace")
    u = basis(model)
    assert torch.allclose(u.T @ u, torch.eye(8), atol=1e-6)
    assert torch.equal(u, basis(dataclasses.replace(model, stages=2)))


@pytest.mark.parametrize("design", ["resbm+tokens", "subspace"])
def test_missing_ids_are_named(design: str) -> None:
    stage = init_stage(Stage(model_of(design), 1), seed=0)
    with pytest.raises(ValueError, match="needs the token ids"):
        stage(torch.zeros(1, 4, 8))


@pytest.mark.parametrize("design", DESIGNS)
def test_without_a_bottleneck_a_codec_changes_nothing(design: str) -> None:
    plain, named = (model_of(name, bottleneck=0) for name in ("resbm", design))
    tokens = tokens_of(plain)
    results = [run([init_stage(Stage(m, index), seed=1) for index in range(3)], tokens)[-1] for m in (plain, named)]
    assert torch.equal(*results)


def test_an_unknown_codec_is_refused_with_the_choice() -> None:
    with pytest.raises(SpecError, match=r"choose one of resbm, resbm\+tokens, subspace$"):
        model_of("zip")
