"""A pipeline of runners computes what one autograd graph would, whoever of the replicas does which pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from iota_subnet.model.stage import Stage, init_stage
from iota_subnet.spec import RunSpec, shard_bounds
from iota_subnet.train import codec
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.train.state import pack_state
from tests.train.conftest import small_spec, token_blob


def started(spec: RunSpec, stage: int, epoch: int = 0) -> StageRunner:
    runner = StageRunner(spec, stage)
    runner.install(epoch, [(0, runner.parameters, *initial_state(spec, stage))])
    return runner


def pipeline(spec: RunSpec) -> list[StageRunner]:
    return [started(spec, stage) for stage in range(spec.model.stages)]


def train(runners: list[StageRunner], mb: int, tokens: bytes) -> list[float]:
    """One microbatch through a pipeline of one replica per stage; the tail's losses."""
    inputs = [tokens]
    for runner in runners[:-1]:
        inputs.append(runner.forward(mb, inputs[-1]))
    grad, losses = runners[-1].forward_backward(mb, inputs[-1], tokens)
    for runner, input in zip(reversed(runners[:-1]), reversed(inputs[:-1]), strict=True):
        grad = runner.backward(mb, input, grad)
    assert grad == b""
    return losses


def local(runner: StageRunner) -> np.ndarray:
    """Local weights, from what the runner publishes (fp32 codec)."""
    spec, parameters = runner.spec, runner.parameters
    weights = codec.decode(runner.installed()[0], (parameters,), "fp32")
    return weights - codec.decode(runner.pseudo_gradient(1)[0], (parameters,), spec.train.delta_codec)


