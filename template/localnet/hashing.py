"""Hash functions of Substrate storage keys, blocks and extrinsics."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import xxhash


def blake2_256(data: bytes) -> bytes:
    """32 byte blake2b digest (block hashes, extrinsic hashes, long signing payloads)."""
    return hashlib.blake2b(data, digest_size=32).digest()


def blake2_64(data: bytes) -> bytes:
    """8 byte digest: the id of a runtime API is that of its name."""
    return hashlib.blake2b(data, digest_size=8).digest()


def blake2_128_concat(data: bytes) -> bytes:
    """16 byte digest and the key itself, so that keys can be listed."""
    return hashlib.blake2b(data, digest_size=16).digest() + data


def twox64_concat(data: bytes) -> bytes:
    """8 byte xxh64 and the key itself; for keys that nobody can choose to collide."""
    return xxhash.xxh64_intdigest(data, seed=0).to_bytes(8, "little") + data


def identity(data: bytes) -> bytes:
    """The key as it is."""
    return data


@lru_cache(maxsize=1024)
def twox_128(data: bytes) -> bytes:
    """16 byte prefix of pallet and storage entry names."""
    low = xxhash.xxh64_intdigest(data, seed=0).to_bytes(8, "little")
    return low + xxhash.xxh64_intdigest(data, seed=1).to_bytes(8, "little")
