"""A transcript against the orchestrator's books: what was given, what was said to be done, and in which words.

Law: a pass is a lease that this miner was given, with these inputs, once; and what has a receipt is a pass. Pure, and
quick: nothing is computed again here.
"""

from __future__ import annotations

from iota_subnet.model.parameters import parameter_count
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.train.order import Order, Owed
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
            raise Refuted("transcript", f"the transcript is of {name} {_brief(told)}, not {_brief(known)}")
    first, last = order.steps
    if not first <= said.inner_step <= last:
        raise Refuted("transcript", f"the transcript begins at inner step {said.inner_step}, not {first}..{last}")
    books = {owed.lease: owed for owed in order.owed}
    seen: set[int] = set()
    for place, done in enumerate(said.passes):
        owed = books.get(done.lease)
        if owed is None:
            raise Refuted("books", f"{name_of(place, done)}: lease {done.lease} was not given to this miner", place)
        if done.lease in seen:
            raise Refuted("books", f"{name_of(place, done)}: lease {done.lease} is in the transcript twice", place)
        seen.add(done.lease)
        _compare_pass(order.stage, place, done, owed)
    for owed in order.owed:
        if owed.done and owed.lease not in seen:
            lease = f"lease {owed.lease} ({owed.op}, batch {owed.batch})"
            raise Refuted("books", f"{lease} has a receipt but is not in the transcript")


def name_of(place: int, done: Pass) -> str:
    """A pass for a person."""
    return f"pass {place} ({done.op}, batch {done.batch})"


def _compare_pass(stage: int, place: int, done: Pass, owed: Owed) -> None:
    given = (("operation", done.op, owed.op), ("batch", done.batch, owed.batch), ("inputs", done.inputs, owed.inputs))
    receipt = (("output", done.output, owed.output), ("losses", done.losses, owed.losses))
    for whose, pairs in (("what it was given", given), ("its receipt", receipt if owed.done else ())):
        for what, told, known in pairs:
            if told != known:
                reason = f"{what} {_brief(told)}, by {whose} {_brief(known)}"
                raise Refuted("books", f"{name_of(place, done)}: {reason}", place)
    if is_silent(stage, done.op) != (not done.output):
        reason = "an output where there is none" if done.output else "no output"
        raise Refuted("books", f"{name_of(place, done)}: {reason}", place)


def _brief(value: object) -> str:
    """What a stranger wrote, as far as a line has room."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_brief(part) for part in value[:4]) + ", ..." * (len(value) > 4) + "]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 16 else f"{text[:12]}..."
