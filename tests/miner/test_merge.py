"""Merge duty: every step may be asked twice, nothing bad gets into the sum, and an install is whole or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from iota_subnet.messages import (
    Blob,
    Committed,
    Contributors,
    Fetched,
    Installed,
    ManifestShard,
    PlannedContribution,
    PlannedDuty,
    Reduced,
    StageManifest,
)
from iota_subnet.miner.merge import held_digest
from iota_subnet.spec import BlobRef
from iota_subnet.train import codec
from iota_subnet.wire.digests import digest_of
from tests.validator.kit import eventually

from .kit import SPEC, Bench, bench, tokens

NAMES = ("a", "b", "c")


def delta(seed: int, size: int = 40) -> bytes:
    """Values of so many magnitudes that the order in which they are added can be read off the sum."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, size) * 10.0 ** rng.integers(-3, 3, size)
    return codec.encode(values.astype(np.float32), SPEC.train.delta_codec)


def duty(blobs: list[Blob], names: tuple[str, ...] = NAMES, shard: int = 0) -> PlannedDuty:
    given = tuple(
        PlannedContribution(name, i + 1, blob) for i, (name, blob) in enumerate(zip(names, blobs, strict=True))
    )
    return PlannedDuty(shard, 10, 50, given)


def counted(*names: str, shard: int = 0, epoch: int = 0) -> Contributors:
    return Contributors(0, epoch, shard, names)


async def reduced(b: Bench) -> tuple[bytes | None, ...]:
    """What the miner published for the shard, once it has."""
    await eventually(lambda: b.of(Reduced))
    result = b.of(Reduced)[-1]
    return tuple(b.store.get(made.digest) for made in (result.mean, result.weights, result.momentum))


# Commit


async def test_a_commit_asked_for_twice_is_the_same_one() -> None:
    async with bench() as b:
        await b.hold(epoch=3)
        calls = b.counted("pseudo_gradient")
        b.merger.commit(0, 3, 4)
        b.merger.commit(0, 3, 4)
        await eventually(lambda: b.of(Committed))
        b.merger.commit(0, 3, 4)
        first, second = b.of(Committed)
        assert first == second and len(calls) == 1
        assert (first.stage, first.epoch, len(first.shards)) == (0, 3, 4)
        assert [b.store.size(made.digest) for made in first.shards] == [made.nbytes for made in first.shards]


async def test_a_commit_belongs_to_its_epoch_and_its_stage() -> None:
    async with bench() as b:
        await b.hold(epoch=0)
        b.merger.commit(0, 0, 1)
        await eventually(lambda: b.of(Committed))
        b.merger.install(SPEC, b.manifest(1))
        await eventually(lambda: b.of(Installed))
        b.merger.commit(0, 1, 2)
        await eventually(lambda: len(b.of(Committed)) == 2)
        await b.hold(epoch=1, stage=1)
        b.merger.commit(1, 1, 2)
        await eventually(lambda: len(b.of(Committed)) == 3)
        assert [(c.stage, c.epoch, len(c.shards)) for c in b.of(Committed)] == [(0, 0, 1), (0, 1, 2), (1, 1, 2)]


async def test_a_commit_that_failed_may_be_asked_for_again() -> None:
    async with bench() as b:
        await b.hold()
        b.store.max_bytes = 10
        b.merger.commit(0, 0, 1)
        await eventually(lambda: not b.merger.busy)
        assert b.sent == []
        b.store.max_bytes = 1 << 26
        b.merger.commit(0, 0, 1)
        await eventually(lambda: b.of(Committed))


# Reduce


@pytest.mark.parametrize("early", [True, False])
async def test_the_contributors_may_be_named_before_or_after_the_plan(early: bool) -> None:
    async with bench() as b:
        await b.hold()
        deltas = [delta(seed) for seed in range(3)]
        if early:
            b.merger.fix(counted("a", "c"))
        b.merger.reduce(0, 0, (duty([b.blob(data) for data in deltas]),))
        await eventually(lambda: b.of(Fetched))
        assert b.of(Fetched) == [Fetched(0, 0, 0, NAMES)]
        if not early:
            assert b.of(Reduced) == []
            b.merger.fix(counted("a", "c"))
        assert await reduced(b) == b.runner.reduce(10, 50, [(1, deltas[0]), (3, deltas[2])])


