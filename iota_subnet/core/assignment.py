"""Who sits where. Law: the stage with the fewest miners gets the newcomer; ties are drawn from the public seed."""

from __future__ import annotations

from iota_subnet.core.actions import Action, AssignLayer
from iota_subnet.core.draw import choose
from iota_subnet.core.state import Miner, RunState

#: How often a seat is offered before it goes to somebody else.
TRIES = 3


def seat(state: RunState, miner: Miner) -> list[Action]:
    """Give `miner` a stage if it has none, and tell it what to install."""
    if miner.stage < 0:
        counts = [len(state.members(stage)) for stage in range(state.spec.model.stages)]
        fewest = [stage for stage, count in enumerate(counts) if count == min(counts)]
        miner.stage = choose(fewest, state.spec.seed, "stage", miner.hotkey)
    return offer(state, miner)


def offer(state: RunState, miner: Miner) -> list[Action]:
    """Send `AssignLayer`; if it is not installed in time, `expire` offers it again."""
    miner.assign_deadline = state.now + state.spec.swarm.ready_s
    return remind(state, miner)


def remind(state: RunState, miner: Miner) -> list[Action]:
    """Say again what to install, without a new deadline: who answers with nonsense for ever still loses its seat."""
    manifest = state.manifests[miner.stage]
    return [AssignLayer(miner.hotkey, miner.stage, manifest.epoch, manifest, _inner_step(state, miner))]


def _inner_step(state: RunState, miner: Miner) -> int:
    """The median of what the others report: one who lies about it moves nobody."""
    peers = sorted(other.inner_step for other in state.miners.values() if other is not miner and other.done)
    return peers[len(peers) // 2] if peers else miner.inner_step


def expire(state: RunState) -> list[Action]:
    """Offer again what was not installed in time; who let `TRIES` offers pass is named by `given_up`."""
    actions: list[Action] = []
    for miner in state.miners.values():
        behind = miner.stage >= 0 and miner.installed < state.manifests[miner.stage].epoch
        if miner.connected and behind and state.now >= miner.assign_deadline:
            miner.assign_tries += 1
            if miner.assign_tries < TRIES:
                actions += offer(state, miner)
    return actions


def given_up(state: RunState) -> dict[str, str]:
    """Whose seat goes to somebody else, and why."""
    reason = f"the stage was offered {TRIES} times and not installed within {state.spec.swarm.ready_s:.0f} s each"
    return {
        miner.hotkey: f"{reason}; join again when the machine is free"
        for miner in state.miners.values()
        if miner.assign_tries >= TRIES
    }
