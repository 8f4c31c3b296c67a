"""What a merge promises for any number of replicas, any size, any order of messages, and whoever vanishes when.

The reference is a plain reduction: each slice once, all that counts of it, in the order of hotkeys.
"""

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iota_subnet.core import invariants
from iota_subnet.core.actions import Contribution, RecomputeShard, Refuse, SendMergePlan
from iota_subnet.core.events import Manifest, ShardFetched, ShardReduced, ShardsCommitted
from iota_subnet.core.pairs import shards_for
from iota_subnet.core.recompute import contributions
from iota_subnet.core.state import Phase
from iota_subnet.sim.butterfly import VALIDATOR, Butterfly
from iota_subnet.spec import BlobRef, TrainSpec
from iota_subnet.train import allreduce, codec, state

from .bench import Bench, blob

many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_the_reference(run: Butterfly) -> bool:
    """Whether the new state covers each parameter once, each slice being what the plain reduction gives."""
    base, made = run.state.former[0], run.state.manifests[0]
    edges = [0, *(shard.hi for shard in made.shards)]
    if [shard.lo for shard in made.shards] != edges[:-1] or edges[-1] != run.size:
        return False
    for shard in run.merge.shards:
        chosen = tuple(c for c in contributions(run.merge, shard.index) if c.hotkey in (shard.contributors or ()))
        truth = run.reduction(base, run.state.epoch, shard.lo, shard.hi, chosen)
        if shard.accepted is None or shard.accepted.digests != (truth[1], truth[2], truth[0]):
            return False
    return True


@many
@given(
    st.integers(1, 64),
    st.one_of(st.integers(1, 70), st.integers(71, 100_000)),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 63)), max_size=40),
)
def test_every_parameter_is_reduced_once_and_rightly_whoever_vanishes_when(
    n: int, size: int, seed: int, deaths: list[tuple[float, int]]
) -> None:
    run = Butterfly(n, size, f"{seed}", Random(seed)).until(Phase.COMMIT)
    weights = Random(seed)
    for hotkey in run.merge.eligible:
        run.state.miners[hotkey].batches = weights.randint(1, 40)
    turns = n + 4 * shards_for(n, size)
    # One lives, or there is no stage any more.
    left = sorted((int(when * turns), run.hotkeys[number]) for when, number in deaths if 0 < number < n)
    for turn in range(turns):
        if run.state.phase not in (Phase.COMMIT, Phase.REDUCE):
            break
        dying = {hotkey for when, hotkey in left if when == turn} - run.gone.keys()
        if dying:
            run.vanish(dying)
            invariants.check(run.state)
        if run.state.phase in (Phase.COMMIT, Phase.REDUCE):
            run.step()
    if run.state.phase is not Phase.INSTALL:
        run.until(Phase.INSTALL)
    invariants.check(run.state)
    assert run.state.reports[0].coverage == [1.0] and is_the_reference(run)
    assert not run.state.faults, "nobody lied"


@many
@given(st.integers(1, 24), st.integers(1, 5_000), st.integers(), st.integers())
def test_the_order_of_messages_does_not_matter(n: int, size: int, one: int, other: int) -> None:
    names = [Butterfly(n, size, "same", Random(k)).until(Phase.INSTALL).state.manifests[0].name for k in (one, other)]
    assert names[0] == names[1]


