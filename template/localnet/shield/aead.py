"""XChaCha20-Poly1305 decryption (RFC 8439 with the nonce of draft-irtf-cfrg-xchacha), without associated data."""

from __future__ import annotations

import hmac
import struct

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_MASK = 0xFFFFFFFF
_ROUNDS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)
_TAG_BYTES = 16


class BadTag(ValueError):
    """The ciphertext was not made with this key and nonce."""


def _turn(value: int, bits: int) -> int:
    return (value << bits & _MASK) | value >> 32 - bits


def _permute(state: list[int]) -> list[int]:
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            x[a] = x[a] + x[b] & _MASK
            x[d] = _turn(x[d] ^ x[a], 16)
            x[c] = x[c] + x[d] & _MASK
            x[b] = _turn(x[b] ^ x[c], 12)
            x[a] = x[a] + x[b] & _MASK
            x[d] = _turn(x[d] ^ x[a], 8)
            x[c] = x[c] + x[d] & _MASK
            x[b] = _turn(x[b] ^ x[c], 7)
    return x


def _block(key: bytes, counter: int, nonce: bytes) -> bytes:
    state = [*_CONSTANTS, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    mixed = _permute(state)
    return struct.pack("<16I", *(a + b & _MASK for a, b in zip(state, mixed, strict=True)))


def _subkey(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20."""
    mixed = _permute([*_CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)])
    return struct.pack("<8I", *mixed[:4], *mixed[12:])


def _stream(key: bytes, nonce: bytes, data: bytes) -> bytes:
    blocks = -(-len(data) // 64)
    stream = b"".join(_block(key, counter, nonce) for counter in range(1, blocks + 1))
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def _tag(key: bytes, message: bytes) -> bytes:
    """Poly1305."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        total = (total + int.from_bytes(message[start : start + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return (total + int.from_bytes(key[16:], "little") & 2**128 - 1).to_bytes(16, "little")


def open_sealed(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """Plaintext of ``sealed`` (ciphertext and tag) under a 32 byte key and a 24 byte nonce; raises BadTag."""
    subkey, short = _subkey(key, nonce[:16]), bytes(4) + nonce[16:]
    data, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
    lengths = struct.pack("<QQ", 0, len(data))
    message = data + bytes(-len(data) % 16) + lengths
    if not hmac.compare_digest(_tag(_block(subkey, 0, short)[:32], message), tag):
        raise BadTag
    return _stream(subkey, short, data)
