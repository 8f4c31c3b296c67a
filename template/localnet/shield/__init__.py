"""MEV shield: calls that clients encrypt to the chain's key and that the chain opens and runs a block later.

The wire format is the hash of the key (16 bytes, twox-128), the length of the KEM part (u16 little endian), that part
(ML-KEM-768), a nonce of 24 bytes, and the extrinsic under XChaCha20-Poly1305. The key is derived from the seed of the
chain: this is for staging and keeps no secret.
"""

from __future__ import annotations

from functools import lru_cache

from template.localnet.hashing import twox_128
from template.localnet.shield.aead import BadTag, open_sealed
from template.localnet.shield.mlkem import CIPHERTEXT_BYTES, MlKem768

__all__ = ["CannotOpen", "open_shielded", "public_key"]

_HASH_BYTES = 16
_NONCE_BYTES = 24


class CannotOpen(ValueError):
    """Not an extrinsic encrypted to this chain's key."""


@lru_cache(maxsize=4)
def _key(seed: bytes) -> MlKem768:
    return MlKem768(b"mev shield" + seed)


def public_key(seed: bytes) -> bytes:
    """The ML-KEM-768 public key (1184 bytes) of the chain with this seed."""
    return _key(seed).public


def open_shielded(seed: bytes, ciphertext: bytes) -> bytes:
    """The extrinsic inside of ``ciphertext``; raises CannotOpen."""
    start = _HASH_BYTES + 2
    nonce_at = start + CIPHERTEXT_BYTES
    key = _key(seed)
    if len(ciphertext) < nonce_at + _NONCE_BYTES:
        raise CannotOpen("too short")
    if ciphertext[:_HASH_BYTES] != twox_128(key.public):
        raise CannotOpen("encrypted to another key")
    if int.from_bytes(ciphertext[_HASH_BYTES:start], "little") != CIPHERTEXT_BYTES:
        raise CannotOpen("a KEM part of another length")
    secret = key.shared_secret(ciphertext[start:nonce_at])
    nonce, sealed = ciphertext[nonce_at : nonce_at + _NONCE_BYTES], ciphertext[nonce_at + _NONCE_BYTES :]
    try:
        return open_sealed(secret, nonce, sealed)
    except BadTag as error:
        raise CannotOpen("the tag does not fit") from error
