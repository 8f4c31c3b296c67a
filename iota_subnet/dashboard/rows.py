"""One row per hotkey: what it does now, and what it has earned and why. Pure.

Law: what changes with every receipt (`doings`) is cheap and looked at every time; what changes when an epoch closes, an
audit is answered or the chain is looked at (`standings`) is derived when `stamp` has changed, and for all at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import fsum, isfinite

from iota_subnet.core.clasp import Effect
from iota_subnet.core.scoring import score
from iota_subnet.core.state import EpochReport, Miner, Part, RunState
from template.chain import MetagraphView
from template.weights import to_chain_weights

#: Rows at most: seats first, then who has earned something, waits, or is banned.
ROWS = 4096

#: Closed epochs that are searched for CLASP's last word on somebody.
LOOK_BACK = 8


@dataclass(frozen=True, slots=True)
class Doing:
    """What somebody does. `health`: working, idle, resting, installing, away, leaving; without a seat waiting, banned
    or gone. `done` passes since it took its seat, `volume` credited in this epoch, `seconds` for a pass."""

    stage: int
    slot: int
    health: str
    leases: int
    done: int
    volume: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody has earned. The parts of the score are those of its last closed epoch, None if there is none.
    `weight` is its part of what was written on chain last, `incentive` and `emission` what the chain made of it
    (shares, alpha per epoch of the chain). `effect` and `error` are CLASP's, nats per token, positive is harm."""

    uid: int | None
    rank: int
    score: float
    share: float
    paid: float | None
    merged: float | None
    quality: float | None
    agreement: float | None
    audit: float | None
    weight: float | None
    incentive: float | None
    emission: float | None
    effect: float | None
    error: float | None
    samples: int
    sound: int
    failed: int
    withheld: int
    fault: bool
    validator: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of miners."""

    hotkey: str
    doing: Doing
    standing: Standing


DOING = tuple(field.name for field in fields(Doing))
STANDING = tuple(field.name for field in fields(Standing))


def rows(state: RunState, chain: MetagraphView | None, burn: float = 0.0) -> list[Row]:
    """All rows, as `names` has them."""
    earned, nothing = standings(state, chain, burn), nobody()
    return [Row(hotkey, doing(state, hotkey), earned.get(hotkey, nothing)) for hotkey in names(state)]


def names(state: RunState) -> list[str]:
    """Who has a row."""
    everybody = dict.fromkeys([*state.miners, *state.parts, *state.line])
    everybody |= dict.fromkeys(hotkey for hotkey, (until, _) in state.banned.items() if until > state.now)
    return list(everybody)[:ROWS]


def doing(state: RunState, hotkey: str) -> Doing:
    """What a hotkey does now, with a seat or without."""
    miner = state.miners.get(hotkey)
    volume = round(state.volume.get(hotkey, 0.0), 2)
    if miner is None:
        return Doing(-1, -1, _outside(state, hotkey), 0, 0, volume, 0.0)
    seconds = round(miner.mean or miner.seconds, 3)
    return Doing(
        miner.stage, miner.slot, _health(state, miner), len(miner.leases), miner.done, volume, seconds
    )  # fmt: skip


def _health(state: RunState, miner: Miner) -> str:
    if not miner.connected:
        return "away"
    if miner.leaving:
        return "leaving"
    if miner.stage < 0 or miner.installed < state.manifests[miner.stage].epoch:
        return "installing"
    if state.now < miner.rest_until:
        return "resting"
    return "working" if miner.leases else "idle"


def _outside(state: RunState, hotkey: str) -> str:
    ban = state.banned.get(hotkey)
    if ban is not None and ban[0] > state.now:
        return "banned"
    return "waiting" if hotkey in state.line else "gone"


def stamp(state: RunState, chain: MetagraphView | None) -> tuple[object, ...]:
    """Changes whenever `standings` may have. Costs one look at each list of verdicts."""
    audited = max((verdicts[-1].at for verdicts in state.verdicts.values() if verdicts), default=0.0)
    known = sum(map(len, state.verdicts.values()))
    told = tuple(
        (known.epoch, known.ended_at, bool(known.scores), known.eval_loss, known.weights_set, known.weights_failed)
        for known in state.reports[-2:]
    )
    names_of = (len(state.miners), len(state.parts), len(state.line), len(state.banned))
    return told, len(state.faults), audited, known, names_of, chain.block if chain is not None else 0


def standings(state: RunState, chain: MetagraphView | None, burn: float = 0.0) -> dict[str, Standing]:
    """Of everybody with a row."""
    everybody = names(state)
    faulty = {fault.hotkey for fault in state.faults}
    values = {hotkey: score(state, hotkey) for hotkey in everybody}
    total = fsum(values.values())
    ranked = sorted((hotkey for hotkey in everybody if values[hotkey] > 0), key=lambda hotkey: -values[hotkey])
    ranks = {hotkey: number for number, hotkey in enumerate(ranked, 1)}
    weights, effects = written(state, chain, burn), measured(state)
    found: dict[str, Standing] = {}
    for hotkey in everybody:
        neuron = chain.by_hotkey(hotkey) if chain is not None else None
        part: Part | None = state.parts[hotkey][-1] if state.parts.get(hotkey) else None
        effect = effects.get(hotkey)
        verdicts = [verdict.verdict for verdict in state.verdicts.get(hotkey, []) if verdict.auditor == state.auditor]
        found[hotkey] = Standing(
            uid=neuron.uid if neuron is not None else None,
            rank=ranks.get(hotkey, 0),
            score=_number(values[hotkey], 3),
            share=_number(values[hotkey] / total, 5) if total > 0 else 0.0,
            paid=_number(part.volume, 3) if part is not None else None,
            merged=_number(part.merged, 3) if part is not None else None,
            quality=_number(part.quality, 4) if part is not None else None,
            agreement=_number(part.agreement, 4) if part is not None else None,
            audit=part.standing if part is not None else None,
            weight=_number(weights[hotkey], 5) if hotkey in weights else None,
            incentive=_number(neuron.incentive, 5) if neuron is not None else None,
            emission=_number(neuron.emission, 4) if neuron is not None else None,
            effect=_number(effect.effect, 4) if effect is not None else None,
            error=_number(effect.error, 4) if effect is not None else None,
            samples=effect.samples if effect is not None else 0,
            sound=verdicts.count("sound"),
            failed=verdicts.count("failed"),
            withheld=verdicts.count("withheld"),
            fault=hotkey in faulty,
            validator=neuron is not None and chain is not None and chain.votes(hotkey),
        )
    return found


def nobody() -> Standing:
    """Of who has come since `standings` was asked."""
    return Standing(
        None, 0, 0.0, 0.0, None, None, None, None, None, None, None, None, None, None, 0, 0, 0, 0, False, False
    )


def written(state: RunState, chain: MetagraphView | None, burn: float) -> dict[str, float]:
    """Shares of the weights that the chain took last, by hotkey."""
    last = last_written(state)
    if last is None or chain is None:
        return {}
    uids, weights = to_chain_weights(last.scores, chain, burn=burn)
    hotkeys = {neuron.uid: neuron.hotkey for neuron in chain.neurons}
    return {hotkeys[uid]: weight / sum(weights) for uid, weight in zip(uids, weights, strict=True)}


def last_written(state: RunState) -> EpochReport | None:
    """The newest epoch whose scores the chain took."""
    return next((report for report in reversed(state.reports) if report.weights_set and report.scores), None)


def measured(state: RunState) -> dict[str, Effect]:
    """CLASP's last word on everybody; it is silent on who was on no pathway of an epoch."""
    found: dict[str, Effect] = {}
    for report in state.reports[-LOOK_BACK:]:
        found |= report.effects
    return found


def _number(value: float, digits: int) -> float:
    """JSON has no infinity."""
    return round(value, digits) if isfinite(value) else 0.0
