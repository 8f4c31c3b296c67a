"""What a replica says that it did in one epoch: every pass, in the order in which it was computed.

Law: manifest, `inner_step` and these passes determine everything that the replica published, so whoever has the inputs'
bytes can compute it again (`replay`). The digest is signed at COMMIT, before anybody knows who is audited. A pass that
was refused changed nothing and is not in it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

#: Passes of one epoch; more is no transcript of ours.
MAX_PASSES = 1 << 16

#: Digits of a blake3 digest.
_DIGITS = 64


class BadTranscript(ValueError):
    """Bytes that are no transcript; the message says what is wrong."""


class Pass(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One lease that was worked off. Digests are blake3 in hex; `output` is "" for the head's backward pass.

    `losses` are the tail's, nats per token by sample; `step` is the inner step after it.
    """

    lease: int
    op: Literal["forward", "loss", "backward"]
    batch: int
    inputs: tuple[str, ...]
    output: str
    losses: tuple[float, ...]
    step: int


class Transcript(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One epoch of one replica. `run` is the specification's digest, `manifest` the name of the state that it began
    with, at optimiser step `inner_step`."""

    run: str
    hotkey: str
    stage: int
    epoch: int
    manifest: str
    inner_step: int
    passes: tuple[Pass, ...]


def encode(transcript: Transcript) -> bytes:
    """As MessagePack."""
    return msgspec.msgpack.encode(transcript)


def decode(data: bytes) -> Transcript:
    """Read what a stranger wrote; its size was limited before.

    Raises:
        BadTranscript: not MessagePack of a transcript, too many passes, or digests that are none.
    """
    try:
        transcript = msgspec.msgpack.decode(data, type=Transcript)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadTranscript(f"the transcript does not decode: {error}") from None
    if len(transcript.passes) > MAX_PASSES:
        raise BadTranscript(f"{len(transcript.passes)} passes; at most {MAX_PASSES} are looked at")
    for index, done in enumerate(transcript.passes):
        if not 1 <= len(done.inputs) <= 2 or any(len(digest) != _DIGITS for digest in done.inputs):
            raise BadTranscript(f"pass {index} names inputs that are none")
        if len(done.output) not in (0, _DIGITS):
            raise BadTranscript(f"pass {index} names an output that is none")
    return transcript


def line(run: str, stage: int, epoch: int, transcript: str, shards: tuple[str, ...]) -> bytes:
    """What a miner signs at COMMIT: digests of its transcript and of its pseudo-gradient, shard by shard."""
    return msgspec.json.encode(["iota commit", run, stage, epoch, transcript, shards])
