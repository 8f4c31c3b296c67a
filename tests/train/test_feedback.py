"""Error feedback and the carry: nothing that was computed is lost, to the bit, and nothing is counted twice."""

from __future__ import annotations

import struct

import blake3
import numpy as np
import pytest
import torch

from iota_subnet.spec import RunSpec, shard_bounds
from iota_subnet.train import codec
from iota_subnet.train.allreduce import decode_delta, encode_delta
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.train.state import Shard, pack_state
from tests.train.conftest import small_spec, token_blob
from tests.train.reference import f32

LOSSY = ("int8", "topk")


def started(spec: RunSpec) -> StageRunner:
    runner = StageRunner(spec, 0)
    runner.install(0, [(0, runner.parameters, *initial_state(spec, 0))])
    return runner


def one_stage(**train: object) -> RunSpec:
    return small_spec({"stages": 1}, **({"accumulate": 1} | train))


def passes(runner: StageRunner, *numbers: int) -> None:
    for n in numbers:
        runner.forward_backward(n, b"", token_blob(runner.spec, n))


def weights(runner: StageRunner) -> np.ndarray:
    return runner._weights.numpy().copy()


def moved(runner: StageRunner, seed: int = 0) -> list[Shard]:
    """A next global state, in two shards."""
    rng = np.random.default_rng(seed)
    near = weights(runner) + rng.normal(0, 1e-3, runner.parameters).astype(np.float32)
    momentum = rng.normal(0, 1e-3, runner.parameters).astype(np.float32)
    cuts = shard_bounds(runner.parameters, 2)
    return [(lo, hi, *pack_state(near[lo:hi], momentum[lo:hi])) for lo, hi in cuts]


def inside(runner: StageRunner) -> list[object]:
    """All that training goes on from."""
    tensors = [runner._weights, runner._gradient, *runner._optimiser.moments]
    counters = [runner._optimiser.steps, runner._pending, runner.batches, runner.inner_step, runner.epoch]
    return [*(t.numpy().tobytes() for t in tensors), *counters, runner.state_digest()]


# Error feedback


@pytest.mark.parametrize("kind", LOSSY)
def test_what_a_codec_leaves_is_added_to_the_next_pseudo_gradient(kind: str) -> None:
    spec = one_stage(delta_codec=kind)
    runner = started(spec)
    size, bounds = runner.parameters, shard_bounds(runner.parameters, 3)
    residual = [0.0] * size
    for epoch in range(3):
        start = weights(runner)
        passes(runner, epoch, epoch + 10)
        delta = [f32(a - b) for a, b in zip(start.tolist(), weights(runner).tolist(), strict=True)]
        total = np.array([f32(d + r) for d, r in zip(delta, residual, strict=True)], np.float32)
        blobs = runner.pseudo_gradient(3)
        assert blobs == [encode_delta(total[lo:hi], spec.train) for lo, hi in bounds]
        # Asked again, before another pass and even in other shards: nothing was added twice.
        runner.pseudo_gradient(1)
        assert runner.pseudo_gradient(3) == blobs
        decoded = [decode_delta(b, hi - lo, spec.train) for b, (lo, hi) in zip(blobs, bounds, strict=True)]
        read = np.concatenate(decoded)
        residual = [f32(x - y) for x, y in zip(total.tolist(), read.tolist(), strict=True)]
        assert any(residual)
        runner.install(epoch + 1, moved(runner, epoch))


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_codecs_that_round_little_leave_nothing(kind: str) -> None:
    spec = one_stage(delta_codec=kind)
    runner, other = started(spec), started(spec)
    passes(runner, 1, 2)
    runner.pseudo_gradient(2)
    state = moved(runner)
    for r in (runner, other):
        r.install(1, state, inner_step=2)
        passes(r, 3)
    assert runner.pseudo_gradient(2) == other.pseudo_gradient(2)


