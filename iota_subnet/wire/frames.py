"""One frame of the work channel: sealed by its sender, opened by its receiver. No I/O.

    version u8 | seq u64, big endian | signature 64 bytes | body (msgpack of a tagged union the caller defines)

The signature covers a domain, the session (which both sides' nonces and names made, see `handshake`), the direction,
`seq`, and the blake3 of the body. So a frame of another session, of the other direction, out of its place, or altered
does not hold. Checks come in this order: size, session, signature, sequence (1, 2, 3, ...: no gap, no repetition),
and only then is the body parsed. After the first violation a reader opens nothing any more.
"""

from __future__ import annotations

import struct
import types
import typing
from typing import Any, Literal

import msgspec
from blake3 import blake3

from iota_subnet.wire.signing import SIGNATURE_BYTES, Signer, Verifier, holds, message, signed

VERSION = 1
HEADER = struct.Struct(">BQ")
#: Bytes of a frame that are not body.
OVERHEAD_BYTES = HEADER.size + SIGNATURE_BYTES

#: "up": miner to validator. "down": validator to miner.
Direction = Literal["up", "down"]

_DOMAIN = "iota.channel.frame.1"


class ChannelError(Exception):
    """A violation of the work channel. `reason` is a short stable name, `detail` is for people.

    Of a frame: oversize, undersize, session_over, bad_version, bad_signature, replayed, gap, bad_body. Of the
    handshake, see `handshake`; of a connection, see `link`.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def _signed_part(session: bytes, direction: Direction, seq: int, body: bytes) -> bytes:
    return message(_DOMAIN, session, direction.encode(), seq.to_bytes(8, "big"), blake3(body).digest())


def members(union: Any) -> tuple[type, ...]:
    """The struct types of a (possibly one-member) union."""
    if typing.get_origin(union) in (typing.Union, types.UnionType):
        return tuple(typing.get_args(union))
    return (union,)


class FrameWriter:
    """Seals the messages of one direction of one session, numbering them from 1."""

    def __init__(self, session: bytes, direction: Direction, sign: Signer, outbound: Any, max_frame_bytes: int) -> None:
        self._session = session
        self._direction: Direction = direction
        self._sign = sign
        self._members = members(outbound)
        self._max_body_bytes = max_frame_bytes - OVERHEAD_BYTES
        self._encoder = msgspec.msgpack.Encoder()
        self._seq = 0

    def encode(self, msg: msgspec.Struct) -> bytes:
        """The body of `msg`. TypeError when it is not of the outbound union, ChannelError("oversize") when too long."""
        if type(msg) not in self._members:
            names = ", ".join(member.__name__ for member in self._members)
            raise TypeError(f"{type(msg).__name__} is not a message of this direction; those are: {names}")
        body = self._encoder.encode(msg)
        if len(body) > self._max_body_bytes:
            raise ChannelError(
                "oversize", f"{type(msg).__name__} has {len(body)} bytes; the limit is {self._max_body_bytes}"
            )
        return body

    def seal(self, body: bytes) -> bytes:
        """The next frame. Frames must be sent in the order in which they were sealed."""
        self._seq += 1
        signature = signed(self._sign, _signed_part(self._session, self._direction, self._seq, body))
        return HEADER.pack(VERSION, self._seq) + signature + body


class FrameReader:
    """Opens the frames that `peer` sent in one direction of one session."""

    def __init__(
        self, session: bytes, direction: Direction, peer: str, verify: Verifier, inbound: Any, max_frame_bytes: int
    ) -> None:
        self._session: bytes | None = session
        self._direction: Direction = direction
        self._peer = peer
        self._verify = verify
        self._max_frame_bytes = max_frame_bytes
        self._decoder = msgspec.msgpack.Decoder(inbound)
        self._seq = 0

    def open(self, frame: bytes) -> Any:
        """The message in `frame`; ChannelError names the first check that failed and ends the session."""
        try:
            return self._open(frame)
        except ChannelError:
            self._session = None
            raise

    def _open(self, frame: bytes) -> Any:
        if len(frame) > self._max_frame_bytes:
            raise ChannelError("oversize", f"{len(frame)} bytes; the limit is {self._max_frame_bytes}")
        if len(frame) <= OVERHEAD_BYTES:
            raise ChannelError("undersize", f"{len(frame)} bytes are no frame")
        if self._session is None:
            raise ChannelError("session_over", "a violation ended this session")
        version, seq = HEADER.unpack_from(frame)
        if version != VERSION:
            raise ChannelError("bad_version", f"frame version {version}; this side speaks {VERSION}")
        signature, body = frame[HEADER.size : OVERHEAD_BYTES], frame[OVERHEAD_BYTES:]
        if not holds(self._verify, self._peer, _signed_part(self._session, self._direction, seq, body), signature):
            raise ChannelError("bad_signature", "the frame was not signed by the peer for this session and place")
        if seq <= self._seq:
            raise ChannelError("replayed", f"frame {seq} came after frame {self._seq}")
        if seq != self._seq + 1:
            raise ChannelError("gap", f"frame {seq} came after frame {self._seq}")
        self._seq = seq
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            raise ChannelError("bad_body", str(error)[:200]) from None
