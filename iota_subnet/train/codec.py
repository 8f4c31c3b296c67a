"""Tensors as bytes: safetensors in one canonical form, so that equal values give equal digests.

A blob of codec fp32 or bf16 holds one tensor named "x"; those of `blockwise` hold two or three. The header is the one
that the safetensors library writes: compact JSON, larger dtypes first and then by name, padded with spaces to 8 bytes.

Law: a blob is compared with the header that the expected dtypes and shapes would have, before anything is allocated.
Whatever is wrong with it is a `BadPayload` that says what; never another exception, never pickle.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from iota_subnet.blank import Blank
from iota_subnet.spec import Codec

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]

#: (name, dtype, shape) of a blob's tensors, in the order of the file.
Layout = tuple[tuple[str, str, tuple[int, ...]], ...]

#: No blob of this project has a longer header.
HEADER_BYTES_MAX = 512

#: Vectors are worked through in blocks of so many values, because what is in the cache is not fetched again.
BLOCK = 1 << 16

_WIDTHS = {"F32": 4, "I32": 4, "BF16": 2, "U16": 2, "I8": 1, "U8": 1}
_DTYPES = {"fp32": "F32", "bf16": "BF16", "int32": "I32"}
_BF16_INF = np.uint16(0x7F80)
_BF16_NAN = np.uint16(0x7FC0)


class BadPayload(ValueError):
    """Bytes, or numbers made from them, that must not be used; `reason` is meant for their sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def digest(*data: bytes | memoryview | npt.NDArray[Any]) -> str:
    """blake3 in hex of the bytes of `data`, one after the other; of one blob, its name everywhere."""
    hasher = blake3.blake3()
    for part in data:
        hasher.update(part.reshape(-1).view(np.uint8) if isinstance(part, np.ndarray) else part)
    return hasher.hexdigest()


def blocks(size: int) -> Iterator[tuple[int, int]]:
    """[0, size) in slices of `BLOCK`, the last one may be shorter."""
    return ((lo, min(lo + BLOCK, size)) for lo in range(0, size, BLOCK))


def is_finite(values: Floats) -> bool:
    """Whether no value of the vector is NaN or infinite."""
    return all(np.isfinite(values[lo:hi]).all() for lo, hi in blocks(values.size))


