"""Figures agree with what torch builds and keeps; a split is balanced by what its stages cost."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from iota_subnet.model.cost import Costs, balanced, boundary_bytes, boundary_ratio, flop_costs, imbalance, stage_cost
from iota_subnet.model.stage import Stage, init_stage
from iota_subnet.spec import PRESETS, ModelSpec, RunSpec, SpecError
from iota_subnet.train import codec

TINY = PRESETS["tiny"]


def kept_bytes(model: ModelSpec, index: int, samples: int) -> int:
    """Bytes that autograd really keeps for one microbatch, without the weights."""
    stage = init_stage(Stage(model, index), 0)
    own = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    x: Tensor = torch.randn(samples, model.seq, model.boundary, requires_grad=True)
    if index == 0:
        x = torch.zeros(samples, model.seq, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = stage(x)
        if stage.is_tail:
            targets = torch.zeros(samples * model.seq, dtype=torch.int64)
            y = torch.nn.functional.cross_entropy(y.flatten(0, 1), targets, reduction="none")
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("changes", [{}, {"bottleneck": 0}, {"ffn": 700, "kv_heads": 4}, {"bottleneck": 4}])
def test_memory_of_activations_is_within_a_tenth_of_what_autograd_keeps(changes: dict[str, int]) -> None:
    model = replace(TINY, **changes)
    for index in range(model.stages):
        guess = stage_cost(model, index, 4).memory["activations"]
        assert guess == pytest.approx(kept_bytes(model, index, 4), rel=0.1)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_presets_forward_flops_are_two_per_weight_and_its_attention(name: str) -> None:
    model = PRESETS[name]
    stages = [stage_cost(model, index, 1) for index in range(model.stages)]
    weights = sum(stage.parameters for stage in stages) - model.vocab * model.dim
    attention = 2 * model.blocks * model.dim * model.seq
    # Norms are parameters without a product.
    assert sum(stage.forward for stage in stages) == pytest.approx(2 * weights + attention, rel=2e-3)
    assert all(stage.backward == 2 * stage.forward for stage in stages)


def test_presets_are_as_large_as_their_names() -> None:
    bare = {name: replace(model, bottleneck=0) for name, model in PRESETS.items()}
    sizes = {name: sum(stage_cost(m, k, 1).parameters for k in range(m.stages)) for name, m in bare.items()}
    # The last two are those of IOTA's own configurations.
    assert sizes == {
        "tiny": 1_173_120,
        "100m": 124_668_672,
        "1b": 1_498_482_688,
        "15b": 15_076_418_560,
        "100b": 99_615_863_808,
    }


def test_bytes_at_a_boundary_are_those_of_the_codec() -> None:
    spec = RunSpec(model=TINY)
    shape = (spec.train.microbatch, TINY.seq, TINY.boundary)
    blob = codec.encode(torch.zeros(shape).numpy(), "bf16", "z")
    assert 0 <= len(blob) - boundary_bytes(TINY, spec.train.microbatch) <= 300
    assert boundary_ratio(TINY) == 4.0
    assert boundary_ratio(replace(TINY, bottleneck=0)) == 1.0
    assert boundary_ratio(replace(TINY, bottleneck=1), "fp32") == 64.0


def test_tiny_keeps_its_even_split() -> None:
    for stages in range(1, 7):
        assert balanced(replace(TINY, stages=stages)).split == ()
    assert [len(TINY.blocks_of(stage)) for stage in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("costs", [None, Costs(1.0), Costs(1.0, 0.5, 4.0, 0.2, 0.4), Costs(2.0, head=3.0, embed=9.0)])
def test_no_other_split_has_a_cheaper_dearest_stage(costs: Costs | None) -> None:
    model = ModelSpec(vocab=4096, dim=32, blocks=9, heads=4, kv_heads=2, ffn=64, seq=16, stages=4, bottleneck=8)
    used = costs or flop_costs(model)

    def dearest(counts: tuple[int, ...]) -> float:
        return max(used.of(stage, 4, count) for stage, count in enumerate(counts))

    made = balanced(model, costs)
    counts = tuple(len(made.blocks_of(stage)) for stage in range(4))
    every = [c for c in itertools.product(range(1, 10), repeat=4) if sum(c) == 9]
    assert dearest(counts) == pytest.approx(min(map(dearest, every)))


def test_a_large_vocabulary_leaves_the_tail_fewer_blocks() -> None:
    model = PRESETS["1b"]
    made = balanced(model)
    assert len(made.blocks_of(3)) < len(made.blocks_of(0))
    assert imbalance(made) < imbalance(model)
    assert [i for stage in range(4) for i in made.blocks_of(stage)] == list(range(16))


def test_a_split_is_part_of_the_specification_and_of_its_digest() -> None:
    even, other = RunSpec(model=TINY), RunSpec(model=replace(TINY, split=(3, 2, 1)))
    assert even.digest() != other.digest()
    again = RunSpec.from_json(other.to_json())
    assert again == other and [len(again.model.blocks_of(stage)) for stage in range(3)] == [3, 2, 1]
    assert sum(other.model.flops_share(stage) for stage in range(3)) == pytest.approx(1.0)
    assert other.model.flops_share(0) > even.model.flops_share(0)


@pytest.mark.parametrize("codec", ["resbm", "resbm+tokens", "subspace"])
@pytest.mark.parametrize("bottleneck", [0, 8])
def test_what_a_stage_is_paid_for_is_what_torch_multiplies(codec: Any, bottleneck: int) -> None:
    model = replace(TINY, bottleneck=bottleneck, boundary_codec=codec, split=(3, 2, 1))
    counted = []
    for index in range(model.stages):
        stage, ids = init_stage(Stage(model, index), 0), torch.zeros(1, model.seq, dtype=torch.int64)
        x = ids if index == 0 else torch.zeros(1, model.seq, model.boundary)
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            stage(x, ids)
        flops = counter.get_flop_counts()["Global"]
        # Batched products are those of attention, counted for all scores, whatever causality leaves of them.
        attention = flops[torch.ops.aten.bmm]
        counted.append((sum(flops.values()) - attention / 2) / model.seq)
        assert 2 * model.products(index) == counted[-1]
    shares = [model.flops_share(index) for index in range(model.stages)]
    assert shares == pytest.approx([part / sum(counted) for part in counted])


@pytest.mark.parametrize("split", [(3, 3), (4, 2, 0), (2, 2, 3), (2.0, 2, 2), (True, 3, 2)])
def test_a_split_that_is_none_is_refused(split: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="split="):
        replace(TINY, split=split)


@pytest.mark.parametrize("costs", [{"block": 0.0}, {"block": 1.0, "head": -1.0}, {"block": float("nan")}])
def test_costs_that_are_none_are_refused(costs: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="cost"):
        Costs(**costs)
