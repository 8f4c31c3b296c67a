"""Who gets a seat. Law: more miners than seats wait in the order in which they first asked, and are told their place.

A place is kept for who asks again within `wait_s`, across reconnects and restarts; a freed seat is the first one's, for
as long as it keeps asking. A hotkey has one place, however often it asks; the list is bounded.
"""

from __future__ import annotations

from iota_subnet.core.deadlines import Due
from iota_subnet.core.state import RunState

#: Places, as a multiple of the seats.
PLACES = 16


def refusal(state: RunState, hotkey: str) -> str:
    """Why this hotkey gets no seat now, or nothing: then its place in the line is over."""
    until = state.banned.get(hotkey)
    if until is not None and state.now < until[0]:
        left = until[0] - state.now
        return f"you are banned for another {left:.0f} s: {until[1]}"
    if state.registered is not None and hotkey not in state.registered:
        return "the hotkey is not registered on this subnet"
    if hotkey in state.miners:
        return ""
    _forget_the_silent(state)
    free = state.spec.swarm.max_miners - len(state.miners)
    ahead = _ahead(state, hotkey)
    if ahead < free:
        state.line.pop(hotkey, None)
        return ""
    if hotkey not in state.line and len(state.line) >= PLACES * state.spec.swarm.max_miners:
        return f"all {state.spec.swarm.max_miners} seats are taken and the waiting list is full; try again later"
    state.line[hotkey] = state.now
    state.index.seats.add(state.now + state.spec.swarm.wait_s, Due.PLACE, hotkey)
    return (
        f"all {state.spec.swarm.max_miners} seats are taken; you are number {ahead + 1} in the line: keep asking, "
        f"your place is kept for {state.spec.swarm.wait_s:.0f} s after each time"
    )


def expire(state: RunState, hotkey: str, when: float) -> None:
    """A reminder: who has not asked for `wait_s` has gone elsewhere."""
    asked = state.line.get(hotkey)
    if asked is not None and when >= asked + state.spec.swarm.wait_s:
        del state.line[hotkey]


def _forget_the_silent(state: RunState) -> None:
    """The first in line must be somebody who still asks, or a free seat would stay empty until the next tick."""
    while state.line:
        first = next(iter(state.line))
        if state.now < state.line[first] + state.spec.swarm.wait_s:
            return
        del state.line[first]


def _ahead(state: RunState, hotkey: str) -> int:
    """How many have asked before: a new one is behind all. A dict keeps the place of a key that is written again."""
    if hotkey not in state.line:
        return len(state.line)
    return list(state.line).index(hotkey)
