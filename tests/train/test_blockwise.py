"""int8 and topk: equal values give equal bytes, the bytes are what plain Python makes, and no others get in."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iota_subnet.spec import CODEC_BYTES, INT8_BLOCK, TOPK_BLOCK, TrainSpec, delta_bytes, mean_bytes
from iota_subnet.train import codec
from iota_subnet.train.allreduce import decode_delta, encode_delta, encode_mean
from iota_subnet.train.blockwise import decode_int8, decode_topk, encode_int8, encode_topk
from iota_subnet.train.codec import BadPayload
from tests.train import reference

#: Far from what overflows, but anything else that float32 has.
FLOATS = st.one_of(st.floats(-4, 4, width=32), st.floats(-(2.0**120), 2.0**120, width=32))
KINDS = ("fp32", "bf16", "int8", "topk")


def vectors(longest: int = 600) -> st.SearchStrategy[np.ndarray]:
    return st.integers(0, longest).flatmap(lambda size: arrays(np.float32, size, elements=FLOATS))


def normal(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def check_int8(values: np.ndarray) -> None:
    blob = encode_int8(values, "v")
    scales, encoded = reference.int8(values.tolist(), INT8_BLOCK)
    body = reference.packed(scales) + struct.pack(f"<{len(encoded)}b", *encoded)
    assert blob.endswith(body) and len(body) == delta_bytes(TrainSpec(delta_codec="int8"), values.size)
    expected = [reference.f32(q * scales[place // INT8_BLOCK]) for place, q in enumerate(encoded)]
    back = decode_int8(blob, values.size, "v")
    # 0 * scale is 0.0 in both, and no product is -0.0: compare values.
    assert back.tolist() == expected


def check_topk(values: np.ndarray, share: float) -> None:
    blob = encode_topk(values, share, "v")
    scales, places, encoded = reference.topk(values.tolist(), TOPK_BLOCK, share)
    body = reference.packed(scales) + struct.pack(f"<{len(places)}H{len(encoded)}b", *places, *encoded)
    assert blob.endswith(body)
    assert len(body) == delta_bytes(TrainSpec(delta_codec="topk", topk=share), values.size)
    expected, kept = [0.0] * values.size, iter(zip(places, encoded, strict=True))
    for block, lo in enumerate(range(0, values.size, TOPK_BLOCK)):
        for _ in range(math.ceil(min(TOPK_BLOCK, values.size - lo) * share)):
            place, q = next(kept)
            expected[lo + place] = reference.f32(q * scales[block])
    assert decode_topk(blob, values.size, share, "v").tolist() == expected


@settings(deadline=None)
@given(vectors())
def test_int8_equals_plain_python(values: np.ndarray) -> None:
    check_int8(values)


@settings(deadline=None)
@given(vectors(60), st.sampled_from([1.0, 0.5, 0.25, 0.125]))
def test_topk_equals_plain_python(values: np.ndarray, share: float) -> None:
    check_topk(values, share)


def test_a_scale_that_underflows_makes_no_value_beyond_127() -> None:
    """189 of the smallest subnormal by 127 is 1.49 of it, and rounds to one."""
    least = 2.0**-149
    for levels in ([189, -189, 3], [-189, 100], [63, -63], [64, -64]):
        check_int8((np.array(levels) * least).astype(np.float32))
        check_topk((np.array(levels) * least).astype(np.float32), 1.0)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 4096, 4097, 65536, 65537, 70_000, 139_000])
def test_long_vectors_equal_plain_python(size: int) -> None:
    values = normal(size, size)
    values[size // 2 :] = np.round(values[size // 2 :])
    check_int8(values)
    check_topk(values, 0.125)


def test_of_equal_magnitudes_the_first_are_kept() -> None:
    values = np.array([0, 1, -1, 1, 127, -1, 0, 0], np.float32)
    assert decode_topk(encode_topk(values, 0.5, "v"), 8, 0.5, "v").tolist() == [0, 1, -1, 1, 127, 0, 0, 0]
    assert not decode_topk(encode_topk(values * 0, 0.5, "v"), 8, 0.5, "v").any()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_do_not_depend_on_where_the_values_lie(kind: str) -> None:
    train, values = TrainSpec(delta_codec=kind), normal(9001)
    for start in range(5):
        assert encode_delta(values[start:], train) == encode_delta(values[start:].copy(), train)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 4096, 5000])
def test_sizes_follow_from_the_specification(kind: str, size: int) -> None:
    train = TrainSpec(delta_codec=kind, mean_codec="int8" if kind == "topk" else kind, topk=0.1)
    for seed in range(3):
        blob = encode_delta(normal(size, seed), train)
        head = 8 + int.from_bytes(blob[:8], "little")
        assert len(blob) - head == delta_bytes(train, size) and head <= codec.HEADER_BYTES_MAX
        blob = encode_mean(normal(size, seed), train)
        assert len(blob) - 8 - int.from_bytes(blob[:8], "little") == mean_bytes(train, size)
    if kind in CODEC_BYTES:
        assert delta_bytes(train, size) == size * CODEC_BYTES[kind]


def test_blobs_are_safetensors() -> None:
    int8, topk = encode_int8(normal(300), "v"), encode_topk(normal(300), 0.1, "v")
    for blob, names in [(int8, {"scale", "x"}), (topk, {"scale", "at", "x"})]:
        tensors = safetensors.numpy.load(blob)
        assert set(tensors) == names
        assert safetensors.numpy.save(tensors) == blob


def test_int8_rounds_by_half_a_step_at_most() -> None:
    values = normal(10_000)
    steps = np.abs(values[:9984]).reshape(-1, INT8_BLOCK).max(axis=1) / 127
    error = np.abs(decode_int8(encode_int8(values, "v"), 10_000, "v") - values)[:9984].reshape(-1, INT8_BLOCK)
    assert (error <= steps[:, None] * 0.5001).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_buffer_is_filled(kind: str) -> None:
    train, values = TrainSpec(delta_codec=kind), normal(5000)
    blob = encode_delta(values, train)
    room = np.full(5002, 7, np.float32)
    back = decode_delta(blob, 5000, train, 0, room[1:-1])
    assert back.base is room and np.array_equal(back, decode_delta(blob, 5000, train)) and room[0] == room[-1] == 7
    kept = room.copy()
    with pytest.raises(BadPayload):
        decode_delta(blob[:-1], 5000, train, 0, room[1:-1])
    assert np.array_equal(room, kept)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max])
@pytest.mark.parametrize("kind", ["bf16", "int8", "topk"])
@pytest.mark.parametrize("place", [0, 4095, 4999])
def test_what_is_not_finite_or_would_not_be_is_not_encoded(kind: str, bad: float, place: int) -> None:
    values = normal(5000)
    values[place] = bad
    with pytest.raises(BadPayload, match="not finite"):
        encode_delta(values, TrainSpec(delta_codec=kind))


def test_the_largest_scale_is_the_last_whose_products_are_finite() -> None:
    from iota_subnet.train.blockwise import _SCALE_MAX

    with np.errstate(over="ignore"):
        assert np.isfinite(np.float32(127) * _SCALE_MAX)
        assert np.isinf(np.float32(127) * np.nextafter(_SCALE_MAX, np.float32(np.inf)))


def damaged_int8(scale: float = 1.0, value: int = 1) -> bytes:
    return safetensors.numpy.save(
        {"scale": np.array([1, scale], np.float32), "x": np.array([*[1] * 299, value], np.int8)}
    )


def damaged_topk(at: list[int], scale: float = 1.0, value: int = 1) -> bytes:
    return safetensors.numpy.save(
        {"scale": np.array([scale], np.float32), "at": np.array(at, np.uint16), "x": np.array([1, 1, value], np.int8)}
    )


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, -np.inf, 3e38])
def test_wrong_scales_are_refused(scale: float) -> None:
    with pytest.raises(BadPayload, match="1 of 2 blocks are not finite, or have a negative scale"):
        decode_int8(damaged_int8(scale), 300, "v")
    with pytest.raises(BadPayload, match="1 of 1 blocks"):
        decode_topk(damaged_topk([0, 1, 2], scale), 6, 0.5, "v")


def test_minus_128_is_refused() -> None:
    with pytest.raises(BadPayload, match="-128"):
        decode_int8(damaged_int8(value=-128), 300, "v")
    with pytest.raises(BadPayload, match="-128"):
        decode_topk(damaged_topk([0, 1, 2], value=-128), 6, 0.5, "v")


@pytest.mark.parametrize("at", [[0, 1, 6], [0, 0, 1], [1, 0, 2], [3, 4, 65535], [5, 5, 5]])
def test_wrong_places_are_refused(at: list[int]) -> None:
    assert decode_topk(damaged_topk([3, 4, 5]), 6, 0.5, "v").tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(BadPayload, match="places in a block of 6 values"):
        decode_topk(damaged_topk(at), 6, 0.5, "v")


def test_wrong_places_in_a_whole_block_are_refused() -> None:
    blob = bytearray(encode_topk(normal(2 * TOPK_BLOCK + 5), 1 / 32, "v"))
    head = 8 + int.from_bytes(blob[:8], "little") + 3 * 4
    blob[head + 2 * 255 : head + 2 * 256] = (TOPK_BLOCK).to_bytes(2, "little")
    with pytest.raises(BadPayload, match="places in a block of 4096 values"):
        decode_topk(bytes(blob), 2 * TOPK_BLOCK + 5, 1 / 32, "v")


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(KINDS), st.sampled_from([1, 300, 4200]))
def test_damaged_blobs_are_finite_values_or_refused(data: st.DataObject, kind: str, size: int) -> None:
    train = TrainSpec(delta_codec=kind)
    blob = bytearray(encode_delta(normal(size), train))
    for _ in range(data.draw(st.integers(0, 4))):
        # Half of the damage goes to the beginning: header, scales and places.
        end = len(blob) - 1 if data.draw(st.booleans()) else min(300, len(blob) - 1)
        blob[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    blob = blob[: data.draw(st.one_of(st.none(), st.integers(0, len(blob))))] + data.draw(st.binary(max_size=3))
    try:
        values = decode_delta(bytes(blob), size, train)
    except BadPayload as error:
        assert error.reason.startswith("pseudo-gradient of contribution 0: ")
    else:
        assert values.shape == (size,) and np.isfinite(values).all()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(KINDS))
def test_random_bytes_are_refused(blob: bytes, kind: str) -> None:
    with pytest.raises(BadPayload):
        decode_delta(blob, 3, TrainSpec(delta_codec=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_another_codec_size_or_share_is_refused(kind: str) -> None:
    blob = encode_delta(normal(5000), TrainSpec(delta_codec=kind))
    for other in KINDS:
        for size in (5000, 4900, 4095, 0):
            for share in (1 / 32, 1 / 16):
                if (other, size) == (kind, 5000) and (kind != "topk" or share == 1 / 32):
                    continue
                with pytest.raises(BadPayload, match="expected"):
                    decode_delta(blob, size, TrainSpec(delta_codec=other, topk=share))
