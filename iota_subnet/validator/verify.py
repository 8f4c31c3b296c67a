"""Whether a ledger is what it says: whole, in order, and giving the states that it holds.

What this cannot see: that the newest events were cut off, or that somebody wrote all of it anew. Both show in the
digest of the newest event, which is for those who keep it to compare.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from iota_subnet.core import invariants
from iota_subnet.core.events import Event
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import RunState
from iota_subnet.spec import RunSpec
from iota_subnet.validator import snapshots
from iota_subnet.validator.journal import Journal, LedgerError, Mark, chained, decode, genesis


class Broken(Exception):
    """The first event, or the snapshot after it, that is not as it must be."""

    def __init__(self, seq: int, problem: str) -> None:
        self.seq = seq
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ledger that is sound. `played` of its events were handled again, those from the first state on that it has."""

    base: Mark
    head: Mark
    played: int
    snapshots: int
    state: RunState

    @property
    def events(self) -> int:
        """How many events the kept part holds."""
        return self.head.seq - self.base.seq


def verify(journal: Journal) -> Verdict:
    """Read every event, handle it again, and compare every snapshot to the bit.

    Raises:
        Broken: at the first thing that is wrong.
        LedgerError: the file is not one whose events can be looked at.
    """
    spec, base, seqs = journal.spec(), journal.base(), journal.snapshot_seqs()
    start = genesis(journal.setting("spec"))
    if base.seq == 0 and base != start:
        raise Broken(0, "the history does not begin with the specification of its run")
    if seqs and seqs[0] < base.seq:
        raise Broken(seqs[0], "a snapshot is older than the first event")
    core = Orchestrator(spec) if base.seq == 0 else None
    mark, played, left = base, 0, set(seqs)
    if base.seq in left:
        core = _compared(journal, spec, base, core)
    rows = journal.rows()
    for seq in itertools.count(base.seq + 1):
        try:
            row = next(rows, None)
            if row is None:
                break
            if row.seq != seq:
                raise Broken(min(seq, row.seq), "it is missing" if row.seq > seq else "it should not be there any more")
            if row.digest != chained(mark.digest, row.kind, row.body):
                raise Broken(seq, "its digest does not follow from what is before it")
            event = decode(row)
        except LedgerError as error:
            raise Broken(seq, str(error)) from None
        mark = Mark(seq, row.digest)
        if core is not None:
            _handle(core, seq, event)
            played += 1
        if seq in left:
            core = _compared(journal, spec, mark, core)
    if seqs and seqs[-1] > mark.seq:
        raise Broken(mark.seq + 1, f"it is missing, and there is a snapshot of the state after event {seqs[-1]}")
    if core is None:
        raise Broken(base.seq, "all events up to it were deleted, and there is no snapshot to go on from")
    try:
        invariants.check(core.state)
    except invariants.Broken as error:
        raise Broken(mark.seq, f"the state after it breaks an invariant: {error}") from None
    return Verdict(base, mark, played, len(seqs), core.state)


def _handle(core: Orchestrator, seq: int, event: Event) -> None:
    try:
        core.handle(event)
    except Exception as error:
        problem = f"the core cannot handle {type(event).__name__}: {type(error).__name__}: {error}"
        raise Broken(seq, problem) from None


def _compared(journal: Journal, spec: RunSpec, mark: Mark, core: Orchestrator | None) -> Orchestrator:
    """The core as it is at `mark`: the one that has played so far, or the first, from the snapshot."""
    try:
        state = journal.load(mark.seq, spec)
    except LedgerError as error:
        raise Broken(mark.seq, f"the snapshot after it cannot be used: {error}") from None
    if core is None:
        core = Orchestrator(spec)
        core.state = state
    elif snapshots.encode(core.state) != journal.snapshot(mark.seq).body:
        raise Broken(mark.seq, "the snapshot after it is not what a replay by this release comes to")
    return core