@pytest.mark.parametrize("kind", LOSSY)
def test_who_publishes_nothing_or_begins_anew_leaves_nothing(kind: str) -> None:
    spec = one_stage(delta_codec=kind)
    fresh, silent, again = (started(spec) for _ in range(3))
    passes(silent, 1, 2)
    passes(again, 1, 2)
    again.pseudo_gradient(2)
    # The epoch of the commit begins again: what was published then will not count.
    again.install(0, [(0, again.parameters, *initial_state(spec, 0))])
    state = moved(fresh)
    for r in (fresh, silent, again):
        r.install(1, state, inner_step=2)
        passes(r, 3)
    assert fresh.pseudo_gradient(2) == silent.pseudo_gradient(2) == again.pseudo_gradient(2)


@pytest.mark.parametrize("kind", ["bf16", "int8", "topk"])
@pytest.mark.parametrize("carry", [False, True])
def test_a_pseudo_gradient_that_is_refused_leaves_all_as_it_was(kind: str, carry: bool) -> None:
    spec = one_stage(delta_codec=kind, accumulate=2)
    runner, other = started(spec), started(spec)
    for r in (runner, other):
        passes(r, 0, 1)
        r.pseudo_gradient(2)
        r.install(1, moved(r))
        passes(r, 2, 3)
        r.pseudo_gradient(2)
        passes(r, 4)
    kept = weights(runner)
    runner._weights.fill_(-float("inf"))
    before = inside(runner)
    with pytest.raises(BadPayload, match="not finite"):
        runner.pseudo_gradient(2)
    assert inside(runner) == before
    runner._weights.copy_(torch.from_numpy(kept))
    for r in (runner, other):
        # The earlier commit stands, with what it left.
        r.install(2, moved(other), carry=carry)
        passes(r, 5)
    assert inside(runner) == inside(other)
    assert runner.pseudo_gradient(2) == other.pseudo_gradient(2)


# The carry


def test_what_is_trained_after_the_commit_moves_over_to_the_new_state() -> None:
    spec = one_stage(accumulate=2)
    runner = started(spec)
    passes(runner, 0, 1, 2)
    runner.pseudo_gradient(2)
    at_commit = weights(runner)
    passes(runner, 3, 4, 5)
    now, before = weights(runner), inside(runner)
    assert runner.batches == 6 and runner._pending == 1
    state = moved(runner)
    runner.install(1, state, carry=True)
    fresh = StageRunner(spec, 0)
    fresh.install(1, state)
    carried = [f32(u - v) for u, v in zip(now.tolist(), at_commit.tolist(), strict=True)]
    local = [f32(w + c) for w, c in zip(weights(fresh).tolist(), carried, strict=True)]
    assert weights(runner).tobytes() == np.array(local, np.float32).tobytes()
    assert any(carried) and runner.state_digest() == fresh.state_digest()
    # Pending gradient, both moments, their steps, and where the schedule is; of the passes those since the commit.
    assert inside(runner)[1:6] == before[1:6]
    assert (runner.batches, runner.inner_step, runner.epoch) == (3, 3, 1)
    vectors = [np.array(carried, np.float32), *(t.numpy() for t in (*runner._optimiser.moments, runner._gradient))]
    body = b"".join(v.tobytes() for v in vectors) + struct.pack("<4q", 3, 1, 3, 3)
    assert runner.carry_digest() == blake3.blake3(body).hexdigest()


def test_what_follows_a_carry_can_be_replayed() -> None:
    """By who makes the same passes, with the commits and installs at the same places among them."""
    spec = one_stage(accumulate=2, delta_codec="topk")
    miner, auditor = started(spec), started(spec)
    digests = set()
    for epoch in range(3):
        first = 5 * epoch
        for r in (miner, auditor):
            passes(r, first, first + 1)
        assert miner.pseudo_gradient(2) == auditor.pseudo_gradient(2)
        state = moved(miner, epoch)
        for r in (miner, auditor):
            passes(r, first + 2, first + 3, first + 4)
            r.install(epoch + 1, state, carry=True)
        assert inside(miner) == inside(auditor)
        assert miner.carry_digest() == auditor.carry_digest()
        digests.add(miner.carry_digest())
    assert len(digests) == 3


