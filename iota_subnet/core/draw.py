"""Chance as a hash: the same labels give the same choice on any machine, in any order of calls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def digest(*label: object) -> bytes:
    """32 bytes that depend on every label; a length prefix keeps ("ab", "c") apart from ("a", "bc")."""
    text = bytearray()
    for part in label:
        spelt = str(part).encode()
        text += len(spelt).to_bytes(4, "big")
        text += spelt
    return hashlib.blake2b(text, digest_size=32).digest()


def draw(n: int, *label: object) -> int:
    """A number in [0, n). The bias of the modulo is below n / 2**64."""
    if n < 1:
        raise ValueError("cannot draw from nothing")
    return int.from_bytes(digest(*label)[:8], "big") % n


def choose(items: Sequence[T], *label: object) -> T:
    """One of `items`."""
    return items[draw(len(items), *label)]


def shuffled(items: Sequence[T], *label: object) -> list[T]:
    """`items` in an order given by the label alone."""
    return [item for _, _, item in sorted((digest(*label, index), index, item) for index, item in enumerate(items))]


def salt(secret: str, epoch: int) -> str:
    """The epoch's salt. Its `commitment` is published when the epoch opens, the salt itself when pairs are drawn."""
    return digest(secret, "salt", epoch).hex()


def commitment(value: str) -> str:
    """What binds the orchestrator to a salt it has not shown yet."""
    return digest("commitment", value).hex()
