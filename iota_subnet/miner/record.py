"""What became of a miner's work: the leases it holds, its last receipts and what the validator said of each.

A receipt is not answered when it is taken. It counts as accepted when the validator, asked after it was sent, holds its
lease open no more and has not refused it. Late means accepted after the lease was withdrawn.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from iota_subnet.messages import Failure, FromMiner, Lease, Receipt

#: Receipts that are remembered, and leases at most: more than a validator ever gives at once.
KEEP = 32
MOST_OPEN = 256

#: Seconds that a receipt may be on its way before silence means that it was taken.
SETTLE_S = 2.0

_LEASE = re.compile(r"lease (\d{1,18})$")


@dataclass(slots=True)
class Open:
    """A lease in hand; `due` is a reading of the miner's own clock."""

    lease: int
    op: str
    batch: int
    epoch: int
    due: float
    withdrawn: str = ""


@dataclass(slots=True)
class Done:
    """A receipt or a failure that was sent. `at` is in seconds of the miner's clock.

    `outcome` is sent, unsent (no work channel), accepted, late, refused or failed; `reason` says why.
    """

    lease: int
    op: str
    batch: int
    epoch: int
    seconds: float
    at: float
    outcome: str
    reason: str = ""


class Record:
    """One miner's work, as it is given, done and judged. All calls come from the event loop."""

    def __init__(self) -> None:
        self.open: OrderedDict[int, Open] = OrderedDict()
        self.last: deque[Done] = deque(maxlen=KEEP)
        self.counts: dict[int, Counter[str]] = {}

    def given(self, lease: Lease, now: float) -> None:
        """A lease has come, maybe again."""
        self.open[lease.lease] = Open(lease.lease, lease.op, lease.batch, lease.epoch, now + lease.seconds_left)
        while len(self.open) > MOST_OPEN:
            self.open.popitem(last=False)

    def withdrawn(self, lease: int, reason: str) -> None:
        """The validator waits no more; the work goes on, and may still be taken."""
        if lease in self.open:
            self.open[lease].withdrawn = reason

    def sent(self, message: FromMiner, delivered: bool, now: float) -> None:
        """A receipt or a failure has left; anything else is no lease's end."""
        if not isinstance(message, Receipt | Failure):
            return
        held = self.open.pop(message.lease, None)
        if held is None:
            return
        again = next((done for done in self.last if (done.lease, done.batch) == (held.lease, held.batch)), None)
        if again is not None:
            # Given again after a reconnect: the kept receipt went out once more.
            self.last.remove(again)
        seconds = message.seconds if isinstance(message, Receipt) else 0.0
        done = Done(held.lease, held.op, held.batch, held.epoch, seconds, now, "sent" if delivered else "unsent")
        if held.withdrawn:
            done.reason = held.withdrawn
        if isinstance(message, Failure):
            done.outcome, done.reason = "failed", f"{message.kind}: {message.reason}"
        self.last.append(done)
        if again is None:
            self._count(held.epoch, "failed" if isinstance(message, Failure) else "done")

    def refused(self, what: str, reason: str) -> Done | None:
        """The validator did not take something; the receipt that it was, if it was one."""
        found = _LEASE.search(what)
        number = int(found.group(1)) if found else -1
        done = next((done for done in reversed(self.last) if done.lease == number), None)
        if done is not None and done.outcome != "refused":
            done.outcome, done.reason = "refused", reason
            self._count(done.epoch, "refused")
        return done

    def settled(self, asked_at: float, still_open: Collection[int]) -> None:
        """The validator's word, asked for at `asked_at`, on what it still waits for."""
        for done in self.last:
            if done.outcome == "sent" and done.at < asked_at - SETTLE_S and done.lease not in still_open:
                done.outcome = "late" if done.reason else "accepted"

    def forget(self, in_hand: Collection[int]) -> None:
        """Leases that nobody works on any more were ended by a move or by another run."""
        for lease in [lease for lease in self.open if lease not in in_hand]:
            del self.open[lease]

    def of(self, epoch: int) -> Counter[str]:
        """How many leases of an epoch were done, refused and failed."""
        return self.counts.get(epoch, Counter())

    def document(self, now: float) -> dict[str, Any]:
        """For the status file; times are seconds from now."""
        return {
            "leases": [
                {"lease": held.lease, "op": held.op, "batch": held.batch, "withdrawn": held.withdrawn}
                | {"seconds_left": round(max(0.0, held.due - now), 1)}
                for held in self.open.values()
            ],
            "receipts": [
                {key: value for key, value in asdict(done).items() if key != "at"}
                | {"seconds": round(done.seconds, 4), "ago_s": round(now - done.at, 1)}
                for done in reversed(self.last)
            ],
            "epochs": {str(epoch): dict(counts) for epoch, counts in self.counts.items()},
        }

    def _count(self, epoch: int, what: str) -> None:
        self.counts.setdefault(epoch, Counter())[what] += 1
        while len(self.counts) > 8:
            del self.counts[next(iter(self.counts))]
