"""Who sits where. Law: the stage with the fewest miners gets the newcomer; ties are drawn from the public seed."""

from __future__ import annotations

from iota_subnet.core.actions import Action, AssignLayer
from iota_subnet.core.deadlines import Due
from iota_subnet.core.draw import choose
from iota_subnet.core.state import TRIES, Miner, RunState


def seat(state: RunState, miner: Miner) -> list[Action]:
    """Give `miner` a stage if it has none, and tell it what to install."""
    if miner.stage < 0:
        state.index.settle(state)
        counts = [stage.members for stage in state.index.stages]
        fewest = [stage for stage, count in enumerate(counts) if count == min(counts)]
        take(state, miner, choose(fewest, state.spec.seed, "stage", miner.hotkey))
    return offer(state, miner)


def take(state: RunState, miner: Miner, stage: int) -> None:
    """Sit down."""
    miner.stage, miner.slot = stage, state.index.seat(stage)
    state.index.miner(miner.hotkey)


def offer(state: RunState, miner: Miner) -> list[Action]:
    """Send `AssignLayer`; if it is not installed in time, `expire` offers it again."""
    expect(state, miner, state.now + state.spec.swarm.ready_s)
    return remind(state, miner)


def expect(state: RunState, miner: Miner, when: float) -> None:
    """Until when a miner may take to install."""
    miner.assign_deadline = when
    state.index.seats.add(when, Due.SEAT, miner.hotkey)


def remind(state: RunState, miner: Miner) -> list[Action]:
    """Say again what to install, without a new deadline: who answers with nonsense for ever still loses its seat."""
    manifest = state.manifests[miner.stage]
    return [AssignLayer(miner.hotkey, miner.stage, manifest.epoch, manifest, _inner_step(state, miner))]


def _inner_step(state: RunState, miner: Miner) -> int:
    """The median of what the others reported last: one who lies about it moves nobody."""
    peers = sorted(step for hotkey, step in state.steps.items() if hotkey != miner.hotkey)
    return peers[len(peers) // 2] if peers else miner.inner_step


def overdue(state: RunState, hotkey: str, when: float) -> list[Action]:
    """A reminder: offer again what was not installed in time. Who let `TRIES` offers pass loses the seat."""
    miner = state.miners.get(hotkey)
    if miner is None or not miner.connected or miner.stage < 0 or when < miner.assign_deadline:
        return []
    if miner.installed >= state.manifests[miner.stage].epoch or miner.assign_tries >= TRIES:
        return []
    miner.assign_tries += 1
    state.index.miner(hotkey)
    return offer(state, miner) if miner.assign_tries < TRIES else []


def given_up(state: RunState, miner: Miner) -> str:
    """Why its seat goes to somebody else, or nothing."""
    if miner.assign_tries < TRIES:
        return ""
    reason = f"the stage was offered {TRIES} times and not installed within {state.spec.swarm.ready_s:.0f} s each"
    return f"{reason}; join again when the machine is free"
