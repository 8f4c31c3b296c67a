"""Who leaves in good order. Law: it gets nothing new, finishes what only it can, and goes when nobody needs it any
more; how long it is willing to wait for that is for its operator to say.
"""

from __future__ import annotations

from iota_subnet.core.state import Miner, Phase, RunState


def begin(state: RunState, miner: Miner) -> None:
    """From here on it gets no step that another replica could take."""
    miner.leaving = True
    state.index.miner(miner.hotkey)


def needed_for(state: RunState, miner: Miner) -> str:
    """What would be lost, or would have to be done again, if the miner went now; nothing when it may go."""
    return _its_seat(state, miner) or _its_evidence(state, miner)


def _its_seat(state: RunState, miner: Miner) -> str:
    if miner.stage < 0 or miner.installed < 0:
        return ""
    if state.phase in (Phase.COMMIT, Phase.REDUCE, Phase.INSTALL):
        return "the merge of this epoch"
    if miner.leases:
        return f"{len(miner.leases)} open leases"
    held = state.index.held(miner.hotkey)
    if held:
        return f"the backward passes of {held} microbatches, whose graphs it holds"
    unread = _unread(state, miner)
    if unread:
        return f"{unread} gradients that have not been read yet"
    alone = not any(other is not miner and state.ready(other) for other in state.members(miner.stage))
    if alone and state.safe != state.manifests:
        return "the copy of its stage, which nobody else holds yet"
    return ""


def _its_evidence(state: RunState, miner: Miner) -> str:
    """It goes with the process, whatever seat that has by now, and what cannot be shown is not paid. Who is asked has
    committed: to know that it is asked changes nothing."""
    asked = next((epoch for hotkey, epoch, _ in state.open_audits if hotkey == miner.hotkey), None)
    return "" if asked is None else f"an audit of epoch {asked}"


def _unread(state: RunState, miner: Miner) -> int:
    """Gradients that it made and serves, and that the stage before has not used. Activations are covered by graphs."""
    if miner.stage == 0:
        return 0
    stage, hotkey = miner.stage, miner.hotkey
    made = ((batch.gradient[stage], batch.gradient[stage - 1]) for batch in state.batches.values())
    return sum(mine is not None and mine.hotkey == hotkey and used is None for mine, used in made)
