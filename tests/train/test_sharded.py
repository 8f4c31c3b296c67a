"""A stage on several devices gives what it gives on one, within rounding; one that is lost is named, not awaited."""

from __future__ import annotations

import dataclasses
import os
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from iota_subnet.spec import RunSpec
from iota_subnet.train import codec
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.train.sharded import ShardedRunner
from iota_subnet.train.team import DevicesLost, Team
from iota_subnet.train.tuning import Tuning
from tests.train.conftest import small_spec, token_blob

TWO = Tuning(devices=("cpu", "cpu"))
#: 15 channels in 3 heads: norms and tables do not come in halves.
ODD = {"dim": 30, "heads": 3, "kv_heads": 1, "ffn": 45, "vocab": 67, "bottleneck": 9, "stages": 2, "blocks": 4}
CLOSE = dict(rtol=1e-4, atol=1e-6)


def started(runner: StageRunner) -> StageRunner:
    runner.install(0, [(0, runner.parameters, *initial_state(runner.spec, runner.stage))])
    return runner


@pytest.fixture
def spec() -> RunSpec:
    return small_spec(ODD, microbatch=4, accumulate=2, weight_decay=0.1)


@pytest.fixture
def made() -> Iterator[list[StageRunner]]:
    """Runners that are closed whatever happens."""
    runners: list[StageRunner] = []
    yield runners
    for runner in runners:
        runner.close()


def read(spec: RunSpec, blob: bytes) -> np.ndarray:
    return codec.decode(blob, (4, spec.model.seq, spec.model.bottleneck), "fp32")


