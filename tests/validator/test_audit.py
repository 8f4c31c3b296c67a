"""What the validator computes is what miners compute, to the bit, and one bad miner spoils it for nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iota_subnet.core.actions import Contribution, Evaluate, RecomputeShard
from iota_subnet.core.events import Evaluated, Event, Manifest, ShardRecomputed, ShardRef
from iota_subnet.spec import BlobRef
from iota_subnet.train import codec
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.validator.audit import KEEP_EPOCHS, Auditor
from iota_subnet.validator.checkpoints import Checkpoints
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, DirStore, FetchFailed, MemoryStore
from template.wallet import verify

from .kit import NOW, hotkey, signer, small_spec
from .swarm import ThreadCompute

#: Nobody is clipped: that would make a huge contribution harmless.
SPEC = small_spec(train={"delta_clip": 0.0})
STAGE = 1


class Audit:
    """An auditor with its store, and a miner's server with another."""

    def __init__(self, folder: Path) -> None:
        self.store = DirStore(folder, 1 << 26)
        self.checkpoints = Checkpoints(folder.parent)
        self.theirs = MemoryStore(1 << 26)
        self.runner = StageRunner(SPEC, STAGE)
        size = self.runner.parameters
        self.runner.install(3, [(0, size, *initial_state(SPEC, STAGE))])
        own = BlobServer(self.store, "127.0.0.1", 80, hotkey("V"), verify, lambda: NOW)
        self.server = BlobServer(self.theirs, "127.0.0.1", 0, hotkey("V"), verify, lambda: NOW)
        self.fetcher = BlobFetcher(1 << 26, store=self.store, tries=1, total_s=2.0)
        self.events: list[Event] = []
        sizes = tuple(StageRunner(SPEC, stage).parameters for stage in range(2))
        outgoing = Outgoing(SPEC.digest(), signer("V"), lambda: NOW, self.store, lambda: own)
        rng = np.random.default_rng(0)
        shape = (SPEC.train.microbatch, SPEC.model.seq + 1)
        held_out = [codec.tokens_to_bytes(rng.integers(0, 256, shape).astype(np.int32)) for _ in range(2)]
        self.auditor = Auditor(
            SPEC, hotkey("V"), lambda: sizes, held_out, ThreadCompute(), self.fetcher, self.store, outgoing,
            self.events.append, lambda: NOW, self.checkpoints,
        )  # fmt: skip

    def served(self, data: bytes) -> BlobRef:
        """Published by the miner."""
        return self.server.located(self.theirs.put(data))

    def manifest(self, stage: int = STAGE, epoch: int = 3) -> Manifest:
        weights, momentum = initial_state(SPEC, stage)
        size = StageRunner(SPEC, stage).parameters
        return Manifest(stage, epoch, (ShardRef(0, size, self.served(weights), self.served(momentum)),))

    def action(self, *blobs: bytes | BlobRef) -> RecomputeShard:
        given = tuple(
            Contribution(f"miner-{i}", i + 1, blob if isinstance(blob, BlobRef) else self.served(blob))
            for i, blob in enumerate(blobs)
        )
        return RecomputeShard(STAGE, 3, 0, 10, 50, given, self.manifest())

    def result(self) -> tuple[bytes | None, bytes | None, bytes | None, tuple[str, ...]]:
        event = self.events[-1]
        assert isinstance(event, ShardRecomputed) and (event.stage, event.epoch, event.shard) == (STAGE, 3, 0)
        mean = self.store.get(event.mean.digest) if event.mean is not None else None
        return mean, self.store.get(event.weights.digest), self.store.get(event.momentum.digest), event.contributors


@pytest.fixture
async def audit(tmp_path: Path) -> Any:
    built = Audit(tmp_path / "blobs")
    async with built.server:
        yield built
    await built.fetcher.close()


def delta(seed: int, scale: float = 0.01) -> bytes:
    values = np.random.default_rng(seed).normal(0, scale, 40).astype(np.float32)
    return codec.encode(values, SPEC.train.delta_codec)


async def test_a_recomputed_shard_is_what_the_runners_compute_to_the_bit(audit: Audit) -> None:
    blobs = [delta(seed) for seed in range(3)]
    await audit.auditor.recompute(audit.action(*blobs))
    truth = audit.runner.reduce(10, 50, [(i + 1, blob) for i, blob in enumerate(blobs)])
    assert audit.result() == (*truth, ("miner-0", "miner-1", "miner-2"))


