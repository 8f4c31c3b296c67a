"""What a miner has earned: over the last window, volume x quality x agreement, and nothing at all after a fault.

Volume counts verified passes by the stage's share of FLOPs; quality comes from CLASP; agreement is 1 but for who
differs from most of its twins; being registered pays nothing. Scores are kept by hotkey and are never negative.
"""

from __future__ import annotations

from math import fsum

from iota_subnet.core import agreement
from iota_subnet.core.clasp import estimate
from iota_subnet.core.state import Part, RunState

#: Epochs whose effects and scores are kept hotkey by hotkey; of older ones only the totals remain.
DETAILED = 64


def close_epoch(state: RunState) -> None:
    """Turn the epoch's volume and samples into one part per hotkey, and drop what has left the window."""
    report = state.reports[-1]
    report.effects = estimate(state.samples)
    if state.samples:
        report.train_loss = fsum(sample.loss for sample in state.samples) / len(state.samples)
    agreement.forget(state)
    shares = agreement.shares(state)
    for hotkey, volume in state.volume.items():
        effect = report.effects.get(hotkey)
        quality = effect.quality if effect else 1.0
        part = Part(state.now, state.epoch, volume, quality, shares.get(hotkey, 1.0))
        state.parts.setdefault(hotkey, []).append(part)
    oldest = state.now - state.spec.swarm.score_window_s
    state.parts = {
        hotkey: kept for hotkey, parts in state.parts.items() if (kept := [part for part in parts if part.at > oldest])
    }
    state.faults = [fault for fault in state.faults if fault.at > oldest]
    state.volume, state.samples = {}, []
    report.scores = scores(state)
    for old in state.reports[-DETAILED - 1 : -DETAILED]:
        old.effects, old.scores = {}, {}


def scores(state: RunState) -> dict[str, float]:
    """Scores by hotkey, for everybody with a seat or with work in the window."""
    hotkeys = dict.fromkeys([*state.parts, *state.miners])
    return {hotkey: score(state, hotkey) for hotkey in hotkeys}


def score(state: RunState, hotkey: str) -> float:
    """One hotkey's score; the parts it is made of are in `state.parts[hotkey]`."""
    if any(fault.hotkey == hotkey for fault in state.faults):
        return 0.0
    return fsum(part.volume * part.quality * part.agreement for part in state.parts.get(hotkey, []))
