"""What crosses a boundary: its size is as the spec promises, it is safetensors, its ids and values are checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch

from iota_subnet.spec import INT8_BLOCK, ModelSpec, RunSpec, TrainSpec
from iota_subnet.train import activations, codec
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.runner import StageRunner, initial_state
from tests.train.conftest import small_spec, token_blob

KINDS = ("fp32", "bf16", "int8")


def values_of(spec: RunSpec, seed: int = 0) -> np.ndarray:
    shape = (spec.train.microbatch, spec.model.seq, spec.model.boundary)
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def ids_of(spec: RunSpec) -> np.ndarray:
    shape = (spec.train.microbatch, spec.model.seq)
    return np.random.default_rng(0).integers(0, spec.model.vocab, shape).astype(np.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [64, 50_000, 128_256])
def test_round_trip_with_and_without_ids(kind: str, vocab: int) -> None:
    spec = small_spec({"vocab": vocab}, activation_codec=kind)
    values, ids = values_of(spec), ids_of(spec)
    for given in (None, ids):
        blob = activations.encode(spec, values, "activation", given)
        back, found = activations.decode(spec, blob, "activation", given is not None)
        assert np.array_equal(back, activations.round_trip(spec, values)) and back.shape == values.shape
        assert found is None if given is None else np.array_equal(found, ids)
        assert np.abs(back - values).max() < {"fp32": 1e-9, "bf16": 0.02, "int8": 0.03}[kind]
        assert activations.encode(spec, back, "activation", given) == blob


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [64, 50_000, 128_256])
def test_blobs_with_ids_are_what_the_library_writes(kind: str, vocab: int) -> None:
    spec = small_spec({"vocab": vocab}, activation_codec=kind)
    blob = activations.encode(spec, values_of(spec), "activation", ids_of(spec))
    assert safetensors.torch.save(safetensors.torch.load(blob)) == blob


@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_is_refused_in_any_other_form(kind: str) -> None:
    spec = small_spec(activation_codec=kind)
    plain, with_ids = (activations.encode(spec, values_of(spec), "it", ids) for ids in (None, ids_of(spec)))
    for blob, wanted in ((plain, True), (with_ids, False), (plain[:-1], False), (with_ids + b"0", True), (b"", True)):
        with pytest.raises(BadPayload):
            activations.decode(spec, blob, "it", wanted)
    wide = dataclasses.replace(spec, model=dataclasses.replace(spec.model, vocab=32))
    with pytest.raises(BadPayload, match=r"ids must lie in 0\.\.31"):
        activations.decode(wide, with_ids, "it", True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_sent(kind: str, value: float) -> None:
    spec = small_spec(activation_codec=kind)
    values = values_of(spec)
    values[0, 3, 1] = value
    with pytest.raises(BadPayload, match="activation of"):
        activations.encode(spec, values, "activation of stage 0")


@pytest.mark.parametrize("design", ["resbm", "resbm+tokens", "subspace"])
@pytest.mark.parametrize("ratio", [1, 2, 4, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_bytes_on_the_wire_of_a_real_microbatch(design: str, ratio: int, kind: str) -> None:
    model = ModelSpec("wide", 256, 128, 3, 4, 2, 48, 32, stages=3, bottleneck=128 // ratio, boundary_codec=design)
    spec = RunSpec(model=model, train=TrainSpec(microbatch=2, activation_codec=kind))
    runners = [StageRunner(spec, stage) for stage in range(3)]
    for runner in runners:
        runner.install(0, [(0, runner.parameters, *initial_state(spec, runner.stage))])
    text, tokens = token_blob(spec, 0), 2 * 32
    first = runners[0].forward(0, text)
    second = runners[1].forward(0, first)
    back = runners[2].forward_backward(0, second, text)[0]
    sent = [(first, tokens if design != "resbm" else 0), (second, 0), (back, 0)]
    sent.append((runners[1].backward(0, first, back), 0))
    values = tokens * (128 // ratio)
    for blob, ids in sent:
        body = 2 * values if kind == "bf16" else values + 4 * -(-values // INT8_BLOCK)
        assert body + ids < len(blob) <= body + ids + 300


def test_ids_reach_every_stage_and_only_they_make_the_difference() -> None:
    spec = small_spec({"boundary_codec": "resbm+tokens"})
    runners = [StageRunner(spec, stage) for stage in range(3)]
    for runner in runners:
        runner.install(0, [(0, runner.parameters, *initial_state(spec, runner.stage))])
    text = token_blob(spec, 0)
    first = runners[0].forward(0, text)
    values, ids = activations.decode(spec, first, "activation", True)
    known = codec.bytes_to_tokens(text, (spec.train.microbatch, spec.model.seq + 1), spec.model.vocab)
    assert np.array_equal(ids, known[:, :-1])
    other = activations.encode(spec, values, "activation", (ids + 1) % spec.model.vocab)
    assert runners[1].forward(0, first) != runners[1].forward(0, other)


@pytest.mark.parametrize("design", ["resbm", "resbm+tokens", "subspace"])
@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_pass_that_is_computed_again_without_its_graph_gives_the_same_bytes(design: str, kind: str) -> None:
    spec = small_spec({"boundary_codec": design}, activation_codec=kind)
    made = []
    for graphs in (0, 2):
        runners = [StageRunner(spec, stage, max_graphs=graphs) for stage in range(3)]
        for runner in runners:
            runner.install(0, [(0, runner.parameters, *initial_state(spec, runner.stage))])
        text = token_blob(spec, 0)
        first = runners[0].forward(0, text)
        second = runners[1].forward(0, first)
        back, losses = runners[2].forward_backward(0, second, text)
        made.append((first, second, back, losses, runners[1].backward(0, first, back)))
    assert made[0] == made[1]
    assert torch.isfinite(torch.tensor(made[0][3])).all()