class Numbers(Butterfly):
    """Real vectors: contributions in the codec of the run, reduced by the code that miners run."""

    def __init__(self, *given: Any) -> None:
        self.held: dict[str, bytes] = {}
        self.vectors: dict[str, np.ndarray] = {}
        super().__init__(*given)

    def put(self, data: bytes, *urls: str) -> BlobRef:
        name = codec.digest(data)
        self.held[name] = data
        return BlobRef(name, len(data), urls)

    def first(self) -> tuple[BlobRef, BlobRef]:
        start = np.random.default_rng(0).normal(0, 1, self.size).astype(np.float32)
        weights, momentum = state.pack_state(start, np.zeros_like(start))
        return self.put(weights, VALIDATOR), self.put(momentum, VALIDATOR)

    def gradient(self, hotkey: str, epoch: int, lo: int, hi: int) -> BlobRef:
        if hotkey not in self.vectors:
            rng = np.random.default_rng(int(hotkey[1:]))
            values = rng.normal(0, 1, self.size) * 10.0 ** rng.integers(-3, 3, self.size)
            self.vectors[hotkey] = values.astype(np.float32)
        return self.put(allreduce.encode_delta(self.vectors[hotkey][lo:hi], self.spec.train), hotkey)

    def reduction(
        self, base: Manifest, epoch: int, lo: int, hi: int, chosen: tuple[Contribution, ...]
    ) -> tuple[str, str, str]:
        weights, momentum = self.vector(base)
        given = [(c.weight, self.held[c.blob.digest]) for c in chosen]
        made = state.reduce_blobs(self.spec.train, epoch, weights[lo:hi], momentum[lo:hi], given)
        mean, new_weights, new_momentum = (self.put(part).digest for part in made)
        return mean, new_weights, new_momentum

    def vector(self, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
        parts = [(s.lo, s.hi, self.held[s.weights.digest], self.held[s.momentum.digest]) for s in manifest.shards]
        return state.unpack_state(parts, self.size)


def plainly(train: TrainSpec, weights: np.ndarray, vectors: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """The outer step of epoch 0 on the whole vector, number by number, without a shard in sight."""
    f = np.float32
    mu, lr = f(state.outer_momentum(train, 0)), f(train.outer_lr)
    out = np.empty_like(weights)
    for i in range(weights.size):
        total = f(0)
        for count, vector in vectors:
            total = f(total + f(vector[i] * f(count)))
        mean = f(total / f(sum(count for count, _ in vectors)))
        momentum = f(f(f(0) * mu) + mean)
        out[i] = f(weights[i] - f(f(f(momentum * mu) + mean) * lr))
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**20), st.data())
def test_the_merged_vector_is_the_plain_reduction_to_the_bit(n: int, size: int, seed: int, data: st.DataObject) -> None:
    # Not robust and not rounded, so that the reference needs to know of neither; both have tests of their own.
    plain = TrainSpec(microbatch=1, mean_codec="fp32", delta_clip=0.0)
    run = Numbers(n, size, f"{seed}", Random(seed), 0.0, plain)
    run.until(Phase.COMMIT)
    counts = {hotkey: data.draw(st.integers(1, 1000)) for hotkey in run.hotkeys}
    for hotkey, count in counts.items():
        run.state.miners[hotkey].batches = count
    before, _ = run.vector(run.state.manifests[0])
    run.until(Phase.INSTALL)
    # What everybody adds up is what came over the wire.
    given = [
        (counts[h], codec.decode(allreduce.encode_delta(run.vectors[h], TrainSpec()), (size,), "bf16"))
        for h in run.hotkeys
    ]
    after, _ = run.vector(run.state.manifests[0])
    assert after.tobytes() == plainly(run.spec.train, before, given).tobytes()


# Bytes


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 22, 23, 24, 32])
def test_bytes_per_miner_follow_the_formula_and_do_not_grow_with_replicas(n: int) -> None:
    size = 200_003
    run = Butterfly(n, size, "bytes", Random(n)).until(Phase.REDUCE)
    run.bytes.clear()
    counted = run.state.bytes_merge
    drawn = [shard.reducers for shard in run.merge.shards]
    bounds = [(shard.lo, shard.hi) for shard in run.merge.shards]
    run.until(Phase.TRAIN)
    w, m = 2 * size, 2 * size
    for hotkey in run.hotkeys:
        own = sum(hi - lo for (lo, hi), pair in zip(bounds, drawn, strict=True) if hotkey in pair)
        got, given_ = run.bytes["reduce", "in", hotkey], run.bytes["reduce", "out", hotkey]
        assert (got, given_) == ((n - 1) * 2 * own, 2 * w - 2 * own), "exactly"
        assert got == pytest.approx(2 * w * (n - 1) / n, rel=0.03)
        assert given_ == pytest.approx(2 * w * (n - 1) / n, rel=0.03)
        assert run.bytes["install", "in", hotkey] == m - 2 * own
        assert run.bytes["install", "in", hotkey] == pytest.approx(m * (1 - 2 / n), rel=0.03)
    assert sum(v for (_, way, _), v in run.bytes.items() if way == "in") == run.state.bytes_merge - counted


# Who takes over


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35, 0.5])
@pytest.mark.parametrize("turns", [0, 150, 400])
def test_half_of_fifty_may_vanish_and_the_validator_reduces_nothing(share: float, turns: int) -> None:
    run = Butterfly(50, 10_007, "v", Random(turns)).until(Phase.REDUCE)
    drawn = [tuple(shard.reducers) for shard in run.merge.shards]
    for _ in range(turns):
        run.step()
    lost = set(Random(1).sample(run.hotkeys, int(50 * share)))
    assert any(lost.issuperset(pair) for pair in drawn)
    run.vanish(lost)
    run.until(Phase.INSTALL)
    assert run.state.reports[0].coverage == [1.0] and is_the_reference(run)
    assert run.state.reports[0].recomputed == 0 and not run.bytes["reduce", "in", VALIDATOR]
    load = Counter(hotkey for shard in run.merge.shards for hotkey in shard.reducers if hotkey not in run.gone)
    assert max(load.values()) <= 1.25 * sum(load.values()) / len(load), "nobody inherits all"


