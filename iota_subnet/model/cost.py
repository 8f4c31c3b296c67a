"""What a stage costs, and the split of the blocks that makes the dearest stage as cheap as possible. Without torch.

Law: everything here follows from the table of `parameters.parameters`, so another bottleneck is counted by itself.
A FLOP is one multiplication or one addition of a matrix product; norms, rotations and the embedding's lookup are left
out. Causal attention is counted for the half of its scores that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from iota_subnet.model.parameters import Parameter, parameter_count, parameters
from iota_subnet.spec import CODEC_BYTES, ModelSpec, SpecError

#: A backward pass makes two products, by the input and by the weight, where the forward pass makes one.
BACKWARD = 2
#: fp32 vectors [P] of a runner: weights, fresh and accumulated gradient, Adam's two moments; global weights, momentum.
VECTORS = {"weights": 1, "gradients": 2, "optimiser": 2, "global": 2}


@dataclass(frozen=True, slots=True)
class Costs:
    """What each part of a model costs in one unit, FLOPs or measured seconds, forward and backward together."""

    block: float
    embed: float = 0.0
    head: float = 0.0
    encoder: float = 0.0
    decoder: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                raise SpecError(f"cost {field.name}={getattr(self, field.name)} must be a number, 0 or more")
        if not self.block:
            raise SpecError("cost block=0 leaves nothing to balance; measure a block too")

    def of(self, stage: int, stages: int, blocks: int) -> float:
        """What stage `stage` of `stages` costs with so many blocks."""
        entry = self.embed if stage == 0 else self.decoder
        leave = self.head if stage == stages - 1 else self.encoder
        return entry + blocks * self.block + leave


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage in figures. `forward` and `backward` are FLOPs per token, `memory` bytes of one miner by what for.

    `memory["activations"]` is of one kept graph of one microbatch, on a device that computes in fp32.
    """

    stage: int
    blocks: range
    parameters: int
    forward: int
    backward: int
    memory: dict[str, int]


def stage_cost(model: ModelSpec, stage: int, microbatch: int) -> StageCost:
    """The figures of `stage` with microbatches of so many samples."""
    forward = 2 * model.products(stage)
    size = parameter_count(model, stage)
    memory = {name: 4 * count * size for name, count in VECTORS.items()}
    memory["activations"] = 4 * microbatch * model.seq * _activations(model, stage)
    return StageCost(stage, model.blocks_of(stage), size, forward, BACKWARD * forward, memory)


def boundary_bytes(model: ModelSpec, microbatch: int, codec: str = "bf16") -> int:
    """Bytes of a microbatch that cross one boundary in one direction, without the blob's header."""
    return microbatch * model.seq * model.boundary * CODEC_BYTES[codec]


def boundary_ratio(model: ModelSpec, codec: str = "bf16") -> float:
    """How many times fewer bytes than the residual stream in bf16."""
    return model.dim * CODEC_BYTES["bf16"] / (model.boundary * CODEC_BYTES[codec])


def imbalance(model: ModelSpec, costs: Costs | None = None) -> float:
    """The dearest stage's cost over the mean: 1 is perfect, and a pipeline is as slow as its dearest stage."""
    loads = _loads(model, [len(model.blocks_of(stage)) for stage in range(model.stages)], costs or flop_costs(model))
    return max(loads) * model.stages / sum(loads)


def balanced(model: ModelSpec, costs: Costs | None = None) -> ModelSpec:
    """`model` with the split whose dearest stage is the cheapest; the even one wherever no other is cheaper.

    Args:
        model: its own `split` does not count.
        costs: measured ones; FLOPs if none are given.
    """
    costs = costs or flop_costs(model)
    counts = [1] * model.stages
    for _ in range(model.blocks - model.stages):
        # Blocks are alike, so giving each to whoever is then the cheapest is optimal.
        grown = [load + costs.block for load in _loads(model, counts, costs)]
        counts[grown.index(min(grown))] += 1
    even = replace(model, split=())
    best = max(_loads(model, counts, costs))
    if max(_loads(model, [len(even.blocks_of(stage)) for stage in range(model.stages)], costs)) <= best * (1 + 1e-9):
        return even
    return replace(model, split=tuple(counts))


def flop_costs(model: ModelSpec) -> Costs:
    """FLOPs per token of each part, forward and backward."""
    table = [p for stage in range(model.stages) for p in parameters(model, stage)]

    def products(prefix: str) -> float:
        return (1 + BACKWARD) * 2 * sum(p.size for p in table if p.name.startswith(prefix) and len(p.shape) > 1)

    block = products("blocks.0.") + (1 + BACKWARD) * _attention(model)
    return Costs(block, 0.0, products("head."), products("encoders.0."), products("decoders.0."))


def _loads(model: ModelSpec, counts: list[int], costs: Costs) -> list[float]:
    return [costs.of(stage, model.stages, count) for stage, count in enumerate(counts)]


def _attention(model: ModelSpec) -> int:
    """Scores and their mean of values, per token: on average it looks back at half of the sequence."""
    return 2 * 2 * model.dim * model.seq // 2


def _is_product(parameter: Parameter) -> bool:
    return len(parameter.shape) > 1 and parameter.name != "embed.weight"


def _activations(model: ModelSpec, stage: int) -> int:
    """Values per token that autograd keeps for the backward pass; counted on torch's CPU kernels."""
    kv = model.kv_heads * (model.dim // model.heads)
    kept = len(model.blocks_of(stage)) * (8 * model.dim + 2 * kv + 4 * model.ffn)
    # Each matrix of a boundary keeps its input, and what its input was made from.
    kept += sum(
        2 * p.shape[1] for p in parameters(model, stage) if p.name.startswith(("enc", "dec")) and _is_product(p)
    )
    return kept + (model.dim + 2 * model.vocab if stage == model.stages - 1 else 0)
