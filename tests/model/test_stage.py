"""The chained stages are Llama when nothing is compressed, and start near the identity path when something is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from iota_subnet.model.bottleneck import Decoder, Encoder
from iota_subnet.model.hf import llama_names, to_llama
from iota_subnet.model.stage import Stage, init_stage
from iota_subnet.spec import ModelSpec, SpecError


def small(**changes: int) -> ModelSpec:
    values = dict(vocab=64, dim=32, blocks=4, heads=4, kv_heads=2, ffn=48, seq=16, stages=3, bottleneck=8)
    return ModelSpec(**(values | changes))


def chain(stages: list[Stage], tokens: Tensor) -> Tensor:
    x = tokens
    for stage in stages:
        x = stage(x)
    return x


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_split_model_equals_llama(stages: int, kv_heads: int) -> None:
    model = small(stages=stages, kv_heads=kv_heads, bottleneck=0)
    ours = [init_stage(Stage(model, index), seed=1) for index in range(stages)]
    llama = to_llama(ours, model)
    tokens = torch.randint(0, model.vocab, (3, model.seq), generator=torch.Generator().manual_seed(0))
    logits, theirs = chain(ours, tokens), llama(tokens).logits
    assert relative(logits, theirs) < 1e-5
    for result in (logits, theirs):
        F.cross_entropy(result[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    gradients = dict(llama.named_parameters())
    names = llama_names(model)
    seen = {name: p.grad for stage in ours for name, p in stage.named_parameters()}
    assert seen.keys() == names.keys()
    for name, gradient in seen.items():
        assert relative(gradient, gradients[names[name]].grad) < 1e-5, name


def test_one_stage_ignores_the_bottleneck() -> None:
    model = small(stages=1)
    to_llama([init_stage(Stage(model, 0), seed=1)], model)


def test_llama_cannot_express_a_bottleneck() -> None:
    model = small()
    with pytest.raises(SpecError, match="no Llama"):
        to_llama([Stage(model, index) for index in range(3)], model)


@pytest.mark.parametrize("bottleneck", [0, 8, 32])
def test_shapes_at_every_boundary(bottleneck: int) -> None:
    model = small(bottleneck=bottleneck)
    stages = [init_stage(Stage(model, index), seed=1) for index in range(3)]
    x = torch.zeros(2, 5, dtype=torch.int64)
    for stage in stages[:-1]:
        x = stage(x)
        assert x.shape == (2, 5, model.boundary)
    assert stages[-1](x).shape == (2, 5, model.vocab)


def test_bottleneck_starts_near_the_identity_path() -> None:
    model = small()
    sender, receiver = (init_stage(Stage(model, index), seed=1) for index in (0, 1))
    encoder, decoder = sender.exit, receiver.entry
    assert isinstance(encoder, Encoder) and isinstance(decoder, Decoder)
    x = torch.randn(2, 5, model.dim, generator=torch.Generator().manual_seed(0))
    z = encoder(x)
    assert relative(z, x[..., :8]) < 0.2
    restored = decoder(z)
    assert restored.shape == x.shape
    assert relative(restored[..., :8], x[..., :8]) < 0.3
    assert float(restored[..., 8:].abs().mean().detach()) < 0.3


def test_attention_is_causal() -> None:
    model = small()
    stages = [init_stage(Stage(model, index), seed=1) for index in range(3)]
    tokens = torch.randint(0, model.vocab, (1, model.seq), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 10:] = (changed[0, 10:] + 1) % model.vocab
    a, b = chain(stages, tokens), chain(stages, changed)
    assert torch.allclose(a[:, :10], b[:, :10], atol=1e-6)
    assert not torch.allclose(a[:, 10:], b[:, 10:], atol=1e-3)


def test_too_long_a_sequence_is_named() -> None:
    with pytest.raises(ValueError, match="sequence length 16"):
        init_stage(Stage(small(), 0), seed=1)(torch.zeros(1, 17, dtype=torch.int64))