@pytest.mark.parametrize("model", [{}, {"bottleneck": 0}, {"stages": 1}, {"stages": 2}])
def test_pipeline_gradients_equal_one_graph(model: dict[str, int]) -> None:
    spec = small_spec(model, accumulate=8)
    runners = pipeline(spec)
    stages = [init_stage(Stage(spec.model, index), spec.seed) for index in range(spec.model.stages)]
    for n in range(3):
        losses = train(runners, n, token_blob(spec, n))
        tokens = torch.from_numpy(codec.bytes_to_tokens(token_blob(spec, n), (2, 17), 64)).long()
        x = tokens[:, :-1]
        for stage in stages:
            x = stage(x)
        each = F.cross_entropy(x.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(2, -1).mean(1)
        assert losses == pytest.approx(each.tolist(), rel=1e-5)
        each.mean().backward()
    for stage, runner in zip(stages, runners, strict=True):
        expected = torch.cat([p.grad.flatten() for p in stage.parameters()])
        assert float((runner._gradient - expected).norm() / expected.norm()) < 1e-5
        assert (runner.batches, runner.inner_step) == (3, 0)


def test_kept_graph_recomputing_and_another_replica_give_the_same_bytes() -> None:
    spec = small_spec(activation_codec="bf16")
    for stage in (0, 1):
        kept, forgot, other = (started(spec, stage) for _ in range(3))
        forgot._max_graphs = 0
        head, middle, tail = pipeline(spec)
        tokens = token_blob(spec, 0)
        inputs = [tokens, head.forward(0, tokens)]
        grads = [tail.forward_backward(0, middle.forward(0, inputs[1]), tokens)[0]]
        grads.insert(0, middle.backward(0, inputs[1], grads[0]))
        outputs = {runner.forward(0, inputs[stage]) for runner in (kept, forgot)}
        assert len(outputs) == 1 and len(kept._graphs) == 1 and not forgot._graphs
        results = {runner.backward(0, inputs[stage], grads[stage]) for runner in (kept, forgot, other)}
        assert len(results) == 1
        assert kept._gradient.equal(forgot._gradient) and kept._gradient.equal(other._gradient)


def test_a_graph_from_before_an_inner_step_is_not_used_where_no_weights_are_kept() -> None:
    spec = small_spec(accumulate=1, stash=0)
    head, middle, tail = pipeline(spec)
    other = started(spec, 1)
    blobs = [token_blob(spec, n) for n in range(2)]
    inputs = [head.forward(n, blob) for n, blob in enumerate(blobs)]
    outputs = [middle.forward(n, x) for n, x in enumerate(inputs)]
    grads = [tail.forward_backward(n, x, blobs[n])[0] for n, x in enumerate(outputs)]
    for runner in (middle, other):
        runner.backward(0, inputs[0], grads[0])
        assert runner.inner_step == 1 and not runner._graphs
    # `other` never saw the forward passes, so it can only have recomputed the second one with the new weights.
    assert middle.backward(1, inputs[1], grads[1]) == other.backward(1, inputs[1], grads[1])
    assert np.array_equal(local(middle), local(other))


def test_a_graph_of_another_input_is_not_used() -> None:
    spec = small_spec()
    runner, other = started(spec, 0), started(spec, 0)
    grad = codec.encode(np.ones((2, 16, 8), np.float32), "fp32")
    runner.forward(5, token_blob(spec, 0))
    for r in (runner, other):
        r.backward(5, token_blob(spec, 1), grad)
    assert runner._gradient.equal(other._gradient)


def test_graphs_are_bounded() -> None:
    spec = small_spec()
    runner = StageRunner(spec, 0, max_graphs=3)
    runner.install(0, [(0, runner.parameters, *initial_state(spec, 0))])
    for n in range(9):
        runner.forward(n, token_blob(spec, n))
    assert list(runner._graphs) == [6, 7, 8]


def test_accumulation_averages_and_steps_by_itself() -> None:
    spec = small_spec({"stages": 1}, accumulate=3)
    runner = started(spec, 0)
    before = local(runner)
    for n in range(3):
        assert (runner.batches, runner.inner_step) == (n, 0)
        runner.forward_backward(n, b"", token_blob(spec, n))
    assert (runner.batches, runner.inner_step) == (3, 1)
    assert not np.array_equal(local(runner), before)
    # Three times the same microbatch moves as far as once: the mean, not the sum.
    once, thrice = started(small_spec({"stages": 1}, accumulate=1), 0), started(spec, 0)
    once.forward_backward(0, b"", token_blob(spec, 0))
    for n in range(3):
        thrice.forward_backward(n, b"", token_blob(spec, 0))
    assert np.allclose(local(once), local(thrice), atol=1e-6)


def test_pseudo_gradient_finishes_a_started_step_once() -> None:
    spec = small_spec({"stages": 1}, accumulate=4)
    runner = started(spec, 0)
    runner.forward_backward(0, b"", token_blob(spec, 0))
    first = runner.pseudo_gradient(2)
    assert runner.inner_step == 1
    assert runner.pseudo_gradient(2) == first and runner.inner_step == 1


@pytest.mark.parametrize("shards", [1, 3, 10])
def test_shards_cover_the_pseudo_gradient(shards: int) -> None:
    spec = small_spec({"stages": 1}, accumulate=1)
    runner = started(spec, 0)
    runner.forward_backward(0, b"", token_blob(spec, 0))
    whole = codec.decode(runner.pseudo_gradient(1)[0], (runner.parameters,), "fp32")
    bounds = shard_bounds(runner.parameters, shards)
    parts = [
        codec.decode(blob, (hi - lo,), "fp32")
        for blob, (lo, hi) in zip(runner.pseudo_gradient(shards), bounds, strict=True)
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.abs(whole).max() > 0


def test_an_epoch_ends_with_bit_identical_replicas() -> None:
    spec = small_spec({"stages": 1}, accumulate=1, delta_codec="bf16")
    replicas = [started(spec, 0) for _ in range(3)]
    for n in range(7):
        replicas[n % 3].forward_backward(n, b"", token_blob(spec, n))
    bounds = shard_bounds(replicas[0].parameters, 3)
    committed = [(r.batches, r.pseudo_gradient(3)) for r in replicas]
    merged = []
    for index, (lo, hi) in enumerate(bounds):
        contributions = [(count, blobs[index]) for count, blobs in committed]
        twins = {r.reduce(lo, hi, contributions) for r in replicas}
        assert len(twins) == 1
        shard = twins.pop()
        # Who has only the mean makes the same of it.
        assert replicas[0].step(lo, hi, shard.mean) == (shard.weights, shard.momentum)
        merged.append((lo, hi, shard.weights, shard.momentum))
    for r in replicas:
        r.install(1, merged[::-1])
        assert (r.epoch, r.batches) == (1, 0)
    assert len({r.state_digest() for r in replicas}) == 1
    assert replicas[0].state_digest() != started(spec, 0).state_digest()
    losses = {tuple(r.forward_backward(99, b"", token_blob(spec, 99))[1]) for r in replicas}
    assert len(losses) == 1


def test_install_gives_the_state_back() -> None:
    spec = small_spec()
    runner = started(spec, 1)
    assert runner.installed() == initial_state(spec, 1)
    assert not np.any(codec.decode(runner.pseudo_gradient(1)[0], (runner.parameters,), "fp32"))


def cut(spec: RunSpec, bounds: list[tuple[int, int]]) -> list[tuple[int, int, bytes, bytes]]:
    blob = {n: codec.encode(np.zeros(n, np.float32), "fp32") for n in {hi - lo for lo, hi in bounds}}
    return [(lo, hi, blob[hi - lo], blob[hi - lo]) for lo, hi in bounds]


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ([], "end at 0"),
        ([(0, 10)], "end at 10"),
        ([(0, 10), (11, None)], r"\[11, \d+\) does not continue at 10"),
        ([(0, 10), (9, None)], "does not continue at 10"),
        ([(0, None), (0, None)], "does not continue"),
        ([(0, None), (None, 1)], "does not continue"),
        ([(1, None)], "does not continue at 0"),
    ],
)
def test_install_wants_exact_coverage(bounds: list, reason: str) -> None:
    spec = small_spec()
    runner = started(spec, 1)
    size, digest = runner.parameters, runner.state_digest()
    filled = [
        (size if lo is None else lo, size if hi is None else size + hi if lo is None else hi) for lo, hi in bounds
    ]
    with pytest.raises(BadPayload, match=reason):
        runner.install(1, cut(spec, filled))
    assert runner.state_digest() == digest and runner.epoch == 0


