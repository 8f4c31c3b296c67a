"""A model must not die with its makers. Law: until the validator holds a copy of a manifest, the last one that it does
hold stays usable; a stage whose new state is lost goes back to it, and the run goes on.

The normal path waits for nothing: TRAIN begins while the copy is under way.
"""

from __future__ import annotations

from iota_subnet.core import assignment
from iota_subnet.core.actions import Action, Evaluate
from iota_subnet.core.events import Manifest
from iota_subnet.core.state import Phase, RunState


def copied(state: RunState, epoch: int) -> None:
    """The validator holds the manifests of `epoch`."""
    if state.manifests and state.manifests[0].epoch == epoch:
        state.safe = list(state.manifests)
        state.forlorn.clear()


def fits(state: RunState, stage: int, digest: str) -> bool:
    """Whether what a miner has installed can be the state that a stage went back to, and not the one that was lost.

    Known are the digests that miners reported when that state was new; if nobody did, all are believed.
    """
    if stage not in state.returned:
        return True
    known = state.digests.get(stage, {}).get(state.returned[stage], {})
    return not known or digest in known


def note(state: RunState, stage: int, epoch: int, digest: str) -> None:
    """A replica says what it has installed. Two epochs are remembered, and few digests of each."""
    known = state.digests.setdefault(stage, {})
    found = known.setdefault(epoch, {})
    if len(found) < 8:
        found[digest] = None
    while len(known) > 3:
        del known[next(iter(known))]


def watch(state: RunState, stages: list[int]) -> list[Action]:
    """`stages` have nobody who could work. If nobody can ever install them either, let them go back."""
    actions: list[Action] = []
    if not state.safe or state.safe[0].epoch == state.manifests[0].epoch:
        return actions
    for stage in [stage for stage in state.forlorn if stage not in stages]:
        del state.forlorn[stage]
    for stage in stages:
        since = state.forlorn.setdefault(stage, state.now)
        if state.now < since + state.spec.swarm.rescue_s or not _lost(state, stage):
            continue
        target = state.manifests[stage].epoch
        state.manifests[stage] = Manifest(stage, target, state.safe[stage].shards)
        state.returned[stage] = state.safe[stage].epoch
        state.reports[-1].returned.append(stage)
        del state.forlorn[stage]
        actions.append(Evaluate(target, tuple(state.manifests)))
        for miner in state.members(stage):
            if miner.connected:
                actions += assignment.remind(state, miner)
    return actions


def _lost(state: RunState, stage: int) -> bool:
    """Nobody has the state, not even one who is briefly away, and the validator is not making it again."""
    if stage in state.returned or any(m.installed == state.manifests[stage].epoch for m in state.members(stage)):
        return False
    made = state.merges[stage].shards if state.phase is Phase.INSTALL else []
    return not any(shard.missing for shard in made)
