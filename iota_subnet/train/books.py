"""A transcript against the orchestrator's books: what was given, what was said to be done, and in which words.

Law: a pass is a lease that this miner was given, with these inputs, once; and what has a receipt is a pass. Pure, and
quick: nothing is computed again here.
"""

from __future__ import annotations

from iota_subnet import books
from iota_subnet.books import Line, brief, disagreement
from iota_subnet.model.parameters import parameter_count
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.train.order import Order
from iota_subnet.train.transcript import Pass, Transcript


class BadOrder(ValueError):
    """The order itself cannot be used, which says nothing about the miner; the message says what is wrong."""


class Refuted(Exception):
    """What the miner said cannot be so. `what` names the kind of check, `place` the pass (-1: none)."""

    def __init__(self, what: str, reason: str, place: int = -1) -> None:
        super().__init__(reason)
        self.what, self.reason, self.place = what, reason, place


def read_spec(order: Order) -> RunSpec:
    """The run's specification, fit for the rest of the order.

    Raises:
        BadOrder: it is none, or stage, base or leases do not belong to such a run.
    """
    try:
        spec = RunSpec.from_json(order.spec)
        size = parameter_count(spec.model, order.stage)
    except SpecError as error:
        raise BadOrder(str(error)) from None
    at = 0
    for lo, hi, _, _ in sorted(order.base):
        if lo != at or hi < lo:
            raise BadOrder(f"the base state has no shard that continues at {at} of {size}")
        at = hi
    if at != size or order.epoch < 0:
        raise BadOrder(f"epoch {order.epoch} of stage {order.stage}: the base state ends at {at} of {size}")
    for owed in order.owed:
        if len(owed.inputs) != inputs_of(spec, order.stage).get(owed.op):
            raise BadOrder(f"lease {owed.lease} ({owed.op}, {len(owed.inputs)} inputs) is none of stage {order.stage}")
    if len({owed.lease for owed in order.owed}) != len(order.owed):
        raise BadOrder("a lease is in the order twice")
    return spec


def inputs_of(spec: RunSpec, stage: int) -> dict[str, int]:
    """How many inputs the operations of this stage take; those of other stages are not in it."""
    if stage < spec.model.stages - 1:
        return {"forward": 1, "backward": 2}
    return {"loss": 1 if stage == 0 else 2}


def is_silent(stage: int, op: str) -> bool:
    """Whether a pass has no output: there is nobody before the head."""
    return stage == 0 and op != "forward"


def compare(order: Order, spec: RunSpec, said: Transcript) -> None:
    """Raises Refuted with the first thing that does not agree."""
    for name, told, known in (
        ("run", said.run, spec.digest()),
        ("hotkey", said.hotkey, order.hotkey),
        ("stage", said.stage, order.stage),
        ("epoch", said.epoch, order.epoch),
        ("manifest", said.manifest, order.manifest),
    ):
        if told != known:
            raise Refuted("transcript", f"the transcript is of {name} {brief(told)}, not {brief(known)}")
    first, last = order.steps
    if not first <= said.inner_step <= last:
        raise Refuted("transcript", f"the transcript begins at inner step {said.inner_step}, not {first}..{last}")
    given = (Line(o.lease, o.op, o.batch, o.inputs, o.output, o.losses, o.done) for o in order.owed)
    passes = said.passes[: order.depth or None]
    found = disagreement(given, map(line_of, passes), order.first_lease, whole=len(passes) == len(said.passes))
    if found is not None:
        raise Refuted("books", found.reason, found.place)
    for place, done in enumerate(passes):
        if is_silent(order.stage, done.op) != (not done.output):
            reason = "an output where there is none" if done.output else "no output"
            raise Refuted("books", f"{name_of(place, done)}: {reason}", place)


def name_of(place: int, done: Pass) -> str:
    """A pass for a person."""
    return books.name_of(place, line_of(done))


def line_of(done: Pass) -> Line:
    """A pass as the books have it."""
    return Line(done.lease, done.op, done.batch, done.inputs, done.output, done.losses)
