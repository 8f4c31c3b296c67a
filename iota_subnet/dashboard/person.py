"""One miner's page and one stage's matrix: what is asked for when somebody looks at it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from iota_subnet.core.state import RunState
from iota_subnet.dashboard.rows import Row, doing, nobody, standings
from iota_subnet.dashboard.view import MAX_TEXT
from iota_subnet.messages import StandingReport
from template.chain import MetagraphView

#: Miners of a matrix at most: those that differed from a twin first, then by seat.
MATRIX = 64

#: Twins of one miner that are listed; those it differed from first.
TWINS = 64


@dataclass(frozen=True, slots=True)
class Then:
    """One closed epoch of one miner: its score after it, its share of all scores, and what CLASP said."""

    epoch: int
    score: float | None
    share: float | None
    effect: float | None
    error: float | None
    mean_loss: float | None
    samples: int
    quality: float | None


@dataclass(frozen=True, slots=True)
class Twin:
    """Another reducer of the same shards: how often both got the same bits, and how often not."""

    hotkey: str
    agreed: int
    differed: int


@dataclass(frozen=True, slots=True)
class Person:
    """`report` is the validator's answer to the miner's own question how it stands."""

    row: Row
    report: StandingReport
    coldkey: str
    stake: float
    history: tuple[Then, ...]
    twins: tuple[Twin, ...]
    unit: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`cells` are (row, column, agreed, differed) of pairs that have met, as indices of `hotkeys`; `of` how many
    reducers of the stage there are in all."""

    stage: int
    hotkeys: tuple[str, ...]
    of: int
    cells: tuple[tuple[int, int, int, int], ...]


def known(state: RunState, hotkey: str) -> bool:
    """Whether there is anything to say of a hotkey."""
    places = (state.miners, state.parts, state.line, state.banned, state.verdicts)
    return any(hotkey in place for place in places) or any(hotkey in report.scores for report in state.reports)


def person(
    state: RunState, chain: MetagraphView | None, hotkey: str, report: StandingReport, burn: float = 0.0
) -> Person:
    """All that is public of one miner."""
    neuron = chain.by_hotkey(hotkey) if chain is not None else None
    pairs = [(pair, met) for pair, met in state.agreement.items() if hotkey in pair]
    twins = [Twin(pair[pair[0] == hotkey], met.agreed, met.differed) for pair, met in pairs]
    return Person(
        row=Row(hotkey, doing(state, hotkey), standings(state, chain, burn).get(hotkey, nobody())),
        report=report,
        coldkey=neuron.coldkey if neuron is not None else "",
        stake=neuron.stake if neuron is not None else 0.0,
        history=tuple(history(state, hotkey)),
        twins=tuple(sorted(twins, key=lambda twin: (-twin.differed, -twin.agreed, twin.hotkey))[:TWINS]),
        unit=tuple(round(share, 5) for share in state.index.shares),
    )


def history(state: RunState, hotkey: str) -> list[Then]:
    """Epochs of which the scores are still kept one by one."""
    found: list[Then] = []
    for report in state.reports:
        effect = report.effects.get(hotkey)
        if hotkey not in report.scores and effect is None:
            continue
        value, total = report.scores.get(hotkey), sum(report.scores.values())
        found.append(
            Then(
                epoch=report.epoch,
                score=value,
                share=value / total if value is not None and total > 0 else None,
                effect=effect.effect if effect is not None else None,
                error=effect.error if effect is not None else None,
                mean_loss=effect.mean_loss if effect is not None else None,
                samples=effect.samples if effect is not None else 0,
                quality=effect.quality if effect is not None else None,
            )
        )
    return found


def matrix(state: RunState, stage: int) -> Matrix:
    """Who of a stage agreed with whom in the merges of the window. Who has moved counts where it sits now."""
    stages = {hotkey: miner.stage for hotkey, miner in state.miners.items()}
    slots = {hotkey: miner.slot for hotkey, miner in state.miners.items()}
    met = {
        pair: count
        for pair, count in state.agreement.items()
        if stage in (stages.get(pair[0], -1), stages.get(pair[1], -1))
    }
    differed: dict[str, int] = {}
    for pair, count in met.items():
        for hotkey in pair:
            differed[hotkey] = differed.get(hotkey, 0) + count.differed
    everybody = dict.fromkeys([*differed, *(hotkey for hotkey, seat in stages.items() if seat == stage)])
    last = len(slots)
    order = sorted(everybody, key=lambda hotkey: (-differed.get(hotkey, 0), slots.get(hotkey, last), hotkey))[:MATRIX]
    order.sort(key=lambda hotkey: (slots.get(hotkey, last), hotkey))
    place = {hotkey: number for number, hotkey in enumerate(order)}
    cells = tuple(
        (place[one], place[other], count.agreed, count.differed)
        for (one, other), count in met.items()
        if one in place and other in place
    )
    return Matrix(stage, tuple(hotkey[:MAX_TEXT] for hotkey in order), len(everybody), cells)