def test_install_refuses_a_malformed_shard_and_keeps_the_old_state() -> None:
    spec = small_spec()
    runner = started(spec, 1)
    digest, (weights, momentum) = runner.state_digest(), runner.installed()
    for bad in (weights[:-4], b"", weights + b"\0"):
        with pytest.raises(BadPayload, match="weights"):
            runner.install(1, [(0, runner.parameters, bad, momentum)])
    assert runner.state_digest() == digest


def test_after_install_nothing_of_the_past_remains() -> None:
    spec = small_spec({"stages": 1})
    runner, fresh = started(spec, 0), started(spec, 0)
    for n in range(3):
        runner.forward_backward(n, b"", token_blob(spec, n))
    for r in (runner, fresh):
        r.install(1, [(0, r.parameters, *initial_state(spec, 0))], inner_step=17)
        assert (r.inner_step, r.batches) == (17, 0)
        for n in range(4):
            r.forward_backward(n, b"", token_blob(spec, n + 10))
    assert np.array_equal(local(runner), local(fresh))


def test_reduce_wants_a_slice_of_the_stage() -> None:
    runner = started(small_spec(), 0)
    for lo, hi in [(-1, 5), (5, 5), (9, 3), (0, runner.parameters + 1)]:
        with pytest.raises(BadPayload, match="no slice"):
            runner.reduce(lo, hi, [(1, b"")])
    with pytest.raises(BadPayload, match="contribution 1"):
        good = codec.encode(np.zeros(5, np.float32), "fp32")
        runner.reduce(0, 5, [(1, good), (1, good[:-1])])


def test_step_wants_a_slice_of_the_stage_and_a_mean_of_its_size() -> None:
    runner = started(small_spec(mean_codec="fp32"), 0)
    good = codec.encode(np.zeros(5, np.float32), "fp32")
    assert codec.decode(runner.step(0, 5, good)[0], (5,), "fp32").shape == (5,)
    for lo, hi in [(-1, 4), (5, 5), (runner.parameters, runner.parameters + 5)]:
        with pytest.raises(BadPayload, match="no slice"):
            runner.step(lo, hi, good)
    for bad in (good[:-1], good + b"\0", b"", codec.encode(np.zeros(5, np.float32), "bf16")):
        with pytest.raises(BadPayload, match="mean: expected"):
            runner.step(0, 5, bad)


def test_bad_payloads_leave_no_trace() -> None:
    spec = small_spec()
    head, middle, tail = pipeline(spec)
    tokens = token_blob(spec, 0)
    x = head.forward(0, tokens)
    z = middle.forward(0, x)
    bad = [b"", b"junk", tokens, x[:-1], codec.encode(np.zeros((2, 16, 9), np.float32), "fp32")]
    for blob in bad:
        for call in (
            lambda blob=blob: middle.forward(1, blob),
            lambda blob=blob: middle.backward(0, x, blob),
            lambda blob=blob: middle.backward(7, blob, x),
            lambda blob=blob: tail.forward_backward(0, blob, tokens),
            lambda: tail.forward_backward(0, z, x),
            lambda: head.forward(0, x),
        ):
            with pytest.raises(BadPayload):
                call()
    for runner in (head, middle, tail):
        assert runner.batches == 0 and not runner._gradient.any()
    assert middle.backward(0, x, tail.forward_backward(0, z, tokens)[0])


