"""Vectors in about a byte a value (int8) or a tenth of one (topk), a scale per block.

    int8   a scale s = max|x| / 127 per 256 values, and q = rint(x / s), ties to even, for each; s = 0 gives q = 0.
           Tensors: "scale" float32 [blocks], "x" int8 [n].
    topk   per block of 4096 values only the k = ceil(length * share) largest by magnitude, of equals the ones of lower
           index; one scale per block, as above. Tensors: "scale" float32 [blocks], "at" uint16 [K], the places in the
           block, ascending, and "x" int8 [K]. What is not kept is 0 for the receiver.

The last block may be shorter; so every vector length has exactly one file size (`spec.delta_bytes`). The idea of top-k
per block with few bits and error feedback is SparseLoCo's (arXiv 2508.15706).

Law: float32 operations that IEEE 754 fixes, element by element, so that two machines encode equal values to equal
bytes. A decoder checks header, size, scales, values and places before it allocates the result. A scale so large that
127 times it is infinite is refused by both sides, and -128 is no value: then no product can be infinite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iota_subnet.spec import INT8_BLOCK, TOPK_BLOCK, topk_kept
from iota_subnet.train.codec import BLOCK, BadPayload, Floats, Layout, blocks, join, parts

_TOP = np.float32(127)
#: The largest float32 of which 127 times is finite.
_SCALE_MAX = np.nextafter(np.float32(np.finfo(np.float32).max) / _TOP, np.float32(0))

Bytes = npt.NDArray[np.int8]
Places = npt.NDArray[np.uint16]


def encode_int8(values: Floats, what: str) -> bytes:
    """float32 [n] as an int8 blob. Raises BadPayload if a value is not finite, or not any more after rounding."""
    return join(int8_layout(values.size), *quantised(values, what))


def quantised(values: Floats, what: str) -> tuple[Floats, Bytes]:
    """Scales and values of float32 [n]. Raises BadPayload as `encode_int8`."""
    size = values.size
    scales: Floats = np.empty(-(-size // INT8_BLOCK), np.float32)
    encoded: Bytes = np.empty(size, np.int8)
    buffer: Floats = np.empty(min(BLOCK, size + INT8_BLOCK), np.float32)
    with np.errstate(invalid="ignore"):
        for lo, hi in blocks(size):
            rows = -(-(hi - lo) // INT8_BLOCK)
            work = buffer[: rows * INT8_BLOCK]
            grid, scale = work.reshape(rows, INT8_BLOCK), scales[lo // INT8_BLOCK :][:rows]
            work[hi - lo :] = 0
            np.abs(values[lo:hi], out=work[: hi - lo])
            np.divide(grid.max(axis=1), _TOP, out=scale)
            work[: hi - lo] = values[lo:hi]
            _quantise(grid, scale)
            encoded[lo:hi] = work[: hi - lo]
    _check_scales(scales, f"{what} to encode")
    return scales, encoded


def decode_int8(blob: bytes, size: int, what: str, out: Floats | None = None) -> Floats:
    """The float32 [size] of an int8 blob, in `out` if given. Raises BadPayload, and leaves `out`, for all else."""
    scales, encoded = parts(blob, int8_layout(size), what)
    return restored(scales, encoded, size, what, out)


def restored(scale_part: memoryview, value_part: memoryview, size: int, what: str, out: Floats | None = None) -> Floats:
    """The float32 [size] of the bytes of its scales and values. Raises BadPayload as `decode_int8`."""
    scales, encoded = np.frombuffer(scale_part, "<f4"), np.frombuffer(value_part, np.int8)
    _check_scales(scales, what)
    _check_values(encoded, what)
    values = np.empty(size, np.float32) if out is None else out
    whole = size - size % INT8_BLOCK
    for lo, hi in blocks(whole):
        values[lo:hi] = encoded[lo:hi]
        grid = values[lo:hi].reshape(-1, INT8_BLOCK)
        np.multiply(grid, scales[lo // INT8_BLOCK : hi // INT8_BLOCK, None], out=grid)
    if whole < size:
        values[whole:] = encoded[whole:]
        np.multiply(values[whole:], scales[-1], out=values[whole:])
    return values


def encode_topk(values: Floats, share: float, what: str) -> bytes:
    """float32 [n] as a topk blob. Raises BadPayload if a value is not finite, or not any more after rounding."""
    layout = _topk_layout(values.size, share)
    (_, _, (rows,)), (_, _, (kept,)), _ = layout
    scales: Floats = np.empty(rows, np.float32)
    places: Places = np.empty(kept, np.uint16)
    encoded: Bytes = np.empty(kept, np.int8)
    with np.errstate(invalid="ignore"):
        for lo, hi, length, row, at, k in _grids(values.size, share):
            grid = values[lo:hi].reshape(-1, length)
            end, scale = at + len(grid) * k, scales[row : row + len(grid)]
            # Magnitudes compare as the integers do that their bits spell; NaN comes after infinity.
            magnitudes = np.abs(grid).view(np.int32)
            np.divide(magnitudes.max(axis=1).view(np.float32), _TOP, out=scale)
            mask = _largest(magnitudes, k)
            places[at:end] = np.nonzero(mask)[1]
            chosen = grid[mask].reshape(-1, k)
            _quantise(chosen, scale)
            encoded[at:end] = chosen.reshape(-1)
    _check_scales(scales, f"{what} to encode")
    return join(layout, scales, places, encoded)


def decode_topk(blob: bytes, size: int, share: float, what: str, out: Floats | None = None) -> Floats:
    """The float32 [size] of a topk blob, in `out` if given. Raises BadPayload, and leaves `out`, for all else."""
    scale_part, place_part, value_part = parts(blob, _topk_layout(size, share), what)
    scales, encoded = np.frombuffer(scale_part, "<f4"), np.frombuffer(value_part, np.int8)
    places = np.frombuffer(place_part, "<u2")
    _check_scales(scales, what)
    _check_values(encoded, what)
    for lo, hi, length, _, at, k in _grids(size, share):
        block = places[at:][: (hi - lo) // length * k].reshape(-1, k)
        if (block[:, -1] >= length).any() or (block[:, 1:] <= block[:, :-1]).any():
            raise BadPayload(f"{what}: the places in a block of {length} values are not ascending or beyond its end")
    values = np.empty(size, np.float32) if out is None else out
    values[:] = 0
    for lo, hi, length, row, at, k in _grids(size, share):
        grid = values[lo:hi].reshape(-1, length)
        run = slice(at, at + len(grid) * k)
        products = encoded[run].reshape(-1, k) * scales[row : row + len(grid), None]
        np.put_along_axis(grid, places[run].reshape(-1, k).astype(np.intp), products, axis=1)
    return values


def int8_layout(size: int) -> Layout:
    """Tensors of an int8 blob of so many values."""
    return ("scale", "F32", (-(-size // INT8_BLOCK),)), ("x", "I8", (size,))


def _topk_layout(size: int, share: float) -> Layout:
    whole, rest = divmod(size, TOPK_BLOCK)
    kept = whole * topk_kept(TOPK_BLOCK, share) + topk_kept(rest, share)
    return ("scale", "F32", (whole + (rest > 0),)), ("at", "U16", (kept,)), ("x", "I8", (kept,))


def _grids(size: int, share: float) -> list[tuple[int, int, int, int, int, int]]:
    """Runs of whole blocks, and the rest: (lo, hi, length of a block, first block, first kept value, k)."""
    whole, k = size // TOPK_BLOCK, topk_kept(TOPK_BLOCK, share)
    found = []
    for lo, hi in blocks(whole * TOPK_BLOCK):
        row = lo // TOPK_BLOCK
        found.append((lo, hi, TOPK_BLOCK, row, row * k, k))
    lo = whole * TOPK_BLOCK
    if lo < size:
        found.append((lo, size, size - lo, whole, whole * k, topk_kept(size - lo, share)))
    return found


def _largest(magnitudes: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.bool_]:
    """Where the k largest of each row are; of equals the first ones."""
    border = magnitudes.shape[1] - k
    least = np.partition(magnitudes, border, axis=1)[:, border]
    mask: npt.NDArray[np.bool_] = magnitudes >= least[:, None]
    surplus = np.count_nonzero(mask, axis=1) - k
    for row in np.flatnonzero(surplus):
        ties = np.flatnonzero(magnitudes[row] == least[row])
        mask[row, ties[-surplus[row] :]] = False
    return mask


def _quantise(grid: Floats, scale: Floats) -> None:
    """Divide each row by its scale and round, in place. A scale that underflowed makes quotients beyond 127."""
    np.divide(grid, np.where(scale == 0, np.float32(1), scale)[:, None], out=grid)
    np.rint(grid, out=grid)
    np.minimum(grid, _TOP, out=grid)
    np.maximum(grid, -_TOP, out=grid)


def _check_scales(scales: Floats, what: str) -> None:
    # Written so that NaN, which is neither, is refused.
    wrong = scales.size - int(np.count_nonzero((scales >= 0) & (scales <= _SCALE_MAX)))
    if wrong:
        raise BadPayload(f"{what}: {wrong} of {scales.size} blocks are not finite, or have a negative scale")


def _check_values(encoded: Bytes, what: str) -> None:
    if encoded.size and encoded.min() == -128:
        raise BadPayload(f"{what}: -128 is no value; they lie in -127..127")
