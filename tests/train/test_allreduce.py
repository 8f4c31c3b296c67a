"""The merge's arithmetic, against a reference that rounds every single operation to float32."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.spec import TrainSpec
from iota_subnet.train.allreduce import decode_delta, encode_delta, reduce_shard, weighted_mean
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.state import outer_momentum, reduce_blobs

FLOATS = st.floats(-1e6, 1e6, width=32)


def f32(value: float) -> float:
    """Round a double to float32. One double operation on float32 values, then this, is the correctly rounded result."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def reference(
    weights: list[float], momentum: list[float], contributions: list[tuple[int, list[float]]], lr: float, mu: float
) -> tuple[list[float], list[float]]:
    lr, mu = f32(lr), f32(mu)
    total = float(sum(count for count, _ in contributions))
    new_weights, new_momentum = [], []
    for i, (w, m) in enumerate(zip(weights, momentum, strict=True)):
        mean = 0.0
        for count, delta in contributions:
            mean = f32(mean + f32(delta[i] * count))
        mean = f32(mean / total)
        m = f32(f32(m * mu) + mean)
        new_momentum.append(m)
        new_weights.append(f32(w - f32(f32(f32(m * mu) + mean) * lr)))
    return new_weights, new_momentum


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], list[float], list[tuple[int, list[float]]]]:
    size = draw(st.integers(1, 5))
    vector = st.lists(FLOATS, min_size=size, max_size=size)
    contributions = draw(st.lists(st.tuples(st.integers(1, 500), vector), min_size=1, max_size=5))
    return draw(vector), draw(vector), contributions


def as_arrays(contributions: list[tuple[int, list[float]]]) -> list[tuple[int, np.ndarray]]:
    return [(count, np.array(delta, np.float32)) for count, delta in contributions]


@given(cases(), st.floats(0.01, 1.0), st.floats(0.0, 0.99))
def test_equals_plain_python(case: tuple, lr: float, mu: float) -> None:
    weights, momentum, contributions = case
    old = np.array(weights, np.float32), np.array(momentum, np.float32)
    kept = old[0].tobytes(), old[1].tobytes()
    new = reduce_shard(*old, as_arrays(contributions), lr, mu)
    expected = reference(weights, momentum, contributions, lr, mu)
    for got, want in zip(new, expected, strict=True):
        assert got.tobytes() == np.array(want, np.float32).tobytes()
    assert kept == (old[0].tobytes(), old[1].tobytes())


@given(cases(), st.randoms())
def test_arrival_order_does_not_matter_once_sorted(case: tuple, random: object) -> None:
    weights, momentum, contributions = case
    named = [(f"hotkey{i}", entry) for i, entry in enumerate(as_arrays(contributions))]
    state = np.array(weights, np.float32), np.array(momentum, np.float32)
    expected = reduce_shard(*state, [entry for _, entry in named], 0.7, 0.9)
    random.shuffle(named)
    got = reduce_shard(*state, [entry for _, entry in sorted(named, key=lambda item: item[0])], 0.7, 0.9)
    assert [v.tobytes() for v in got] == [v.tobytes() for v in expected]


def test_shards_reduce_as_the_whole_does() -> None:
    rng = np.random.default_rng(0)
    w, m, a, b = (rng.standard_normal(1003).astype(np.float32) for _ in range(4))
    whole = reduce_shard(w, m, [(3, a), (5, b)], 0.7, 0.9)
    parts = [reduce_shard(w[s], m[s], [(3, a[s]), (5, b[s])], 0.7, 0.9) for s in (slice(0, 17), slice(17, 1003))]
    for i in (0, 1):
        assert np.array_equal(whole[i], np.concatenate([part[i] for part in parts]))


def test_outer_rate_one_without_momentum_is_plain_averaging() -> None:
    w = np.array([4.0, 8.0], np.float32)
    local = [np.array([3.0, 8.0], np.float32), np.array([1.0, 4.0], np.float32)]
    new, _ = reduce_shard(w, np.zeros_like(w), [(1, w - local[0]), (3, w - local[1])], 1.0, 0.0)
    assert new.tolist() == [1.5, 5.0]


ONE = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("contributions", "reason"),
    [
        ([], "0 contributions"),
        ([(0, ONE)], "contribution 0 counts 0"),
        ([(2, ONE), (-1, ONE)], "contribution 1 counts -1"),
        ([(1 << 24, ONE), (1, ONE)], "cannot be averaged"),
        ([(1, np.ones(3, np.float32))], r"contribution 0 is float32 \[3\], not float32 \[2\]"),
        ([(1, np.ones(2))], "float64"),
        ([(1, np.array([1, np.nan], np.float32))], "contribution 0 has values that are not finite"),
        ([(1, np.array([1, np.inf], np.float32))], "not finite"),
        ([(9, np.full(2, 3e38, np.float32))], "new momentum has values"),
    ],
)
def test_refusals(contributions: list, reason: str) -> None:
    with pytest.raises(BadPayload, match=reason):
        reduce_shard(ONE, ONE, contributions, 0.7, 0.9)


def test_refuses_a_poisoned_state() -> None:
    with pytest.raises(BadPayload, match="momentum"):
        reduce_shard(ONE, ONE * np.float32(np.nan), [(1, ONE)], 0.7, 0.9)


def test_delta_blobs() -> None:
    delta = np.linspace(-1, 1, 7, dtype=np.float32)
    assert np.abs(decode_delta(encode_delta(delta, "bf16"), 7, "bf16") - delta).max() < 2**-8
    with pytest.raises(BadPayload, match="contribution 4"):
        decode_delta(b"junk", 7, "bf16", 4)


def test_reduce_from_blobs_uses_the_epochs_momentum() -> None:
    train = TrainSpec(outer_momentum_start=0.5, outer_momentum=0.9, outer_warmup=4, delta_codec="fp32")
    delta = np.linspace(-1, 1, 7, dtype=np.float32)
    for epoch, mu in [(0, 0.5), (2, 0.7), (4, 0.9), (9, 0.9)]:
        assert outer_momentum(train, epoch) == pytest.approx(mu)
        blobs = reduce_blobs(train, epoch, delta, delta, [(2, encode_delta(delta, "fp32"))])
        expected = reduce_shard(delta, delta, [(2, delta)], train.outer_lr, outer_momentum(train, epoch))
        assert [decode_delta(blob, 7, "fp32").tobytes() for blob in blobs] == [v.tobytes() for v in expected]


def test_weighted_mean_of_equals_is_itself() -> None:
    delta = np.array([0.5, -2.0], np.float32)
    assert weighted_mean([(3, delta), (5, delta)], 2).tolist() == [0.5, -2.0]
