"""Miners for audits: a pipeline of one replica per stage, in one process, that keeps transcripts, books and blobs.

Any replica may be of another kind (`Runner`: bfloat16) or a cheat (a subclass of `Miner`). Everything that it publishes
is what a miner would publish, so that `replay` judges it as it would judge a stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from iota_subnet.spec import RunSpec, shard_bounds
from iota_subnet.train import allreduce, codec, transcript
from iota_subnet.train.codec import Floats
from iota_subnet.train.order import Order, Owed
from iota_subnet.train.runner import StageRunner
from iota_subnet.train.transcript import Pass, Transcript

#: Weights and momentum of one stage, fp32 blobs.
Base = tuple[bytes, bytes]

MakeRunner = Callable[[RunSpec, int], StageRunner]


class HalfRunner(StageRunner):
    """Matrices in bfloat16 on the CPU too, as the product has them on a GPU."""

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16)


class Store(dict[str, bytes]):
    """Blobs by digest."""

    def put(self, data: bytes) -> str:
        digest = codec.digest(data)
        self[digest] = data
        return digest


class Miner:
    """An honest replica. Cheats override `compute` (a pass), `begin` (the state) or `publish` (the pseudo-gradient)."""

    def __init__(self, spec: RunSpec, stage: int, store: Store, runner: MakeRunner = StageRunner) -> None:
        self.spec, self.stage, self.store = spec, stage, store
        self.runner = runner(spec, stage)
        self.hotkey = f"miner of stage {stage}"
        self.tail = stage == spec.model.stages - 1
        self.passes: list[Pass] = []
        self.owed: list[Owed] = []
        self.chance = np.random.default_rng(stage)
        #: The state of an epoch ago, for who goes on with it; set by whoever rehearses.
        self.old: Base | None = None

    def begin(self, epoch: int, base: Base, inner_step: int) -> None:
        self.base, self.epoch, self.first = base, epoch, inner_step
        self.passes, self.owed = [], []
        self.runner.install(epoch, [(0, self.runner.parameters, *base)], inner_step)

    def work(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float]]:
        """One lease: done, published, written down."""
        output, losses, step = self.compute(op, batch, *inputs)
        names = tuple(map(self.store.put, inputs))
        made = self.store.put(output) if output else ""
        lease = 100 + len(self.owed)
        self.owed.append(Owed(lease, op, batch, names, made, tuple(losses), True))
        self.passes.append(Pass(lease, op, batch, names, made, tuple(losses), step))
        return output, losses

    def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
        output, losses = self.honest(op, batch, *inputs)
        return output, losses, self.runner.inner_step

    def honest(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float]]:
        if op == "forward":
            return self.runner.forward(batch, *inputs), []
        if op == "backward":
            return self.runner.backward(batch, *inputs), []
        return self.runner.forward_backward(batch, inputs[0] if len(inputs) == 2 else b"", inputs[-1])

    def publish(self, shards: int) -> list[bytes]:
        return self.runner.pseudo_gradient(shards)

    def order(self, shards: int = 3, **changes: Any) -> Order:
        """What an auditor would be asked, the commit included."""
        said = Transcript(
            self.spec.digest(), self.hotkey, self.stage, self.epoch, "manifest", self.first, tuple(self.passes)
        )
        fields: dict[str, Any] = dict(
            spec=self.spec.to_json(),
            hotkey=self.hotkey,
            stage=self.stage,
            epoch=self.epoch,
            manifest="manifest",
            base=((0, self.runner.parameters, *map(self.store.put, self.base)),),
            steps=(self.first, self.first),
            first_lease=0,
            owed=tuple(self.owed),
            transcript=self.store.put(transcript.encode(said)),
            shards=tuple(map(self.store.put, self.publish(shards))),
        )
        return Order(**(fields | changes))

    # Helps for cheats

    def forget(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
        """A pass from which nothing is learnt, though it says that it took the step."""
        kept = self.runner._copy()
        result = Miner.compute(self, op, batch, *inputs)
        self.runner._restore(kept)
        self.runner.inner_step = result[2]
        return result

    def values(self, blob: bytes) -> Floats:
        model, train = self.spec.model, self.spec.train
        return codec.decode(blob, (train.microbatch, model.seq, model.boundary), train.activation_codec)

    def blob(self, values: Floats) -> bytes:
        return codec.encode(values.astype(np.float32), self.spec.train.activation_codec)


def run_epoch(
    miners: Sequence[Miner],
    text: Callable[[int], bytes],
    batches: range,
    bases: Sequence[Base],
    step: int,
    live: int = 3,
) -> None:
    """Microbatches through the pipeline, `live` of them between their forward and backward passes."""
    for miner, base in zip(miners, bases, strict=True):
        miner.begin(batches.start // max(1, len(batches)), base, step)
    inputs: dict[int, list[bytes]] = {}
    waiting: list[int] = []

    def back() -> None:
        batch = waiting.pop(0)
        given = inputs.pop(batch)
        ends = (given[-1], text(batch)) if len(miners) > 1 else (given[-1],)
        gradient, _ = miners[-1].work("loss", batch, *ends)
        for miner, data in zip(reversed(miners[:-1]), reversed(given[:-1]), strict=True):
            gradient, _ = miner.work("backward", batch, data, gradient)

    for batch in batches:
        given = inputs[batch] = [text(batch)]
        for miner in miners[:-1]:
            given.append(miner.work("forward", batch, given[-1])[0])
        waiting.append(batch)
        if len(waiting) == live:
            back()
    while waiting:
        back()


def merged(miner: Miner) -> Base:
    """The state after an epoch with this replica alone."""
    size = miner.runner.parameters
    made = miner.runner.reduce(0, size, [(max(1, miner.runner.batches), miner.runner.pseudo_gradient(1)[0])])
    return made.weights, made.momentum


# Cheats


class Tampering(Miner):
    """Computes honestly and publishes something else; `change(values, miner)` makes it."""

    change: Callable[[Floats, Tampering], Floats]
    only: tuple[str, ...] = ("forward", "backward", "loss")

    def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
        output, losses, step = super().compute(op, batch, *inputs)
        if output and op in self.only:
            output = self.blob(self.change(self.values(output), self))
        return output, losses, step


def noisy(share: float) -> type[Miner]:
    """Noise of this share of the norm on all that it sends."""

    def change(values: Floats, miner: Tampering) -> Floats:
        noise = miner.chance.standard_normal(values.shape)
        return values + noise * share * np.linalg.norm(values) / np.linalg.norm(noise)

    return type("Noisy", (Tampering,), {"change": staticmethod(change)})


def scaled(factor: float, *only: str) -> type[Miner]:
    """All that it sends times a factor; -1 flips the sign."""
    fields = {"change": staticmethod(lambda values, miner: values * factor)}
    return type("Scaled", (Tampering,), fields | ({"only": only} if only else {}))


def random_gradients() -> type[Miner]:
    """Input gradients of the right length and no direction."""

    def change(values: Floats, miner: Tampering) -> Floats:
        noise = miner.chance.standard_normal(values.shape)
        return noise * np.linalg.norm(values) / np.linalg.norm(noise)

    fields = {"change": staticmethod(change), "only": ("backward", "loss")}
    return type("Random", (Tampering,), fields)


class Stale(Miner):
    """Goes on with the state of an epoch ago."""

    def begin(self, epoch: int, base: Base, inner_step: int) -> None:
        super().begin(epoch, self.old or base, inner_step)
        self.base = base


def lazy(every: int) -> type[Miner]:
    """Learns nothing from every `every`-th backward pass. What it sends back is right."""

    class Lazy(Miner):
        def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
            if op == "forward" or (self.runner.batches + 1) % every:
                return super().compute(op, batch, *inputs)
            return self.forget(op, batch, *inputs)

    return Lazy


class Idle(Miner):
    """Learns nothing: its weights stay those of the base."""

    def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
        return self.forget(op, batch, *inputs)


class PassThrough(Miner):
    """Computes nothing: hands on what it was given. Needs activations of one width on both sides; no head, no tail."""

    def honest(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float]]:
        if op == "backward":
            self.runner.inner_step += 1
        return inputs[-1], []


class Replaying(Miner):
    """Sends the output of its pass before, of the same kind, again; computes only every second pass."""

    last: dict[str, tuple[bytes, list[float]]]

    def begin(self, epoch: int, base: Base, inner_step: int) -> None:
        super().begin(epoch, base, inner_step)
        self.last, self.turn = {}, 0

    def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
        self.turn += op != "forward"
        if self.turn % 2 == 0 or op not in self.last:
            self.last[op] = self.honest(op, batch, *inputs)
        elif op != "forward":
            self.runner.inner_step += 1
        return *self.last[op], self.runner.inner_step


class OtherText(Miner):
    """A head that feeds the same microbatch again and again, whatever it was given."""

    text = b""

    def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
        self.text = self.text or inputs[0]
        return super().compute(op, batch, self.text, *inputs[1:])


def forged(factor: float) -> type[Miner]:
    """A tail that reports its losses times a factor."""

    class Forger(Miner):
        def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
            output, losses, step = super().compute(op, batch, *inputs)
            return output, [loss * factor for loss in losses], step

    return Forger


def merging(change: Callable[[Floats, np.random.Generator], Floats]) -> type[Miner]:
    """Honest passes, and another pseudo-gradient."""

    class Merging(Miner):
        def publish(self, shards: int) -> list[bytes]:
            train, made = self.spec.train, []
            for blob, (lo, hi) in zip(
                super().publish(shards), shard_bounds(self.runner.parameters, shards), strict=True
            ):
                values = allreduce.decode_delta(blob, hi - lo, train)
                made.append(allreduce.encode_delta(change(values, self.chance).astype(np.float32), train))
            return made

    return Merging