async def test_the_sum_is_taken_in_the_order_of_the_plan() -> None:
    async with bench() as b:
        await b.hold()
        deltas = [delta(seed) for seed in range(3)]
        planned = duty([b.blob(data) for data in deltas], ("c", "a", "b"))
        b.merger.reduce(0, 0, (planned,))
        b.merger.fix(counted("a", "b", "c"))
        truth = b.runner.reduce(10, 50, [(1, deltas[0]), (2, deltas[1]), (3, deltas[2])])
        other = b.runner.reduce(10, 50, [(2, deltas[1]), (3, deltas[2]), (1, deltas[0])])
        assert truth != other, "the order can be seen"
        assert await reduced(b) == truth


@pytest.mark.parametrize("bad", [b"garbage", delta(1, 39), codec.encode(np.zeros(40, np.float32), "bf16")])
async def test_a_contribution_that_would_spoil_the_sum_is_not_held(bad: bytes) -> None:
    """Otherwise one miner's nonsense would stop every reducer of its stage until the deadline."""
    async with bench() as b:
        await b.hold()
        blobs = [b.blob(delta(0)), b.blob(bad), b.blob(delta(2))]
        b.merger.reduce(0, 0, (duty(blobs),))
        await eventually(lambda: b.of(Fetched))
        assert b.of(Fetched)[0].have == ("a", "c")
        b.merger.fix(counted("a", "c"))
        assert await reduced(b) == b.runner.reduce(10, 50, [(1, delta(0)), (3, delta(2))])


def poisoned(value: float) -> bytes:
    """A safetensors blob of the right shape with one number in it that no sum survives; no encoder makes one."""
    return delta(1)[:-4] + np.float32(value).tobytes()


def forged(b: Bench, data: bytes, claim: bytes) -> Blob:
    """A reference to `claim` behind which other bytes lie."""
    ref = b.blob(claim)
    b.theirs._blobs[ref.digest] = data
    b.theirs._sizes[ref.digest] = len(data)
    return ref


REJECTED: dict[str, tuple[Callable[[Bench], Blob], str]] = {
    "NaN": (lambda b: b.blob(poisoned(float("nan"))), "1 of 40 values are not finite"),
    "infinite": (lambda b: b.blob(poisoned(float("inf"))), "1 of 40 values are not finite"),
    "of the wrong shape": (lambda b: b.blob(delta(1, 39)), "expected F32 [40], got F32 [39]"),
    "of the wrong type": (
        lambda b: b.blob(codec.encode(np.zeros(40, np.float32), "bf16")),
        "expected F32 [40], got BF16",
    ),
    "truncated": (lambda b: b.blob(delta(1)[:-8]), "expected 232 bytes, got 224"),
    "of the wrong digest": (lambda b: forged(b, delta(5), delta(1)), "with another digest"),
    "oversized": (
        lambda b: forged(b, delta(1) + bytes(1000), delta(1)),
        "too_big: declares 1232 bytes where 232 are due",
    ),
    "cut short": (lambda b: forged(b, delta(1)[:-100], delta(1)), "declares 132 bytes where 232 are due"),
    "gone": (lambda b: b.nowhere(delta(1)), "missing"),
}


@pytest.mark.parametrize("what", REJECTED)
async def test_a_contribution_is_rejected_by_name_and_the_others_are_reduced(what: str) -> None:
    make, reason = REJECTED[what]
    async with bench() as b:
        await b.hold()
        b.merger.reduce(0, 0, (duty([b.blob(delta(0)), make(b), b.blob(delta(2))]),))
        await eventually(lambda: b.of(Fetched))
        report = b.of(Fetched)[0]
        assert report.have == ("a", "c") and [hotkey for hotkey, _ in report.missed] == ["b"]
        assert reason in report.missed[0][1]
        b.merger.fix(counted("a", "c"))
        assert await reduced(b) == b.runner.reduce(10, 50, [(1, delta(0)), (3, delta(2))])


