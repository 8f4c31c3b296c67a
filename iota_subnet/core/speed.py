"""How fast a miner is. Law: only what the orchestrator has timed itself counts; a miner's own word moves nothing.

A lease's service time runs from when it was given, or from the miner's receipt before it if that came later, to its
receipt: computing and transfer that did not overlap, whatever the miner says of it.

A miner that was not timed yet counts as very fast: so it is tried soon, and one lease says what it is. Arithmetic here
is +, -, * and / only, which are the same on any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iota_subnet.core.actions import Op
    from iota_subnet.core.state import Lease, Miner, RunState

#: What one new service time counts against all before it.
NEWEST = 0.25

#: Weights are whole numbers in 1 .. HEAVIEST, HEAVIEST being that of a miner that would be done in no time. They fall
#: with the eighth power of the time: who would be done in half of it is drawn 256 times as often.
HEAVIEST = 1 << 140

#: Seconds below which all are alike.
QUICK = 1e-2

#: Rates are counted in steps per so many seconds, as whole numbers.
PER = 1_000_000


def timed(miner: Miner, op: Op, seconds: float) -> None:
    """One more service time."""
    known = miner.pace.get(op)
    miner.pace[op] = seconds if known is None else known + NEWEST * (seconds - known)


def service(state: RunState, lease: Lease, miner: Miner) -> float:
    """How long a lease that is done now has kept its miner."""
    return max(0.0, state.now - max(lease.opened_at, miner.last_receipt_at))


def expected(miner: Miner, op: Op) -> float:
    """Seconds that a step takes this miner, 0 if nobody knows; of another step if that is all that is known."""
    known = miner.pace.get(op)
    if known is None:
        return sum(miner.pace.values()) / len(miner.pace) if miner.pace else 0.0
    return known


def patience(state: RunState, miner: Miner, op: Op) -> float:
    """Seconds after which a lease given now goes to somebody else. Late work is taken too: this is a hedge, not a
    judgement, and it is bolder near the end of an epoch, when all wait for the last."""
    swarm = state.spec.swarm
    if op not in miner.pace:
        return swarm.lease_s
    ahead = sum(expected(miner, state.leases[lease].op) for lease in miner.leases)
    times = swarm.hedge_drain if state.draining else swarm.hedge
    return min(swarm.lease_s, max(swarm.lease_min_s, times * (ahead + miner.pace[op])))


def overran(miner: Miner, op: Op, seconds: float) -> None:
    """A lease was not done in so many seconds: the next one of its kind gets more time."""
    miner.pace[op] = max(seconds, miner.pace.get(op, 0.0))


def completion(miner: Miner, held: int) -> float:
    """Seconds until a step given now would be done, and what it leaves behind: leases that are open come first, and
    every graph that it holds comes back."""
    pace = sum(miner.pace.values()) / len(miner.pace) if miner.pace else 0.0
    return pace * (1 + len(miner.leases) + 0.125 * held)


def weight(miner: Miner, held: int) -> int:
    """How often this miner is drawn, against others that have room."""
    seconds = max(QUICK, completion(miner, held)) / QUICK
    square = seconds * seconds
    return max(1, int(HEAVIEST / (square * square * square * square)))


def rate(miner: Miner) -> int:
    """Round trips (forward and backward) per `PER` seconds that this miner adds to its stage; 0 until it is known."""
    return int(PER / max(QUICK, sum(miner.pace.values()))) if miner.pace else 0
