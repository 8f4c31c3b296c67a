"""How fast a miner is. Law: only what the orchestrator has timed itself counts; a miner's own word moves nothing.

A lease's service time runs from when it was given, or from the miner's receipt before it if that came later, to its
receipt: computing and transfer that did not overlap, whatever the miner says of it.

A miner that was not timed yet counts as very fast: so it is tried soon, and one lease says what it is. Arithmetic here
is +, -, *, / and fsum only, which are the same on any machine and in any Python.
"""

from __future__ import annotations

from bisect import bisect_right
from math import fsum
from typing import TYPE_CHECKING

from iota_subnet.core.sampler import RUNGS

if TYPE_CHECKING:
    from iota_subnet.core.actions import Op
    from iota_subnet.core.state import Lease, Miner, RunState

#: What one new service time counts against all before it.
NEWEST = 0.25

#: How much slower one late lease can make a miner look.
SLOWER = 2.0

#: Seconds below which all are alike. A power of two: the bounds below are then the same on any machine.
QUICK = 1 / 64

#: Four rungs are a factor of two in time.
_QUARTERS = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)

#: Where a rung ends and the next, slower one begins, in seconds.
BOUNDS = tuple(QUICK * 2.0 ** (rung // 4) * _QUARTERS[rung % 4] for rung in range(RUNGS - 1))

#: What somebody weighs in a draw who stands so many rungs behind the best: a quarter per rung, 256 times less for twice
#: the time. Who stands further back is drawn blindly only.
ODDS = tuple(4**behind for behind in reversed(range(6)))

#: Rates are counted in steps per so many seconds, as whole numbers.
PER = 1_000_000


def service(state: RunState, miner: Miner, lease: Lease) -> float:
    """Seconds that a lease has kept its miner until now."""
    began = miner.last_receipt_at if miner.last_receipt_at > lease.opened_at else lease.opened_at
    return state.now - began if state.now > began else 0.0


def timed(state: RunState, miner: Miner, lease: Lease) -> None:
    """One more service time, of a lease that is done now.

    While an epoch drains nothing overlaps: a time says more of the line then, and counts only if there is no other.
    """
    known = miner.pace.get(lease.op)
    if known is None:
        note(miner, lease.op, service(state, miner, lease))
    elif not state.draining:
        note(miner, lease.op, known + NEWEST * (service(state, miner, lease) - known))
    miner.last_receipt_at = state.now


def note(miner: Miner, op: Op, seconds: float) -> None:
    """So long a step takes this miner. Their mean is kept: every lease asks for it, twice."""
    pace = miner.pace
    pace[op] = seconds
    miner.mean = fsum(pace.values()) / len(pace)


def expected(miner: Miner, op: Op) -> float:
    """Seconds that a step takes this miner, 0 if nobody knows; of another step if that is all that is known."""
    known = miner.pace.get(op)
    return miner.mean if known is None else known


def patience(state: RunState, miner: Miner, op: Op) -> float:
    """Seconds after which a lease given now goes to somebody else. Late work is taken too: this is a hedge, not a
    judgement, and it is bolder near the end of an epoch, when all wait for the last."""
    swarm = state.spec.swarm
    own = miner.pace.get(op)
    if own is None:
        return swarm.lease_s
    pace = own
    for other in miner.leases.values():
        pace += own if other == op else expected(miner, other)
    seconds = (swarm.hedge_drain if state.draining else swarm.hedge) * pace
    if seconds < swarm.lease_min_s:
        seconds = swarm.lease_min_s
    return seconds if seconds < swarm.lease_s else swarm.lease_s


def overran(state: RunState, miner: Miner, lease: Lease) -> None:
    """A lease is not done although it should be: the next one of its kind gets more time.

    No more than `SLOWER` times as much: a machine that stood still for a minute would else count as slow for ever.
    """
    seconds, known = service(state, miner, lease), miner.pace.get(lease.op)
    note(miner, lease.op, seconds if known is None else max(known, min(seconds, SLOWER * known)))


def level(miner: Miner, held: int, keeps: int) -> int:
    """The rung of a miner that has room: the class of its completion time, 0 until it was timed.

    That is seconds until a step given now would be done, and what it leaves behind: leases that are open come first,
    each of the `held` graphs comes back, and one more than it `keeps` has to be made again.
    """
    if not miner.pace:
        return 0
    work = len(miner.leases)
    seconds = miner.mean * (1 + work + 0.125 * held)
    return bisect_right(BOUNDS, seconds if held + work < keeps else 2 * seconds)


def rate(miner: Miner) -> int:
    """Round trips (forward and backward) per `PER` seconds that this miner adds to its stage; 0 until it is known."""
    return int(PER / max(QUICK, fsum(miner.pace.values()))) if miner.pace else 0
