"""What the coordinator and a replica say to each other: the project's own messages, and the harness's few.

A frame is a length, u32 big endian, and msgpack. In production synapses and the work channel carry the same records.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from iota_subnet import messages as m


class Setup(m.FromOrchestrator, frozen=True):
    """First word to a replica: the run, and whose tickets count."""

    spec: str
    issuer: str


class Layer(m.FromOrchestrator, frozen=True):
    """`AssignLayer`, and `SetPhase` in INSTALL: a state to install."""

    manifest: m.StageManifest
    inner_step: int


class Commit(m.FromOrchestrator, frozen=True):
    """`SetPhase` in COMMIT."""

    epoch: int
    shards: int


class Plan(m.FromOrchestrator, frozen=True):
    """`MergePlan`."""

    epoch: int
    duties: tuple[m.PlannedDuty, ...]


class Train(m.FromOrchestrator, frozen=True):
    """Move the local weights as a training of `epoch` would."""

    epoch: int


class Check(m.FromOrchestrator, frozen=True):
    """Compare what is installed with a reference: per shard (lo, hi, ((replica, weight), ...))."""

    epoch: int
    shards: tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...]


class Count(m.FromOrchestrator, frozen=True):
    """Say how many bytes went out and in."""


class Hello(m.FromMiner, frozen=True):
    """A replica serves at `data_url`."""

    replica: int
    data_url: str


class Trained(m.FromMiner, frozen=True):
    """The local weights have moved."""

    epoch: int


class Sent(m.FromMiner, frozen=True):
    """Bytes of blobs served and fetched since the process began."""

    out: int
    into: int


class Checked(m.FromMiner, frozen=True):
    """`error`: RMS of weights minus reference over RMS of the step; `off`: share of values beyond rounding."""

    error: float
    off: float


Down = Setup | Layer | Commit | Plan | Train | Check | Count | m.Contributors
Up = Hello | Trained | Sent | Checked | m.Committed | m.Fetched | m.Reduced | m.Installed

_encoder = msgspec.msgpack.Encoder()


def frame(word: msgspec.Struct) -> bytes:
    body = _encoder.encode(word)
    return len(body).to_bytes(4, "big") + body


async def read(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    """The next word; IncompleteReadError at the end."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    return decoder.decode(await reader.readexactly(size))
