"""The merge's arithmetic, against a reference that rounds every single operation to float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iota_subnet.spec import TrainSpec
from iota_subnet.train import allreduce, codec
from iota_subnet.train.allreduce import decode_delta, decode_mean, encode_delta, encode_mean, mean, norm, outer_step
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.state import outer_momentum, reduce_blobs, step_blobs
from tests.train import reference
from tests.train.reference import Given, f32

#: Of ordinary size, or anything that float32 has: subnormal, -0.0, huge.
FLOATS = st.one_of(st.floats(-1e3, 1e3, width=32), st.floats(allow_nan=False, allow_infinity=False, width=32))


@st.composite
def cases(draw: st.DrawFn) -> list[Given]:
    size = draw(st.integers(1, 5))
    vector = st.lists(FLOATS, min_size=size, max_size=size)
    return draw(st.lists(st.tuples(st.integers(1, 500), vector), min_size=1, max_size=7))


def as_arrays(contributions: list[Given]) -> list[tuple[int, np.ndarray]]:
    return [(count, np.array(values, np.float32)) for count, values in contributions]


def check_mean(contributions: list[Given], clip: float, trim: float) -> None:
    """The mean is the reference's to the bit, or refused where that is not finite."""
    expected = reference.mean(contributions, clip, trim)
    size = len(expected)
    if all(map(math.isfinite, expected)):
        assert mean(as_arrays(contributions), size, clip, trim).tobytes() == reference.packed(expected)
    else:
        with pytest.raises(BadPayload, match="mean has values that are not finite"):
            mean(as_arrays(contributions), size, clip, trim)


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0.0, 0.15, 0.2, 0.34, 0.49]))
def test_mean_equals_plain_python(contributions: list[Given], clip: float, trim: float) -> None:
    check_mean(contributions, clip, trim)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.lists(st.sampled_from([-1.0, -0.0, 0.0, 1.0]), min_size=4, max_size=4)),
             min_size=3, max_size=9),
    st.sampled_from([0.12, 0.34, 0.45]),
)  # fmt: skip
def test_equal_values_are_trimmed_in_the_order_of_their_contributions(given: list[Given], trim: float) -> None:
    check_mean(given, 0.0, trim)


@pytest.mark.parametrize("size", [1, 4095, 16384, 65537, 140_000])
@pytest.mark.parametrize("trim", [0.0, 0.2])
def test_mean_of_long_shards_equals_plain_python(size: int, trim: float) -> None:
    rng = np.random.default_rng(size)
    scales = [1e-3, 1e-3, 0.5, 1e-3, 2e-3]
    given = [
        (int(rng.integers(1, 99)), (rng.standard_normal(size) * scale).astype(np.float32).tolist()) for scale in scales
    ]
    check_mean(given, 3.0, trim)


@settings(max_examples=200, deadline=None)
@given(cases(), st.floats(0.01, 1.0), st.floats(0.0, 0.99))
def test_outer_step_equals_plain_python(case: list[Given], lr: float, mu: float) -> None:
    weights, momentum, g = ([values for _, values in case] * 3)[:3]
    old = [np.array(v, np.float32) for v in (weights, momentum, g)]
    kept = [v.tobytes() for v in old]
    expected = reference.outer_step(weights, momentum, g, lr, mu)
    if all(math.isfinite(v) for vector in expected for v in vector):
        assert [v.tobytes() for v in outer_step(*old, lr, mu)] == [reference.packed(v) for v in expected]
    else:
        with pytest.raises(BadPayload, match=r"new (momentum|weights)"):
            outer_step(*old, lr, mu)
    assert [v.tobytes() for v in old] == kept


@given(st.lists(FLOATS, max_size=40))
def test_norm_equals_plain_python(values: list[float]) -> None:
    assert norm(np.array(values, np.float32)) == reference.norm(values)


def test_norm_of_a_long_vector_equals_plain_python_wherever_it_lies() -> None:
    values = np.random.default_rng(3).standard_normal(100_001).astype(np.float32)
    expected = reference.norm(values[1:].tolist())
    assert norm(values[1:]) == expected == norm(values[1:].copy())
    assert expected == pytest.approx(float(np.linalg.norm(values[1:].astype(np.float64))), rel=1e-12)


