"""One replica's epoch, computed again from what it began with and what it was given, and judged.

Law: an honest replica on the same kind of machine gives the same bytes, and on another kind numbers within `Limits`.
Nothing that a stranger wrote makes this raise: whatever is wrong with it is in the finding. One pass's bytes are held
at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from iota_subnet.spec import shard_bounds
from iota_subnet.train import activations, allreduce, books, codec, inputs, transcript
from iota_subnet.train.books import BadOrder, Refuted, name_of
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.measure import LIMITS, SAME, Distance, Limits, Sums, Tally
from iota_subnet.train.order import Check, Finding, Order
from iota_subnet.train.runner import StageRunner
from iota_subnet.train.transcript import BadTranscript, Pass, Transcript

__all__ = ["LIMITS", "BadOrder", "Limits", "replay"]

#: Bytes by their digest, or None.
Blobs = Callable[[str], bytes | None]

#: Microbatches that a finding names; who else had a hand in them will be looked at.
FALSE = 4

#: Pseudo-gradients in these codecs depend on earlier epochs too.
RESIDUAL = ("int8", "topk")


def replay(
    order: Order,
    blob: Blobs,
    limits: Limits = LIMITS,
    device: str = "cpu",
    max_passes: int = 0,
    threads: int = 0,
) -> Finding:
    """Judge the replica that the order is about.

    What is wrong outweighs what is missing: bytes that are not there end in "withheld" only if all the others pass.

    Args:
        order: what it was given and what it committed to.
        blob: gives bytes by digest; what does not have that digest counts as not there.
        limits: how far it may be off.
        device: where to compute, in the words of torch.
        max_passes: compute only so many first passes again, and not the pseudo-gradient; 0: all of it.
        threads: of this process, while it computes; 0 leaves them as they are.

    Raises:
        BadOrder: the order cannot be used, or the base state is not there; that says nothing about the miner.
    """
    audit = _Audit(order, blob, device, limits)
    began, before = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        audit.run(max_passes)
    except Missing as error:
        audit.lacks(error)
    except Refuted as error:
        audit.refuted = error
    finally:
        torch.set_num_threads(before)
    return audit.finding(time.perf_counter() - began)


class Missing(Exception):
    """Bytes that are not to be had; the message names them."""


class _Audit:
    """What is known so far."""

    def __init__(self, order: Order, blob: Blobs, device: str, limits: Limits) -> None:
        self._order, self._blob, self._device = order, blob, device
        self._spec = books.read_spec(order)
        self._tally = Tally(limits)
        self._due = {owed.lease for owed in order.owed if owed.done}
        self._said: tuple[Pass, ...] = ()
        self._passes = self._exact = 0
        self._missing = self._left_out = ""
        self._waited = 0.0
        self.refuted: Refuted | None = None

    def run(self, max_passes: int) -> None:
        """All of it, what costs least first. Raises Missing, Refuted or BadOrder."""
        said = self._read()
        self._said = said.passes
        self._complaints()
        if self._spec.swarm.overlap:
            self._left_out = "nothing was computed again: with overlap=True an epoch may begin with a carry"
            return
        runner = self._install(said.inner_step)
        few = said.passes[: max_passes or self._order.depth or None]
        for place, done in enumerate(few):
            self._pass(runner, place, done)
        kind = self._spec.train.delta_codec
        if len(few) < len(said.passes):
            rest = len(said.passes) - len(few)
            self._left_out = f"{rest} passes and the pseudo-gradient were not looked at, as was asked"
        elif not self._order.shards:
            self._left_out = "it committed to no pseudo-gradient"
        elif kind in RESIDUAL:
            self._left_out = f"the pseudo-gradient was not compared: codec {kind} adds what earlier epochs left"
        else:
            self._tally.delta(self._delta(runner))

    def lacks(self, missing: Missing) -> None:
        """Remember the first thing that is not to be had."""
        self._missing = self._missing or str(missing)

    def finding(self, seconds: float) -> Finding:
        """The verdict, after `seconds` of which some were spent waiting for bytes."""
        checks = self._tally.checks()
        bad = next((check for check in checks if check.bad), None)
        rest = (self._passes, self._exact, checks, seconds - self._waited)
        if self.refuted is not None:
            error = self.refuted
            contradiction = Check(error.what, 1.0, 0.0, error.place, True)
            return Finding("failed", error.reason, *rest[:2], (*checks, contradiction), rest[3], self._false())
        if bad is not None:
            return Finding("failed", self._tally.explain(bad, self._name), *rest, self._false())
        if self._missing:
            return Finding("withheld", f"{self._missing} is not to be had", *rest)
        more = f"; {self._left_out}" if self._left_out else ""
        return Finding("sound", f"{self._passes} passes, {self._exact} of them exact{more}", *rest)

    def _false(self) -> tuple[int, ...]:
        """The microbatches of the first passes that were found false."""
        places = self._tally.false()
        if self.refuted is not None and 0 <= self.refuted.place < len(self._said):
            places.append(self.refuted.place)
        return tuple(dict.fromkeys(self._said[place].batch for place in places))[:FALSE]

    def _name(self, place: int) -> str:
        return name_of(place, self._said[place])

    def _read(self) -> Transcript:
        """The transcript, if it agrees with the books."""
        if not self._order.transcript:
            raise Missing("a transcript, to which it never committed,")
        data = self._fetch(self._order.transcript, "the transcript")
        try:
            said = transcript.decode(data)
        except BadTranscript as error:
            raise Refuted("transcript", str(error)) from None
        books.compare(self._order, self._spec, said)
        return said

    def _complaints(self) -> None:
        """What it refused as unfit has to be there, and unfit."""
        for owed in self._order.owed:
            if not owed.blamed or owed.blamed not in owed.inputs:
                continue
            what = f"the input of lease {owed.lease} ({owed.op}, batch {owed.batch})"
            try:
                data = self._fetch(owed.blamed, f"{what}, which it has called unfit,")
            except Missing as error:
                self.lacks(error)
                continue
            place = owed.inputs.index(owed.blamed)
            if not inputs.unfit(self._spec, self._order.stage, owed.op, place, data):
                raise Refuted("complaint", f"{what} decodes, and it said that it does not")

    def _install(self, inner_step: int) -> StageRunner:
        """A replica of the base state. Its outer momentum is zero: neither passes nor pseudo-gradient read it."""
        shards = []
        for lo, hi, digest, _ in self._order.base:
            try:
                weights = self._fetch(digest, f"the base's weights [{lo}, {hi})")
            except Missing as error:
                raise BadOrder(f"{error} is not to be had") from None
            shards.append((lo, hi, weights, codec.encode(np.zeros(hi - lo, np.float32), "fp32", "momentum")))
        runner = StageRunner(self._spec, self._order.stage, self._device)
        try:
            runner.install(self._order.epoch, shards, inner_step)
        except BadPayload as error:
            raise BadOrder(f"the base state: {error}") from None
        return runner

    def _pass(self, runner: StageRunner, place: int, done: Pass) -> None:
        name = name_of(place, done)
        read = [self._fetch(digest, f"an input of {name}") for digest in done.inputs]
        try:
            output, losses = _compute(runner, done, read)
        except BadPayload as error:
            raise Refuted("passes", f"{name} cannot be computed: {error.reason}", place) from None
        if runner.inner_step != done.step:
            raise Refuted("passes", f"{name} ends at inner step {runner.inner_step}, not {done.step}", place)
        if len(losses) != len(done.losses):
            raise Refuted("passes", f"{name} has {len(losses)} losses, not {len(done.losses)}", place)
        same = not output or codec.digest(output) == done.output
        self._passes += 1
        self._exact += same and list(done.losses) == losses
        if losses:
            self._tally.losses([told - known for told, known in zip(done.losses, losses, strict=True)], place)
        if output:
            kind = "output" if done.op == "forward" else "gradient"
            try:
                self._tally.vector(kind, SAME if same else self._apart(name, kind, place, done, output), place)
            except Missing as error:
                # What follows is not changed by it, and may be worse. Without a receipt it is nobody's to keep.
                if done.lease in self._due:
                    self.lacks(error)

    def _apart(self, name: str, kind: str, place: int, done: Pass, output: bytes) -> Distance:
        with_ids = kind == "output" and activations.carries_ids(self._spec, self._order.stage + 1)
        data, sums = self._fetch(done.output, f"{kind} of {name}"), Sums()
        try:
            told, ids = activations.decode(self._spec, data, f"{kind} of {name}", with_ids)
        except BadPayload as error:
            raise Refuted("passes", error.reason, place) from None
        known, given = activations.decode(self._spec, output, kind, with_ids)
        if ids is not None and given is not None and not np.array_equal(ids, given):
            raise Refuted("passes", f"{name} passes on other token ids than it was given", place)
        sums.add(told, known)
        return sums.distance()

    def _delta(self, runner: StageRunner) -> Distance:
        """The pseudo-gradient that was committed to, against the runner's."""
        digests, train, sums = self._order.shards, self._spec.train, Sums()
        try:
            blobs = runner.pseudo_gradient(len(digests))
        except BadPayload as error:
            raise Refuted("pseudo-gradient", f"after the passes of the transcript: {error.reason}") from None
        bounds = shard_bounds(runner.parameters, len(digests))
        for index, (ours, (lo, hi), digest) in enumerate(zip(blobs, bounds, digests, strict=True)):
            told = known = allreduce.decode_delta(ours, hi - lo, train)
            name = f"shard {index} of the pseudo-gradient"
            try:
                if codec.digest(ours) != digest:
                    told = allreduce.decode_delta(self._fetch(digest, name), hi - lo, train)
            except BadPayload as error:
                raise Refuted("pseudo-gradient", f"{name}: {error.reason}") from None
            sums.add(told, known)
        return sums.distance()

    def _fetch(self, digest: str, what: str) -> bytes:
        began = time.perf_counter()
        data = self._blob(digest)
        self._waited += time.perf_counter() - began
        if data is None or codec.digest(data) != digest:
            raise Missing(f"{what} ({digest[:12]})")
        return data


def _compute(runner: StageRunner, done: Pass, read: Sequence[bytes]) -> tuple[bytes, list[float]]:
    """As a miner does it."""
    if done.op == "forward":
        return runner.forward(done.batch, read[0]), []
    if done.op == "backward":
        return runner.backward(done.batch, read[0], read[1]), []
    return runner.forward_backward(done.batch, read[0] if len(read) == 2 else b"", read[-1])
