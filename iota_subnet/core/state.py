"""The state of a run. Holders only: what decides lives in routing, phases, merge and scoring."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from iota_subnet.core.actions import AuditMiner, Op
from iota_subnet.core.clasp import Effect, Sample
from iota_subnet.core.events import Manifest, ShardRef
from iota_subnet.core.evidence import Evidence
from iota_subnet.core.index import Index
from iota_subnet.spec import BlobRef, RunSpec

#: A miner that fails so many leases in a row, with nothing done in between, has something wrong with it.
MAX_STRIKES = 12

#: Why a shard is recomputed that nobody doubts.
AUDIT = "a check by chance"

#: How often a seat is offered before it goes to somebody else.
TRIES = 3


class Phase(str, Enum):
    """An epoch is TRAIN -> COMMIT -> REDUCE -> INSTALL; WAIT comes before the first, DONE after the last."""

    WAIT = "wait"
    TRAIN = "train"
    COMMIT = "commit"
    REDUCE = "reduce"
    INSTALL = "install"
    DONE = "done"


_MERGING = (Phase.COMMIT, Phase.REDUCE, Phase.INSTALL)


@dataclass(slots=True)
class Miner:
    """A hotkey with a seat. It may work when its channel is open and it holds the epoch's manifest.

    `slot` is its number within its stage: the lowest that nobody else had when it was seated. `leases` are the open
    ones by number, and what each is. Those below `first_lease` were given to an earlier process of it, or in another
    stage: a number says so where time stands still. `pace` is how many seconds each kind of step takes, `mean` the
    mean of these.
    """

    hotkey: str
    boot: str
    first_lease: int
    axon: str = ""
    data_url: str = ""
    stage: int = -1
    slot: int = -1
    connected: bool = False
    back_by: float = 0.0
    installed: int = -1
    state_digest: str = ""
    assign_deadline: float = 0.0
    assign_tries: int = 0
    batches: int = 0
    leases: dict[int, Op] = field(default_factory=dict)
    done: int = 0
    seconds: float = 0.0
    pace: dict[Op, float] = field(default_factory=dict)
    mean: float = 0.0
    inner_step: int = 0
    last_receipt_at: float = 0.0
    strikes: int = 0
    rest_until: float = 0.0
    leaving: bool = False


@dataclass(slots=True)
class Output:
    """What a lease produced, and who serves it. Nobody changes one, as with `Lease`."""

    hotkey: str
    blob: BlobRef | None


@dataclass(slots=True)
class Microbatch:
    """A few samples on their way. `forward[s]` feeds stage s + 1; `gradient[s]` feeds stage s - 1.

    `path` is who led to the loss, kept because an activation may be made anew after it; `propensity` how likely each
    of them was to be drawn, `chances` that of whoever made what is there now, by stage.
    `hands` is whoever held a lease, once for each; `doubts` are blobs, each with the one reader that could not use it.
    """

    id: int
    epoch: int
    opened_at: float
    forward: list[Output | None]
    gradient: list[Output | None]
    tokens: BlobRef | None = None
    difficulty: float = 0.0
    losses: tuple[float, ...] = ()
    measured_at: float = 0.0
    path: tuple[str, ...] = ()
    asked_at: float = 0.0
    lease: int | None = None
    attempts: int = 0
    rest_until: float = 0.0
    hands: list[str] = field(default_factory=list)
    tried: dict[tuple[Op, int], list[str]] = field(default_factory=dict)
    chances: list[float] = field(default_factory=list)
    propensity: tuple[float, ...] = ()
    doubts: tuple[tuple[str, str], ...] = ()

    def next_step(self, done: int = 0) -> tuple[Op, int] | None:
        """The one thing to do next, derived from what is there: clear an output and its maker's step comes back.

        Who knows that the first `done` steps are there saves looking at them all.
        """
        forward, gradient = self.forward, self.gradient
        tail = len(gradient) - 1
        while done < tail:
            if forward[done] is None:
                return "forward", done
            done += 1
        stage = 2 * tail - done
        while stage >= 0:
            if gradient[stage] is None:
                return ("loss" if stage == tail else "backward"), stage
            stage -= 1
        return None

    def steps_until(self, op: Op, stage: int) -> int:
        """How many steps there are up to this one and with it."""
        return stage + 1 if op == "forward" else 2 * len(self.gradient) - 1 - stage

    def holders(self) -> list[str]:
        """Who holds a graph of this microbatch, whose backward pass is still to come."""
        pairs = zip(self.forward, self.gradient, strict=True)
        return [made.hotkey for made, back in pairs if made is not None and back is None]

    def inputs(self, op: Op, stage: int) -> tuple[BlobRef, ...]:
        """The blobs a step reads, in the order in which `GiveLease` names them."""
        assert self.tokens is not None
        x = self.tokens if stage == 0 else _blob(self.forward[stage - 1])
        if op == "forward":
            return (x,)
        if op == "loss":
            return (x,) if stage == 0 else (x, self.tokens)
        return x, _blob(self.gradient[stage + 1])

    def pathway(self) -> tuple[str, ...]:
        """Who made the outputs that are there now, one hotkey per stage; at the loss, who led to it."""
        makers = [*self.forward[:-1], self.gradient[-1]]
        return tuple(output.hotkey for output in makers if output is not None)


def _blob(output: Output | None) -> BlobRef:
    assert output is not None and output.blob is not None
    return output.blob


@dataclass(slots=True)
class Lease:
    """One unit of work given to one miner with a deadline. Nobody changes one: it is not frozen because a frozen record
    takes three times as long to make, and one is made per event."""

    id: int
    hotkey: str
    batch: int
    op: Op
    stage: int
    epoch: int
    opened_at: float
    deadline: float
    chance: float = 1.0


@dataclass(slots=True)
class Shard:
    """One slice of a stage in REDUCE. `reports` says who holds which contributions, `results` what reducers made,
    `told` who has ever been told whose contributions count.

    `empty_handed` is how often the validator could get no contribution at all; `missing` says that what was accepted
    cannot be had any more and is being made again.
    """

    index: int
    lo: int
    hi: int
    reducers: list[str]
    reports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    contributors: tuple[str, ...] | None = None
    results: dict[str, ShardRef] = field(default_factory=dict)
    recomputing: str = ""
    asked_at: float = 0.0
    empty_handed: int = 0
    accepted: ShardRef | None = None
    missing: bool = False
    told: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class StageMerge:
    """One stage's merge: who may commit, what was committed, the shards.

    `transcripts` are what those who committed say that they did. `gone` names who committed and then lost its process:
    what it made may still be had, its duties are over. `left` are the shards without an accepted result.
    """

    stage: int
    eligible: tuple[str, ...]
    shard_count: int
    commits: dict[str, tuple[int, tuple[BlobRef, ...]]] = field(default_factory=dict)
    transcripts: dict[str, BlobRef] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)
    gone: dict[str, None] = field(default_factory=dict)
    left: dict[int, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Met:
    """How often two reducers of one shard got the same bits, how often not, and when they met last."""

    agreed: int = 0
    differed: int = 0
    at: float = 0.0


@dataclass(slots=True)
class Part:
    """One epoch's part of a hotkey's score: (volume + merged) x quality x agreement x standing, and nothing at all
    after a fault. `volume` pays passes, `merged` duties of the merge; `standing` is 0 where an audit found fault."""

    at: float
    epoch: int
    volume: float
    quality: float
    agreement: float = 1.0
    merged: float = 0.0
    standing: float = 1.0

    @property
    def worth(self) -> float:
        """What the part adds to the score: (volume + merged) x quality x agreement x standing."""
        return (self.volume + self.merged) * self.quality * self.agreement * self.standing


@dataclass(slots=True)
class Watched:
    """A lease in the books: what it reads, and what its receipt said while the epoch trained; `blamed` is the input
    that its miner has called unfit."""

    op: Op
    batch: int
    inputs: tuple[BlobRef, ...]
    output: BlobRef | None = None
    losses: tuple[float, ...] = ()
    done: bool = False
    blamed: str = ""


@dataclass(slots=True)
class Watch:
    """The books of one miner's epoch, from the moment when its process `boot` installed `base`. `by` are the auditors
    that were drawn, and how many passes each will look at. `transcript` and `shards` are what it committed to; of the
    auditors in `doubted` a verdict on another has led to it, those in `whole` were asked for all of it. See `audits`.
    """

    stage: int
    epoch: int
    boot: str
    by: tuple[tuple[str, int], ...]
    base: Manifest
    first_lease: int
    lowest: int
    highest: int
    leases: dict[int, Watched] = field(default_factory=dict)
    transcript: BlobRef | None = None
    shards: tuple[BlobRef, ...] = ()
    doubted: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Open:
    """An audit that was asked for and is not answered."""

    asked_at: float
    order: AuditMiner


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit found. `losses` of the hotkey's loss reports were computed again."""

    at: float
    epoch: int
    verdict: str
    reason: str
    passes: int = 0
    losses: int = 0
    auditor: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something a miner was caught at, with the evidence in words."""

    at: float
    epoch: int
    hotkey: str
    what: str


@dataclass(slots=True)
class Complaints:
    """Which readers could not get what a miner serves, how often, and which could; since when."""

    since: float
    failed: dict[str, int] = field(default_factory=dict)
    served: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class EpochReport:
    """What one epoch came to.

    By stage, `coverage` is the share of the parameters that were averaged and `included` the share of the committed
    work that is in them; `missed` says in words what is not. `audited` shards were checked by chance, `recomputed` ones
    had to be; `audits_failed` of `audits` of miners found fault. `returned` are stages whose new state was lost and
    that went back to the last copy.
    """

    epoch: int
    started_at: float
    ended_at: float = 0.0
    microbatches: int = 0
    train_loss: float | None = None
    eval_loss: float | None = None
    coverage: list[float] = field(default_factory=list)
    included: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    contributors: list[int] = field(default_factory=list)
    twins_compared: int = 0
    twin_disagreements: int = 0
    recomputed: int = 0
    audited: int = 0
    audits: int = 0
    audits_failed: int = 0
    replicas_identical: bool = True
    returned: list[int] = field(default_factory=list)
    effects: dict[str, Effect] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    weights_set: str = ""
    weights_failed: str = ""


@dataclass(slots=True)
class RunState:
    """All of it. Dicts keep insertion order and nothing iterates over a set, so a replay agrees to the bit.

    `index` holds no facts: it is derived from the rest. `steps` are the last reports of the inner step, by hotkey;
    `line` says who waits for a seat and when it last asked; `banned` until when and why (see `trust`). `former` are the
    manifests of the epoch before, `safe` the newest that the validator holds; a copy that failed is tried again at
    `copy_due` (see `safety`). `audits` are checks of shards of the epoch before that are still under way, by stage,
    epoch and shard; `agreement` is how often two hotkeys agreed and differed, and when last. `early` counts
    microbatches that retired in INSTALL. `age` is how long a microbatch takes from its opening to its retirement.

    `watched` are the books of this epoch, `shown` those of the last one whose owners have committed. `open_audits` is
    what is owed by hotkey, epoch and auditor, `verdicts` what was found; `claims` counts receipts of this epoch for
    others' leases. `unseen` is volume of this epoch that an earlier process has earned. `evidence` is what
    CLASP has against somebody, from epoch to epoch. `convicted` and `expelled` lose their seats with the next tick. A
    validator that follows the orchestrator's ledger is the `auditor` of its own scores, and draws by its own
    `audit_secret`.
    """

    spec: RunSpec
    secret: str = ""
    sizes: tuple[int, ...] = ()
    now: float = 0.0
    phase: Phase = Phase.WAIT
    epoch: int = 0
    phase_since: float = 0.0
    deadline: float = 0.0
    draining: bool = False
    waiting_for: str = "the run has not started"
    miners: dict[str, Miner] = field(default_factory=dict)
    line: dict[str, float] = field(default_factory=dict)
    banned: dict[str, tuple[float, str]] = field(default_factory=dict)
    complaints: dict[str, Complaints] = field(default_factory=dict)
    convicted: dict[str, str] = field(default_factory=dict)
    expelled: dict[str, str] = field(default_factory=dict)
    registered: tuple[str, ...] | None = None
    batches: dict[int, Microbatch] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    expired: dict[int, Lease] = field(default_factory=dict)
    next_batch: int = 0
    next_lease: int = 0
    opened: int = 0
    early: int = 0
    lost: int = 0
    age: float = 0.0
    opened_total: int = 0
    volume: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    former: list[Manifest] = field(default_factory=list)
    safe: list[Manifest] = field(default_factory=list)
    forlorn: dict[int, float] = field(default_factory=dict)
    returned: dict[int, int] = field(default_factory=dict)
    copy_due: float = 0.0
    merges: list[StageMerge] = field(default_factory=list)
    audits: dict[tuple[int, int, int], Shard] = field(default_factory=dict)
    agreement: dict[tuple[str, str], Met] = field(default_factory=dict)
    auditor: str = ""
    audit_secret: str = ""
    watched: dict[str, Watch] = field(default_factory=dict)
    shown: dict[str, Watch] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    open_audits: dict[tuple[str, int, str], Open] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    unseen: dict[str, float] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    reports: list[EpochReport] = field(default_factory=list)
    first_eval_loss: float | None = None
    bytes_activations: int = 0
    bytes_merge: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    index: Index = field(default_factory=Index, compare=False, repr=False)

    @property
    def overlaps(self) -> bool:
        """Whether work goes on while this epoch is merged. After the last one nothing is left to do."""
        swarm = self.spec.swarm
        return swarm.overlap and not (swarm.epochs and self.epoch + 1 >= swarm.epochs)

    @property
    def working(self) -> bool:
        """Whether leases are given now."""
        return self.phase is Phase.TRAIN or (self.phase in _MERGING and self.overlaps)

    def ready(self, miner: Miner) -> bool:
        """Whether a miner may be given work now: it holds the epoch's state or, where work goes on, the next one."""
        if not miner.connected or miner.stage < 0:
            return False
        if miner.installed == self.epoch:
            return True
        return miner.installed == self.epoch + 1 and self.phase is Phase.INSTALL and self.overlaps

    def hopeless(self, miner: Miner) -> bool:
        """Whether its seat goes to somebody else at the next tick."""
        return miner.strikes >= MAX_STRIKES or miner.assign_tries >= TRIES

    def members(self, stage: int) -> list[Miner]:
        """Miners with a seat in `stage`, connected or only briefly away."""
        return [miner for miner in self.miners.values() if miner.stage == stage]

    def ready_members(self, stage: int) -> list[Miner]:
        """The miners of a stage that may be given work now."""
        return [miner for miner in self.members(stage) if self.ready(miner)]
