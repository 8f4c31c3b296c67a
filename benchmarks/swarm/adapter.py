"""All that the harness knows of the inside of a miner. When the merge changes, this file does.

A replica is the miner's own parts, wired as `miner/neuron.py` wires them: engine with the real stage runner, memory
store, blob server, fetcher, outbox, merger. The stage is a model of one stage with exactly `values` parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from iota_subnet import messages as m
from iota_subnet.messages import FromMiner
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.merge import Merger
from iota_subnet.miner.outbox import Outbox
from iota_subnet.model.parameters import parameter_count
from iota_subnet.spec import ModelSpec, RunSpec, SwarmSpec, TrainSpec
from iota_subnet.train.state import outer_momentum
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, MemoryStore
from swarm import words
from template.wallet import verify

#: RMS of a local step, and seed of all of them.
STEP = 1e-2
SEED = 20


def spec_of(values: int, codec: Any, replicas: int, reconnect_s: float) -> RunSpec:
    """A run of one stage with exactly `values` parameters, of which nothing but the merge takes time."""
    model = ModelSpec("bench", 2, 128, 6, 4, 2, 352, 128, stages=1, bottleneck=0)
    rest = values - parameter_count(model, 0)
    # Embedding and head have `dim` values each per word.
    words_, left = divmod(rest, 2 * model.dim)
    if left or words_ < 0:
        raise SystemExit(f"--values {values}: must be {parameter_count(model, 0)} + a multiple of {2 * model.dim}")
    swarm = SwarmSpec(
        start_miners=replicas, epoch_batches=6 * replicas, min_batches=1, reconnect_s=reconnect_s, stale_s=1e6,
        lease_s=600.0, train_s=600.0, drain_s=600.0, max_blob_bytes=256 << 20,
    )  # fmt: skip
    codecs = {field.name: codec for field in fields(TrainSpec) if field.name in ("delta_codec", "mean_codec")}
    train = replace(TrainSpec(), microbatch=1, **codecs)
    return RunSpec("butterfly", SEED, model=replace(model, vocab=model.vocab + words_), train=train, swarm=swarm)


def local_step(size: int, replica: int, epoch: int) -> Any:
    """What training moves the weights of one replica by, float32 [size]."""
    noise = np.random.default_rng([SEED, replica, epoch]).standard_normal(size, np.float32)
    return np.multiply(noise, np.float32(STEP), out=noise)


class Replica:
    """One miner without its neuron."""

    def __init__(self, spec: RunSpec, issuer: str, index: int, send: Callable[[FromMiner], object]) -> None:
        self.index = index
        self._spec = spec
        self._before: Any = None
        self._engine = Engine(1, "cpu")
        store = MemoryStore(1 << 30)
        self.server = BlobServer(store, "127.0.0.1", 0, issuer, verify, time.time)
        self.fetcher = BlobFetcher(
            1 << 30, store=store, connect_s=3.0, try_s=10.0, total_s=20.0, min_bytes_s=64e3, tries=2
        )
        self._merger = Merger(self._engine, self.fetcher, Outbox(store), send)

    def obey(self, word: words.Down) -> None:
        """What the neuron's handlers do."""
        match word:
            case words.Layer():
                self._merger.install(self._spec, word.manifest, word.inner_step or None)
            case words.Commit():
                self._merger.commit(0, word.epoch, word.shards)
            case words.Plan():
                self._merger.reduce(0, word.epoch, word.duties)
            case m.Contributors():
                self._merger.fix(word)

    async def train(self, epoch: int) -> None:
        """Move the local weights away from the global ones."""

        def move(runner: Any) -> None:
            self._before = (np.array(runner._global), np.array(runner._momentum))
            runner._weights.numpy()[:] -= local_step(runner.parameters, self.index, epoch)

        await self._engine.call(move)

    async def check(self, word: words.Check) -> words.Checked:
        """Against the mean and the outer step in float64."""

        def compare(runner: Any) -> words.Checked:
            before, momentum = self._before
            train = self._spec.train
            mu = outer_momentum(train, word.epoch)
            after = runner._weights.numpy()
            total = np.zeros(after.size)
            count = np.zeros(after.size)
            for replica in sorted({replica for _, _, given in word.shards for replica, _ in given}):
                delta = before - (before - local_step(after.size, replica, word.epoch))
                for lo, hi, given in word.shards:
                    weight = dict(given).get(replica, 0)
                    total[lo:hi] += weight * delta[lo:hi].astype(np.float64)
                    count[lo:hi] += weight
            mean = total / count
            step = train.outer_lr * (mean + mu * (mu * momentum.astype(np.float64) + mean))
            wrong = np.abs(after - (before - step))
            scale = float(np.sqrt(np.mean(step**2)))
            slack = (0.03 if train.delta_codec == "bf16" else 1e-4) * scale
            # The weights themselves are rounded to float32.
            off = wrong > slack + 2.0**-23 * np.abs(before)
            return words.Checked(float(np.sqrt(np.mean(wrong**2))) / scale, float(off.mean()))

        return (await self._engine.call(compare))[0]

    async def close(self) -> None:
        await self._merger.close()
        await self.fetcher.close()
        await self.server.stop()
        self._engine.close()
