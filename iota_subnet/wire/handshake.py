"""How two hotkeys meet: three messages, after which both know whom they talk to and share a session name. No I/O.

    server -> client   Hello(server hotkey, nonce_s, spec digest)
    client -> server   Reply(client hotkey, nonce_c, signature as "client")
    server -> client   Welcome(ok, reason, signature as "server")

Both sign the same transcript (both nonces, both hotkeys, the spec digest) under their role, so neither signature can be
mirrored, replayed or used with another server. Whoever relays such a handshake gains nothing: every later frame is
signed for the session, which is the hash of that transcript. The client signs nothing before it has seen the server
and the spec it expects.

Reasons of ChannelError: bad_handshake (rubbish), wrong_server, wrong_spec, bad_signature, refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from blake3 import blake3

from iota_subnet.wire.frames import ChannelError
from iota_subnet.wire.signing import MAX_HOTKEY_CHARS, SIGNATURE_BYTES, Signer, Verifier, holds, message, signed

NONCE_BYTES = 32
#: Bytes of any handshake message.
MAX_HANDSHAKE_BYTES = 2048
MAX_REASON_CHARS = 400

_Hotkey = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOTKEY_CHARS)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The server's first word."""

    server: _Hotkey
    nonce: _Nonce
    spec: Annotated[str, msgspec.Meta(max_length=128)]


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The client's name and proof."""

    hotkey: _Hotkey
    nonce: _Nonce
    signature: _Signature


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The server's verdict and proof. The reason of a refusal is signed too, so that a miner can rely on it."""

    ok: bool
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)]
    signature: _Signature


@dataclass(frozen=True, slots=True)
class Transcript:
    """What both sides sign."""

    nonce_s: bytes
    nonce_c: bytes
    server: str
    client: str
    spec: str

    def _fields(self) -> tuple[bytes, ...]:
        return (self.nonce_s, self.nonce_c, self.server.encode(), self.client.encode(), self.spec.encode())

    @property
    def session(self) -> bytes:
        """32 bytes that name this session; unique while either side draws fresh nonces."""
        return bytes(blake3(message("iota.channel.session.1", *self._fields())).digest())

    def of_client(self) -> bytes:
        """What the client signs."""
        return message("iota.channel.client.1", *self._fields())

    def of_server(self, ok: bool, reason: str) -> bytes:
        """What the server signs with its answer, yes or no and why."""
        return message("iota.channel.server.1", *self._fields(), b"\x01" if ok else b"\x00", reason.encode())


def accept(hello: Hello, raw: bytes, verify: Verifier) -> Transcript:
    """Server: the transcript that a client's `raw` reply proves. ChannelError: bad_handshake, bad_signature."""
    reply = parse(raw, Reply)
    transcript = Transcript(hello.nonce, reply.nonce, hello.server, reply.hotkey, hello.spec)
    if not holds(verify, reply.hotkey, transcript.of_client(), reply.signature):
        raise ChannelError("bad_signature", "the hotkey did not sign this handshake")
    return transcript


def welcome(transcript: Transcript, refusal: str | None, sign: Signer) -> Welcome:
    """Server: the signed verdict; `refusal` is why the client may not come in, or None."""
    ok, reason = refusal is None, (refusal or "")[:MAX_REASON_CHARS]
    return Welcome(ok, reason, signed(sign, transcript.of_server(ok, reason)))


def answer(
    raw: bytes, nonce: bytes, hotkey: str, server: str, spec: str | None, sign: Signer
) -> tuple[Reply, Transcript]:
    """Client: the reply to a server's `raw` hello. ChannelError: bad_handshake, wrong_server, wrong_spec."""
    hello = parse(raw, Hello)
    if hello.server != server:
        raise ChannelError("wrong_server", f"{hello.server} answered where {server} was expected")
    if spec is not None and hello.spec != spec:
        raise ChannelError("wrong_spec", f"the server runs spec {hello.spec[:16]}, this side {spec[:16]}; join again")
    transcript = Transcript(hello.nonce, nonce, server, hotkey, hello.spec)
    return Reply(hotkey, nonce, signed(sign, transcript.of_client())), transcript


def conclude(raw: bytes, transcript: Transcript, verify: Verifier) -> None:
    """Client: returns if the server proved itself and said yes. ChannelError: bad_handshake, bad_signature, refused."""
    verdict = parse(raw, Welcome)
    if not holds(verify, transcript.server, transcript.of_server(verdict.ok, verdict.reason), verdict.signature):
        raise ChannelError("bad_signature", "the server did not sign this handshake")
    if not verdict.ok:
        raise ChannelError("refused", verdict.reason)


_Message = TypeVar("_Message", Hello, Reply, Welcome)


def parse(raw: Any, kind: type[_Message]) -> _Message:
    """`raw` as that handshake message; ChannelError("bad_handshake") if it is anything else."""
    if not isinstance(raw, bytes) or len(raw) > MAX_HANDSHAKE_BYTES:
        raise ChannelError("bad_handshake", f"a handshake message has at most {MAX_HANDSHAKE_BYTES} bytes")
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ChannelError("bad_handshake", str(error)[:200]) from None


def dump(msg: Hello | Reply | Welcome) -> bytes:
    """The bytes of a handshake message."""
    return msgspec.msgpack.encode(msg)
