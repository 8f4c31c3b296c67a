"""One process that trains the whole model: the stages' runners one after the other.

Nothing is delayed, nothing merged: a microbatch goes down through all stages and back before the next begins. All that
crosses a boundary is the blob that would cross the network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from iota_subnet.spec import RunSpec
from iota_subnet.train.data import Feed
from iota_subnet.train.evaluate import evaluate
from iota_subnet.train.runner import StageRunner, initial_state


@dataclass
class Trained:
    """`curve` is (tokens, held-out nats per token); `sent` bytes by boundary of one microbatch, forward and back."""

    curve: list[tuple[int, float]] = field(default_factory=list)
    sent: list[tuple[int, int]] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def loss(self) -> float:
        return self.curve[-1][1]


class Line:
    """All stages of `spec`, one runner each, holding its first values."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.runners = [StageRunner(spec, stage) for stage in range(spec.model.stages)]
        self.sent: list[tuple[int, int]] = []
        for runner in self.runners:
            runner.install(0, [(0, runner.parameters, *initial_state(spec, runner.stage))])

    def train(self, batch: int, tokens: bytes) -> float:
        """One microbatch, down and back; its mean loss."""
        *front, tail = self.runners
        inputs, x = [], tokens
        for runner in front:
            inputs.append(x)
            x = runner.forward(batch, x)
        gradient, losses = tail.forward_backward(batch, x, tokens)
        downward = [len(blob) for blob in [*inputs, x][1:]]
        upward = []
        for runner, given in zip(reversed(front), reversed(inputs), strict=True):
            upward.append(len(gradient))
            gradient = runner.backward(batch, given, gradient)
        self.sent = list(zip(downward, reversed(upward), strict=True))
        return sum(losses) / len(losses)

    def held_out(self, blobs: list[bytes]) -> float:
        return evaluate(self.spec, [runner._weights.detach().numpy() for runner in self.runners], blobs)


def train(spec: RunSpec, feed: Feed, batches: int, every: int, reset: int = 0) -> Trained:
    """`batches` microbatches of `feed` in order; the held-out loss before the first and after `every` of them.

    The optimiser forgets its moments after each `reset` microbatches, 0 for never.
    """
    began, line, held_out = time.process_time(), Line(spec), feed.heldout()
    trained = Trained(curve=[(0, line.held_out(held_out))])
    tokens = spec.train.microbatch * spec.model.seq
    for batch in range(batches):
        line.train(batch, feed.batch(batch))
        if reset and (batch + 1) % reset == 0:
            for runner in line.runners:
                runner._optimiser.reset()
        if (batch + 1) % every == 0 or batch + 1 == batches:
            trained.curve.append(((batch + 1) * tokens, line.held_out(held_out)))
    trained.sent, trained.cpu_s = line.sent, time.process_time() - began
    return trained
