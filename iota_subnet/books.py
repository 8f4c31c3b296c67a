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


class Contradiction(NamedTuple):
    """Where a transcript and the books differ: the number of the pass (-1: one that is missing), and in words."""

    place: int
    reason: str


def disagreement(
    books: Iterable[Line], said: Iterable[Line], first_lease: int, whole: bool = True
) -> Contradiction | None:
    """The first thing in which a transcript contradicts the books, for the miner to read.

    `first_lease` is the number of the first lease that the books would know. `said` may be the beginning of a
    transcript, which is then not `whole`: nothing can be missing from it.
    """
    known = {line.lease: line for line in books}
    seen: dict[int, None] = {}
    strays = 0
    for place, line in enumerate(said):
        if line.lease in seen:
            return Contradiction(place, f"{name_of(place, line)}: lease {line.lease} is in the transcript twice")
        seen[line.lease] = None
        given = known.get(line.lease)
        if given is None:
            strays += 1
            if line.lease >= first_lease or strays > STRAYS:
                return Contradiction(place, f"{name_of(place, line)}: lease {line.lease} was not given to this miner")
        else:
            words = _differs(line, given)
            if words:
                return Contradiction(place, f"{name_of(place, line)}: {words}")
    for given in known.values() if whole else ():
        if given.done and given.lease not in seen:
            lease = f"lease {given.lease} ({given.op}, batch {given.batch})"
            return Contradiction(-1, f"{lease} has a receipt but is not in the transcript")
    return None


def name_of(place: int, line: Line) -> str:
    """A pass for a person."""
    return f"pass {place} ({line.op}, batch {line.batch})"


def brief(value: object) -> str:
    """What a stranger wrote, as far as a line has room."""
    if isinstance(value, tuple):
        return "[" + ", ".join(brief(part) for part in value[:4]) + ", ..." * (len(value) > 4) + "]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 16 else f"{text[:12]}..."


def _differs(told: Line, given: Line) -> str:
    lease = (
        ("operation", told.op, given.op),
        ("batch", told.batch, given.batch),
        ("inputs", told.inputs, given.inputs),
    )
    receipt = (("output", told.output, given.output), ("losses", told.losses, given.losses))
    for whose, pairs in (("what it was given", lease), ("its receipt", receipt if given.done else ())):
        for what, said, known in pairs:
            if said != known:
                return f"{what} {brief(said)}, by {whose} {brief(known)}"
    return ""
