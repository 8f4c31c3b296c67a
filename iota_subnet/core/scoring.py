"""What a miner has earned: over the last window, volume x quality x agreement x standing, and nothing after a fault.

Volume counts verified passes by the stage's share of FLOPs, and the duties of the merge; quality comes from CLASP;
agreement is 1 but for who differs from most of its twins; standing is what audits leave of it; being registered pays
nothing. Scores are kept by hotkey and are never negative.
"""

from __future__ import annotations

from math import fsum

from iota_subnet.core import agreement, evidence
from iota_subnet.core.clasp import Effect, estimate
from iota_subnet.core.state import Part, RunState, Verdict

#: Weight of a loss whose reporter was not audited in the window, against one whose reporter was.
UNVERIFIED = 0.5

#: Epochs whose effects and scores are kept hotkey by hotkey; of older ones only the totals remain.
DETAILED = 64


def close_epoch(state: RunState) -> None:
    """Turn the epoch's volume and samples into one part per hotkey, and drop what has left the window."""
    report = state.reports[-1]
    # A loss says how good the model was when it was measured, however long the way back took.
    samples = sorted(state.samples, key=lambda sample: sample.at)
    report.effects = estimate(samples, trust(state))
    state.evidence = evidence.update(state.evidence, report.effects)
    if state.samples:
        report.train_loss = fsum(sample.loss for sample in state.samples) / len(state.samples)
    agreement.forget(state)
    shares = agreement.shares(state)
    merged = duties(state)
    for hotkey in dict.fromkeys([*state.volume, *merged]):
        volume = max(0.0, state.volume.get(hotkey, 0.0) - state.unseen.get(hotkey, 0.0))
        effect = report.effects.get(hotkey)
        part = Part(
            state.now,
            state.epoch,
            volume,
            _quality(state, hotkey, effect),
            shares.get(hotkey, 1.0),
            merged.get(hotkey, 0.0),
            1.0 if _shown(state, hotkey) else 0.0,
        )
        state.parts.setdefault(hotkey, []).append(part)
    state.unseen = {}
    oldest = state.now - state.spec.swarm.score_window_s
    state.parts = {
        hotkey: kept for hotkey, parts in state.parts.items() if (kept := [part for part in parts if part.at > oldest])
    }
    state.faults = [fault for fault in state.faults if fault.at > oldest]
    state.volume, state.samples, state.claims = {}, [], {}
    report.scores = scores(state)
    for old in state.reports[-DETAILED - 1 : -DETAILED]:
        old.effects, old.scores = {}, {}


def _shown(state: RunState, hotkey: str) -> bool:
    """Whether somebody has committed to what it did, in a way that others could use. Work that nobody can look into
    is paid to nobody, but for the little that is too little to be asked for. With overlap nothing is audited, and no
    transcript is asked for."""
    asked = not state.spec.swarm.overlap
    for merge in state.merges:
        if hotkey in merge.commits:
            fixed = [shard.contributors for shard in merge.shards if shard.contributors]
            used = sum(hotkey in contributors for contributors in fixed)
            return (hotkey in merge.transcripts or not asked) and 2 * used >= len(fixed)
        if hotkey in merge.eligible:
            return False
    if hotkey in state.miners and hotkey not in state.unseen:
        # It was there and was not asked: it has done too few backward passes to count in the merge.
        return True
    return state.volume.get(hotkey, 0.0) < state.spec.swarm.min_batches * min(state.index.shares, default=1.0)


def _quality(state: RunState, hotkey: str, effect: Effect | None) -> float:
    """By this epoch's losses, or by what has added up over all epochs: the worse of the two."""
    known = state.evidence.get(hotkey)
    return min(effect.quality if effect else 1.0, evidence.standing(known) if known else 1.0)


def scores(state: RunState) -> dict[str, float]:
    """Scores by hotkey, for everybody with a seat or with work in the window."""
    hotkeys = dict.fromkeys([*state.parts, *state.miners])
    return {hotkey: score(state, hotkey) for hotkey in hotkeys}


def score(state: RunState, hotkey: str) -> float:
    """One hotkey's score; the parts it is made of are in `state.parts[hotkey]`."""
    if any(fault.hotkey == hotkey for fault in state.faults):
        return 0.0
    return fsum(part.worth for part in state.parts.get(hotkey, []))


def duties(state: RunState) -> dict[str, float]:
    """Pay for the merge, by hotkey: a stage's pool is `merge_share` of what its passes earn in this epoch. A shard's
    part of it is divided among those whose result was accepted; what nobody reduced rightly is paid to nobody."""
    paid: dict[str, float] = {}
    for merge in state.merges:
        pool = state.spec.swarm.merge_share * state.index.shares[merge.stage] * len(state.samples)
        for shard in merge.shards:
            if shard.accepted is None:
                continue
            right = [h for h, made in shard.results.items() if made.digests == shard.accepted.digests]
            for hotkey in right:
                part = pool * (shard.hi - shard.lo) / state.sizes[merge.stage] / len(right)
                paid[hotkey] = paid.get(hotkey, 0.0) + part
    return paid


def trust(state: RunState) -> dict[str, float]:
    """How much the losses that somebody reported weigh: all of it after a sound audit in the window, else a part."""
    sound = {h for h, verdicts in state.verdicts.items() if any(_vouches(state, v) for v in verdicts)}
    tails = dict.fromkeys(sample.pathway[-1] for sample in state.samples)
    return {hotkey: 1.0 if hotkey in sound else UNVERIFIED for hotkey in tails}


def _vouches(state: RunState, verdict: Verdict) -> bool:
    return verdict.verdict == "sound" and verdict.losses > 0 and verdict.auditor == state.auditor