def test_a_fused_multiply_add_would_be_seen() -> None:
    """For most of these values one rounding instead of two gives other bits; the exact sums fit into float64."""
    rng = np.random.default_rng(5)
    a, b = (rng.uniform(1, 2, 1000).astype(np.float32) for _ in range(2))
    mu = f32(0.9)
    fused = [f32(f32(f32(x * 3) + y * 7) / 10) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    got = mean([(3, a), (7, b)], 1000, 0.0, 0.0)
    assert got.tobytes() == reference.packed(reference.mean([(3, a.tolist()), (7, b.tolist())], 0.0, 0.0))
    assert got.tobytes() != reference.packed(fused)
    fused = [f32(x * mu + y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    momentum = outer_step(a, a, b, 0.7, 0.9)[1]
    assert momentum.tobytes() == reference.packed(reference.outer_step(*[a.tolist()] * 2, b.tolist(), 0.7, 0.9)[1])
    assert momentum.tobytes() != reference.packed(fused)


def test_a_thread_that_flushes_subnormals_does_not_merge() -> None:
    least = np.full(1, 1e-45, np.float32)
    assert mean([(1, least)], 1, 0.0, 0.0) == least
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        with pytest.raises(RuntimeError, match="subnormal"):
            mean([(1, least)], 1, 0.0, 0.0)
        with pytest.raises(RuntimeError, match="subnormal"):
            outer_step(least, least, least, 0.7, 0.9)
    finally:
        torch.set_flush_denormal(False)


def constant(*levels: float) -> list[tuple[int, np.ndarray]]:
    return [(1, np.full(3, level, np.float32)) for level in levels]


def test_a_loud_contribution_is_clipped_to_a_multiple_of_the_median() -> None:
    assert mean(constant(1, 1, 1000), 3, 3.0, 0.0)[0] == pytest.approx(5 / 3)
    assert mean(constant(1, 1, 1000), 3, 0.0, 0.0)[0] == pytest.approx(334)
    # The upper median: a silent half takes nothing away from the others, nor does one of two.
    assert mean(constant(0, 0, 8, 8), 3, 1.0, 0.0)[0] == 4
    assert mean(constant(1, 9), 3, 1.0, 0.0)[0] == 5
    # Where more than half are silent there is no measure.
    assert mean(constant(0, 0, 0, 2, 8), 3, 3.0, 0.0)[0] == 2


def test_the_ends_are_trimmed_per_coordinate() -> None:
    rows = [[1, 9, 5], [2, 2, 2], [3, 3, -90], [90, 4, 4]]
    given = [(count, np.array(row, np.float32)) for count, row in zip([1, 2, 3, 4], rows, strict=True)]
    expected = [(2 * 2 + 3 * 3) / 5, (3 * 3 + 4 * 4) / 7, (2 * 2 + 4 * 4) / 6]
    assert mean(given, 3, 0.0, 0.25).tolist() == [np.float32(v) for v in expected]
    # A share that makes less than one contributor trims nobody.
    assert mean(given, 3, 0.0, 0.24)[0] == np.float32((1 + 4 + 9 + 360) / 10)


def test_what_is_trimmed_cannot_overflow_the_rest() -> None:
    given = [(9, np.array([v], np.float32)) for v in (3e38, 1.0, -3e38)]
    assert mean(given, 1, 0.0, 0.34) == 1


@given(cases(), st.randoms())
def test_arrival_order_does_not_matter_once_sorted(case: list[Given], random: object) -> None:
    named = [(f"hotkey{i}", (count, values / np.float32(1e6))) for i, (count, values) in enumerate(as_arrays(case))]
    size = len(case[0][1])
    expected = mean([entry for _, entry in named], size, 3.0, 0.2)
    random.shuffle(named)
    got = mean([entry for _, entry in sorted(named, key=lambda item: item[0])], size, 3.0, 0.2)
    assert got.tobytes() == expected.tobytes()


def test_shards_without_clipping_reduce_as_the_whole_does() -> None:
    rng = np.random.default_rng(0)
    w, m, a, b, c = (rng.standard_normal(70_003).astype(np.float32) for _ in range(5))
    g = mean([(3, a), (5, b), (1, c)], w.size, 0.0, 0.34)
    whole = outer_step(w, m, g, 0.7, 0.9)
    cuts = slice(0, 17), slice(17, w.size)
    parts = [
        outer_step(w[s], m[s], mean([(3, a[s]), (5, b[s]), (1, c[s])], s.stop - s.start, 0.0, 0.34), 0.7, 0.9)
        for s in cuts
    ]
    for i in (0, 1):
        assert np.array_equal(whole[i], np.concatenate([part[i] for part in parts]))


def test_outer_rate_one_without_momentum_is_plain_averaging() -> None:
    w = np.array([4.0, 8.0], np.float32)
    local = [np.array([3.0, 8.0], np.float32), np.array([1.0, 4.0], np.float32)]
    g = mean([(1, w - local[0]), (3, w - local[1])], 2, 3.0, 0.0)
    assert outer_step(w, np.zeros_like(w), g, 1.0, 0.0)[0].tolist() == [1.5, 5.0]


ONE = np.ones(2, np.float32)


@pytest.mark.parametrize("clip", [0.0, 3.0])
@pytest.mark.parametrize("trim", [0.0, 0.34])
@pytest.mark.parametrize(
    ("contributions", "reason"),
    [
        ([], "0 contributions"),
        ([(0, ONE)], "contribution 0 counts 0"),
        ([(2, ONE), (-1, ONE)], "contribution 1 counts -1"),
        ([(1 << 24, ONE), (1, ONE)], "cannot be averaged"),
        ([(1, np.ones(3, np.float32))], r"contribution 0 is float32 \[3\], not float32 \[2\]"),
        ([(1, np.ones(2))], "float64"),
        ([(1, ONE), (1, np.array([1, np.nan], np.float32))], "contribution 1 has values that are not finite"),
        ([(1, ONE), (1, ONE), (1, np.array([1, np.inf], np.float32))], "contribution 2 has values that are not finite"),
        ([(9, np.full(2, 3e38, np.float32))] * 3, "mean has values"),
    ],
)
def test_refusals(contributions: list, reason: str, clip: float, trim: float) -> None:
    with pytest.raises(BadPayload, match=reason):
        mean(contributions, 2, clip, trim)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_outer_step_refuses_what_is_poisoned(bad: float) -> None:
    poison = ONE * np.float32(bad)
    for vectors in [(poison, ONE, ONE), (ONE, poison, ONE), (ONE, ONE, poison)]:
        with pytest.raises(BadPayload, match=r"new (momentum|weights) has values that are not finite"):
            outer_step(*vectors, 0.7, 0.9)
    with pytest.raises(BadPayload, match="mean is float64"):
        outer_step(ONE, ONE, np.ones(2), 0.7, 0.9)


def test_delta_blobs_name_the_contribution() -> None:
    train = TrainSpec()
    delta = np.linspace(-1, 1, 7, dtype=np.float32)
    assert np.abs(decode_delta(encode_delta(delta, train), 7, train) - delta).max() < 2**-8
    for kind in ("fp32", "bf16", "int8", "topk"):
        with pytest.raises(BadPayload, match="contribution 4"):
            decode_delta(b"junk", 7, TrainSpec(delta_codec=kind), 4)


@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_the_published_mean_gives_the_reducers_bits(kind: str) -> None:
    train = TrainSpec(delta_codec="topk", topk=0.5, mean_codec=kind, outer_momentum_start=0.5, outer_warmup=4)
    rng = np.random.default_rng(9)
    w, m, *deltas = (rng.standard_normal(777).astype(np.float32) for _ in range(5))
    given = [(count, encode_delta(delta, train)) for count, delta in zip([2, 3, 4], deltas, strict=True)]
    for epoch, mu in [(0, 0.5), (2, 0.7), (4, 0.9), (9, 0.9)]:
        assert outer_momentum(train, epoch) == pytest.approx(mu)
        shard = reduce_blobs(train, epoch, w, m, given)
        assert step_blobs(train, epoch, w, m, shard.mean) == (shard.weights, shard.momentum)
        decoded = [(count, decode_delta(blob, 777, train)) for count, blob in given]
        exact = mean(decoded, 777, train.delta_clip, train.delta_trim)
        assert shard.mean == encode_mean(exact, train)
        got = decode_mean(shard.mean, 777, train)
        expected = outer_step(w, m, got, train.outer_lr, outer_momentum(train, epoch))
        assert [codec.decode(blob, (777,), "fp32").tobytes() for blob in shard[1:]] == [v.tobytes() for v in expected]


def test_a_malformed_mean_is_refused() -> None:
    for kind in ("fp32", "bf16", "int8"):
        train = TrainSpec(mean_codec=kind)
        good = encode_mean(ONE, train)
        for bad in (b"", good[:-1], good + b"\0", allreduce.encode_delta(ONE, TrainSpec(delta_codec="topk"))):
            with pytest.raises(BadPayload, match=r"^mean: "):
                step_blobs(train, 0, ONE, ONE, bad)
