"""What travels between an orchestrator and a miner, apart from tensors.

The records below are the payloads of the synapses (`protocol.py`) and the messages of the work channel. Times are
seconds left, never clock readings, so that a miner with a wrong clock is not late by it. A miner never sends a URL:
where its blobs lie follows from its `Join`, where what it could make others call is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from iota_subnet.spec import manifest_name

#: More shards than this in one message would mean a stage of more than 4096 replicas.
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
    """Elements [lo, hi) of a stage's flat vector: fp32 weights and fp32 outer momentum, and the mean that led there."""

    lo: int
    hi: int
    weights: Blob
    momentum: Blob
    mean: Blob | None = None


@dataclass(frozen=True, slots=True)
class StageManifest:
    """All shards of one stage at the start of an epoch; `signature` is the validator's over `manifest_line`.

    Of two with the same stage and epoch the one with the higher revision counts. Who holds the state called `base`
    needs only the shards' means: the digests of what the outer step makes of them must be those that are signed.
    """

    stage: int
    epoch: int
    revision: int
    shards: tuple[ManifestShard, ...]
    signature: str
    base: str = ""

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


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a miner sits. `installed` is the epoch of the state that it holds, -1 for none; `missing` says why it is
    given no work, and is empty when it may be given some."""

    stage: int
    slot: int
    installed: int
    missing: str
    done: int
    strikes: int
    rest_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the line for a seat; it is lost `kept_s` from now unless the miner asks again (`Join`)."""

    number: int
    of: int
    kept_s: float


@dataclass(frozen=True, slots=True)
class Ban:
    """No seat for so many seconds, and why."""

    seconds_left: float
    reason: str


@dataclass(frozen=True, slots=True)
class OpenLease:
    """A lease in hand, as the validator sees it; somebody else gets it too after `seconds_left`."""

    lease: int
    op: str
    batch: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Duties:
    """A miner's part in the merge under way. `commit` is owed, done, or none when it is not asked for."""

    commit: Literal["none", "owed", "done"]
    reduce_owed: int
    reduce_done: int


@dataclass(frozen=True, slots=True)
class ScorePart:
    """What one epoch adds to a score: (volume + merged) x quality x agreement x standing. `volume` pays passes,
    `merged` the duties of the merge; `standing` is 0 where an audit found fault, or nothing to look at. It counts for
    another `seconds_left`, and after that until the next epoch is closed."""

    epoch: int
    volume: float
    quality: float
    agreement: float
    seconds_left: float
    merged: float = 0.0
    standing: float = 1.0


@dataclass(frozen=True, slots=True)
class AuditReport:
    """One epoch of a miner was computed again: the verdict (sound, failed, withheld), and why."""

    epoch: int
    verdict: str
    reason: str
    passes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """CLASP's word on one epoch, nats per token: a positive effect is harm, beside the standard error of it."""

    epoch: int
    samples: int
    mean_loss: float
    effect: float
    error: float
    quality: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A fault: the score is 0 until the first epoch that closes after `seconds_left`."""

    epoch: int
    what: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class StandingReport:
    """How one hotkey stands with the validator: everything that it is given, owes and has earned.

    `own` is what this miner has to do now, be it to wait, and `own_s` how long that may take; `waiting_for` and
    `seconds_left` say what the whole run waits for. `closed` is the last epoch that was scored, -1 for none. `parts`
    are the newest ones; `older` is what all others add. `share` is the part of all scores, `rank` 1 for the highest of
    `ranked`, 0 without a score.
    """

    phase: str
    epoch: int
    epochs: int
    waiting_for: str
    seconds_left: float
    own: str
    own_s: float
    seat: Seat | None
    place: Place | None
    ban: Ban | None
    leases: tuple[OpenLease, ...]
    duties: Duties
    volume: float
    closed: int
    parts: tuple[ScorePart, ...]
    older: float
    score: float
    share: float
    rank: int
    ranked: int
    measured: Measured | None
    faults: tuple[Evidence, ...]
    weights_epoch: int
    weights: str
    audits: tuple[AuditReport, ...] = ()


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
    """Nobody waits for this lease any more, and why. Work that is done all the same is still taken while needed."""

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


class Order(FromOrchestrator, frozen=True):
    """A synapse for a miner that has no port to be called on: the name of its class, and its body."""

    call: int
    name: str
    body: bytes


class Wanted(FromOrchestrator, frozen=True):
    """Somebody waits for a blob of a relayed miner; `token` is good for one upload of it."""

    digest: str
    token: str


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
    """A lease that could not be done; `digest` names the input to blame unless `kind` is work.

    `kind` input: it could not be had, or the pass blew up on it; bytes: it does not decode. Who says so keeps the
    bytes: an audit looks whether it is true.
    """

    lease: int
    kind: Literal["input", "bytes", "work"]
    digest: str
    reason: str


class Installed(FromMiner, frozen=True):
    """A global state is in place. `digest` is over the blobs it holds, `manifest` the name of what it was given."""

    stage: int
    epoch: int
    digest: str
    manifest: str


class Committed(FromMiner, frozen=True):
    """A pseudo-gradient, shard by shard, and the transcript of what led to it.

    `signature` is the miner's over `transcript.line`, so that what it says now can be held against it by anybody.
    """

    stage: int
    epoch: int
    shards: tuple[Made, ...]
    transcript: Made | None = None
    signature: str = ""


class Fetched(FromMiner, frozen=True):
    """Whose pseudo-gradients of a shard this reducer holds, and whose it could not get or use, and why.

    Sent again when more has come late, as long as the shard is open.
    """

    stage: int
    epoch: int
    shard: int
    have: tuple[str, ...]
    missed: tuple[tuple[str, str], ...] = ()


class Reduced(FromMiner, frozen=True):
    """The mean of a shard, and the weights and momentum that the outer step makes of it."""

    stage: int
    epoch: int
    shard: int
    mean: Made
    weights: Made
    momentum: Made


class Obeyed(FromMiner, frozen=True):
    """The answer to an `Order`."""

    call: int
    accepted: bool
    reason: str


#: The unions that the two ends of a work channel parse.
ToMiner = Lease | Withdrawn | Refusal | Contributors | Retired | Order | Wanted
ToOrchestrator = Receipt | Failure | Installed | Committed | Fetched | Reduced | Obeyed


def manifest_line(run: str, name: str) -> bytes:
    """What a validator signs for a manifest called `name`."""
    return msgspec.json.encode(["iota manifest", run, name])
