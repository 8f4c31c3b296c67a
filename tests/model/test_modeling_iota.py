"""The model that travels with the weights is the one that was trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from iota_subnet.model.hf import to_iota, to_transformers
from iota_subnet.model.stage import Stage, init_stage
from iota_subnet.spec import ModelSpec, SpecError

SMALL = ModelSpec(vocab=64, dim=32, blocks=5, heads=4, kv_heads=2, ffn=48, seq=16, stages=3, bottleneck=8)
TOKENS = replace(SMALL, boundary_codec="resbm+tokens")
SUBSPACE = replace(SMALL, boundary_codec="subspace")
MODELS = [SMALL, replace(SMALL, split=(3, 1, 1)), replace(SMALL, stages=5, bottleneck=32), replace(SMALL, kv_heads=4)]
CODECS = [SMALL, TOKENS, SUBSPACE]


def stages_of(model: ModelSpec) -> list[Stage]:
    """With weights as after some training: at the start encoders and decoders add next to nothing."""
    generator = torch.Generator().manual_seed(5)
    stages = [init_stage(Stage(model, index), seed=1) for index in range(model.stages)]
    with torch.no_grad():
        for p in (p for stage in stages for p in stage.parameters()):
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)
    return stages


def chained(stages: list[Stage], tokens: Tensor) -> Tensor:
    x = tokens
    for stage in stages:
        x = stage(x, tokens)
    return x


def tokens_of(model: ModelSpec, rows: int = 3, length: int = 16) -> Tensor:
    return torch.randint(1, model.vocab, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", [*MODELS, TOKENS, SUBSPACE, replace(SUBSPACE, stages=2)])
@torch.no_grad()
def test_logits_are_those_of_the_stages(model: ModelSpec) -> None:
    stages, tokens = stages_of(model), tokens_of(model)
    assert float((to_iota(stages, model)(tokens).logits - chained(stages, tokens)).abs().max()) <= 1e-5


@pytest.mark.parametrize("model", CODECS)
def test_gradients_are_those_of_the_stages(model: ModelSpec) -> None:
    stages, tokens = stages_of(model), tokens_of(model)
    iota = to_iota(stages, model)
    iota(tokens, labels=tokens).loss.backward()
    torch.nn.functional.cross_entropy(chained(stages, tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    theirs = dict(iota.named_parameters())
    for name, p in (pair for stage in stages for pair in stage.named_parameters()):
        assert torch.allclose(theirs[name].grad, p.grad, atol=1e-5), name


@pytest.mark.parametrize("model", CODECS)
@torch.no_grad()
def test_token_by_token_with_a_cache_gives_the_same_logits(model: ModelSpec) -> None:
    iota, tokens = to_iota(stages_of(model), model).eval(), tokens_of(model)
    whole, cache, parts = iota(tokens).logits, None, []
    for at in range(tokens.shape[1]):
        out = iota(tokens[:, at : at + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        parts.append(out.logits)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


@torch.no_grad()
def test_generation_goes_on_as_the_stages_would() -> None:
    stages = stages_of(SMALL)
    iota = to_iota(stages, SMALL).eval()
    made = tokens_of(SMALL, 1, 4)
    said = iota.generate(made, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    for _ in range(8):
        made = torch.cat((made, chained(stages, made)[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(said, made)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing() -> None:
    iota = to_iota(stages_of(SMALL), SMALL).eval()
    short, long = tokens_of(SMALL, 1, 5), tokens_of(SMALL, 1, 9)
    batch = torch.cat((torch.cat((torch.zeros(1, 4, dtype=torch.int64), short), dim=1), long))
    mask = torch.ones_like(batch)
    mask[0, :4] = 0
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    both = iota.generate(batch, attention_mask=mask, **options)
    assert torch.equal(both[0, 4:], iota.generate(short, **options)[0])
    assert torch.equal(both[1], iota.generate(long, **options)[0])


def test_a_boundary_that_reads_tokens_is_not_fed_embeddings_alone() -> None:
    for model in (TOKENS, SUBSPACE):
        with pytest.raises(ValueError, match="input_ids"):
            to_iota(stages_of(model), model)(inputs_embeds=torch.zeros(1, 4, model.dim))


def test_which_class_follows_from_the_bottleneck() -> None:
    for model, name in (
        (SMALL, "IotaForCausalLM"),
        (replace(SMALL, bottleneck=0), "LlamaForCausalLM"),
        (replace(SMALL, stages=1), "LlamaForCausalLM"),
    ):
        assert type(to_transformers(stages_of(model), model)).__name__ == name


def test_a_bottleneck_that_the_file_does_not_know_is_refused_and_not_left_out() -> None:
    stages = stages_of(SMALL)
    stages[0].exit.register_parameter("gain", torch.nn.Parameter(torch.ones(1)))
    with pytest.raises(SpecError, match="modeling_iota"):
        to_iota(stages, SMALL)
    with pytest.raises(SpecError, match="in order"):
        to_iota(stages[1:], SMALL)
