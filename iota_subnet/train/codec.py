"""Tensors as bytes: safetensors with one tensor named "x", in one canonical form, so that equal values give equal
digests.

Law: a blob is compared with the header that the expected dtype and shape would have, before anything is allocated.
Whatever is wrong with it is a `BadPayload` that says what; never another exception, never pickle.
"""

from __future__ import annotations

import json
import math

import blake3
import numpy as np
import numpy.typing as npt

from iota_subnet.spec import Codec

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]

_DTYPES = {"fp32": ("F32", 4), "bf16": ("BF16", 2), "int32": ("I32", 4)}
_HEADER_BYTES_MAX = 512


class BadPayload(ValueError):
    """Bytes, or numbers made from them, that must not be used; `reason` is meant for their sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def digest(data: bytes) -> str:
    """blake3 of `data` in hex, the name of a blob everywhere."""
    return blake3.blake3(data).hexdigest()


def to_bf16(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 words, rounded to nearest, ties to even; NaN stays NaN."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (words + (np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    # The addition would carry a NaN with a full mantissa over into zero or infinity.
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_bf16(halves: npt.NDArray[np.uint16]) -> Floats:
    """The float32 values that the bfloat16 words stand for, exactly."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_trip(values: Floats, codec: Codec) -> Floats:
    """What a receiver would read of `values`."""
    return from_bf16(to_bf16(values)) if codec == "bf16" else np.array(values, np.float32)


def encoded_size(shape: tuple[int, ...], codec: Codec) -> int:
    """Bytes of `encode` for this shape."""
    return len(_header(codec, shape)) + math.prod(shape) * _DTYPES[codec][1]


def encode(values: Floats, codec: Codec, what: str = "tensor") -> bytes:
    """`values` as a blob.

    Raises:
        BadPayload: a value is not finite, or not any more after rounding; `what` names it in the message.
    """
    data = np.ascontiguousarray(values, np.float32)
    _refuse_non_finite(round_trip(data, codec), what)
    body = to_bf16(data).astype("<u2", copy=False) if codec == "bf16" else data.astype("<f4", copy=False)
    return _header(codec, data.shape) + body.tobytes()


def decode(blob: bytes, shape: tuple[int, ...], codec: Codec, what: str = "tensor") -> Floats:
    """The float32 values of a blob that must have this shape and codec; a fresh, writable array.

    Raises:
        BadPayload: wrong size, header, dtype or shape, or a value that is not finite.
    """
    body = _body(blob, shape, codec, what)
    if codec == "bf16":
        values = from_bf16(np.frombuffer(body, "<u2"))
    else:
        values = np.frombuffer(body, "<f4").astype(np.float32)
    _refuse_non_finite(values, what)
    return values.reshape(shape)


def tokens_to_bytes(tokens: Tokens) -> bytes:
    """Token ids [B, T+1] as an int32 blob."""
    data = np.ascontiguousarray(tokens, "<i4")
    return _header("int32", data.shape) + data.tobytes()


def bytes_to_tokens(blob: bytes, shape: tuple[int, int], vocab: int) -> Tokens:
    """The token ids [B, T+1] of a blob that must have this shape.

    Raises:
        BadPayload: wrong size, header or shape, or an id that is not in 0..vocab-1.
    """
    tokens = np.frombuffer(_body(blob, shape, "int32", "token blob"), "<i4").astype(np.int32)
    if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab):
        raise BadPayload(f"token blob: ids must lie in 0..{vocab - 1}, found {tokens.min()}..{tokens.max()}")
    return tokens.reshape(shape)


def _header(codec: str, shape: tuple[int, ...]) -> bytes:
    name, size = _DTYPES[codec]
    entry = {"dtype": name, "shape": list(shape), "data_offsets": [0, math.prod(shape) * size]}
    text = json.dumps({"x": entry}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _body(blob: bytes, shape: tuple[int, ...], codec: str, what: str) -> memoryview:
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise BadPayload(f"{what}: expected bytes, got {type(blob).__name__}")
    view = memoryview(blob).cast("B")
    header = _header(codec, shape)
    if view[: len(header)] != header:
        raise BadPayload(f"{what}: expected {_DTYPES[codec][0]} {list(shape)}, got {_describe(view)}")
    expected = len(header) + math.prod(shape) * _DTYPES[codec][1]
    if len(view) != expected:
        raise BadPayload(f"{what}: expected {expected} bytes, got {len(view)}")
    return view[len(header) :]


def _describe(view: memoryview) -> str:
    """Say what a refused blob is, for its sender; reads at most a few hundred bytes of it."""
    size = int.from_bytes(view[:8], "little")
    if len(view) < 8 or size > min(_HEADER_BYTES_MAX, len(view) - 8):
        return f"{len(view)} bytes without a safetensors header"
    try:
        entry = json.loads(bytes(view[8 : 8 + size]))["x"]
        return f"{entry['dtype']} {entry['shape']}"[:120]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "no single tensor named 'x'"


def _refuse_non_finite(values: Floats, what: str) -> None:
    if not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise BadPayload(f"{what}: {count} of {values.size} values are not finite")
