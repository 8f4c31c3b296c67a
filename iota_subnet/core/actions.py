"""What the core asks its shell to do, as records in the imperative. Nobody changes one; each may be carried out twice.

All are frozen but those of which one is made with nearly every event: a frozen record takes five times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iota_subnet.core.events import Manifest
from iota_subnet.spec import BlobRef

Op = Literal["forward", "loss", "backward"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One replica's pseudo-gradient of a shard; `weight` counts its verified backward passes."""

    hotkey: str
    weight: int
    blob: BlobRef


@dataclass(frozen=True, slots=True)
class Duty:
    """A shard that a miner shall reduce, from all these contributions."""

    shard: int
    lo: int
    hi: int
    contributions: tuple[Contribution, ...]


class Action:
    """Base of what the core asks for."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AssignLayer(Action):
    """Tell a miner its stage and the manifest to install.

    `inner_step` is where its peers stand in the learning-rate schedule, so that a joiner does not warm up again.
    """

    hotkey: str
    stage: int
    epoch: int
    manifest: Manifest
    inner_step: int = 0


@dataclass(frozen=True, slots=True)
class SetPhase(Action):
    """Tell a miner the phase. `shards` > 0 asks for its pseudo-gradient; `manifest` asks to install."""

    hotkey: str
    phase: str
    epoch: int
    deadline: float
    reason: str
    commitment: str = ""
    shards: int = 0
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class SendMergePlan(Action):
    """Show the salt and give a miner its merge duties, of `shards` shards in all."""

    hotkey: str
    stage: int
    epoch: int
    salt: str
    shards: int
    deadline: float
    duties: tuple[Duty, ...]


@dataclass(frozen=True, slots=True)
class FixContributors(Action):
    """Tell a reducer whose pseudo-gradients count, so that both members of a pair reduce the same inputs."""

    hotkey: str
    stage: int
    epoch: int
    shard: int
    contributors: tuple[str, ...]


@dataclass(slots=True)
class GiveLease(Action):
    """One unit of work. Inputs: forward (x), loss (x, tokens) or (tokens) with one stage, backward (x, gradient)."""

    hotkey: str
    lease: int
    op: Op
    batch: int
    stage: int
    epoch: int
    inputs: tuple[BlobRef, ...]
    deadline: float


@dataclass(frozen=True, slots=True)
class WithdrawLease(Action):
    """Tell a miner that nobody waits for this lease any more, and why; late work may still be used."""

    hotkey: str
    lease: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse(Action):
    """Something a miner sent was not accepted, and why; it loses nothing else."""

    hotkey: str
    what: str
    reason: str


@dataclass(slots=True)
class Forget(Action):
    """A microbatch has retired: graphs and blobs kept for it may go."""

    hotkey: str
    batch: int


@dataclass(frozen=True, slots=True)
class PublishBatch(Action):
    """Have the feed publish the tokens of a microbatch."""

    batch: int


@dataclass(slots=True)
class ForgetBatch(Action):
    """The feed's tokens of a retired microbatch may go."""

    batch: int


@dataclass(frozen=True, slots=True)
class RecomputeShard(Action):
    """Have the validator's auditor reduce one shard from what it can fetch of these contributions."""

    stage: int
    epoch: int
    shard: int
    lo: int
    hi: int
    contributions: tuple[Contribution, ...]
    base: Manifest


#: A lease by the books: number, op, microbatch, what it reads, what its receipt said, whether that came in time, and
#: the digest of the input that was called unfit ("" if none was).
LeaseEntry = tuple[int, Op, int, tuple[BlobRef, ...], BlobRef | None, tuple[float, ...], bool, str]


@dataclass(frozen=True, slots=True)
class AuditMiner(Action):
    """Have one miner's epoch computed again, from `base` on and from the inputs of `leases`.

    `auditor` is who shall do it, "" for the orchestrator; `depth` how many of the first passes, 0 for all and the
    pseudo-gradient. `first_lease` is the number of the first lease that was given
    after the miner installed `base`; `steps` bounds where it then stood in the learning-rate schedule. `transcript` and
    `shards` are what it committed to.
    """

    hotkey: str
    stage: int
    epoch: int
    auditor: str
    depth: int
    base: Manifest
    first_lease: int
    steps: tuple[int, int]
    leases: tuple[LeaseEntry, ...]
    transcript: BlobRef
    shards: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class Evaluate(Action):
    """Measure held-out loss of these manifests, and keep copies of their bytes."""

    epoch: int
    manifests: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class PublishScores(Action):
    """Write these scores on chain as weights."""

    epoch: int
    scores: tuple[tuple[str, float], ...]