async def test_who_cannot_get_what_counts_publishes_nothing() -> None:
    """The sum of the rest would be another one than its twin's, and be called a lie."""
    async with bench() as b:
        await b.hold()
        calls = b.counted("reduce")
        b.merger.fix(counted(*NAMES))
        b.merger.reduce(0, 0, (duty([b.blob(delta(0)), b.nowhere(delta(1)), b.blob(delta(2))]),))
        await eventually(lambda: b.of(Fetched))
        await eventually(lambda: not b.merger.busy)
        assert not b.of(Reduced) and not calls


async def test_a_contribution_that_cannot_be_had_is_not_held() -> None:
    async with bench() as b:
        await b.hold()
        b.merger.reduce(0, 0, (duty([b.blob(delta(0)), b.nowhere(delta(1)), b.blob(delta(2))]),))
        await eventually(lambda: b.of(Fetched))
        assert b.of(Fetched)[0].have == ("a", "c")


async def test_a_plan_given_again_is_answered_again_and_worked_off_once() -> None:
    async with bench() as b:
        await b.hold()
        calls = b.counted("reduce")
        planned = (duty([b.blob(delta(seed)) for seed in range(3)]),)
        b.merger.reduce(0, 0, planned)
        await eventually(lambda: b.of(Fetched))
        b.merger.reduce(0, 0, planned)
        assert len(b.of(Fetched)) == 2, "the first report may have been lost with its connection"
        b.merger.fix(counted(*NAMES))
        b.merger.fix(counted("a"))
        await reduced(b)
        b.merger.reduce(0, 0, planned)
        assert len(b.of(Reduced)) == 2 and b.of(Reduced)[0] == b.of(Reduced)[1] and len(calls) == 1


async def test_a_new_state_ends_the_duties_of_the_old_one() -> None:
    """The validator may have settled the shard itself, and then nobody names contributors."""
    async with bench() as b:
        await b.hold()
        b.merger.reduce(0, 0, (duty([b.blob(delta(seed)) for seed in range(3)]),))
        await eventually(lambda: b.of(Fetched))
        b.merger.install(SPEC, b.manifest(1))
        await eventually(lambda: b.of(Installed))
        await eventually(lambda: not b.merger.busy)
        b.merger.fix(counted(*NAMES))
        assert b.of(Reduced) == []


# Install


async def test_an_installed_state_is_told_and_asked_again_told_again_without_touching_the_work() -> None:
    async with bench() as b:
        manifest = b.manifest(2, cuts=(100, 5000))
        b.merger.install(SPEC, manifest)
        await eventually(lambda: b.of(Installed))
        assert (b.runner.epoch, b.runner.stage) == (2, 0)
        b.runner.forward(1, tokens(1))
        b.runner.backward(1, tokens(1), codec.encode(np.ones((2, 32, 8), np.float32), "fp32"))
        got = b.fetcher.bytes_in.total
        b.merger.install(SPEC, dataclasses.replace(manifest, signature="of another day"))
        await eventually(lambda: len(b.of(Installed)) == 2)
        assert b.of(Installed)[0] == b.of(Installed)[1] == Installed(0, 2, held_digest(manifest), manifest.name)
        assert b.fetcher.bytes_in.total == got and b.runner.batches == 1


def with_gap(b: Bench) -> StageManifest:
    whole = b.manifest(1, 0.5, cuts=(100, 200))
    return dataclasses.replace(whole, shards=(whole.shards[0], whole.shards[2]))


def with_other_bytes(b: Bench) -> StageManifest:
    whole = b.manifest(1, 0.5)
    other = b.blob(codec.encode(np.zeros(7, np.float32), "fp32"))
    return dataclasses.replace(whole, shards=(dataclasses.replace(whole.shards[0], weights=other),))


def with_a_lost_blob(b: Bench) -> StageManifest:
    whole = b.manifest(1, 0.5)
    b.theirs.forget([whole.shards[0].weights.digest])
    return whole