def test_what_is_left_is_told_once() -> None:
    run = Butterfly(12, 10_007).until(Phase.REDUCE)
    run.history.clear()
    run.vanish(run.hotkeys[:1])
    plans = [action for action in run.history if isinstance(action, SendMergePlan)]
    given_ = [(plan.hotkey, duty.shard) for plan in plans for duty in plan.duties]
    assert len({plan.hotkey for plan in plans}) == len(plans) and len(given_) == 11
    assert len(set(given_)) == len(given_)


def test_with_one_survivor_the_validator_does_what_needs_twins_at_once() -> None:
    run = Butterfly(4, 100).until(Phase.REDUCE)
    run.vanish(run.hotkeys[1:])
    asked = {action.shard for action in run.history if isinstance(action, RecomputeShard)}
    assert asked == {shard.index for shard in run.merge.shards if run.hotkeys[0] not in shard.reducers}
    run.until(Phase.INSTALL)
    assert run.state.reports[0].coverage == [1.0] and is_the_reference(run)


def test_who_has_been_told_whose_bytes_count_is_not_asked_again_with_others() -> None:
    """It would add up the first ones, and look like a liar beside its new twin."""
    run = Butterfly(6, 1000).until(Phase.REDUCE)
    shard = run.merge.shards[0]
    stays, goes = shard.reducers
    for hotkey in (stays, goes):
        run.handle(ShardFetched(at=run.now, hotkey=hotkey, stage=0, epoch=0, shard=0, have=run.hotkeys))
    assert shard.contributors == run.hotkeys
    run.vanish([goes])
    assert stays not in shard.reducers and len(shard.reducers) == 2 and shard.contributors is None
    run.until(Phase.INSTALL)
    assert not run.state.faults and run.state.reports[0].recomputed == 0 and is_the_reference(run)
    assert goes not in (shard.contributors or ())


# What is refused, and in which words


def refusals(bench: Bench) -> list[str]:
    return [refusal.reason for refusal in bench.got(Refuse)]


def to_reduce() -> tuple[Bench, tuple[str, ...]]:
    bench = Bench(1, 3, epoch_batches=12).train().commit_all()
    return bench, tuple(sorted(bench.state.miners))


def test_a_commit_of_an_epoch_that_is_over_is_refused_and_the_merge_goes_on() -> None:
    bench, _ = to_reduce()
    bench.merge_all().install_all()
    bench.train()
    old = tuple(blob(f"pg-m0-{index}", 8) for index in range(3))
    bench.send(ShardsCommitted(at=bench.now, hotkey="m0", stage=0, epoch=0, shards=old))
    assert any("does not take a commit" in reason for reason in refusals(bench))
    assert not bench.state.merges[0].commits
    bench.commit_all().merge_all()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].coverage == [1.0]


@pytest.mark.parametrize("when", ["replayed", "late"])
def test_a_result_that_is_replayed_or_late_is_refused_and_the_merge_goes_on(when: str) -> None:
    bench, everybody = to_reduce()
    shard = bench.state.merges[0].shards[0]
    reducer = shard.reducers[0]
    if when == "replayed":
        bench.merge_all().install_all()
        bench.train().commit_all()
    else:
        for hotkey in list(shard.reducers):
            bench.fetch(hotkey, everybody)
        for hotkey in list(shard.reducers):
            bench.reduce(hotkey)
        assert shard.accepted is not None
    bench.send(
        ShardReduced(
            at=bench.now, hotkey=reducer, stage=0, epoch=0, shard=0, mean=blob("d-x"), weights=blob("w-x"),
            momentum=blob("m-x"),
        )
    )  # fmt: skip
    assert any("not a duty of yours now" in reason for reason in refusals(bench))
    bench.send(ShardFetched(at=bench.now, hotkey=reducer, stage=0, epoch=0, shard=0, have=()))
    assert any("not a duty of yours now" in reason for reason in refusals(bench))
    bench.merge_all()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].coverage == [1.0]
    assert bench.state.manifests[0].shards[0].weights.digest == "w-good" and not bench.state.faults


@pytest.mark.parametrize("nbytes", [0, 1 << 30])
def test_a_result_of_impossible_size_is_refused_by_name_and_the_validator_settles_the_shard(nbytes: int) -> None:
    bench, everybody = to_reduce()
    shard = bench.state.merges[0].shards[0]
    one, two = shard.reducers
    for hotkey in (one, two):
        bench.fetch(hotkey, everybody)
    bench.reduce(one)
    bench.reduce(two, nbytes=nbytes)
    assert any("the sizes are not those of 20 values" in reason for reason in refusals(bench))
    bench.wait(bench.state.deadline - bench.now)
    bench.merge_all()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].coverage == [1.0]
