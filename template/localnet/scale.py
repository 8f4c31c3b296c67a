"""SCALE primitives: integers, compacts and a bounds-checked reader."""

from __future__ import annotations


class ScaleError(ValueError):
    """Bytes that do not decode as the expected type, or a value that does not encode."""


class Reader:
    """Cursor over bytes; every read past the end raises :class:`ScaleError`."""

    __slots__ = ("data", "pos")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises ScaleError when there are fewer."""
        end = self.pos + count
        if end > len(self.data):
            raise ScaleError(f"wanted {count} bytes at {self.pos}, {len(self.data) - self.pos} left")
        chunk = self.data[self.pos : end]
        self.pos = end
        return chunk

    @property
    def remaining(self) -> int:
        """Bytes that were not read yet."""
        return len(self.data) - self.pos

    def uint(self, size: int) -> int:
        """A little-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def compact(self) -> int:
        """A compact unsigned integer: one, two, four, or more bytes."""
        first = self.uint(1)
        mode = first & 3
        if mode == 0:
            return first >> 2
        if mode == 1:
            return (first | self.uint(1) << 8) >> 2
        if mode == 2:
            return (first | self.uint(3) << 8) >> 2
        return self.uint((first >> 2) + 4)


def encode_compact(value: int) -> bytes:
    """Compact integer of at most 536 bits; raises :class:`ScaleError` for a negative one."""
    if value < 0:
        raise ScaleError(f"{value} is negative")
    if value < 1 << 6:
        return bytes((value << 2,))
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 1 << 30:
        return (value << 2 | 2).to_bytes(4, "little")
    body = value.to_bytes(max(4, (value.bit_length() + 7) // 8), "little")
    return bytes((len(body) - 4 << 2 | 3,)) + body


def encode_text(text: str) -> bytes:
    """UTF-8 behind its length in bytes."""
    raw = text.encode()
    return encode_compact(len(raw)) + raw
