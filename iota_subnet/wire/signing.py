"""What is signed, and how a signature is judged.

Law: every signed message starts with its own domain and length-prefixes every field, so that no message of one kind
can be read as one of another kind, and ("ab", "c") never equals ("a", "bc").
"""

from __future__ import annotations

from collections.abc import Callable

#: Signs with this machine's hotkey; 64 bytes (sr25519 in production).
Signer = Callable[[bytes], bytes]
#: (ss58 hotkey, message, signature) -> does it hold?
Verifier = Callable[[str, bytes, bytes], bool]
#: Seconds since the Unix epoch.
Clock = Callable[[], float]

SIGNATURE_BYTES = 64
#: An ss58 address has 47 or 48 characters; anything longer is no hotkey.
MAX_HOTKEY_CHARS = 64


def message(domain: str, *fields: bytes) -> bytes:
    """The bytes to sign: the domain and each field, each behind its length (u32, big endian)."""
    parts = (domain.encode(), *fields)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def signed(sign: Signer, data: bytes) -> bytes:
    """`sign(data)`, checked to be 64 bytes. Raises ValueError for a signer that cannot be used on this wire."""
    signature = sign(data)
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"the signer gave {len(signature)} bytes; the wire needs {SIGNATURE_BYTES} (sr25519)")
    return signature


def holds(verify: Verifier, hotkey: str, data: bytes, signature: bytes) -> bool:
    """Whether `hotkey` signed `data`. Never raises: hotkey and signature come from strangers."""
    if len(signature) != SIGNATURE_BYTES or not 0 < len(hotkey) <= MAX_HOTKEY_CHARS:
        return False
    try:
        return bool(verify(hotkey, data, signature))
    except Exception:
        # The real verifier raises on an address it cannot parse. What could not be verified does not hold.
        return False
