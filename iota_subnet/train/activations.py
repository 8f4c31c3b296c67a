"""What crosses a stage boundary, as bytes: activations and their gradients [B, T, boundary], some with token ids.

One safetensors file. Tensors, by the run's `activation_codec`: "x" of float32 or bfloat16; for int8 "scale" and "x" as
in `blockwise`, a scale per 256 values. Where the receiver's entry needs token ids and it has none of its own, "ids"
[B, T] of the narrowest integers that hold the vocabulary: 1 byte up to 256 words, 2 up to 65,536, else 4. The tail has
the ids from the validator, and gradients need none.

Law: a shape has exactly one file size: tokens x boundary x bytes of a value, scales, ids, and 300 at most besides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from iota_subnet.spec import RunSpec
from iota_subnet.train import blockwise, codec
from iota_subnet.train.codec import BadPayload, Floats, Layout, Tokens

#: Larger ones come first in a file, as the safetensors library writes it.
_ORDER = ("U8", "I8", "U16", "BF16", "I32", "F32")
_IDS: dict[str, Any] = {"U8": np.uint8, "U16": np.uint16, "I32": np.int32}


def carries_ids(spec: RunSpec, stage: int) -> bool:
    """Whether what `stage` is sent has the token ids in it."""
    return spec.model.reads_tokens(stage) and stage < spec.model.stages - 1


def encode(spec: RunSpec, values: Floats, what: str, ids: Tokens | None = None) -> bytes:
    """`values` float32 [B, T, boundary], and `ids` [B, T] if they travel too, as a blob.

    Raises:
        BadPayload: a value is not finite, or not any more after rounding; `what` names it in the message.
    """
    layout, kind = _layout(spec, ids is not None), spec.train.activation_codec
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    tensors: dict[str, npt.NDArray[Any]] = {}
    if kind == "int8":
        tensors["scale"], tensors["x"] = blockwise.quantised(flat, what)
    elif kind == "bf16":
        tensors["x"] = codec.to_bf16(flat)
        codec.refuse_non_finite_halves(tensors["x"], what)
    else:
        tensors["x"] = flat
        codec.refuse_non_finite(flat, what)
    if ids is not None:
        tensors["ids"] = ids.astype(_IDS[_ids_dtype(spec)])
    return codec.join(layout, *(tensors[name] for name, _, _ in layout))


def decode(spec: RunSpec, blob: bytes, what: str, with_ids: bool = False) -> tuple[Floats, Tokens | None]:
    """Values float32 [B, T, boundary], and the ids [B, T] if they must be there.

    Raises:
        BadPayload: wrong size, header, dtypes or shapes, a value that is not finite, or an id beyond the vocabulary.
    """
    layout, kind = _layout(spec, with_ids), spec.train.activation_codec
    found = dict(zip((name for name, _, _ in layout), codec.parts(blob, layout, what), strict=True))
    shape = _shape(spec)
    if kind == "int8":
        values = blockwise.restored(found["scale"], found["x"], shape[0] * shape[1] * shape[2], what)
    elif kind == "bf16":
        halves = np.frombuffer(found["x"], "<u2")
        codec.refuse_non_finite_halves(halves, what)
        values = codec.from_bf16(halves)
    else:
        values = np.frombuffer(found["x"], "<f4").astype(np.float32)
        codec.refuse_non_finite(values, what)
    return values.reshape(shape), _ids(spec, found["ids"], what) if with_ids else None


def round_trip(spec: RunSpec, values: Floats) -> Floats:
    """What a receiver would read of `values`, of any shape whose last dimension is the boundary's."""
    if spec.train.activation_codec != "int8":
        return codec.round_trip(values, spec.train.activation_codec)
    what = "activation"
    blob = blockwise.encode_int8(np.ascontiguousarray(values, np.float32).reshape(-1), what)
    return blockwise.decode_int8(blob, values.size, what).reshape(values.shape)


def _shape(spec: RunSpec) -> tuple[int, int, int]:
    return spec.train.microbatch, spec.model.seq, spec.model.boundary


def _ids_dtype(spec: RunSpec) -> str:
    return "U8" if spec.model.vocab <= 1 << 8 else "U16" if spec.model.vocab <= 1 << 16 else "I32"


def _layout(spec: RunSpec, with_ids: bool) -> Layout:
    shape, kind = _shape(spec), spec.train.activation_codec
    tensors: list[tuple[str, str, tuple[int, ...]]]
    if kind == "int8":
        scale, _ = blockwise.int8_layout(shape[0] * shape[1] * shape[2])
        tensors = [scale, ("x", "I8", shape)]
    else:
        tensors = [("x", {"fp32": "F32", "bf16": "BF16"}[kind], shape)]
    if with_ids:
        tensors.append(("ids", _ids_dtype(spec), shape[:2]))
    return tuple(sorted(tensors, key=lambda tensor: (-_ORDER.index(tensor[1]), tensor[0])))


def _ids(spec: RunSpec, part: memoryview, what: str) -> Tokens:
    kind = np.dtype(_IDS[_ids_dtype(spec)]).newbyteorder("<")
    ids: Tokens = np.frombuffer(part, kind).astype(np.int32)
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < spec.model.vocab:
        raise BadPayload(f"{what}: ids must lie in 0..{spec.model.vocab - 1}, found {ids.min()}..{ids.max()}")
    return ids.reshape(_shape(spec)[:2])
