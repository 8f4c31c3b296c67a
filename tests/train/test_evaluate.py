"""Evaluation sees what the swarm sees: the same boundary rounding, the same losses."""

from __future__ import annotations

import numpy as np
import pytest

from iota_subnet.model.parameters import initial_vector
from iota_subnet.train import codec
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.evaluate import evaluate
from iota_subnet.train.runner import StageRunner, initial_state
from tests.train.conftest import small_spec, token_blob


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_equals_the_runners_losses(kind: codec.Codec) -> None:
    spec = small_spec(activation_codec=kind)
    runners = [StageRunner(spec, stage) for stage in range(3)]
    for runner in runners:
        runner.install(0, [(0, runner.parameters, *initial_state(spec, runner.stage))])
    blobs = [token_blob(spec, n) for n in range(2)]
    losses = []
    for n, blob in enumerate(blobs):
        x = runners[1].forward(n, runners[0].forward(n, blob))
        losses += runners[2].forward_backward(n, x, blob)[1]
    weights = [initial_vector(spec.model, stage, spec.seed) for stage in range(3)]
    assert evaluate(spec, weights, blobs) == pytest.approx(float(np.mean(losses)), rel=1e-6)


def test_refusals() -> None:
    spec = small_spec()
    weights = [initial_vector(spec.model, stage, spec.seed) for stage in range(3)]
    with pytest.raises(BadPayload, match="2 weight vectors for 3 stages"):
        evaluate(spec, weights[:2], [token_blob(spec, 0)])
    with pytest.raises(BadPayload, match="parameters"):
        evaluate(spec, [weights[0][1:], *weights[1:]], [token_blob(spec, 0)])
    with pytest.raises(BadPayload, match="no held-out"):
        evaluate(spec, weights, [])
    with pytest.raises(BadPayload, match="token blob"):
        evaluate(spec, weights, [b"junk"])