@pytest.mark.parametrize(("recompute", "stash"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_two_processes_train_as_one_does(spec: RunSpec, made: list[StageRunner], recompute: bool, stash: int) -> None:
    tuning = dataclasses.replace(TWO, recompute=recompute)
    # With a step after each, the second backward pass of two uses weights of before the first.
    train = dataclasses.replace(spec.train, stash=stash, accumulate=1 if stash else spec.train.accumulate)
    spec = dataclasses.replace(spec, train=train)
    alone = [started(StageRunner(spec, stage)) for stage in range(2)]
    made += [ShardedRunner(spec, stage, tuning) for stage in range(2)]
    shared = [started(runner) for runner in made]
    for n in range(0, 8, 2):
        # Two forward passes before the first backward pass, as in a full pipeline.
        blobs = [token_blob(spec, n), token_blob(spec, n + 1)]
        sent = [[pair[0].forward(n + i, blob) for i, blob in enumerate(blobs)] for pair in (alone, shared)]
        for one, other in zip(*sent, strict=True):
            np.testing.assert_allclose(read(spec, other), read(spec, one), **CLOSE)
        for i, blob in enumerate(blobs):
            # The same input for both, so that differences do not add up over stages.
            one, other = (pair[1].forward_backward(n + i, sent[0][i], blob) for pair in (alone, shared))
            np.testing.assert_allclose(other[1], one[1], **CLOSE)
            np.testing.assert_allclose(read(spec, other[0]), read(spec, one[0]), **CLOSE)
            for pair in (alone, shared):
                assert pair[0].backward(n + i, blob, one[0]) == b""
    assert [runner.inner_step for runner in shared] == [8 // train.accumulate] * 2
    for one, other in zip(alone, shared, strict=True):
        moved = one._weights.numpy() - np.array(one._global)
        assert np.linalg.norm(other._weights.numpy() - one._weights.numpy()) < 1e-3 * np.linalg.norm(moved)
        for a, b in zip(one._optimiser.moments, other._optimiser.moments, strict=True):
            np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-3, atol=1e-8)
        assert sum(other._team.call("held")) == other.parameters > 1.9 * max(other._team.call("held"))


def test_an_epoch_begins_with_what_is_installed(spec: RunSpec, made: list[StageRunner]) -> None:
    made.append(ShardedRunner(spec, 0, TWO))
    runner, tokens = started(made[0]), token_blob(spec, 0)
    before = runner.forward(0, tokens)
    grad = codec.encode(np.ones((4, spec.model.seq, spec.model.bottleneck), np.float32), "fp32")
    runner.backward(0, tokens, grad)
    assert runner._gradient.any()
    # The first inner step is finished by who asks for the pseudo-gradient; asked again it is the same.
    deltas = runner.pseudo_gradient(2)
    assert runner.inner_step == 1 and runner.pseudo_gradient(2) == deltas
    after = runner.forward(1, tokens)
    assert after != before
    started(runner)
    assert runner.forward(2, tokens) == before and not runner._gradient.any()
    assert not any(moment.any() for moment in runner._optimiser.moments)
    # A graph of weights that were replaced is not used, nor kept by the devices.
    assert runner.batches == 0


def test_a_refused_payload_changes_nothing(spec: RunSpec, made: list[StageRunner]) -> None:
    made.append(ShardedRunner(spec, 0, TWO))
    runner, tokens = started(made[0]), token_blob(spec, 0)
    good = codec.encode(np.ones((4, spec.model.seq, spec.model.bottleneck), np.float32), "fp32")
    huge = codec.encode(np.full((4, spec.model.seq, spec.model.bottleneck), 3e38, np.float32), "fp32")
    runner.backward(0, tokens, good)
    kept = runner._gradient.clone()
    with pytest.raises(BadPayload, match="is not finite"):
        runner.backward(1, tokens, huge)
    assert runner._gradient.equal(kept) and runner.batches == 1


def test_a_device_that_is_lost_is_named_and_the_others_end(spec: RunSpec, made: list[StageRunner]) -> None:
    made.append(ShardedRunner(spec, 0, TWO))
    runner = started(made[0])
    os.kill(runner._team._members[1].pid, signal.SIGKILL)
    with pytest.raises(DevicesLost, match=r"device 1 \(cpu\) of the stage was lost: its process ended"):
        runner.forward(0, token_blob(spec, 0))
    assert not any(member.is_alive() for member in runner._team._members)
    with pytest.raises(DevicesLost, match="was lost"):
        runner.forward(0, token_blob(spec, 0))


@pytest.mark.parametrize("said", [[], [(True, None)]], ids=["at work", "after its answer"])
def test_the_device_that_died_is_named_not_who_complained_first(said: list[Any]) -> None:
    team, ends = team_of(3)
    ends[0].send((False, "RuntimeError: connection reset by peer"))
    ends[2].send((True, None))
    for answer in said:
        ends[1].send(answer)
    ends[1].close()
    with pytest.raises(DevicesLost, match=r"device 1 \(cpu\) .* its process ended"):
        team._answers()


def test_a_device_that_failed_by_itself_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iota_subnet.train.team.CAUSE_S", 0.05)
    team, ends = team_of(2)
    ends[0].send((False, "OutOfMemoryError: 3 GiB"))
    with pytest.raises(DevicesLost, match=r"device 0 \(cpu\) .* OutOfMemoryError"):
        team._answers()


def team_of(size: int) -> tuple[Team, list[Any]]:
    """A team without processes, and the members' ends of its pipes."""
    team, pipes = object.__new__(Team), [Pipe() for _ in range(size)]
    team._lost, team._folder = "", tempfile.TemporaryDirectory()
    team._pipes, team._members, team._devices = [ours for ours, _ in pipes], [], ("cpu",) * size
    return team, [theirs for _, theirs in pipes]


def test_what_cannot_be_shared_is_refused(spec: RunSpec) -> None:
    for tuning, reason in (
        (Tuning(devices=("cuda:0",)), "two or more of one kind"),
        (Tuning(devices=("cuda:0", "cpu")), "two or more of one kind"),
        (Tuning(devices=("cuda:0", "cuda:0")), "each GPU once"),
        (Tuning(devices=("cuda:0", "cuda:1"), compile=True), "not for several devices"),
        (Tuning(devices=("cpu",) * 3), "4 samples cannot be split over 3 devices"),
    ):
        with pytest.raises(ValueError, match=reason):
            ShardedRunner(spec, 0, tuning)
    with pytest.raises(ValueError, match="adamw only, the run has muon"):
        ShardedRunner(dataclasses.replace(spec, train=dataclasses.replace(spec.train, optimiser="muon")), 0, TWO)
