"""What can happen, as frozen records. The only input of the core; the ledger is a list of these.

Every event carries `at`, seconds since the Unix epoch by the validator's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iota_subnet.spec import BlobRef, manifest_name


@dataclass(frozen=True, slots=True)
class ShardRef:
    """Elements [lo, hi) of a stage's flat vector: fp32 weights and fp32 outer momentum.

    `mean` is the averaged pseudo-gradient that led there, for those who hold the state before; None if there is none.
    """

    lo: int
    hi: int
    weights: BlobRef
    momentum: BlobRef
    mean: BlobRef | None = None

    @property
    def digests(self) -> tuple[str, str, str]:
        """Equal for all who computed the same; where the bytes lie does not count."""
        return self.weights.digest, self.momentum.digest, self.mean.digest if self.mean is not None else ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The global state of one stage at the start of `epoch`: slices that cover the flat vector exactly.

    One that replaces another of the same epoch has the next `revision`, so that a late message cannot bring back the
    old one. `base` names the state from which the shards' means lead here; empty where that is of no use.
    """

    stage: int
    epoch: int
    shards: tuple[ShardRef, ...]
    revision: int = 0
    base: str = ""

    @property
    def name(self) -> str:
        """blake2b-256, in hex, of all that counts in it; where the bytes lie does not."""
        parts = ((s.lo, s.hi, s.weights.digest, s.momentum.digest) for s in self.shards)
        return manifest_name(self.stage, self.epoch, self.revision, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of what can happen. `at` is seconds since the Unix epoch by the validator's clock."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The first event of a ledger. `sizes[k]` is the number of parameters of stage k."""

    spec_digest: str
    secret: str
    sizes: tuple[int, ...]
    manifests: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorRestarted(Event):
    """The ledger was replayed by a new process: every connection is gone, nothing else is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerJoined(Event):
    """A verified `Join`. `boot` is drawn once per miner process: a new one means that its memory is gone.

    `axon` is ip:port of its synapses, `data_url` where it serves blobs; kept here so that a replay knows them too.
    """

    hotkey: str
    boot: str
    axon: str = ""
    data_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerLeft(Event):
    """A miner stops on purpose: at once, or with `drain` as soon as nobody needs it any more. Sent until it is gone."""

    hotkey: str
    drain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerConnected(Event):
    """The miner's work channel is open."""

    hotkey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerDisconnected(Event):
    """The miner's work channel is closed, and why; its seat is kept for `SwarmSpec.reconnect_s`."""

    hotkey: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetagraphChanged(Event):
    """The hotkeys registered on the subnet now."""

    hotkeys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInstalled(Event):
    """A miner holds the manifest that is called `manifest`; `digest` is over the installed weights and momentum."""

    hotkey: str
    stage: int
    epoch: int
    digest: str
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPublished(Event):
    """The feed has the tokens of a microbatch ready. `difficulty` is what is known of their loss before any training:
    the bits per byte to which they compress."""

    batch: int
    tokens: BlobRef
    difficulty: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFinished(Event):
    """A receipt. `losses` are the tail's, nats per token by sample; `output` is None for the head's backward."""

    hotkey: str
    lease: int
    output: BlobRef | None
    losses: tuple[float, ...]
    seconds: float
    inner_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFailed(Event):
    """`kind` input: bytes with `digest` could not be had, or did not do; bytes: they were had, and do not decode, which
    anybody can check; work: the miner's own failure."""

    hotkey: str
    lease: int
    kind: Literal["input", "bytes", "work"]
    digest: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsCommitted(Event):
    """One pseudo-gradient, cut into the shards that COMMIT asked for, and the transcript of what led to it.

    `signature` is the miner's over both; it is kept so that others can hold the miner to its word.
    """

    hotkey: str
    stage: int
    epoch: int
    shards: tuple[BlobRef, ...]
    transcript: BlobRef | None = None
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFetched(Event):
    """A reducer says whose pseudo-gradients of one shard it holds, and whose it could not get or use, and why."""

    hotkey: str
    stage: int
    epoch: int
    shard: int
    have: tuple[str, ...]
    missed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReduced(Event):
    """A reducer publishes the mean of one shard, and the weights and momentum that the outer step makes of it."""

    hotkey: str
    stage: int
    epoch: int
    shard: int
    mean: BlobRef
    weights: BlobRef
    momentum: BlobRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecomputed(Event):
    """The validator's own reduction of a shard, from `contributors` (those whose bytes it could get).

    Without any there is no mean, and weights and momentum are what they were.
    """

    stage: int
    epoch: int
    shard: int
    mean: BlobRef | None
    weights: BlobRef
    momentum: BlobRef
    contributors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerAudited(Event):
    """A miner's epoch was computed again. `verdict` sound: it did what it said. failed: it did not, and `reason` says
    where. withheld: it did not show what it has to keep. void: the auditor could not look, which says nothing of it.

    `losses` is how many of its loss reports were found true. `auditor` is the hotkey of a validator that follows the
    orchestrator's ledger and has looked for itself; "" is the orchestrator. `batches` are microbatches of passes that
    were found false.
    """

    hotkey: str
    stage: int
    epoch: int
    verdict: Literal["sound", "failed", "withheld", "void"]
    reason: str
    passes: int = 0
    losses: int = 0
    seconds: float = 0.0
    auditor: str = ""
    batches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Event):
    """Held-out loss of the manifests of `epoch`, nats per token; `manifests` are their names, stage by stage.

    The validator holds a copy of all of them now.
    """

    epoch: int
    loss: float
    manifests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSet(Event):
    """The outcome of writing scores on chain."""

    epoch: int
    ok: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectFailed(Event):
    """An action could not be carried out after its retries."""

    action: str
    hotkey: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time passes; deadlines are looked at."""


ALL: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted,
        ValidatorRestarted,
        MinerJoined,
        MinerLeft,
        MinerConnected,
        MinerDisconnected,
        MetagraphChanged,
        StageInstalled,
        BatchPublished,
        LeaseFinished,
        LeaseFailed,
        ShardsCommitted,
        ShardFetched,
        ShardReduced,
        ShardRecomputed,
        MinerAudited,
        Evaluated,
        WeightsSet,
        EffectFailed,
        Tick,
    )
}