@pytest.mark.parametrize("scale", [1e38, 3e38])
def test_exploding_values_never_poison_the_weights(scale: float) -> None:
    spec = small_spec(accumulate=1)
    head, middle, tail = pipeline(spec)
    tokens = token_blob(spec, 0)
    huge = codec.encode(np.full((2, 16, 8), scale, np.float32), "fp32")
    x = head.forward(0, tokens)
    for call in (
        lambda: middle.backward(0, x, huge),
        lambda: tail.forward_backward(0, huge, tokens),
        lambda: middle.forward(0, huge),
    ):
        try:
            call()
        except BadPayload as error:
            assert "not finite" in error.reason
    for runner in (middle, tail):
        assert np.isfinite(local(runner)).all()


def test_one_inner_step_is_bounded_by_the_clip() -> None:
    spec = small_spec(accumulate=1)
    calm, shaken = started(spec, 0), started(spec, 0)
    for runner, scale in ((calm, 1e3), (shaken, 1e6)):
        runner.backward(0, token_blob(spec, 0), codec.encode(np.full((2, 16, 8), scale, np.float32), "fp32"))
    # Both exceed the clip in the same direction, so they move alike.
    assert np.allclose(local(calm), local(shaken), atol=1e-5)


def test_wrong_calls_are_the_callers_fault() -> None:
    spec = small_spec()
    with pytest.raises(RuntimeError, match="install first"):
        StageRunner(spec, 0).forward(0, token_blob(spec, 0))
    head, _, tail = pipeline(spec)
    with pytest.raises(RuntimeError, match="forward_backward"):
        tail.forward(0, b"")
    with pytest.raises(RuntimeError, match="forward_backward"):
        tail.backward(0, b"", b"")
    with pytest.raises(RuntimeError, match="not the tail"):
        head.forward_backward(0, b"", b"")


def test_training_learns_a_fixed_text() -> None:
    spec = small_spec(accumulate=1, lr=1e-2, warmup=2, decay=60, activation_codec="bf16")
    runners = pipeline(spec)
    losses = [np.mean(train(runners, n, token_blob(spec, n % 2))) for n in range(60)]
    assert losses[0] == pytest.approx(math.log(64), abs=0.2)
    assert losses[-1] < 0.5 * losses[0]


def test_a_state_in_pieces_gives_what_the_whole_gives_however_the_next_merge_cuts_it() -> None:
    spec = small_spec({"stages": 1}, mean_codec="fp32")
    whole, pieces = started(spec, 0), StageRunner(spec, 0)
    size = whole.parameters
    weights, momentum = (codec.decode(blob, (size,), "fp32") for blob in whole.installed())
    cuts = [(0, 7), (7, 8), (8, size // 2), (size // 2, size)]
    pieces.install(0, [(lo, hi, *pack_state(weights[lo:hi], momentum[lo:hi])) for lo, hi in cuts])
    assert pieces.installed() == whole.installed() and pieces.state_digest() == whole.state_digest()
    for runner in (whole, pieces):
        runner.forward_backward(0, b"", token_blob(spec, 0))
    assert whole.pseudo_gradient(3) == pieces.pseudo_gradient(3)
    for lo, hi in [(0, 7), (3, 9), (7, 8), (5, size), (size // 2 - 1, size // 2 + 1)]:
        mean = codec.encode(np.linspace(-1, 1, hi - lo, dtype=np.float32), "fp32")
        assert whole.step(lo, hi, mean) == pieces.step(lo, hi, mean)


def test_what_a_runner_has_made_does_not_vouch_for_other_bytes_of_the_same_slice() -> None:
    spec = small_spec({"stages": 1}, mean_codec="fp32")
    runner = started(spec, 0)
    size = runner.parameters
    made = runner.step(0, size, codec.encode(np.zeros(size, np.float32), "fp32"))
    poison = made[0][:-4] + np.float32("nan").tobytes()
    with pytest.raises(BadPayload, match=r"1 of \d+ values are not finite"):
        runner.install(1, [(0, size, poison, made[1])])
    runner.install(1, [(0, size, *made)])
    assert runner.installed() == made
