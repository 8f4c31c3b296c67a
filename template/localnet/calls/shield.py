"""MevShield: an encrypted extrinsic is recorded in one block; the chain opens it for the next one."""

from __future__ import annotations

from typing import Any

from template.localnet.codec import Enum
from template.localnet.dispatch import Context, call_name, handles
from template.localnet.errors import DispatchFailure
from template.localnet.hashing import blake2_256

_SUBMIT = "MevShield.submit_encrypted"
_MAX_BYTES = 8192


@handles(_SUBMIT)
def submit_encrypted(context: Context, args: dict[str, Any]) -> None:
    """Take a sealed extrinsic; the block's author opens it and puts it behind this one."""
    who, ciphertext = context.signed(), args["ciphertext"]
    if len(ciphertext) > _MAX_BYTES:
        raise DispatchFailure("Module", "MevShield.WeightExceedsAbsoluteMax")
    context.emit("MevShield", "EncryptedSubmitted", {"id": blake2_256(who + ciphertext), "who": who})


def shielded_by(call: Enum) -> list[bytes]:
    """The ciphertext that a call submits, if it is such a call."""
    return [call.value.value["ciphertext"]] if call_name(call) == _SUBMIT else []
