"""What a receipt must be to be believed at all. Whether the work is right is for its readers and for audits to say."""

from __future__ import annotations

from iota_subnet.core.events import LeaseFinished
from iota_subnet.core.state import Fault, Lease, RunState

#: Receipts of one epoch for leases that others hold. After a restart an honest miner may have a few of a run that is
#: gone, whose numbers were given again.
CLAIMS = 16


def problem(state: RunState, lease: Lease, event: LeaseFinished) -> str:
    """Why a receipt cannot be right, or nothing."""
    last = lease.op != "forward" and lease.stage == 0
    if (event.output is None) != last:
        return "the head's backward pass has no output" if last else "the receipt names no output"
    if event.output is not None and not 0 < event.output.nbytes <= state.spec.swarm.max_blob_bytes:
        return f"an output of {event.output.nbytes} bytes is outside the limits"
    if lease.op == "loss" and len(event.losses) != state.spec.train.microbatch:
        return f"{len(event.losses)} losses for {state.spec.train.microbatch} samples"
    for loss in event.losses:
        if not 0 <= loss < 1e4:
            return "a loss is negative, huge or not a number"
    if not 0 <= event.seconds < 1e6:
        return "the seconds are negative, huge or not a number"
    if not 0 <= event.inner_step < 1 << 40:
        return "the inner step is negative or huge"
    return ""


def foreign(state: RunState, event: LeaseFinished) -> None:
    """A receipt for a lease that its sender does not hold. One of its own that came too late is no claim; one that it
    was never given is. Many of them are a fault: who guesses its neighbours' leases wants their pay."""
    if event.hotkey not in state.miners or _was_its_own(state, event):
        return
    claims = state.claims[event.hotkey] = state.claims.get(event.hotkey, 0) + 1
    if claims == CLAIMS:
        what = f"{CLAIMS} receipts in one epoch for leases that it was never given"
        state.faults.append(Fault(state.now, state.epoch, event.hotkey, what))
        state.expelled[event.hotkey] = what


def _was_its_own(state: RunState, event: LeaseFinished) -> bool:
    """Whether it may have been given that lease; of the time before its books nobody knows."""
    if event.lease >= state.next_lease:
        return False
    watch = state.watched.get(event.hotkey)
    if watch is not None:
        return event.lease < watch.first_lease or event.lease in watch.leases
    held = state.leases.get(event.lease) or state.expired.get(event.lease)
    return held is None or held.hotkey == event.hotkey
