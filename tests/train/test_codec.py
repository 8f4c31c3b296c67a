"""Any bytes a stranger can send are either the expected tensor or a `BadPayload`."""

from __future__ import annotations

import json

import blake3
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iota_subnet.train import codec
from iota_subnet.train.codec import BadPayload

VALUES = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)


def finite(width: int = 32) -> st.SearchStrategy[float]:
    return st.floats(-1e30, 1e30, width=width)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_round_trip(kind: codec.Codec) -> None:
    blob = codec.encode(VALUES, kind)
    assert len(blob) == codec.encoded_size(VALUES.shape, kind)
    back = codec.decode(blob, VALUES.shape, kind)
    assert back.dtype == np.float32 and back.flags.writeable
    assert np.array_equal(back, codec.round_trip(VALUES, kind))
    assert codec.encode(back, kind) == blob


def test_blobs_are_safetensors() -> None:
    assert codec.encode(VALUES, "fp32") == safetensors.numpy.save({"x": VALUES})
    half = torch.from_numpy(VALUES).bfloat16()
    assert codec.encode(VALUES, "bf16") == safetensors.torch.save({"x": half})
    assert torch.equal(safetensors.torch.load(codec.encode(VALUES, "bf16"))["x"], half)


@given(arrays(np.uint32, 64))
def test_bf16_rounds_as_torch_does(words: np.ndarray) -> None:
    values = words.view(np.float32)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(codec.from_bf16(codec.to_bf16(values)), expected, equal_nan=True)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(blob: bytes) -> None:
    for kind in ("fp32", "bf16"):
        with pytest.raises(BadPayload):
            codec.decode(blob, (2, 3), kind)
    with pytest.raises(BadPayload):
        codec.bytes_to_tokens(blob, (2, 3), 256)


@settings(max_examples=300)
@given(st.data())
def test_damaged_blobs_never_crash(data: st.DataObject) -> None:
    blob = bytearray(codec.encode(VALUES, "bf16"))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(blob[: data.draw(st.integers(0, len(blob)))])
    try:
        values = codec.decode(cut, VALUES.shape, "bf16")
    except BadPayload as error:
        assert error.reason
    else:
        assert values.shape == VALUES.shape and np.isfinite(values).all()


def header(entry: object) -> bytes:
    text = json.dumps(entry).encode()
    return len(text).to_bytes(8, "little") + text + bytes(96)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "0 bytes"),
        (codec.encode(VALUES, "fp32") + b"\0", "expected 168 bytes, got 169"),
        (codec.encode(VALUES, "fp32")[:-1], "expected 168 bytes, got 167"),
        (codec.encode(VALUES, "bf16"), r"expected F32 \[2, 3, 4\], got BF16"),
        (codec.encode(VALUES.reshape(4, 6), "fp32"), r"got F32 \[4, 6\]"),
        (header({"y": {"dtype": "F32", "shape": [2, 3, 4], "data_offsets": [0, 96]}}), "no single tensor named 'x'"),
        (header([]), "no single tensor"),
        (header({"x": 1}), "no single tensor"),
        ((2**63).to_bytes(8, "little") + bytes(96), "without a safetensors header"),
        (
            header({"x": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
            r"got F32 \[1152921504606846976\]",
        ),
        ("text", "expected bytes, got str"),
    ],
)
def test_refusals_say_what_is_wrong(blob: bytes, reason: str) -> None:
    with pytest.raises(BadPayload, match=reason):
        codec.decode(blob, VALUES.shape, "fp32")


def test_deeply_nested_header_is_refused() -> None:
    text = b"[" * 500
    with pytest.raises(BadPayload):
        codec.decode(len(text).to_bytes(8, "little") + text, (2,), "fp32")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_non_finite_values_are_refused(bad: float, kind: codec.Codec) -> None:
    values = VALUES.copy()
    values[1, 0, 0] = bad
    with pytest.raises(BadPayload, match="activation: 1 of 24 values are not finite"):
        codec.encode(values, kind, "activation")
    blob = safetensors.torch.save(
        {"x": torch.from_numpy(values).to(torch.float32 if kind == "fp32" else torch.bfloat16)}
    )
    with pytest.raises(BadPayload, match="not finite"):
        codec.decode(blob, VALUES.shape, kind)


def test_overflow_by_rounding_is_refused() -> None:
    largest = np.array([np.finfo(np.float32).max], np.float32)
    assert codec.decode(codec.encode(largest, "fp32"), (1,), "fp32") == largest
    with pytest.raises(BadPayload, match="not finite"):
        codec.encode(largest, "bf16")


def test_tokens() -> None:
    tokens = np.array([[0, 255, 3], [7, 8, 9]], np.int32)
    blob = codec.tokens_to_bytes(tokens)
    assert blob == safetensors.numpy.save({"x": tokens})
    assert np.array_equal(codec.bytes_to_tokens(blob, (2, 3), 256), tokens)
    with pytest.raises(BadPayload, match=r"0\.\.254"):
        codec.bytes_to_tokens(blob, (2, 3), 255)
    with pytest.raises(BadPayload, match=r"-1"):
        codec.bytes_to_tokens(codec.tokens_to_bytes(-np.ones((2, 3), np.int32)), (2, 3), 255)
    with pytest.raises(BadPayload, match=r"\[3, 2\]"):
        codec.bytes_to_tokens(blob, (3, 2), 256)


def test_digest_is_blake3() -> None:
    assert codec.digest(b"abc") == blake3.blake3(b"abc").hexdigest()
