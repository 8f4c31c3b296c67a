"""Development beacon for commit-reveal weights: one round of the public drand quicknet whose signature is known.

Timelocked weights are encrypted to a future round of a beacon, and the chain decrypts them with that round's signature.
Offline no new signature can be had, so everything is encrypted to this old round: real tlock cryptography, but anybody
can decrypt it at once. A client is pointed at it by :func:`install`, for the embedded chain only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from template.localnet.codec import load_codecs
from template.localnet.scale import ScaleError

ROUND = 1000
SIGNATURE = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
_PAYLOAD = "(Vec<u8>, Vec<u16>, Vec<u16>, u64)"  # hotkey, uids, values, version key
_ROUND_BYTES = 8


class CannotReveal(ValueError):
    """Not weights encrypted to the development beacon."""


def commit_weights(hotkey: bytes, uids: Sequence[int], weights: Sequence[int], version_key: int) -> tuple[bytes, int]:
    """Encrypted weights as the call takes them, and the round that opens them."""
    import bittensor_drand  # type: ignore[import-untyped]

    payload = load_codecs().encode(_PAYLOAD, (hotkey, list(uids), list(weights), version_key))
    sealed, number = bittensor_drand.encrypt_at_round(payload, ROUND)
    return bytes(sealed[:-_ROUND_BYTES]), int(number)


def open_weights(commit: bytes) -> tuple[bytes, list[int], list[int], int]:
    """Hotkey, uids, weights and version key of a commit; raises CannotReveal."""
    import bittensor_drand

    try:
        payload = bittensor_drand.decrypt_with_signature(commit + ROUND.to_bytes(_ROUND_BYTES, "little"), SIGNATURE)
        hotkey, uids, weights, version_key = load_codecs().decode(_PAYLOAD, bytes(payload))
    except (ValueError, ScaleError) as error:
        raise CannotReveal(str(error)) from error
    return bytes(hotkey), uids, weights, version_key


def install(module: Any) -> None:
    """Make a module of the SDK (``bittensor.core.extrinsics.weights`` and its ``asyncex`` twin) use this beacon."""

    def get_encrypted_commit_v2(
        uids: Sequence[int], weights: Sequence[int], version_key: int, *, hotkey: bytes, **schedule: Any
    ) -> tuple[bytes, int]:
        return commit_weights(bytes(hotkey), uids, weights, version_key)

    module.get_encrypted_commit_v2 = get_encrypted_commit_v2
