"""How a miner computes its stage is its own choice: the bytes that others see are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iota_subnet.settings import MinerSettings
from iota_subnet.train import codec
from iota_subnet.train.runner import StageRunner, graphs_that_pay, initial_state
from iota_subnet.train.tuning import Tuning
from template.errors import BadSettings
from template.settings import parse
from tests.train.conftest import small_spec, token_blob


def kept_bytes(runner: StageRunner, tokens: bytes) -> tuple[int, bytes, bytes]:
    """What autograd keeps of a forward pass, its output, and the accumulated gradient after a backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = runner.forward(0, tokens)
    runner.backward(0, tokens, codec.encode(np.ones((2, 16, 8), np.float32), "fp32"))
    return sum(kept.values()), output, runner._gradient.numpy().tobytes()


@pytest.mark.parametrize("boundary", ["resbm", "subspace"])
def test_recomputing_keeps_less_and_gives_the_same_bytes(boundary: str) -> None:
    spec = small_spec({"boundary_codec": boundary}, accumulate=8)
    found = []
    for tuning in (Tuning(), Tuning(recompute=True)):
        runner = StageRunner(spec, 0, tuning=tuning)
        runner.install(0, [(0, runner.parameters, *initial_state(spec, 0))])
        found.append(kept_bytes(runner, token_blob(spec, 0)))
    # The encoder keeps what it has; of a block only its input is left.
    assert found[1][0] < 0.6 * found[0][0]
    assert found[0][1:] == found[1][1:]


@pytest.mark.parametrize("flag", ["compile", "bf16"])
def test_what_only_a_gpu_can_do_is_refused_on_a_cpu(flag: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{flag} needs a GPU"):
        StageRunner(small_spec(), 0, tuning=Tuning(**{flag: True}))
    argv = ["--netuid", "1", f"--work.{flag}"]
    with pytest.raises(BadSettings, match=f"{flag} needs a GPU"):
        parse(MinerSettings, argv)
    assert parse(MinerSettings, [*argv, "--work.device", "cuda"]).work.tuning() == Tuning(**{flag: True})


def test_graphs_are_kept_as_long_as_no_step_drops_them() -> None:
    spec = small_spec(accumulate=8, stash=0)
    none = small_spec(accumulate=1, stash=0)
    assert graphs_that_pay(spec) == spec.swarm.live_per_replica > graphs_that_pay(none) == 2
