"""Signed extrinsics (format version 4): decoding, signing payload and signature check."""

from __future__ import annotations

from dataclasses import dataclass

from bittensor_wallet import Keypair

from template.localnet.codec import Enum, load_codecs
from template.localnet.errors import InvalidExtrinsic
from template.localnet.hashing import blake2_256
from template.localnet.scale import Reader, ScaleError, encode_compact
from template.localnet.state import AccountId

SPEC_VERSION = 424
TRANSACTION_VERSION = 1
MAX_EXTRINSIC_BYTES = 1 << 20
_SIGNED_V4 = 0x84
_UNSIGNED_V4 = 0x04
_LONG_PAYLOAD = 256


@dataclass(frozen=True)
class Era:
    """Mortality of an extrinsic: ``period`` 0 is immortal, else valid for ``period`` blocks from its birth."""

    period: int
    phase: int
    raw: bytes

    def birth(self, current: int) -> int:
        """Block whose hash is signed, for an extrinsic seen at block ``current``."""
        if self.period == 0:
            return 0
        return (max(current, self.phase) - self.phase) // self.period * self.period + self.phase


@dataclass(frozen=True)
class SignedExtrinsic:
    """A decoded extrinsic; ``raw`` includes the length prefix and ``call_bytes`` is what was signed."""

    raw: bytes
    hash: bytes
    signer: AccountId
    signature: bytes
    era: Era
    nonce: int
    tip: int
    call: Enum
    call_bytes: bytes

    def payload(self, genesis_hash: bytes, birth_hash: bytes) -> bytes:
        """The bytes that were signed; hashed when longer than 256."""
        message = (
            self.call_bytes
            + self.era.raw
            + encode_compact(self.nonce)
            + encode_compact(self.tip)
            + b"\x00"  # no metadata hash
            + SPEC_VERSION.to_bytes(4, "little")
            + TRANSACTION_VERSION.to_bytes(4, "little")
            + genesis_hash
            + birth_hash
            + b"\x00"
        )
        return blake2_256(message) if len(message) > _LONG_PAYLOAD else message


def _era(reader: Reader) -> Era:
    first = reader.take(1)
    if first == b"\x00":
        return Era(0, 0, first)
    raw = first + reader.take(1)
    value = int.from_bytes(raw, "little")
    period = 2 << (value & 15)
    phase = (value >> 4) * max(period >> 12, 1)
    if period < 4 or phase >= period:
        raise ScaleError("not a valid era")
    return Era(period, phase, raw)


def decode_extrinsic(raw: bytes) -> SignedExtrinsic:
    """Decode one signed extrinsic with its length prefix.

    Raises InvalidExtrinsic (code 1002) for bytes that do not decode and (1010) for other kinds of signature.
    """
    if len(raw) > MAX_EXTRINSIC_BYTES:
        raise InvalidExtrinsic(1010, "Invalid Transaction", "Transaction would exhaust the block limits")
    codecs = load_codecs()
    reader = Reader(raw)
    try:
        if reader.compact() != reader.remaining:
            raise ScaleError("wrong length prefix")
        version = reader.uint(1)
        if version != _SIGNED_V4:
            raise ScaleError(f"extrinsic version {version:#04x} is not a signed one of version 4")
        address = codecs.get("MultiAddress").decode(reader)
        signature = codecs.get("MultiSignature").decode(reader)
        era = _era(reader)
        nonce, tip = reader.compact(), reader.compact()
        if reader.uint(1) != 0:
            raise ScaleError("a metadata hash is not supported")
        call_bytes = reader.take(reader.remaining)
        call = codecs.decode("RuntimeCall", call_bytes)
    except ScaleError as error:
        raise InvalidExtrinsic(1002, "Verification Error", f"Could not decode the extrinsic: {error}") from error
    if address.name != "Id":
        raise InvalidExtrinsic(1010, "Invalid Transaction", "Could not lookup information required to validate")
    if signature.name != "Sr25519":
        raise InvalidExtrinsic(1010, "Invalid Transaction", "Transaction has a bad signature")
    return SignedExtrinsic(raw, blake2_256(raw), address.value, signature.value, era, nonce, tip, call, call_bytes)


def signature_ok(extrinsic: SignedExtrinsic, genesis_hash: bytes, birth_hash: bytes) -> bool:
    """Verify the sr25519 signature over the payload for the given chain and era."""
    keypair = Keypair(public_key=extrinsic.signer.hex())
    return bool(keypair.verify(extrinsic.payload(genesis_hash, birth_hash), extrinsic.signature))


def timestamp_inherent(now_ms: int) -> bytes:
    """Extrinsic 0 of every block: the unsigned Timestamp.set."""
    call = load_codecs().encode("RuntimeCall", Enum("Timestamp", Enum("set", {"now": now_ms})))
    body = bytes((_UNSIGNED_V4,)) + call
    return encode_compact(len(body)) + body
