"""What travels between an orchestrator and a miner, apart from tensors.

The records below are the payloads of the synapses (`protocol.py`) and the messages of the work channel. Times are
seconds left, never clock readings, so that a miner with a wrong clock is not late by it. A miner never sends a URL:
where its blobs lie follows from its `Join`, so it cannot make others call a third party.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from iota_subnet.spec import manifest_name

#: More shards than this in one message would mean a stage of more than 90 replicas.
MAX_SHARDS = 4096


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes to fetch: blake3 in hex, size, where, and the ticket to show there."""

    digest: str
    nbytes: int
    urls: tuple[str, ...]
    ticket: str


@dataclass(frozen=True, slots=True)
class Made:
    """Bytes that the sender serves from its own outbox."""

    digest: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class ManifestShard:
    """Elements [lo, hi) of a stage's flat vector: fp32 weights and fp32 outer momentum."""

    lo: int
    hi: int
    weights: Blob
    momentum: Blob


@dataclass(frozen=True, slots=True)
class StageManifest:
    """All shards of one stage at the start of an epoch; `signature` is the validator's over `manifest_line`.

    Of two with the same stage and epoch the one with the higher revision counts.
    """

    stage: int
    epoch: int
    revision: int
    shards: tuple[ManifestShard, ...]
    signature: str

    @property
    def name(self) -> str:
        """The same for all readers, though URLs and tickets differ between them."""
        parts = ((s.lo, s.hi, s.weights.digest, s.momentum.digest) for s in self.shards)
        return manifest_name(self.stage, self.epoch, self.revision, parts)


@dataclass(frozen=True, slots=True)
class PlannedContribution:
    """One replica's pseudo-gradient of a shard; `weight` counts its verified backward passes."""

    hotkey: str
    weight: int
    blob: Blob


@dataclass(frozen=True, slots=True)
class PlannedDuty:
    """A shard to reduce. Contributions are listed in the order in which they must be added."""

    shard: int
    lo: int
    hi: int
    contributions: tuple[PlannedContribution, ...]


class FromOrchestrator(msgspec.Struct, frozen=True, tag=True):
    """Base of what the orchestrator sends down a work channel."""


class Lease(FromOrchestrator, frozen=True):
    """One unit of work. Inputs: forward (x), loss (x, tokens) or (tokens) with one stage, backward (x, gradient)."""

    lease: int
    op: Literal["forward", "loss", "backward"]
    batch: int
    stage: int
    epoch: int
    inputs: tuple[Blob, ...]
    seconds_left: float


class Withdrawn(FromOrchestrator, frozen=True):
    lease: int
    reason: str


class Refusal(FromOrchestrator, frozen=True):
    """Something the miner sent was not accepted, and why."""

    what: str
    reason: str


class Contributors(FromOrchestrator, frozen=True):
    """Whose pseudo-gradients of a shard count, in order."""

    stage: int
    epoch: int
    shard: int
    hotkeys: tuple[str, ...]


class Retired(FromOrchestrator, frozen=True):
    """A microbatch is done; what was kept for it may go."""

    batch: int


class FromMiner(msgspec.Struct, frozen=True, tag=True):
    """Base of what a miner sends up its work channel."""


class Receipt(FromMiner, frozen=True):
    """Closes a lease. `seconds` is compute alone; `losses` are the tail's, nats per token by sample."""

    lease: int
    output: Made | None
    losses: tuple[float, ...]
    seconds: float
    inner_step: int


class Failure(FromMiner, frozen=True):
    """A lease that could not be done; `digest` names the input to blame when `kind` is input."""

    lease: int
    kind: Literal["input", "work"]
    digest: str
    reason: str


class Installed(FromMiner, frozen=True):
    """A global state is in place. `digest` is over what the miner holds, `manifest` the name of what it was given."""

    stage: int
    epoch: int
    digest: str
    manifest: str


class Committed(FromMiner, frozen=True):
    """A pseudo-gradient, shard by shard."""

    stage: int
    epoch: int
    shards: tuple[Made, ...]


class Fetched(FromMiner, frozen=True):
    """Whose pseudo-gradients of a shard this reducer holds."""

    stage: int
    epoch: int
    shard: int
    have: tuple[str, ...]


class Reduced(FromMiner, frozen=True):
    stage: int
    epoch: int
    shard: int
    weights: Made
    momentum: Made


#: The unions that the two ends of a work channel parse.
ToMiner = Lease | Withdrawn | Refusal | Contributors | Retired
ToOrchestrator = Receipt | Failure | Installed | Committed | Fetched | Reduced


def manifest_line(run: str, name: str) -> bytes:
    """What a validator signs for a manifest called `name`."""
    return msgspec.json.encode(["iota manifest", run, name])
