"""Leave to read one blob for a while: digest, reader, expiry, signed by the orchestrator.

A ticket is a *bearer* token: `reader` says for whom it was made (and appears in the server's statistics and logs), but
the server does not ask the caller to prove that hotkey. Whoever is shown a ticket can read that one blob until it
expires, so tickets are short-lived and go only to their reader. The bytes are protected by their digest, not by it.

Text form: URL-safe base64 without padding of

    version u8 | digest 32 bytes | expires_at f64 big endian | reader, ASCII | signature 64 bytes
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

from iota_subnet.wire.digests import is_digest
from iota_subnet.wire.signing import MAX_HOTKEY_CHARS, SIGNATURE_BYTES, Signer, Verifier, holds, message, signed

#: Tickets in one request for several blobs. Their text has to fit into one field of a head.
MAX_TOGETHER = 16

#: Characters. A ticket for a 48-character hotkey has 204.
MAX_TICKET_CHARS = 256

_DOMAIN = "iota.ticket.1"
_VERSION = 1
_HEAD = struct.Struct(">B32sd")


class BadTicket(Exception):
    """A ticket that opens nothing. `reason`: too_long, bad_encoding, wrong_digest, expired, bad_signature."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ticket:
    """`reader` (an ss58 hotkey) may read the blob `digest` before `expires_at` (seconds since the Unix epoch)."""

    digest: str
    reader: str
    expires_at: float


def encode(ticket: Ticket, sign: Signer) -> str:
    """The signed text of `ticket`. Raises ValueError when its fields cannot make one."""
    if not is_digest(ticket.digest):
        raise ValueError(f"ticket digest {ticket.digest[:80]!r} is not 64 lower-case hex digits")
    if not ticket.reader.isascii() or not 0 < len(ticket.reader) <= MAX_HOTKEY_CHARS:
        raise ValueError(f"ticket reader {ticket.reader[:80]!r} is not a hotkey of 1 to {MAX_HOTKEY_CHARS} characters")
    if not math.isfinite(ticket.expires_at):
        raise ValueError("ticket expires_at must be a finite number of seconds")
    head = _HEAD.pack(_VERSION, bytes.fromhex(ticket.digest), ticket.expires_at)
    body = head + ticket.reader.encode("ascii")
    signature = signed(sign, message(_DOMAIN, body))
    return base64.urlsafe_b64encode(body + signature).rstrip(b"=").decode("ascii")


def check(
    text: str,
    issuer: str,
    verify: Verifier,
    now: float,
    digest: str,
    auditor: Callable[[str], bool] = lambda hotkey: False,
) -> Ticket:
    """The ticket in `text`, if `issuer` signed it for `digest` and it has not expired at `now`; else BadTicket.

    Who is an `auditor` may sign a ticket for itself: it must not depend on the issuer whom it checks.

    Cheap checks come first: a stranger's rubbish must not cost a signature check.
    """
    if len(text) > MAX_TICKET_CHARS:
        raise BadTicket("too_long")
    raw = _decode(text)
    body, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
    version, name, expires_at = _HEAD.unpack_from(body)
    reader = body[_HEAD.size :]
    if version != _VERSION or not reader.isascii() or len(reader) > MAX_HOTKEY_CHARS:
        raise BadTicket("bad_encoding")
    if name.hex() != digest:
        raise BadTicket("wrong_digest")
    if not now < expires_at or not math.isfinite(expires_at):
        raise BadTicket("expired")
    hotkey = reader.decode("ascii")
    signer = hotkey if auditor(hotkey) else issuer
    if not holds(verify, signer, message(_DOMAIN, body), signature):
        # An auditor may hold a ticket of the issuer's too.
        if signer == issuer or not holds(verify, issuer, message(_DOMAIN, body), signature):
            raise BadTicket("bad_signature")
    return Ticket(name.hex(), hotkey, expires_at)


def names(text: str) -> str:
    """Digest of the blob that a ticket speaks of, whoever has made it. Raises BadTicket."""
    if len(text) > MAX_TICKET_CHARS:
        raise BadTicket("too_long")
    name: bytes = _HEAD.unpack_from(_decode(text))[1]
    return name.hex()


def _decode(text: str) -> bytes:
    """The bytes behind `text`; BadTicket unless it is the one canonical spelling of a long enough ticket."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise BadTicket("bad_encoding") from None
    # Base64 has several spellings of the same bytes (spare bits of the last character); one ticket has one text.
    canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") == text
    if not canonical or len(raw) <= _HEAD.size + SIGNATURE_BYTES:
        raise BadTicket("bad_encoding")
    return raw
