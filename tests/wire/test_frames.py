"""Frames and the handshake, without any socket."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.wire import handshake
from iota_subnet.wire.frames import HEADER, OVERHEAD_BYTES, ChannelError, Direction, FrameReader, FrameWriter
from iota_subnet.wire.signing import message

from .kit import signer, verify

SESSION = b"s" * 32
LIMIT = 4096


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    id: int
    note: str = ""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    why: str


class Odd(msgspec.Struct, frozen=True, tag="odd"):
    pass


def writer(
    direction: Direction = "up", session: bytes = SESSION, hotkey: str = "A", outbound: Any = Lease | Stop
) -> FrameWriter:
    return FrameWriter(session, direction, signer(hotkey), outbound, LIMIT)


def reader(inbound: Any = Lease | Stop) -> FrameReader:
    return FrameReader(SESSION, "up", "A", verify, inbound, LIMIT)


def frame(msg: msgspec.Struct, **options: Any) -> bytes:
    made = writer(**options)
    return made.seal(made.encode(msg))


def forged(body: bytes, seq: int = 1) -> bytes:
    """A properly signed frame around any body."""
    made = writer()
    made._seq = seq - 1
    return made.seal(body)


def reason(opened: FrameReader, data: bytes) -> str:
    with pytest.raises(ChannelError) as caught:
        opened.open(data)
    return caught.value.reason


def test_in_order() -> None:
    out, into = writer(), reader()
    for number in range(5):
        assert into.open(out.seal(out.encode(Lease(number)))) == Lease(number)
    assert into.open(out.seal(out.encode(Stop("done")))) == Stop("done")


def test_one_member_unions() -> None:
    assert reader(Lease).open(frame(Lease(1), outbound=Lease)) == Lease(1)


def test_every_check_has_its_name_and_comes_in_order() -> None:
    good = frame(Lease(7))
    assert reason(reader(), good + b"x" * LIMIT) == "oversize"
    assert reason(reader(), good[:OVERHEAD_BYTES]) == "undersize"
    assert reason(reader(), b"\x02" + good[1:]) == "bad_version"
    assert reason(reader(), good[:-1] + b"\x09") == "bad_signature"
    assert reason(reader(), frame(Lease(7), direction="down")) == "bad_signature"
    assert reason(reader(), frame(Lease(7), session=b"t" * 32)) == "bad_signature"
    assert reason(reader(), frame(Lease(7), hotkey="B")) == "bad_signature"
    assert reason(reader(), HEADER.pack(1, 2) + good[HEADER.size :]) == "bad_signature"
    assert reason(reader(), forged(b"\xc1", seq=2)) == "gap", "the sequence is checked before the body is parsed"
    assert reason(reader(), forged(b"\xc1")) == "bad_body"


def test_replay_and_gap() -> None:
    out, into = writer(), reader()
    first, second, third = (out.seal(out.encode(Lease(i))) for i in range(3))
    into.open(first)
    into.open(second)
    assert reason(into, first) == "replayed"
    assert reason(into, third) == "session_over", "after a violation nothing is opened"
    into = reader()
    into.open(first)
    assert reason(into, third) == "gap"


def test_a_signature_is_not_checked_for_what_is_too_big() -> None:
    def never(hotkey: str, data: bytes, signature: bytes) -> bool:
        raise AssertionError

    assert reason(FrameReader(SESSION, "up", "A", never, Lease, LIMIT), b"x" * (LIMIT + 1)) == "oversize"


def test_what_must_not_be_sent() -> None:
    with pytest.raises(TypeError, match="Odd is not a message of this direction; those are: Lease, Stop"):
        writer().encode(Odd())
    with pytest.raises(ChannelError, match="oversize"):
        writer().encode(Lease(1, "x" * LIMIT))
    largest = Lease(1, "x" * (LIMIT - OVERHEAD_BYTES - len(msgspec.msgpack.encode(Lease(1, "x" * 300))) + 300))
    assert reader().open(frame(largest)) == largest and len(frame(largest)) == LIMIT


@given(st.binary(max_size=300))
def test_fuzz_frames(data: bytes) -> None:
    assert reason(reader(), data) in {"undersize", "bad_version", "bad_signature"}


@given(st.data())
def test_fuzz_any_changed_byte(data: st.DataObject) -> None:
    good = bytearray(frame(Lease(7, "note")))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    assert reason(reader(), bytes(good)) in {"bad_version", "bad_signature"}


@given(st.binary(min_size=1, max_size=200))
def test_fuzz_signed_bodies(body: bytes) -> None:
    opens_or_is_named(body)


def opens_or_is_named(body: bytes) -> None:
    try:
        assert isinstance(reader().open(forged(body)), Lease | Stop)
    except ChannelError as error:
        assert error.reason == "bad_body"


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(
    _values
    | st.dictionaries(st.sampled_from(["type", "id", "note", "why"]), _values | st.sampled_from(["lease", "stop"]))
)
def test_fuzz_well_formed_bodies_of_other_shapes(value: Any) -> None:
    opens_or_is_named(msgspec.msgpack.encode(value))


def test_a_deep_body_is_named() -> None:
    deep = b"\x82\xa4type\xa5lease\xa1x" + b"\x91" * 3000 + b"\xc0"
    assert reason(reader(), forged(deep)) == "bad_body"


# ---------------------------------------------------------------------------------------------------- the handshake

HELLO = handshake.Hello("V", b"n" * 32, "spec")


def shake(**changes: Any) -> str:
    """An honest handshake with one thing changed; the reason of its end, or "ok"."""
    client, server = changes.get("client", "A"), changes.get("server", "V")
    try:
        hello = changes.get("hello", handshake.dump(HELLO))
        reply, ours = handshake.answer(
            hello, b"c" * 32, client, server, changes.get("spec", "spec"), signer(changes.get("key", client))
        )
        theirs = handshake.accept(changes.get("sent", HELLO), changes.get("reply", handshake.dump(reply)), verify)
        verdict = handshake.welcome(theirs, changes.get("refusal"), signer(changes.get("server_key", "V")))
        verdict = changes.get("verdict", lambda v: v)(verdict)
        handshake.conclude(handshake.dump(verdict), ours, verify)
    except ChannelError as error:
        return error.reason
    assert ours.session == theirs.session
    return "ok"


def test_handshakes() -> None:
    assert shake() == shake(spec=None) == "ok"
    assert shake(server="W") == "wrong_server"
    assert shake(spec="other") == "wrong_spec"
    assert shake(key="B") == "bad_signature"
    assert shake(server_key="W") == "bad_signature"
    assert shake(refusal="unknown miner") == "refused"
    # The hello was changed on the way: what the client signed is not what the server said.
    for changed in (("V", b"m" * 32, "spec"), ("V", b"n" * 32, "spec2")):
        assert shake(sent=handshake.Hello(*changed)) == "bad_signature"
    flipped = lambda v: handshake.Welcome(not v.ok, v.reason, v.signature)  # noqa: E731
    assert shake(refusal="no", verdict=flipped) == "bad_signature"
    assert shake(verdict=flipped) == "bad_signature"
    assert shake(refusal="no", verdict=lambda v: handshake.Welcome(v.ok, "other", v.signature)) == "bad_signature"


def test_a_server_cannot_mirror_the_clients_signature() -> None:
    reply, ours = handshake.answer(handshake.dump(HELLO), b"c" * 32, "V", "V", None, signer("V"))
    with pytest.raises(ChannelError, match="bad_signature"):
        handshake.conclude(handshake.dump(handshake.Welcome(True, "", reply.signature)), ours, verify)


def test_hotkeys_the_verifier_chokes_on() -> None:
    assert shake(client="not-an-address") == "bad_signature"
    assert shake(client="x" * 65) == "bad_handshake"


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"x" * 5000, "text", None, 3, handshake.dump(HELLO)])
def test_rubbish_in_a_handshake(raw: Any) -> None:
    assert shake(reply=raw) == "bad_handshake"


@given(st.binary(max_size=400))
def test_fuzz_handshake(raw: bytes) -> None:
    kinds: list[Any] = [handshake.Hello, handshake.Reply, handshake.Welcome]
    for kind in kinds:
        with pytest.raises(ChannelError, match="bad_handshake"):
            handshake.parse(raw, kind)


def test_sessions_differ() -> None:
    base = handshake.Transcript(b"s" * 32, b"c" * 32, "V", "A", "spec")
    changes: list[dict[str, Any]] = [
        {"nonce_s": b"t" * 32}, {"nonce_c": b"d" * 32}, {"server": "W"}, {"client": "B"},
        {"server": "VA", "client": ""}, {"spec": "other"},
    ]  # fmt: skip
    assert len({base.session, *(dataclasses.replace(base, **change).session for change in changes)}) == 7


def test_messages_are_unambiguous() -> None:
    assert message("d", b"ab", b"c") != message("d", b"a", b"bc") != message("da", b"b", b"c")
    assert message("d") != message("d", b"")
