"""Weight stashing: a backward pass uses the weights of its own forward pass, whether the graph was kept or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from iota_subnet.model.stage import Stage, flatten, init_stage
from iota_subnet.spec import RunSpec, SpecError, TrainSpec
from iota_subnet.train import codec
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.runner import StageRunner, graphs_that_pay, initial_state
from iota_subnet.train.tuning import Tuning
from iota_subnet.train.versions import Versions
from tests.train.conftest import small_spec, token_blob


def started(spec: RunSpec, stage: int = 0, graphs: int = 8, recompute: bool = False) -> StageRunner:
    runner = StageRunner(spec, stage, max_graphs=graphs, tuning=Tuning(recompute))
    runner.install(0, [(0, runner.parameters, *initial_state(spec, stage))])
    return runner


def gradient(spec: RunSpec, n: int) -> bytes:
    rng = np.random.default_rng(n)
    return codec.encode(rng.normal(0, 1, (2, 16, spec.model.bottleneck)).astype(np.float32), "fp32")


def weights(runner: StageRunner) -> np.ndarray:
    return runner._weights.numpy().copy()


def fed(spec: RunSpec, batches: int) -> Iterator[tuple[str, int]]:
    """As a full pipeline has it: three forward passes ahead."""
    for n in range(batches + 3):
        if n < batches:
            yield "forward", n
        if n >= 3:
            yield "backward", n - 3


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("stash", [0, 1, 2])
def test_a_kept_graph_is_a_shortcut_and_nothing_else(stash: int, optimiser: str) -> None:
    """Also for who recomputes inside blocks: all give the same bytes, and so the same weights."""
    spec = small_spec(accumulate=1, stash=stash, optimiser=optimiser)
    runners = [started(spec), started(spec, graphs=0), started(spec, graphs=1), started(spec, recompute=True)]
    for op, n in fed(spec, 12):
        blob = token_blob(spec, n)
        made = {r.forward(n, blob) if op == "forward" else r.backward(n, blob, gradient(spec, n)) for r in runners}
        assert len(made) == 1
    for runner in runners[1:]:
        assert np.array_equal(weights(runner), weights(runners[0]))
    assert runners[0].inner_step == 12


def test_the_gradient_is_that_of_the_weights_of_the_forward_pass() -> None:
    spec = small_spec(accumulate=1, stash=1, clip=1e9, optimiser="adamw")
    late, early = started(spec), started(spec)
    for n in range(2):
        late.forward(n, token_blob(spec, n))
    early.forward(1, token_blob(spec, 1))
    late.backward(0, token_blob(spec, 0), gradient(spec, 0))
    assert late.inner_step == 1 and not np.array_equal(weights(late), weights(early))
    taken: list[list[torch.Tensor]] = []
    for runner in (late, early):
        runner._add_gradient = lambda fresh: taken.append([part.clone() for part in fresh])
        runner.backward(1, token_blob(spec, 1), gradient(spec, 1))
    assert all(torch.equal(one, other) for one, other in zip(*taken, strict=True))


def test_what_is_older_is_computed_with_the_current_weights() -> None:
    """By whoever kept it, and by another replica that was given the pass instead."""
    spec = small_spec(accumulate=1, stash=1)
    kept, other = started(spec), started(spec)
    kept.forward(7, token_blob(spec, 7))
    for n in range(2):
        for runner in (kept, other):
            runner.backward(n, token_blob(spec, n), gradient(spec, n))
    assert not kept._graphs and not kept._made_at
    for runner in (kept, other):
        runner.backward(7, token_blob(spec, 7), gradient(spec, 7))
    assert np.array_equal(weights(kept), weights(other))


def test_a_new_state_forgets_the_weights_of_the_old_one() -> None:
    spec = small_spec(accumulate=1, stash=2)
    kept, new = started(spec), started(spec)
    kept.forward(0, token_blob(spec, 0))
    state = initial_state(spec, 0)
    for runner in (kept, new):
        runner.install(1, [(0, runner.parameters, *state)], inner_step=5)
        runner.backward(0, token_blob(spec, 0), gradient(spec, 0))
    assert np.array_equal(weights(kept), weights(new))


def test_work_that_crosses_a_merge_goes_back_through_the_weights_it_came_by() -> None:
    spec = small_spec(accumulate=2, stash=2)
    crossing, early = started(spec), started(spec)
    for runner in (crossing, early):
        runner.forward(0, token_blob(spec, 0))
    crossing.pseudo_gradient(1)
    size = crossing.parameters
    rng = np.random.default_rng(3)
    moved = tuple(codec.encode(rng.normal(0, 0.02, size).astype(np.float32), "fp32") for _ in range(2))
    crossing.install(1, [(0, size, *moved)], carry=True)
    assert not np.array_equal(weights(crossing), weights(early))
    for runner in (crossing, early):
        runner.backward(0, token_blob(spec, 0), gradient(spec, 0))
    assert crossing._gradient.equal(early._gradient) and crossing._gradient.any()


def test_versions_move_apart_and_the_stage_has_the_newest() -> None:
    spec = small_spec()
    stage = init_stage(Stage(spec.model, 0), seed=1)
    versions = Versions(stage, 2)
    said = [versions.weights.clone()]
    for n in range(5):
        versions.advance()
        versions.weights.add_(float(n + 1))
        said.append(versions.weights.clone())
        assert torch.equal(flatten(stage), said[-1])
        for back in range(min(2, n + 1) + 1):
            with versions.of(back):
                assert torch.equal(flatten(stage), said[-1 - back])
            assert torch.equal(torch.cat([leaf.detach().flatten() for leaf in versions.leaves(back)]), said[-1 - back])
        assert torch.equal(flatten(stage), said[-1])


def test_more_graphs_pay_where_they_are_kept_longer_and_the_price_is_bounded() -> None:
    spec = small_spec(accumulate=1, stash=2)
    assert (
        graphs_that_pay(small_spec(accumulate=1, stash=0)) == 2 < graphs_that_pay(spec) == spec.swarm.live_per_replica
    )
    for wrong in (-1, 9):
        with pytest.raises(SpecError, match="copies of a stage's weights"):
            TrainSpec(stash=wrong)


def test_a_refused_gradient_leaves_the_weights_of_the_forward_pass_to_the_right_one() -> None:
    spec = small_spec(accumulate=1, stash=2)
    plagued, other = started(spec), started(spec)
    huge = codec.encode(np.full((2, 16, spec.model.bottleneck), 3e38, np.float32), "fp32")
    for op, n in fed(spec, 6):
        for runner in (plagued, other):
            if op == "forward":
                runner.forward(n, token_blob(spec, n))
                continue
            if runner is plagued:
                with pytest.raises(BadPayload, match="is not finite"):
                    runner.backward(n, token_blob(spec, n), huge)
            runner.backward(n, token_blob(spec, n), gradient(spec, n))
    assert np.array_equal(weights(plagued), weights(other))
