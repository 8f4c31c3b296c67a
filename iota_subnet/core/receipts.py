"""What a receipt must be to be believed at all. Whether the work is right is for its readers and for audits to say."""

from __future__ import annotations

from iota_subnet.core.events import LeaseFinished
from iota_subnet.core.state import Lease, RunState


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