def huge() -> bytes:
    """Finite by itself, and infinite once the step is taken."""
    return codec.encode(np.full(40, 3e38, np.float32), SPEC.train.delta_codec)


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage",
        codec.encode(np.zeros(39, np.float32), "bf16"),
        codec.encode(np.zeros(40, np.float32), "fp32"),
        huge(),
    ],
)
async def test_a_contribution_that_is_malformed_or_poisoned_is_left_out(audit: Audit, bad: bytes) -> None:
    await audit.auditor.recompute(audit.action(delta(0), bad, delta(2)))
    truth = audit.runner.reduce(10, 50, [(1, delta(0)), (3, delta(2))])
    assert audit.result() == (*truth, ("miner-0", "miner-2"))


async def test_contributions_that_only_together_are_too_much_are_cut_where_it_becomes_so(audit: Audit) -> None:
    """Each is sound by itself: whoever looks for one bad one would look for ever."""
    half = codec.encode(np.full(40, 1.5e38, np.float32), SPEC.train.delta_codec)
    await audit.auditor.recompute(audit.action(half, half, delta(2)))
    truth = audit.runner.reduce(10, 50, [(1, half), (3, delta(2))])
    assert audit.result() == (*truth, ("miner-0", "miner-2"))


async def test_a_contribution_that_cannot_be_had_is_left_out(audit: Audit) -> None:
    missing = BlobRef("ab" * 32, 9, (f"{audit.server.url}/v1/blobs/{'ab' * 32}",))
    await audit.auditor.recompute(audit.action(delta(0), missing))
    assert audit.result() == (*audit.runner.reduce(10, 50, [(1, delta(0))]), ("miner-0",))


@pytest.mark.parametrize("given", [(), (b"garbage",)])
async def test_with_nothing_to_add_the_shard_keeps_what_it_had(audit: Audit, given: tuple[bytes, ...]) -> None:
    await audit.auditor.recompute(audit.action(*given))
    weights = codec.decode(initial_state(SPEC, STAGE)[0], (audit.runner.parameters,), "fp32")[10:50]
    assert audit.result() == (None, codec.encode(weights, "fp32"), codec.encode(np.zeros(40, np.float32), "fp32"), ())


async def test_where_the_validator_listens_now_is_not_written_into_the_ledger(audit: Audit) -> None:
    await audit.auditor.recompute(audit.action(delta(0)))
    event = audit.events[-1]
    assert isinstance(event, ShardRecomputed) and event.weights.urls == event.momentum.urls == ()


async def test_an_evaluation_copies_the_model_and_measures_it(audit: Audit) -> None:
    manifests = tuple(audit.manifest(stage, 4) for stage in range(2))
    await audit.auditor.evaluate(Evaluate(4, manifests))
    (event,) = audit.events
    assert isinstance(event, Evaluated) and event.epoch == 4
    assert abs(event.loss - np.log(256)) < 1.0
    for shard in (shard for manifest in manifests for shard in manifest.shards):
        assert {shard.weights.digest, shard.momentum.digest} <= audit.store._pinned


async def test_a_model_that_cannot_be_had_is_an_error_and_not_a_loss(audit: Audit) -> None:
    manifest = audit.manifest()
    audit.theirs.forget([manifest.shards[0].weights.digest])
    with pytest.raises(FetchFailed):
        await audit.auditor.evaluate(Evaluate(3, (audit.manifest(0), manifest)))
    assert audit.events == [] and audit.checkpoints.epochs() == []


async def test_old_manifests_are_let_go_but_not_what_a_newer_one_names(audit: Audit) -> None:
    head, size = audit.manifest(0), audit.runner.parameters
    zeros = codec.encode(np.zeros(size, np.float32), "fp32")
    weights: list[str] = []
    for epoch in range(KEEP_EPOCHS + 1):
        mine = audit.served(codec.encode(np.full(size, 0.01 + epoch, np.float32), "fp32"))
        tail = Manifest(STAGE, epoch, (ShardRef(0, size, mine, audit.served(zeros)),))
        weights.append(mine.digest)
        await audit.auditor.evaluate(Evaluate(epoch, (Manifest(0, epoch, head.shards), tail)))
    assert [audit.store.has(name) for name in weights] == [False, True, True, True]
    assert audit.store.has(head.shards[0].weights.digest), "the head never changed"
    assert audit.checkpoints.epochs() == [1, 2, 3]
    for epoch in audit.checkpoints.epochs():
        assert all(audit.store.has(ref.digest) for ref in audit.checkpoints.load(epoch).blobs())
