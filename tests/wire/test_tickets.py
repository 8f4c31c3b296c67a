from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.wire.tickets import MAX_TICKET_CHARS, BadTicket, Ticket, check, encode

from .kit import ISSUER, NOW, READER, signer, ticket_for, verify

DIGEST = "ab" * 32


def reason(text: str, *, issuer: str = ISSUER, now: float = NOW, digest: str = DIGEST) -> str:
    with pytest.raises(BadTicket) as caught:
        check(text, issuer, verify, now, digest)
    return caught.value.reason


def test_round_trip_is_compact_and_url_safe() -> None:
    ticket = Ticket(DIGEST, "5" * 48, NOW + 0.123456789)
    text = encode(ticket, signer(ISSUER))
    assert check(text, ISSUER, verify, NOW, DIGEST) == ticket
    assert len(text) <= 210
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_expiry_is_exclusive() -> None:
    text = ticket_for(DIGEST, expires_at=NOW)
    check(text, ISSUER, verify, NOW - 0.001, DIGEST)
    assert reason(text) == "expired"
    assert reason(ticket_for(DIGEST), now=float("nan")) == "expired"


def test_other_digest_and_other_issuer() -> None:
    assert reason(ticket_for(DIGEST), digest="cd" * 32) == "wrong_digest"
    assert reason(ticket_for(DIGEST), issuer="5Other") == "bad_signature"
    assert reason(ticket_for(DIGEST), issuer="not-an-address") == "bad_signature"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (0, "bad_encoding"),
        (1, "wrong_digest"),
        (32, "wrong_digest"),
        (40, "bad_signature"),
        (41, "bad_signature"),
        (-1, "bad_signature"),
    ],
    ids=["version", "digest first", "digest last", "expiry", "reader", "signature"],
)
def test_every_field_is_protected(at: int, expected: str) -> None:
    text = ticket_for(DIGEST)
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[at] ^= 1
    assert reason(base64.urlsafe_b64encode(raw).rstrip(b"=").decode()) == expected


@given(data=st.data())
def test_no_other_spelling_is_a_ticket(data: st.DataObject) -> None:
    text = ticket_for(DIGEST)
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.characters(codec="utf-8").filter(lambda c: c != text[at]))
    assert reason(text[:at] + char + text[at + 1 :])


def test_other_spellings_of_the_same_bytes() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    text = ticket_for(DIGEST, reader="5Miner2")
    spare = text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]
    padded = text + "=" * (-len(text) % 4)
    assert base64.urlsafe_b64decode(spare + "==") == base64.urlsafe_b64decode(padded)
    assert reason(spare) == reason(padded) == "bad_encoding"


@given(st.text(max_size=300))
def test_rubbish_has_a_name(text: str) -> None:
    assert reason(text) in {"too_long", "bad_encoding", "wrong_digest"}


@given(st.binary(max_size=180))
def test_rubbish_bytes_have_a_name(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert reason(text) in {"bad_encoding", "wrong_digest"}


def test_a_long_text_costs_no_signature_check() -> None:
    def never(hotkey: str, data: bytes, signature: bytes) -> bool:
        raise AssertionError("checked a signature of rubbish")

    with pytest.raises(BadTicket, match="too_long"):
        check("A" * (MAX_TICKET_CHARS + 1), ISSUER, never, NOW, DIGEST)


@pytest.mark.parametrize(
    "ticket",
    [Ticket("AB" * 32, READER, NOW), Ticket("../etc/passwd", READER, NOW), Ticket(DIGEST, "", NOW),
     Ticket(DIGEST, "x" * 65, NOW), Ticket(DIGEST, "é", NOW), Ticket(DIGEST, READER, float("nan")),
     Ticket(DIGEST, READER, float("inf"))],
)  # fmt: skip
def test_what_cannot_be_a_ticket_is_not_signed(ticket: Ticket) -> None:
    with pytest.raises(ValueError, match="ticket"):
        encode(ticket, signer(ISSUER))


def test_a_signer_of_the_wrong_size_is_named() -> None:
    with pytest.raises(ValueError, match="64"):
        encode(Ticket(DIGEST, READER, NOW), lambda data: b"short")
