"""The worked example of docs/pay.md, computed by the code that pays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp

from iota_subnet.core import scoring
from iota_subnet.core.clasp import TOLERANCE
from iota_subnet.core.clasp_data import Sample
from iota_subnet.core.events import ShardRef
from iota_subnet.core.state import Part, RunState, Shard, StageMerge
from iota_subnet.spec import BlobRef, RunSpec
from template.chain import MetagraphView, NeuronView
from template.localnet.config import ChainConfig
from template.weights import to_chain_weights

BATCHES = 120
EMISSION = 100.0


@dataclass(frozen=True)
class Row:
    """A miner of the example. `harm` is what CLASP found beyond its allowance, nats per token."""

    name: str
    stage: int
    forward: int
    backward: int
    harm: float = 0.0
    committed: bool = True


MINERS = (
    Row("A", 0, 70, 66),
    Row("B", 0, 50, 54),
    Row("C", 1, 60, 60),
    Row("D", 1, 60, 60, harm=0.05),
    Row("E", 2, 80, 80),
    Row("F", 2, 40, 40, committed=False),
)


def prices() -> list[float]:
    """What a forward and a backward pass of one microbatch add, by stage."""
    model = RunSpec().model
    return [model.flops_share(stage) * model.stages for stage in range(model.stages)]


def merged() -> dict[str, float]:
    """What the duties of the merge earn: one shard a stage, reduced alike by all who committed."""
    spec = RunSpec()
    state = RunState(spec)
    state.index = replace(state.index, shares=tuple(prices()))
    state.sizes = (100,) * spec.model.stages
    state.samples = [Sample((), 2.0)] * BATCHES
    made = ShardRef(0, 100, *(BlobRef(name, 400) for name in ("weights", "momentum", "mean")))
    for stage in range(spec.model.stages):
        hotkeys = [row.name for row in MINERS if row.stage == stage and row.committed]
        shard = Shard(0, 0, 100, hotkeys, results=dict.fromkeys(hotkeys, made), accepted=made)
        state.merges.append(StageMerge(stage, tuple(hotkeys), 1, shards=[shard]))
    return scoring.duties(state)


def parts() -> dict[str, Part]:
    """Each miner's part of the epoch."""
    duties, found = merged(), {}
    for row in MINERS:
        volume = prices()[row.stage] * (row.forward / 3 + row.backward * 2 / 3)
        standing = 1.0 if row.committed else 0.0
        found[row.name] = Part(
            0.0, 0, volume, exp(-row.harm / TOLERANCE), merged=duties.get(row.name, 0.0), standing=standing
        )
    return found


def weights(burn: float = 0.0) -> dict[str, int]:
    """What goes on chain when this epoch is all of the window; "owner" is the subnet's."""
    names = [*(row.name for row in MINERS), "owner"]
    neurons = tuple(
        NeuronView(uid, name, name, 0.0, False, True, 0, 0.0, 0.0, 0.0, "", 0) for uid, name in enumerate(names)
    )
    view = MetagraphView(1, 1, neurons, "owner")
    uids, values = to_chain_weights({name: part.worth for name, part in parts().items()}, view, burn=burn)
    return {names[uid]: value for uid, value in zip(uids, values, strict=True)}


def incentive_part() -> float:
    """The miners' part of what a subnet emits: half of what the owner's cut leaves."""
    return (1 - ChainConfig().owner_cut / 65535) / 2


def table() -> str:
    """The example's table as docs/pay.md has it."""
    lines = [
        "| miner | stage | forward | backward | volume | merge | quality | standing | adds | weight | share | of 100 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    chain = weights()
    total = sum(chain.values())
    for row in MINERS:
        part, weight = parts()[row.name], chain.get(row.name, 0)
        share = weight / total
        lines.append(
            f"| {row.name} | {row.stage} | {row.forward} | {row.backward} | {part.volume:.2f} | {part.merged:.2f} | "
            f"{part.quality:.3f} | {part.standing:.0f} | {part.worth:.2f} | {weight} | {100 * share:.1f} % | "
            f"{EMISSION * incentive_part() * share:.2f} |"
        )
    return "\n".join(lines)
