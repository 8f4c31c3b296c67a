"""`iota model`: what a model and its split come to, before anybody trains it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from iota_subnet.model.cost import Costs, boundary_bytes, boundary_ratio, imbalance, stage_cost
from iota_subnet.model.presets import choose
from iota_subnet.product.words import columns, short, size
from iota_subnet.spec import CODEC_BYTES, PRESETS, ModelSpec, SpecError, TrainSpec
from template.errors import BadSettings

EXAMPLES = """examples:
  iota model show                                   # all presets, a line each
  iota model show 1b --stages 4 --ratio 64          # one, stage by stage
  iota model show 100m --split 6,5,1 --json
  iota model show tiny --measure                    # balance by seconds on this machine, not by FLOPs
"""

#: Graphs that a miner keeps at once; see `train.runner.StageRunner`.
GRAPHS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and flags of `iota model`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser.epilog, parser.formatter_class = EXAMPLES, raw
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "parameters, FLOPs, bytes at the boundaries, memory and balance"
    show = actions.add_parser(
        "show", help=text, description=text.capitalize() + ".", epilog=EXAMPLES, formatter_class=raw
    )
    add = show.add_argument
    add("preset", nargs="?", metavar="PRESET", help=f"one of {', '.join(PRESETS)}; all of them if none is given")
    add("--stages", type=int, metavar="K", help="pipeline stages (default: the preset's)")
    width = show.add_mutually_exclusive_group()
    width.add_argument("--bottleneck", type=int, metavar="B", help="values per token at a boundary; 0 sends all")
    width.add_argument("--ratio", type=int, metavar="R", help="so many times fewer values than the model is wide")
    add("--split", default="auto", metavar="S", help="auto (balanced, the default), even, or blocks per stage: 5,5,2")
    add("--microbatch", type=int, default=TrainSpec().microbatch, metavar="N", help="samples that travel together")
    add("--codec", choices=sorted(CODEC_BYTES), default=TrainSpec().activation_codec, help="codec of activations")
    cost = show.add_mutually_exclusive_group()
    cost.add_argument(
        "--costs",
        metavar="C",
        help="measured costs to balance by, in any unit: block=1,head=3.9,encoder=0.1,decoder=0.2",
    )
    cost.add_argument("--measure", action="store_true", help="measure these costs here, one part at a time")
    add("--device", default="cpu", help="where to measure (default cpu)")
    add("--json", action="store_true", help="print one JSON object")


def main(options: argparse.Namespace) -> int:
    """Exit code 0. Raises BadSettings."""
    if options.microbatch < 1:
        raise BadSettings(f"--microbatch {options.microbatch}: at least 1")
    names = [options.preset] if options.preset else list(PRESETS)
    try:
        found = [_figures(name, options) for name in names]
    except SpecError as error:
        raise BadSettings(str(error)) from None
    if options.json:
        print(json.dumps(found[0] if options.preset else found))
    else:
        print("\n".join(_one(found[0]) if options.preset else _all(found)))
    return 0


def _figures(name: str, options: argparse.Namespace) -> dict[str, Any]:
    def chosen(costs: Costs | None) -> ModelSpec:
        return choose(name, options.stages, options.bottleneck, options.ratio, options.split, costs)

    costs = _costs(options.costs)
    if options.measure:
        from iota_subnet.model.timing import measure

        costs = measure(chosen(None), options.microbatch, options.device)
    return figures(chosen(costs), options.microbatch, options.codec, costs)


def figures(model: ModelSpec, microbatch: int, codec: str, costs: Costs | None = None) -> dict[str, Any]:
    """All that `iota model show` tells, as JSON values. FLOPs are per token, bytes per microbatch and direction."""
    stages = [stage_cost(model, index, microbatch) for index in range(model.stages)]
    crossing = model.stages > 1
    return {
        "preset": model.preset,
        "model": {
            name: getattr(model, name)
            for name in ("vocab", "dim", "blocks", "heads", "kv_heads", "ffn", "seq", "stages", "bottleneck")
        },
        "parameters": sum(stage.parameters for stage in stages),
        "flops_forward": sum(stage.forward for stage in stages),
        "flops_backward": sum(stage.backward for stage in stages),
        "microbatch_tokens": microbatch * model.seq,
        "boundary_bytes": boundary_bytes(model, microbatch, codec) if crossing else 0,
        "boundary_bytes_bf16": boundary_bytes(model, microbatch, codec) * boundary_ratio(model, codec)
        if crossing
        else 0,
        "boundary_ratio": boundary_ratio(model, codec) if crossing else None,
        "imbalance": imbalance(model, costs),
        "balanced_by": "FLOPs" if costs is None else "measured costs",
        "costs": None if costs is None else {name: getattr(costs, name) for name in Costs.__dataclass_fields__},
        "stages": [
            {
                "stage": stage.stage,
                "blocks": [stage.blocks.start, stage.blocks.stop],
                "parameters": stage.parameters,
                "flops_forward": stage.forward,
                "flops_backward": stage.backward,
                "memory": stage.memory,
                "memory_total": _total(stage.memory),
            }
            for stage in stages
        ],
    }


def _total(memory: dict[str, int]) -> int:
    return sum(value * (GRAPHS if name == "activations" else 1) for name, value in memory.items())


def _costs(text: str | None) -> Costs | None:
    if text is None:
        return None
    try:
        return Costs(**{name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))})
    except (ValueError, TypeError) as error:
        if isinstance(error, SpecError):
            raise
        known = ", ".join(Costs.__dataclass_fields__)
        raise BadSettings(
            f"--costs {text}: give name=number with commas between them, block first of {known}"
        ) from None


def _one(found: dict[str, Any]) -> list[str]:
    model = found["model"]
    lines = [
        f"{found['preset']}: {short(found['parameters'])} parameters in {len(found['stages'])} stages",
        f"shape       {model['blocks']} blocks of width {model['dim']}, feed-forward {model['ffn']}, "
        f"{model['heads']} heads, {model['kv_heads']} for keys and values",
        f"            vocabulary {model['vocab']}, {model['seq']} tokens a sequence",
        f"work        {short(found['flops_forward'])} FLOPs per token forward, "
        f"{short(found['flops_backward'])} backward",
    ]
    if found["boundary_bytes"]:
        lines += [
            f"boundary    {size(found['boundary_bytes'])} per microbatch of {found['microbatch_tokens']:,} tokens and "
            "direction,",
            f"            {found['boundary_ratio']:g}x less than the {size(found['boundary_bytes_bf16'])} of bf16 "
            "activations",
        ]
    lines.append(
        f"balance     the dearest stage costs {100 * (found['imbalance'] - 1):.1f} % more than the mean, "
        f"by {found['balanced_by']}"
    )
    if found["costs"]:
        unit = found["costs"]["block"]
        parts = [f"{name} {value / unit:.3g}" for name, value in found["costs"].items() if value and name != "block"]
        lines.append(f"            in units of a block: {', '.join(parts) or 'nothing else costs'}")
    head = ("stage", "blocks", "parameters", "forward", "backward", "state", "activations", "memory")
    rows = []
    for row in found["stages"]:
        kept = row["memory"]["activations"]
        first, end = row["blocks"]
        rows.append(
            (
                str(row["stage"]), f"{first}..{end - 1}" if end - first > 1 else str(first), short(row["parameters"]),
                short(row["flops_forward"]), short(row["flops_backward"]),
                size(row["memory_total"] - GRAPHS * kept), f"{GRAPHS} x {size(kept)}", size(row["memory_total"]),
            )
        )  # fmt: skip
    lines += ["", *columns(head, rows), ""]
    lines += [
        "memory is that of one miner computing in fp32; in bf16, on a GPU, activations are about half",
        "state: weights, 2 gradients, 2 moments; in the host's memory global weights and momentum",
    ]
    return lines


def _all(found: list[dict[str, Any]]) -> list[str]:
    head = ("preset", "parameters", "stages", "blocks", "FLOPs/token", "boundary", "ratio", "dearest", "memory")
    rows = []
    for f in found:
        counts = [end - first for first, end in (row["blocks"] for row in f["stages"])]
        few = ",".join(map(str, counts)) if len(counts) <= 5 else f"{min(counts)} to {max(counts)}"
        rows.append(
            (
                f["preset"], short(f["parameters"]), str(len(counts)), few,
                short(f["flops_forward"] + f["flops_backward"]), size(f["boundary_bytes"]),
                f"{f['boundary_ratio'] or 1:g}x", f"+{100 * (f['imbalance'] - 1):.1f} %",
                size(max(row["memory_total"] for row in f["stages"])),
            )
        )  # fmt: skip
    return [*columns(head, rows), "", "iota model show PRESET tells more of one"]
