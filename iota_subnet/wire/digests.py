"""Names of blobs: blake3 in lower-case hex. A name that is not exactly that is never used, as a path least of all."""

from __future__ import annotations

import re

from blake3 import blake3

_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """blake3 of `data`, 64 lower-case hex digits."""
    return str(blake3(data).hexdigest())


def is_digest(text: str) -> bool:
    """Whether `text` can be the name of a blob."""
    return _DIGEST.fullmatch(text) is not None
