"""A miner's parts with a real runner, a real blob server of "the others", and a list of what was sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from iota_subnet.messages import Blob, FromMiner, ManifestShard, StageManifest
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.merge import Merger
from iota_subnet.miner.outbox import Outbox
from iota_subnet.miner.work import Worker
from iota_subnet.spec import RunSpec
from iota_subnet.train import codec
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, MemoryStore, digest_of
from iota_subnet.wire.tickets import Ticket, encode
from template.wallet import verify
from tests.validator.kit import NOW, hotkey, signer, small_spec

SPEC = small_spec(train={"activation_codec": "fp32", "delta_codec": "fp32", "mean_codec": "fp32"})
T = TypeVar("T")


class Bench:
    """One miner of `stage`, without a validator: the test gives the orders."""

    def __init__(self, stage: int = 0, spec: RunSpec = SPEC, bucket: Any = None) -> None:
        self.spec, self.stage = spec, stage
        self.theirs = MemoryStore(1 << 26)
        self.server = BlobServer(self.theirs, "127.0.0.1", 0, hotkey("V"), verify, lambda: NOW)
        self.store = MemoryStore(1 << 26)
        self.fetcher = BlobFetcher(1 << 26, store=self.store, tries=1, total_s=3.0)
        self.engine = Engine(1, "cpu")
        self.outbox = Outbox(self.store, bucket)
        self.sent: list[FromMiner] = []
        self.worker = Worker(self.engine, self.fetcher, self.outbox, self.sent.append)
        self.merger = Merger(self.engine, self.fetcher, self.outbox, self.sent.append, self.worker.sweep)

    @property
    def runner(self) -> StageRunner:
        assert self.engine.runner is not None
        return self.engine.runner

    async def hold(self, epoch: int = 0, spec: RunSpec | None = None, stage: int | None = None) -> None:
        """Install the run's first state as that of `epoch`, at once."""
        spec, stage = spec or self.spec, self.stage if stage is None else stage
        await self.engine.open(spec, stage)
        runner = self.runner
        runner.install(epoch, [(0, runner.parameters, *initial_state(spec, stage))])

    def blob(self, data: bytes) -> Blob:
        """Something that another miner serves."""
        self.theirs.put(data)
        return self.nowhere(data)

    def nowhere(self, data: bytes) -> Blob:
        """A reference to what its maker does not have any more."""
        name = digest_of(data)
        ticket = encode(Ticket(name, hotkey("M"), NOW + 60), signer("V"))
        return Blob(name, len(data), (self.server.url_of(name),), ticket)

    def manifest(self, epoch: int, scale: float = 1.0, cuts: tuple[int, ...] = (), revision: int = 0) -> StageManifest:
        """A state of this stage, in as many shards as `cuts` says."""
        size = StageRunner(self.spec, self.stage).parameters
        weights = codec.decode(initial_state(self.spec, self.stage)[0], (size,), "fp32") * np.float32(scale)
        edges = [0, *cuts, size]
        shards = tuple(
            ManifestShard(
                lo,
                hi,
                self.blob(codec.encode(weights[lo:hi], "fp32")),
                self.blob(codec.encode(np.zeros(hi - lo, np.float32), "fp32")),
            )
            for lo, hi in pairwise(edges)
        )
        return StageManifest(self.stage, epoch, revision, shards, "")

    def counted(self, name: str) -> list[int]:
        """Count the calls of a method of the runner; the list grows by one for each."""
        calls: list[int] = []
        really: Callable[..., Any] = getattr(self.runner, name)

        def counting(*args: Any) -> Any:
            calls.append(len(calls))
            return really(*args)

        setattr(self.runner, name, counting)
        return calls

    def of(self, kind: type[T]) -> list[T]:
        return [message for message in self.sent if isinstance(message, kind)]


@contextlib.asynccontextmanager
async def bench(stage: int = 0, bucket: Any = None) -> AsyncIterator[Bench]:
    built = Bench(stage, bucket=bucket)
    async with built.server:
        try:
            yield built
        finally:
            await built.worker.close()
            await built.merger.close()
            await built.fetcher.close()
            built.engine.close()


def tokens(n: int) -> bytes:
    shape = (SPEC.train.microbatch, SPEC.model.seq + 1)
    return codec.tokens_to_bytes(np.random.default_rng(n).integers(0, 256, shape).astype(np.int32))


def activation(n: int) -> bytes:
    shape = (SPEC.train.microbatch, SPEC.model.seq, SPEC.model.boundary)
    return codec.encode(np.random.default_rng(n).normal(0, 1, shape).astype(np.float32), SPEC.train.activation_codec)
