"""Whether what a miner says that it did is what it was given to do. Standard library only.

Law: every lease whose receipt was taken while the epoch trained is in the transcript, once, with the same bytes in and
out; and whatever else is in it was given to this miner. The only exception are a few leases of the time before: what
was withdrawn long ago may still be computed, and is remembered by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Passes of leases from before the books begin that are not held against anybody.
STRAYS = 4


class Line(NamedTuple):
    """A lease in the books, or a pass in a transcript; digests are in hex, "" where there is none.

    `done` says of a line in the books that the pass has to be in the transcript.
    """

    lease: int
    op: str
    batch: int
    inputs: tuple[str, ...]
    output: str
    losses: tuple[float, ...]
    done: bool = True


def disagreement(books: Iterable[Line], said: Iterable[Line], first_lease: int) -> str:
    """Where the transcript contradicts the books, in one line for the miner; "" if it does not.

    `first_lease` is the number of the first lease that the books would know.
    """
    known = {line.lease: line for line in books}
    seen: dict[int, None] = {}
    strays = 0
    for place, line in enumerate(said):
        if line.lease in seen:
            return f"pass {place} does lease {line.lease} a second time"
        seen[line.lease] = None
        given = known.get(line.lease)
        if given is None:
            strays += 1
            if line.lease >= first_lease or strays > STRAYS:
                return f"pass {place} is for lease {line.lease}, which was never given to this miner"
            continue
        if (line.op, line.batch, line.inputs) != (given.op, given.batch, given.inputs):
            return f"pass {place} (lease {line.lease}) has other inputs than it was given"
        if given.done and line.output != given.output:
            return f"pass {place} (lease {line.lease}) has another output than its receipt"
        if given.done and line.losses != given.losses:
            return f"pass {place} (lease {line.lease}) has other losses than its receipt"
    missing = [line.lease for line in known.values() if line.done and line.lease not in seen]
    return f"lease {missing[0]} is done by its receipt, and not in the transcript" if missing else ""