@pytest.mark.parametrize("broken", [with_gap, with_other_bytes, with_a_lost_blob])
async def test_a_state_that_is_not_whole_leaves_the_old_one_and_may_be_asked_for_again(
    broken: type[StageManifest],
) -> None:
    async with bench() as b:
        first = b.manifest(0)
        b.merger.install(SPEC, first)
        await eventually(lambda: b.of(Installed))
        before, installs = b.runner.state_digest(), b.counted("install")
        b.merger.install(SPEC, broken(b))  # type: ignore[call-arg, arg-type]
        await eventually(lambda: not b.merger.busy)
        assert (b.runner.state_digest(), b.runner.epoch, len(b.of(Installed))) == (before, 0, 1)
        b.merger.install(SPEC, first)
        await eventually(lambda: len(b.of(Installed)) == 2)
        assert len(installs) == (broken is not with_a_lost_blob), "what it has kept is not installed anew"
        b.merger.install(SPEC, b.manifest(1, 0.5))
        await eventually(lambda: len(b.of(Installed)) == 3)
        assert b.runner.epoch == 1 and b.runner.state_digest() != before


async def test_of_several_states_asked_for_the_last_one_stands() -> None:
    async with bench() as b:
        for epoch in range(5):
            b.merger.install(SPEC, b.manifest(epoch, 1.0 + epoch))
        await eventually(lambda: b.of(Installed))
        await eventually(lambda: not b.merger.busy)
        assert [message.epoch for message in b.of(Installed)] == [4] and b.runner.epoch == 4


async def test_a_state_that_was_replaced_is_not_brought_back_by_a_late_message() -> None:
    async with bench() as b:
        late, now = b.manifest(1, 0.5), b.manifest(1, 0.7, revision=1)
        b.merger.install(SPEC, now)
        await eventually(lambda: b.of(Installed))
        b.merger.install(SPEC, late)
        assert b.merger.busy == []
        # Who joins anew may find a run that has begun anew, with the same epochs.
        b.merger.begin()
        b.merger.install(SPEC, late)
        await eventually(lambda: len(b.of(Installed)) == 2)
        assert [message.manifest for message in b.of(Installed)] == [now.name, late.name]


async def test_an_installed_state_is_served_until_there_is_another() -> None:
    async with bench() as b:
        first, second = b.manifest(0, cuts=(100,)), b.manifest(1, 0.5)
        b.merger.install(SPEC, first)
        await eventually(lambda: b.of(Installed))
        parts = [blob.digest for shard in first.shards for blob in (shard.weights, shard.momentum)]
        assert all(b.store.has(digest) for digest in parts)
        b.merger.install(SPEC, second)
        await eventually(lambda: len(b.of(Installed)) == 2)
        kept = [blob.digest for shard in second.shards for blob in (shard.weights, shard.momentum)]
        assert all(b.store.has(digest) for digest in kept) and not any(b.store.has(digest) for digest in parts)


async def test_a_run_that_began_anew_is_believed_and_nothing_of_the_old_one_is_left() -> None:
    """Same specification, so the same digest: the miner's epoch 5 must not pass for the new run's epoch 0."""
    async with bench() as b:
        b.merger.install(SPEC, b.manifest(5, 0.5))
        await eventually(lambda: b.of(Installed))
        b.merger.commit(0, 5, 1)
        await eventually(lambda: b.of(Committed))
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: len(b.of(Installed)) == 2)
        assert b.of(Installed)[0].digest != b.of(Installed)[1].digest and b.runner.epoch == 0
        assert [topic[0] for topic in b.outbox.topics()] == ["state"]
        b.merger.install(SPEC, b.manifest(5))
        await eventually(lambda: len(b.of(Installed)) == 3)
        b.merger.commit(0, 5, 2)
        await eventually(lambda: len(b.of(Committed)) == 2)
        assert [len(c.shards) for c in b.of(Committed)] == [1, 2]


async def test_another_stage_may_be_given() -> None:
    async with bench() as b:
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: b.of(Installed))
        b.stage = 1
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: len(b.of(Installed)) == 2)
        assert (b.runner.stage, b.runner.epoch) == (1, 0)
        b.stage = 0
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: len(b.of(Installed)) == 3)
        assert (b.runner.stage, b.of(Installed)[2]) == (0, b.of(Installed)[0])


