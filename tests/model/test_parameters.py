"""Names, shapes and first values agree with torch's modules, and never depend on who builds them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from iota_subnet.model.parameters import initial_vector, parameter_count, parameters
from iota_subnet.model.stage import Stage, bind_flat, flat_size, flatten, init_stage, load_flat, views
from iota_subnet.spec import PRESETS, ModelSpec

SMALL = ModelSpec(vocab=64, dim=32, blocks=4, heads=4, kv_heads=2, ffn=48, seq=16, stages=3, bottleneck=8)
SHAPES = [SMALL, ModelSpec(stages=1), ModelSpec(stages=6), ModelSpec(bottleneck=0), ModelSpec(kv_heads=4)]


@pytest.mark.parametrize("model", SHAPES)
def test_table_lists_what_torch_builds(model: ModelSpec) -> None:
    for index in range(model.stages):
        stage = Stage(model, index)
        built = [(name, tuple(p.shape)) for name, p in stage.named_parameters()]
        assert built == [(p.name, p.shape) for p in parameters(model, index)]
        assert parameter_count(model, index) == flat_size(stage)


def test_names_are_global_and_unique() -> None:
    names = [p.name for index in range(SMALL.stages) for p in parameters(SMALL, index)]
    assert len(names) == len(set(names))
    assert "blocks.3.attn.wq.weight" in names
    assert {"encoders.0.out.weight", "decoders.0.out.weight"} <= set(names)


def test_first_values_do_not_depend_on_the_split() -> None:
    whole = ModelSpec(bottleneck=0, stages=1)
    split = ModelSpec(bottleneck=0, stages=3)
    parts = np.concatenate([initial_vector(split, index, 7) for index in range(3)])
    assert np.array_equal(parts, initial_vector(whole, 0, 7))


def test_first_values_are_pinned() -> None:
    # A change here breaks every running swarm: raise SPEC_VERSION with it.
    vectors = [initial_vector(SMALL, stage, 0) for stage in range(SMALL.stages)]
    assert all(vector.dtype == np.float32 for vector in vectors)
    data = b"".join(vector.astype("<f4").tobytes() for vector in vectors)
    assert hashlib.blake2b(data, digest_size=8).hexdigest() == "0714015d50eff98e"
    assert not np.array_equal(vectors[1], initial_vector(SMALL, 1, 1))


def test_first_values_have_the_stated_spread() -> None:
    vector = initial_vector(PRESETS["tiny"], 0, 0)
    at = 0
    for p in parameters(PRESETS["tiny"], 0):
        part = vector[at : at + p.size]
        at += p.size
        if p.std == 0:
            assert (part == 1).all()
        elif p.size > 4000:
            assert abs(part.std() / p.std - 1) < 0.05
            assert abs(part.mean()) < 0.1 * p.std


def test_flat_vector_round_trips() -> None:
    stage = init_stage(Stage(SMALL, 1), seed=3)
    vector = flatten(stage)
    assert np.array_equal(vector.numpy(), initial_vector(SMALL, 1, 3))
    other = Stage(SMALL, 1)
    load_flat(other, vector)
    assert torch.equal(flatten(other), vector)
    with pytest.raises(ValueError, match="parameters"):
        load_flat(other, vector[1:])


def test_the_bound_vector_is_the_parameters() -> None:
    stage = init_stage(Stage(SMALL, 0), seed=0)
    weights = bind_flat(stage)
    before = flatten(stage)
    weights.mul_(2)
    assert torch.equal(flatten(stage), before * 2)
    for view, p in zip(views(stage, weights), stage.parameters(), strict=True):
        assert view.shape == p.shape and view.data_ptr() == p.data_ptr()


def test_building_twice_gives_equal_buffers() -> None:
    first, second = Stage(SMALL, 0), Stage(SMALL, 0)
    for (name, a), (_, b) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert not first.state_dict().keys() & {"cos", "sin"}
