"""What is trained on from a folder of transformers is the folder's model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iota_subnet.model.hf import to_iota
from iota_subnet.model.importing import model_of, tokenizer_of, weights_digest, weights_of
from iota_subnet.model.stage import Stage, init_stage
from iota_subnet.spec import ModelSpec, RunSpec, SpecError
from iota_subnet.train.evaluate import chain
from tests.model.llama import a_llama


@torch.no_grad()
def logits(model: ModelSpec, weights: list[Any], tokens: Tensor) -> Tensor:
    x = tokens
    for stage in chain(model, weights):
        x = stage(x)
    return x


def tokens_of(model: ModelSpec) -> Tensor:
    return torch.randint(0, model.vocab, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("changes", "stages", "split"),
    [
        ({}, 1, "auto"),
        ({}, 3, "auto"),
        ({}, 3, "1,1,3"),
        ({"tie_word_embeddings": True}, 2, "even"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rms_norm_eps": 1e-3}, 2, "auto"),
        ({"dtype": "bfloat16"}, 2, "auto"),
    ],
)
def test_a_llama_keeps_its_logits_however_it_is_cut(
    tmp_path: Path, changes: dict[str, Any], stages: int, split: str
) -> None:
    llama = a_llama(tmp_path, **changes)
    model = model_of(tmp_path, stages, split=split)
    assert (model.stages, model.bottleneck, model.blocks, model.seq) == (stages, 0, 5, 64)
    tokens = tokens_of(model)
    with torch.no_grad():
        theirs = llama.float()(tokens).logits
    assert torch.allclose(logits(model, weights_of(tmp_path, model, 0), tokens), theirs, atol=1e-5)


def test_an_exported_model_is_cut_where_it_was(tmp_path: Path) -> None:
    shape = ModelSpec("x", 256, 32, 5, 4, 2, 48, 64, stages=3, bottleneck=8, split=(1, 3, 1))
    stages = [init_stage(Stage(shape, index), 4) for index in range(3)]
    to_iota(stages, shape).save_pretrained(tmp_path)
    model = model_of(tmp_path)
    assert replace(model, preset="x") == shape and replace(model_of(tmp_path, 3, 8), preset="x") == shape
    tokens, x = tokens_of(model), tokens_of(model)
    with torch.no_grad():
        for stage in stages:
            x = stage(x)
    assert torch.equal(logits(model, weights_of(tmp_path, model, 0), tokens), x)
    with pytest.raises(SpecError, match="stages=2"):
        model_of(tmp_path, 2)
    with pytest.raises(SpecError, match="bottleneck=4"):
        model_of(tmp_path, 3, 4)


def test_new_bottlenecks_are_drawn_from_the_seed(tmp_path: Path) -> None:
    a_llama(tmp_path)
    model = model_of(tmp_path, 2, bottleneck=8)
    first, again, other = (weights_of(tmp_path, model, seed) for seed in (1, 1, 2))
    assert weights_digest(first) == weights_digest(again) != weights_digest(other)
    assert all(vector.dtype == np.float32 for vector in first)


def test_a_long_context_is_cut_to_what_is_asked(tmp_path: Path) -> None:
    a_llama(tmp_path, max_position_embeddings=131_072)
    assert model_of(tmp_path).seq == 1024 and model_of(tmp_path, seq=128).seq == 128


def test_the_digest_names_the_weights_in_the_specification(tmp_path: Path) -> None:
    a_llama(tmp_path)
    model = model_of(tmp_path, 2)
    named = weights_digest(weights_of(tmp_path, model, 0))
    assert weights_digest(weights_of(tmp_path, model_of(tmp_path, 1), 0)) == named, "the cut does not count"
    spec = RunSpec(model=model, init=named)
    assert RunSpec.from_json(spec.to_json()) == spec and spec.digest() != RunSpec(model=model).digest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention_bias": True}, "biases"),
        ({"mlp_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"head_dim": 16}, "16 wide"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "scaled"),
    ],
)
def test_a_llama_that_ours_cannot_express_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    a_llama(tmp_path, **changes)
    with pytest.raises(SpecError, match=words):
        model_of(tmp_path)


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: edited(f, intermediate_size=64), "gate_proj"),
        (lambda f: edited(f, num_hidden_layers=6), "no tensor model.layers.5"),
        (lambda f: edited(f, vocab_size="many"), "vocab_size"),
        (lambda f: edited(f, model_type="gpt2"), "gpt2"),
        (lambda f: (f / "model.safetensors").unlink(), "safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"junk" * 9), "cannot be read"),
        (lambda f: (f / "config.json").write_text("["), "not JSON"),
        (lambda f: (f / "config.json").unlink(), "give a folder of transformers"),
    ],
)
def test_a_folder_that_does_not_fit_is_told_why(tmp_path: Path, break_it: Any, words: str) -> None:
    a_llama(tmp_path)
    break_it(tmp_path)
    with pytest.raises(SpecError, match=words):
        weights_of(tmp_path, model_of(tmp_path, 2), 0)


def test_the_tokenizer_is_the_folders_own(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path) == "bytes"
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert tokenizer_of(tmp_path) == str(tmp_path)
    (tmp_path / "iota.json").write_text(json.dumps({"spec": {"data": {"tokenizer": "bytes"}}}))
    assert tokenizer_of(tmp_path) == "bytes"
