"""Who fails its neighbours. Law: a peer is banned for a time when several distinct readers, and most of those who
tried, could not get what it promised to serve; nobody is banned by one reader's word, or for being cut off from a few.

A complaint is a lease that failed because of this miner's output; a praise is one that was done with it. Both are
forgotten after `ban_s`. A miner whose readers are elsewhere in a partition is praised by those on its side; one that is
cut off from all is disconnected, and that is not a fault.
"""

from __future__ import annotations

from iota_subnet.core.state import Complaints, RunState

#: So many different readers must have complained.
READERS = 3

#: And so many times in all.
TIMES = 6


def complain(state: RunState, reader: str, maker: str) -> None:
    """`reader` could not get what `maker` serves, or it was wrong."""
    if reader == maker or maker not in state.miners:
        return
    found = _of(state, maker)
    found.failed[reader] = found.failed.get(reader, 0) + 1
    found.served.pop(reader, None)
    enough = len(found.failed) >= READERS and sum(found.failed.values()) >= TIMES
    if enough and len(found.failed) > len(found.served) and maker not in state.convicted:
        reason = f"{len(found.failed)} different miners could not fetch what you serve; look at your blob port"
        state.convicted[maker] = reason


def praise(state: RunState, reader: str, maker: str) -> None:
    """`reader` has got what `maker` serves. Kept only where somebody has complained."""
    found = state.complaints.get(maker)
    if found is not None and reader != maker:
        found.served[reader] = None
        found.failed.pop(reader, None)


def judge(state: RunState) -> dict[str, str]:
    """Whose seats are over, and why. A stage's last ready replica stays, because bad service is better than none; but
    not one that cheats, because what it serves is worse."""
    convicted, state.convicted = state.convicted, {}
    expelled, state.expelled = state.expelled, {}
    banned: dict[str, str] = {}
    for hotkey, reason in (convicted | expelled).items():
        miner = state.miners.get(hotkey)
        state.complaints.pop(hotkey, None)
        last = miner is not None and miner.stage >= 0 and state.index.stages[miner.stage].ready < 2
        if miner is None or (last and hotkey not in expelled):
            continue
        state.banned[hotkey] = state.now + state.spec.swarm.ban_s, reason
        banned[hotkey] = f"banned for {state.spec.swarm.ban_s:.0f} s: {reason}"
    for hotkey in [hotkey for hotkey, (until, _) in state.banned.items() if until <= state.now]:
        del state.banned[hotkey]
    return banned


def _of(state: RunState, maker: str) -> Complaints:
    found = state.complaints.get(maker)
    if found is None or state.now > found.since + state.spec.swarm.ban_s:
        found = state.complaints[maker] = Complaints(state.now)
    return found
