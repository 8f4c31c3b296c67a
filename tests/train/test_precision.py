"""Weights are kept in float32 whatever matrices are multiplied in: the smallest step still counts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import torch

from iota_subnet.spec import TrainSpec
from iota_subnet.train import codec
from iota_subnet.train.runner import StageRunner, initial_state
from tests.train.conftest import small_spec, token_blob


class Bf16Runner(StageRunner):
    """As on a GPU: matrices are multiplied in bfloat16."""

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16)


def weights_of(runner: StageRunner) -> torch.Tensor:
    """Local weights: the installed ones less the pseudo-gradient, both in float32."""
    held = codec.decode(runner.installed()[0], (runner.parameters,), "fp32")
    return torch.from_numpy(held - codec.decode(runner.pseudo_gradient(1)[0], (runner.parameters,), "fp32"))


def test_an_update_at_the_lowest_learning_rate_survives_rounding() -> None:
    lowest = TrainSpec().lr_min
    spec = small_spec(model={"stages": 1, "blocks": 1}, accumulate=1, lr=lowest, lr_min=lowest, warmup=0)
    spec = replace(spec, train=replace(spec.train, weight_decay=0.0))
    runner = Bf16Runner(spec, 0)
    runner.install(0, [(0, runner.parameters, *initial_state(spec, 0))])
    before = weights_of(runner)
    runner.forward_backward(0, b"", token_blob(spec, 0))
    after = weights_of(runner)
    moved = after != before
    # Embeddings of tokens that did not occur have no gradient.
    assert float(moved.float().mean()) > 0.8
    ones = moved & (before == 1.0)
    assert int(ones.sum()) > 50, "gains of norms start at 1, where the step is smallest against the value"
    assert torch.equal(after[ones].bfloat16().float(), before[ones]), "in bfloat16 each of these would have been lost"


def test_many_small_updates_add_up() -> None:
    """What one step at the lowest rate moves is far below bfloat16's spacing; what forty move is not."""
    spec = small_spec(model={"stages": 1, "blocks": 1}, accumulate=1, lr=1e-4, lr_min=1e-4, warmup=0)
    runner = Bf16Runner(spec, 0)
    runner.install(0, [(0, runner.parameters, *initial_state(spec, 0))])
    losses = [sum(runner.forward_backward(n, b"", token_blob(spec, 0))[1]) for n in range(40)]
    assert losses[-1] < losses[0] - 0.02
