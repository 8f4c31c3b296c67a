"""TO BE REMOVED when `train/replay.py` is there: a plain stand-in for its `replay(order, blob)`.

It does the passes of a transcript again, on an honest runner, and compares with what was published. One limit for all;
no allowance for machines that round differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from iota_subnet.books import Line, disagreement
from iota_subnet.spec import RunSpec, shard_bounds
from iota_subnet.train import allreduce, codec, transcript
from iota_subnet.train.order import Check, Finding, Order
from iota_subnet.train.runner import StageRunner

#: Relative error of an output, a loss or a pseudo-gradient from which on it is held to be another one.
LIMIT = 0.05


class _Missing(Exception):
    pass


def replay(order: Order, blob: Callable[[str], bytes | None]) -> Finding:
    """Do a replica's epoch again. `blob` gives bytes by their digest, or None."""
    began = time.thread_time()
    checks: list[Check] = []
    passes = 0

    def need(name: str) -> bytes:
        data = blob(name)
        if data is None:
            raise _Missing(name)
        return data

    def finding(verdict: str, reason: str = "") -> Finding:
        word = {"sound": "sound", "failed": "failed", "withheld": "withheld"}[verdict]
        return Finding(word, reason, passes, 0, tuple(checks), time.thread_time() - began)  # type: ignore[arg-type]

    try:
        spec = RunSpec.from_json(order.spec)
        said = transcript.decode(need(order.transcript))
        books = [Line(o.lease, o.op, o.batch, o.inputs, o.output, o.losses, o.done) for o in order.owed]
        lines = [Line(p.lease, p.op, p.batch, p.inputs, p.output, p.losses) for p in said.passes]
        wrong = disagreement(books, lines, min((owed.lease for owed in order.owed), default=0))
        head = (said.run, said.hotkey, said.stage, said.epoch, said.manifest)
        if head != (spec.digest(), order.hotkey, order.stage, order.epoch, order.manifest):
            wrong = "the transcript is of another epoch or state"
        if not order.steps[0] <= said.inner_step <= order.steps[1]:
            wrong = f"it says that it began at step {said.inner_step}, not within {order.steps}"
        if wrong:
            return finding("failed", wrong)
        runner = StageRunner(spec, order.stage)
        base = [(lo, hi, need(weights), need(momentum)) for lo, hi, weights, momentum in order.base]
        runner.install(order.epoch, base, said.inner_step)
        for place, done in enumerate(said.passes):
            inputs = [need(name) for name in done.inputs]
            output, losses = _again(runner, done, inputs)
            passes += 1
            worst = 0.0
            if done.output and codec.digest(output) != done.output:
                shape = (spec.train.microbatch, spec.model.seq, spec.model.boundary)
                worst = _apart(
                    *(codec.decode(b, shape, spec.train.activation_codec) for b in (need(done.output), output))
                )
            if losses:
                worst = max(worst, _apart(np.array(done.losses, np.float32), np.array(losses, np.float32)))
            if worst > LIMIT:
                checks.append(Check(done.op, worst, LIMIT, place, True))
                return finding("failed", f"pass {place} ({done.op}) is off by {worst:.3g}")
        bounds = shard_bounds(runner.parameters, len(order.shards))
        for (lo, hi), mine, name in zip(bounds, runner.pseudo_gradient(len(order.shards)), order.shards, strict=True):
            if codec.digest(mine) == name:
                continue
            off = _apart(*(allreduce.read_delta(data, hi - lo, spec.train).values for data in (need(name), mine)))
            if off > LIMIT:
                checks.append(Check("pseudo-gradient", off, LIMIT, -1, True))
                return finding("failed", f"the pseudo-gradient is off by {off:.3g}")
    except _Missing as error:
        return finding("withheld", f"{str(error)[:12]} was not shown")
    except ValueError as error:
        return finding("failed", str(error)[:200])
    return finding("sound")


def _again(runner: StageRunner, done: transcript.Pass, inputs: list[bytes]) -> tuple[bytes, list[float]]:
    if done.op == "forward":
        return runner.forward(done.batch, inputs[0]), []
    if done.op == "backward":
        return runner.backward(done.batch, inputs[0], inputs[1]), []
    x, tokens = inputs if len(inputs) == 2 else (b"", inputs[0])
    return runner.forward_backward(done.batch, x, tokens)


def _apart(one: codec.Floats, other: codec.Floats) -> float:
    if one.shape != other.shape:
        return float("inf")
    scale = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / scale if scale else float(np.linalg.norm(one) > 0)