def to_bf16(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 words, rounded to nearest, ties to even; NaN stays NaN."""
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    halves = np.empty(flat.shape, np.uint16)
    buffer = np.empty(min(BLOCK, flat.size), np.uint32)
    for lo, hi in blocks(flat.size):
        part, rounded = flat[lo:hi], buffer[: hi - lo]
        words = part.view(np.uint32)
        np.right_shift(words, np.uint32(16), out=rounded)
        np.bitwise_and(rounded, np.uint32(1), out=rounded)
        np.add(rounded, np.uint32(0x7FFF), out=rounded)
        np.add(rounded, words, out=rounded)
        np.right_shift(rounded, np.uint32(16), out=rounded)
        halves[lo:hi] = rounded
        # The addition would carry a NaN with a full mantissa over into zero or infinity.
        if np.isnan(part.max()):
            halves[lo:hi][np.isnan(part)] = _BF16_NAN
    return halves.reshape(values.shape)


def from_bf16(halves: npt.NDArray[np.uint16], out: Floats | None = None) -> Floats:
    """The float32 values that the bfloat16 words stand for, exactly; in `out`, if given, of the same shape."""
    values = np.empty(halves.shape, np.float32) if out is None else out
    flat, words = halves.reshape(-1), values.reshape(-1).view(np.uint32)
    for lo, hi in blocks(flat.size):
        words[lo:hi] = flat[lo:hi]
        np.left_shift(words[lo:hi], np.uint32(16), out=words[lo:hi])
    return values


def round_trip(values: Floats, codec: Codec) -> Floats:
    """What a receiver would read of `values`."""
    return from_bf16(to_bf16(values)) if codec == "bf16" else np.array(values, np.float32)


def encoded_size(shape: tuple[int, ...], codec: Codec) -> int:
    """Bytes of `encode` for this shape."""
    layout = _single(codec, shape)
    return len(header(layout)) + _nbytes(layout[0])


def encode(values: Floats, codec: Codec, what: str = "tensor") -> bytes:
    """`values` as a blob.

    Raises:
        BadPayload: a value is not finite, or not any more after rounding; `what` names it in the message.
    """
    data = np.ascontiguousarray(values, np.float32)
    if codec == "bf16":
        halves = to_bf16(data)
        refuse_non_finite_halves(halves, what)
        return join(_single(codec, data.shape), halves)
    refuse_non_finite(data, what)
    return join(_single(codec, data.shape), data)


def decode(
    blob: bytes, shape: tuple[int, ...], codec: Codec, what: str = "tensor", out: Floats | None = None
) -> Floats:
    """The float32 values of a blob that must have this shape and codec.

    Args:
        blob: the bytes.
        shape: what the tensor must look like.
        codec: how it must be encoded.
        what: names it in a message.
        out: where to put the values, contiguous, of this shape; else a fresh, writable array.

    Raises:
        BadPayload: wrong size, header, dtype or shape, or a value that is not finite; `out` is then as it was.
    """
    (body,) = parts(blob, _single(codec, shape), what)
    if codec == "bf16":
        halves = np.frombuffer(body, "<u2")
        refuse_non_finite_halves(halves, what)
        return from_bf16(halves.reshape(shape), out)
    given = np.frombuffer(body, "<f4").reshape(shape)
    refuse_non_finite(given, what)
    if out is None:
        return given.astype(np.float32)
    out[...] = given
    return out


def view(blob: bytes, size: int, what: str = "tensor", *, finite: bool) -> Floats:
    """The float32 [size] of an fp32 blob where they lie: nothing is copied.

    Raises:
        BadPayload: wrong size, header, dtype or shape, or, if they must be `finite`, a value that is not.
    """
    (body,) = parts(blob, _single("fp32", (size,)), what)
    values = np.frombuffer(body, "<f4").astype(np.float32, copy=False)
    if finite:
        refuse_non_finite(values, what)
    return values


class Draft:
    """An fp32 blob of a vector that is still to be written: `values`, float32 [size], is the memory of its body."""

    def __init__(self, size: int) -> None:
        head = header(_single("fp32", (size,)))
        self._raw = Blank(len(head) + 4 * size)
        self._view = self._raw.view()
        self._view[: len(head)] = head
        self.values: Floats = np.frombuffer(self._view, np.float32, offset=len(head))

    def finish(self) -> bytes:
        """The blob, once all of `values` was written. Nobody may hold on to them or a part of them."""
        if sys.byteorder == "big":
            self.values.byteswap(inplace=True)
        del self.values
        self._view.release()
        return self._raw.finish()


def tokens_to_bytes(tokens: Tokens) -> bytes:
    """Token ids [B, T+1] as an int32 blob."""
    data = np.ascontiguousarray(tokens, np.int32)
    return join(_single("int32", data.shape), data)


def bytes_to_tokens(blob: bytes, shape: tuple[int, int], vocab: int) -> Tokens:
    """The token ids [B, T+1] of a blob that must have this shape.

    Raises:
        BadPayload: wrong size, header or shape, or an id that is not in 0..vocab-1.
    """
    (body,) = parts(blob, _single("int32", shape), "token blob")
    tokens = np.frombuffer(body, "<i4").astype(np.int32)
    if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab):
        raise BadPayload(f"token blob: ids must lie in 0..{vocab - 1}, found {tokens.min()}..{tokens.max()}")
    return tokens.reshape(shape)


def header(layout: Layout) -> bytes:
    """What a file of these tensors begins with: 8 bytes of length, then the JSON, padded."""
    entries, at = {}, 0
    for tensor in layout:
        name, dtype, shape = tensor
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + _nbytes(tensor)]}
        at += _nbytes(tensor)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def join(layout: Layout, *tensors: npt.NDArray[Any]) -> bytes:
    """A file of contiguous tensors, in the order of their layout; each byte is copied once."""
    little = [tensor.astype(tensor.dtype.newbyteorder("<"), copy=False) for tensor in tensors]
    return b"".join((header(layout), *(tensor.reshape(-1).view(np.uint8).data for tensor in little)))


def parts(blob: bytes, layout: Layout, what: str) -> list[memoryview]:
    """The bytes of each tensor of a file that must have exactly this layout; views, nothing is copied.

    Raises:
        BadPayload: no bytes, another header, or another size.
    """
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise BadPayload(f"{what}: expected bytes, got {type(blob).__name__}")
    view = memoryview(blob).cast("B")
    head = header(layout)
    if view[: len(head)] != head:
        raise BadPayload(f"{what}: expected {_name(layout)}, got {_describe(view)}")
    expected = len(head) + sum(map(_nbytes, layout))
    if len(view) != expected:
        raise BadPayload(f"{what}: expected {expected} bytes, got {len(view)}")
    found, at = [], len(head)
    for tensor in layout:
        found.append(view[at : at + _nbytes(tensor)])
        at += _nbytes(tensor)
    return found


def _single(codec: str, shape: tuple[int, ...]) -> Layout:
    return (("x", _DTYPES[codec], shape),)


def _nbytes(tensor: tuple[str, str, tuple[int, ...]]) -> int:
    return math.prod(tensor[2]) * _WIDTHS[tensor[1]]


def _name(tensors: Any) -> str:
    """A layout in words; one that has only "x" needs no names."""
    if len(tensors) == 1:
        return f"{tensors[0][1]} {list(tensors[0][2])}"
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, dtype, shape in tensors)


def _describe(view: memoryview) -> str:
    """Say what a refused blob is, for its sender; reads at most a few hundred bytes of it."""
    size = int.from_bytes(view[:8], "little")
    if len(view) < 8 or size > min(HEADER_BYTES_MAX, len(view) - 8):
        return f"{len(view)} bytes without a safetensors header"
    try:
        entries = json.loads(bytes(view[8 : 8 + size]))
        if "x" in entries:
            return _name([(name, entry["dtype"], entry["shape"]) for name, entry in entries.items()])[:120]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        pass
    return "no single tensor named 'x'"


def refuse_non_finite(values: Floats, what: str) -> None:
    """Raises BadPayload when any of the float32 `values` is NaN or infinite, with how many are."""
    if not is_finite(values.reshape(-1)):
        count = int(values.size - np.isfinite(values).sum())
        raise BadPayload(f"{what}: {count} of {values.size} values are not finite")


def refuse_non_finite_halves(halves: npt.NDArray[np.uint16], what: str) -> None:
    """The same for bfloat16, given as its 16 bits."""
    flat = halves.reshape(-1)
    if any((flat[lo:hi] & np.uint16(0x7FFF)).max() >= _BF16_INF for lo, hi in blocks(flat.size)):
        count = int(((flat & np.uint16(0x7FFF)) >= _BF16_INF).sum())
        raise BadPayload(f"{what}: {count} of {flat.size} values are not finite")
