"""A model must not die with its makers. Law: until the validator holds a copy of a manifest, the last one that it does
hold stays usable; a stage whose new state is lost goes back to it, and the run goes on.

The normal path waits for nothing: TRAIN begins while the copy is under way.
"""

from __future__ import annotations

from iota_subnet.core import assignment
from iota_subnet.core.actions import Action, Evaluate
from iota_subnet.core.events import Manifest
from iota_subnet.core.state import AUDIT, Phase, RunState

#: Seconds after which a copy that failed is tried again.
RETRY_S = 15.0

#: How many times `rescue_s` a stage waits for shards that are made again.
PATIENCE = 3


def copied(state: RunState, names: tuple[str, ...]) -> bool:
    """The validator holds the manifests called so: whether these count, or did in the epoch before."""
    for manifests in (state.manifests, state.former):
        if manifests and names == tuple(manifest.name for manifest in manifests):
            if not state.safe or state.safe[0].epoch <= manifests[0].epoch:
                state.safe = list(manifests)
            if state.safe == state.manifests:
                state.forlorn.clear()
                state.copy_due = 0.0
            return True
    return False


def retry(state: RunState) -> list[Action]:
    """Ask again for a copy that failed."""
    if not state.copy_due or state.now < state.copy_due:
        return []
    return ask(state)


def ask(state: RunState) -> list[Action]:
    """Have the validator copy and measure the manifests that count now."""
    state.copy_due = 0.0
    return [Evaluate(state.manifests[0].epoch, tuple(state.manifests))]


def watch(state: RunState, stages: list[int]) -> list[Action]:
    """`stages` have nobody who could work. If nobody can ever install them either, let them go back."""
    actions: list[Action] = []
    if state.safe == state.manifests:
        return actions
    for stage in [stage for stage in state.forlorn if stage not in stages]:
        del state.forlorn[stage]
    for stage in stages:
        since = state.forlorn.setdefault(stage, state.now)
        made = state.merges[stage].shards if state.phase is Phase.INSTALL else []
        # What is being made again gets more time, but it may never come: its own base can be lost too.
        patience = PATIENCE if any(shard.missing for shard in made) else 1
        if state.now < since + patience * state.spec.swarm.rescue_s or not _lost(state, stage):
            continue
        for shard in made:
            shard.missing = False
        for shard in state.merges[stage].shards if stage < len(state.merges) else ():
            if shard.recomputing == AUDIT:
                # Asked again it would start from another base, and who was right would look like a liar.
                shard.recomputing = ""
        lost = state.manifests[stage]
        state.manifests[stage] = Manifest(stage, lost.epoch, state.safe[stage].shards, lost.revision + 1)
        state.returned[stage] = state.safe[stage].epoch
        state.reports[-1].returned.append(stage)
        del state.forlorn[stage]
        for shard in state.merges[stage].shards if state.phase is Phase.REDUCE else ():
            if shard.accepted is None:
                # Made from another base: compared with what comes now, it would look like a lie.
                shard.results.clear()
        actions += ask(state)
        for miner in state.members(stage):
            if miner.connected:
                actions += assignment.remind(state, miner)
    return actions


def _lost(state: RunState, stage: int) -> bool:
    """Nobody has the state, not even one who is briefly away."""
    held = any(miner.installed == state.manifests[stage].epoch for miner in state.members(stage))
    return not held and stage not in state.returned
