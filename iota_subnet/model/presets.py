"""A model from what an operator says of it: preset, stages, width of the boundary, split."""

from __future__ import annotations

from dataclasses import replace

from iota_subnet.model.cost import Costs, balanced
from iota_subnet.spec import PRESETS, ModelSpec, SpecError


def choose(
    preset: str,
    stages: int | None = None,
    bottleneck: int | None = None,
    ratio: int | None = None,
    split: str = "auto",
    costs: Costs | None = None,
) -> ModelSpec:
    """The model that these words describe.

    Args:
        preset: a name in `PRESETS`.
        stages: pipeline stages; the preset's if None.
        bottleneck: values per token that cross a boundary, 0 for all; the preset's if None.
        ratio: instead of `bottleneck`: so many times fewer values than the model is wide.
        split: `auto` balances by `costs`, `even` does not, `5,5,2` says how many blocks each stage has.
        costs: measured ones for `auto`; FLOPs if None.

    Raises:
        SpecError: words that describe no model.
    """
    if preset not in PRESETS:
        raise SpecError(f"preset={preset!r} is not known; choose one of {', '.join(PRESETS)}")
    model = PRESETS[preset]
    if ratio is not None:
        if bottleneck is not None:
            raise SpecError("bottleneck and ratio say the same; give one of them")
        if ratio < 1 or model.dim % ratio:
            raise SpecError(f"ratio={ratio} must divide dim={model.dim}")
        bottleneck = 0 if ratio == 1 else model.dim // ratio
    model = replace(
        model,
        stages=model.stages if stages is None else stages,
        bottleneck=model.bottleneck if bottleneck is None else bottleneck,
        split=(),
    )
    return divide(model, split, costs)


def divide(model: ModelSpec, split: str, costs: Costs | None = None) -> ModelSpec:
    """`model` with the split that the word `split` means (see `choose`). Raises SpecError."""
    if split == "even":
        return replace(model, split=())
    if split == "auto":
        return balanced(model, costs)
    try:
        counts = tuple(int(part) for part in split.split(","))
    except ValueError:
        raise SpecError(f"split={split!r} must be auto, even, or blocks per stage such as 5,5,2") from None
    made = replace(model, split=counts)
    even = replace(model, split=())
    same = all(made.blocks_of(stage) == even.blocks_of(stage) for stage in range(model.stages))
    # One model has one specification, whoever wrote it down.
    return even if same else made