async def test_results_are_served_for_two_more_epochs() -> None:
    async with bench() as b:
        for epoch in range(4):
            b.merger.install(SPEC, b.manifest(epoch, 1.0 + epoch))
            await eventually(lambda count=epoch + 1: len(b.of(Installed)) == count)  # type: ignore[misc]
            b.merger.commit(0, epoch, 1)
            await eventually(lambda count=epoch + 1: len(b.of(Committed)) == count)  # type: ignore[misc]
        served = [topic for topic in b.outbox.topics() if topic[0] == "merge"]
        assert served == [("merge", 1), ("merge", 2), ("merge", 3)]


def stepped(b: Bench) -> StageManifest:
    """What one merge makes of the state that is held, as a manifest of one shard; only its mean is still served."""
    size = b.runner.parameters
    made = b.runner.reduce(0, size, [(1, delta(7, size))])
    mean, weights, momentum = b.blob(made[0]), b.nowhere(made[1]), b.nowhere(made[2])
    base = b.of(Installed)[-1].manifest
    return StageManifest(0, 1, 0, (ManifestShard(0, size, weights, momentum, mean),), "", base)


async def test_who_holds_the_state_before_needs_only_the_mean() -> None:
    async with bench() as b:
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: b.of(Installed))
        got, manifest = b.fetcher.bytes_in.total, stepped(b)
        b.merger.install(SPEC, manifest)
        await eventually(lambda: len(b.of(Installed)) == 2)
        mean = manifest.shards[0].mean
        assert mean is not None and b.fetcher.bytes_in.total - got == mean.nbytes
        assert b.runner.epoch == 1 and b.store.has(manifest.shards[0].weights.digest), "it serves what it has made"


async def test_a_mean_that_leads_elsewhere_is_not_taken() -> None:
    async with bench() as b:
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: b.of(Installed))
        good = stepped(b)
        other = b.blob(codec.encode(np.ones(b.runner.parameters, np.float32), "fp32"))
        wrong = dataclasses.replace(good, shards=(dataclasses.replace(good.shards[0], mean=other),))
        b.merger.install(SPEC, wrong)
        await eventually(lambda: not b.merger.busy)
        assert b.runner.epoch == 0 and len(b.of(Installed)) == 1
        for blob, data in zip(
            (good.shards[0].weights, good.shards[0].momentum),
            b.runner.reduce(0, b.runner.parameters, [(1, delta(7, b.runner.parameters))])[1:],
            strict=True,
        ):
            assert b.blob(data).digest == blob.digest
        b.merger.install(SPEC, wrong)
        await eventually(lambda: len(b.of(Installed)) == 2)
        assert b.runner.epoch == 1, "the state itself can be had now"


async def test_a_mean_that_belongs_to_another_state_is_not_even_fetched() -> None:
    async with bench() as b:
        b.merger.install(SPEC, b.manifest(0))
        await eventually(lambda: b.of(Installed))
        manifest = dataclasses.replace(stepped(b), base="ab" * 32)
        steps = b.counted("step")
        b.merger.install(SPEC, manifest)
        await eventually(lambda: not b.merger.busy)
        assert not steps and b.runner.epoch == 0


async def test_a_contribution_that_comes_late_is_told_of_as_long_as_nothing_is_decided() -> None:
    async with bench() as b:
        await b.hold()
        release = asyncio.Event()
        fetch = b.fetcher.fetch
        slow = delta(1)

        async def slowly(ref: BlobRef, ticket: str, label: str = "blob") -> bytes:
            if ref.digest == digest_of(slow):
                await release.wait()
            return await fetch(ref, ticket, label)

        b.fetcher.fetch = slowly  # type: ignore[method-assign]
        b.merger.reduce(0, 0, (duty([b.blob(delta(0)), b.blob(slow), b.blob(delta(2))]),), part_s=0.4)
        await eventually(lambda: b.of(Fetched))
        assert b.of(Fetched)[0].have == ("a", "c") and b.of(Fetched)[0].missed == (("b", "it took longer than 0 s"),)
        release.set()
        await eventually(lambda: len(b.of(Fetched)) == 2)
        assert b.of(Fetched)[1] == Fetched(0, 0, 0, NAMES)
        b.merger.fix(counted(*NAMES))
        assert await reduced(b) == b.runner.reduce(10, 50, [(i + 1, delta(i)) for i in range(3)])
