"""PNG files made smaller: at most 256 colours, chosen by how often they occur. Standard library and numpy."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

COLOURS = 256


def smaller(path: Path) -> None:
    """Rewrite an 8-bit RGB or RGBA file of Chromium's with a palette; opaque. Raises ValueError for other files."""
    pixels = _read(path.read_bytes())
    height, width, _ = pixels.shape
    flat = pixels.reshape(-1, 3).astype(np.int32)
    # Coarse colours first, in boxes of 4 steps a channel, then the mean of each box that is kept.
    code = (flat[:, 0] >> 2) << 12 | (flat[:, 1] >> 2) << 6 | flat[:, 2] >> 2
    boxes, inverse, counts = np.unique(code, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(inverse, flat[:, c]) / counts for c in range(3)], axis=1)
    kept = _spread(means, counts)
    nearest = np.empty(len(boxes), np.uint8)
    for start in range(0, len(boxes), 4096):
        part = means[start : start + 4096]
        nearest[start : start + 4096] = ((part[:, None] - means[kept][None]) ** 2).sum(-1).argmin(1)
    palette = np.rint(means[kept]).astype(np.uint8)
    rows = nearest[inverse].reshape(height, width)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(body, 9)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def _spread(means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Indices of the colours to keep: the most frequent, and of the others those farthest from what is kept."""
    order = np.argsort(-counts)
    kept = list(order[: COLOURS // 2])
    distance = np.full(len(means), np.inf)
    for index in kept:
        distance = np.minimum(distance, ((means - means[index]) ** 2).sum(1))
    while len(kept) < min(COLOURS, len(means)):
        worst = int((distance * np.sqrt(counts)).argmax())
        kept.append(worst)
        distance = np.minimum(distance, ((means - means[worst]) ** 2).sum(1))
    return np.array(kept)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _read(data: bytes) -> np.ndarray:
    """Pixels as (height, width, 3)."""
    at, body, head = 8, b"", b""
    while at < len(data):
        (size,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"IHDR":
            head = data[at + 8 : at + 8 + size]
        elif kind == b"IDAT":
            body += data[at + 8 : at + 8 + size]
        at += 12 + size
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    if depth != 8 or colour not in (2, 6) or interlaced:
        raise ValueError("not an 8-bit RGB or RGBA picture")
    step = 3 if colour == 2 else 4
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + width * step)
    above = np.zeros(width * step, np.uint8)
    out = np.empty((height, width * step), np.uint8)
    for y, (kind, line) in enumerate(zip(lines[:, 0], lines[:, 1:], strict=True)):
        above = out[y] = _unfiltered(int(kind), line, above, step)
    return out.reshape(height, width, step)[:, :, :3]


def _unfiltered(kind: int, line: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """RFC 2083, section 6."""
    if kind == 0:
        return line
    if kind == 2:
        return line + above
    if kind == 1:
        return np.cumsum(line.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
    row = [int(value) for value in line]
    up = [int(value) for value in above]
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        if kind == 3:
            guess = (left + up[i]) // 2
        else:
            corner = up[i - step] if i >= step else 0
            p = left + up[i] - corner
            distances = (abs(p - left), abs(p - up[i]), abs(p - corner))
            guess = (left, up[i], corner)[distances.index(min(distances))]
        row[i] = (row[i] + guess) & 0xFF
    return np.array(row, np.uint8)
