"""Three small cheats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iota_subnet.messages import Lease
from iota_subnet.miner.conduct import Conduct
from iota_subnet.spec import shard_bounds
from iota_subnet.train import codec
from iota_subnet.train.allreduce import decode_delta, encode_delta
from iota_subnet.train.runner import StageRunner


class FreeRider(Conduct):
    """Computes nothing: zeros go on and zeros come back, and its pseudo-gradient is that of one who never moved."""

    def forward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
        return self._zeros(runner)

    def backward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
        return self._zeros(runner) if runner.stage else b""

    def _zeros(self, runner: StageRunner) -> bytes:
        model, train = runner.spec.model, runner.spec.train
        return codec.encode(np.zeros((train.microbatch, model.seq, model.boundary), np.float32), train.activation_codec)


class SignFlip(Conduct):
    """Trains as all do, and commits to the opposite."""

    def pseudo_gradient(self, runner: StageRunner, shards: int) -> list[bytes]:
        train = runner.spec.train
        sizes = [hi - lo for lo, hi in shard_bounds(runner.parameters, shards)]
        blobs = zip(runner.pseudo_gradient(shards), sizes, strict=True)
        return [encode_delta(-decode_delta(blob, size, train), train) for blob, size in blobs]


class ForgedLoss(Conduct):
    """A tail that reports half the loss that it measured."""

    def loss(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> tuple[bytes, list[float]]:
        gradient, losses = super().loss(runner, lease, inputs)
        return gradient, [loss / 2 for loss in losses]