@pytest.mark.parametrize("stash", [0, 2])
def test_a_graph_is_a_shortcut_also_after_a_carry(stash: int) -> None:
    spec = small_spec({"stages": 2}, accumulate=1, activation_codec="fp32", stash=stash)
    kept, forgot = (StageRunner(spec, 0, max_graphs=n) for n in (2, 0))
    size = (spec.train.microbatch, spec.model.seq, spec.model.boundary)
    grad = codec.encode(np.random.default_rng(0).normal(0, 1, size).astype(np.float32), "fp32")
    for r in (kept, forgot):
        r.install(0, [(0, r.parameters, *initial_state(spec, 0))])
        r.pseudo_gradient(1)
        r.forward(1, token_blob(spec, 1))
        r.install(1, moved(r), carry=True)
        r.backward(1, token_blob(spec, 1), grad)
    assert inside(kept) == inside(forgot)


def test_after_a_carry_the_pseudo_gradient_begins_with_it() -> None:
    spec = one_stage()
    runner = started(spec)
    passes(runner, 0)
    runner.pseudo_gradient(1)
    passes(runner, 1)
    runner.install(1, moved(runner), carry=True)
    expected = np.subtract(runner._global, weights(runner))
    assert np.abs(expected).max() > 0
    got = decode_delta(runner.pseudo_gradient(1)[0], runner.parameters, spec.train)
    assert np.array_equal(got, expected)


def discards(runner: StageRunner, epoch: int, carry: bool = True) -> None:
    """Installing leaves nothing of the past."""
    state, fresh = moved(runner), StageRunner(runner.spec, 0)
    step = runner.inner_step
    for r in (runner, fresh):
        r.install(epoch, state, inner_step=step, carry=carry)
    assert runner.carry_digest() == "" == fresh.carry_digest()
    assert inside(runner) == inside(fresh)
    for r in (runner, fresh):
        passes(r, 20, 21, 22)
    assert inside(runner) == inside(fresh)


def test_without_a_commit_there_is_nothing_to_carry() -> None:
    runner = started(one_stage(accumulate=2))
    passes(runner, 0, 1, 2)
    discards(runner, 1)


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_only_the_epoch_after_the_commit_carries(epoch: int) -> None:
    runner = started(one_stage(accumulate=2))
    passes(runner, 0, 1)
    runner.pseudo_gradient(1)
    passes(runner, 2)
    discards(runner, epoch)


def test_a_commit_is_carried_once() -> None:
    runner = started(one_stage(accumulate=2))
    passes(runner, 0, 1)
    runner.pseudo_gradient(1)
    passes(runner, 2)
    runner.install(1, moved(runner), carry=True)
    assert runner.carry_digest()
    passes(runner, 3)
    discards(runner, 2)


def test_who_does_not_ask_for_it_does_not_carry() -> None:
    runner = started(one_stage(accumulate=2))
    passes(runner, 0, 1)
    runner.pseudo_gradient(1)
    passes(runner, 2)
    discards(runner, 1, carry=False)


def test_weights_that_a_carry_would_make_infinite_are_not_carried() -> None:
    runner = started(one_stage())
    passes(runner, 0)
    runner.pseudo_gradient(1)
    runner._weights.fill_(float("inf"))
    state = moved(started(runner.spec))
    runner.install(1, state, carry=True)
    assert runner.carry_digest() == "" and runner.batches == 0
    assert np.array_equal(weights(runner), runner._global)


def test_a_state_that_is_refused_can_still_be_carried_into_later() -> None:
    spec = one_stage(accumulate=2, delta_codec="int8")
    runner, other = started(spec), started(spec)
    for r in (runner, other):
        passes(r, 0, 1)
        r.pseudo_gradient(1)
        passes(r, 2)
    state = moved(runner)
    before = inside(runner)
    with pytest.raises(BadPayload):
        runner.install(1, [*state[:1], (*state[1][:3], state[1][3][:-1])], carry=True)
    assert inside(runner) == before
    for r in (runner, other):
        r.install(1, state, carry=True)
        passes(r, 3)
    assert inside(runner) == inside(other) and runner.carry_digest() == other.carry_digest() != ""
    assert runner.pseudo_gradient(1) == other.pseudo_gradient(1)
