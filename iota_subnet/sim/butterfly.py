"""One stage's merges and nothing else: the real core, miners that answer at once, every byte counted.

Law: only the core decides. A miner here does what an action asks, in the order of a queue or of a given chance; what it
publishes is a hash of all that goes into it. `World` has time, networks and faults of every kind; this has none, so
that thousands of draws can be made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from random import Random

from iota_subnet.core.actions import (
    Action,
    AssignLayer,
    Contribution,
    Duty,
    FixContributors,
    GiveLease,
    PublishBatch,
    RecomputeShard,
    Refuse,
    SendMergePlan,
    SetPhase,
)
from iota_subnet.core.draw import digest
from iota_subnet.core.events import (
    BatchPublished,
    Event,
    LeaseFinished,
    Manifest,
    MetagraphChanged,
    MinerConnected,
    MinerJoined,
    RunStarted,
    ShardFetched,
    ShardRecomputed,
    ShardReduced,
    ShardRef,
    ShardsCommitted,
    StageInstalled,
    Tick,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.pairs import turned
from iota_subnet.core.state import Phase, RunState, StageMerge
from iota_subnet.spec import (
    BlobRef,
    ModelSpec,
    RunSpec,
    SwarmSpec,
    TrainSpec,
    delta_bytes,
    mean_bytes,
    shard_bounds,
)

#: Who recomputes, in the counts of bytes.
VALIDATOR = "validator"

#: What a liar publishes instead of the right digest of a duty's weights.
Tongue = Callable[[Duty, str], str]

#: Hotkey, epoch, shard.
Place = tuple[str, int, int]

#: Who does something when its turn comes, and what; nothing may come of it.
Turn = tuple[str, Callable[[], Event | None]]


class Butterfly:
    """`n` replicas of one stage of `size` parameters. `order` says whose turn is next in a merge (default: the first).

    `bytes` are counted by ("reduce" or "install", "in" or "out", hotkey). `lies` has a tongue for each liar.
    """

    def __init__(
        self,
        n: int,
        size: int,
        secret: str = "s",
        order: Random | None = None,
        audit_shards: float = 0.0,
        train: TrainSpec | None = None,
    ) -> None:
        swarm = SwarmSpec(
            start_miners=n,
            epoch_batches=3 * n,
            min_batches=1,
            live_per_replica=2,
            max_miners=max(2, n),
            audit_shards=audit_shards,
            score_window_s=1e9,
        )
        self.spec = RunSpec(model=ModelSpec(stages=1), train=train or TrainSpec(microbatch=1), swarm=swarm)
        self.size, self.secret, self.order = size, secret, order
        self.orchestrator = Orchestrator(self.spec)
        self.hotkeys = tuple(f"m{number:03}" for number in range(n))
        self.now = 0.0
        self.handled = 0
        self.queue: list[Turn] = []
        self.history: list[Action] = []
        self.gone: dict[str, None] = {}
        self.lies: dict[str, Tongue] = {}
        self.bytes: Counter[tuple[str, str, str]] = Counter()
        self.duties: dict[Place, Duty] = {}
        self.have: dict[Place, tuple[str, ...]] = {}
        self.counted: dict[Place, tuple[str, ...]] = {}
        self.holds: dict[str, str] = {}
        self.made: dict[str, set[str]] = {hotkey: set() for hotkey in self.hotkeys}
        weights, momentum = self.first()
        manifest = Manifest(0, 0, (ShardRef(0, size, weights, momentum),))
        self.handle(
            RunStarted(at=0.0, spec_digest=self.spec.digest(), secret=secret, sizes=(size,), manifests=(manifest,))
        )
        for hotkey in self.hotkeys:
            self.handle(MinerJoined(at=0.0, hotkey=hotkey, boot="0"))
            self.handle(MinerConnected(at=0.0, hotkey=hotkey))

    @property
    def state(self) -> RunState:
        """The state of the core that merges."""
        return self.orchestrator.state

    @property
    def merge(self) -> StageMerge:
        """The merge of the one stage."""
        return self.state.merges[0]

    # -- what a miner makes; a subclass may make real tensors ---------------------------------------------------------

    def first(self) -> tuple[BlobRef, BlobRef]:
        """Weights and momentum before epoch 0."""
        return BlobRef("w0", 4 * self.size, (VALIDATOR,)), BlobRef("m0", 4 * self.size, (VALIDATOR,))

    def gradient(self, hotkey: str, epoch: int, lo: int, hi: int) -> BlobRef:
        """The slice [lo, hi) of a replica's pseudo-gradient."""
        nbytes = delta_bytes(self.spec.train, hi - lo)
        return BlobRef(digest("gradient", hotkey, epoch, lo, hi).hex(), nbytes, (hotkey,))

    def reduction(
        self, base: Manifest, epoch: int, lo: int, hi: int, chosen: tuple[Contribution, ...]
    ) -> tuple[str, str, str]:
        """Digests of mean, weights and momentum: they depend on every input, in order, and on nothing else."""
        inputs = base.name, epoch, lo, hi, *((c.hotkey, c.weight, c.blob.digest) for c in chosen)
        return digest("mean", *inputs).hex(), digest("weights", *inputs).hex(), digest("momentum", *inputs).hex()

    # -- events in, actions out ---------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Action]:
        """Give the core an event, and let the scripted replicas answer what it asks for."""
        actions = self.orchestrator.handle(event)
        self.handled += 1
        self.history += [action for action in actions if isinstance(action, (SendMergePlan, RecomputeShard, Refuse))]
        for action in actions:
            self.answer(action)
        return actions

    def step(self) -> None:
        """The next event; when nothing is under way, the next deadline."""
        if not self.queue:
            self.now = max(self.now + 1.0, self.state.deadline)
            self.handle(Tick(at=self.now))
            return
        # While it trains, the first comes first, so that everybody has something to commit.
        free = self.order is not None and self.state.phase not in (Phase.WAIT, Phase.TRAIN)
        _, act = self.queue.pop(self.order.randrange(len(self.queue)) if self.order and free else 0)
        event = act()
        if event is not None:
            self.handle(event)

    def until(self, phase: Phase, most: int = 1_000_000) -> Butterfly:
        """Go on until a phase begins, and at least one step."""
        for _ in range(most):
            self.step()
            if self.state.phase is phase:
                return self
        raise AssertionError(f"{phase.value} was not reached: {self.state.waiting_for}")

    def vanish(self, hotkeys: Iterable[str]) -> None:
        """Processes, and all bytes that only they had, are gone at one blow; the chain says so."""
        self.gone |= dict.fromkeys(hotkeys)
        self.queue = [turn for turn in self.queue if turn[0] not in self.gone]
        self.handle(MetagraphChanged(at=self.now, hotkeys=tuple(h for h in self.hotkeys if h not in self.gone)))

    def answer(self, action: Action) -> None:
        """Wait for one's turn to do what is asked."""
        act: Callable[[], Event | None]
        match action:
            case PublishBatch():
                act = partial(self._publish, action.batch)
            case GiveLease():
                act = partial(self._work, action)
            case AssignLayer():
                act = partial(self._install, action.hotkey, action.manifest)
            case SetPhase() if action.manifest is not None:
                act = partial(self._install, action.hotkey, action.manifest)
            case SetPhase() if action.shards:
                act = partial(self._commit, action)
            case SendMergePlan():
                for duty in action.duties:
                    self._later(action.hotkey, partial(self._fetch, action.hotkey, action.epoch, duty))
                return
            case FixContributors():
                act = partial(self._reduce, action)
            case RecomputeShard():
                act = partial(self._recompute, action)
            case _:
                return
        self._later(getattr(action, "hotkey", ""), act)

    def _later(self, hotkey: str, act: Callable[[], Event | None]) -> None:
        if hotkey not in self.gone:
            self.queue.append((hotkey, act))

    def _publish(self, batch: int) -> Event:
        return BatchPublished(at=self.now, batch=batch, tokens=BlobRef("t", 64, ("feed",)))

    def _work(self, lease: GiveLease) -> Event:
        return LeaseFinished(
            at=self.now, hotkey=lease.hotkey, lease=lease.lease, output=None, losses=(3.0,), seconds=0.1, inner_step=0
        )

    def _commit(self, asked: SetPhase) -> Event:
        bounds = shard_bounds(self.size, asked.shards)
        blobs = tuple(self.gradient(asked.hotkey, asked.epoch, lo, hi) for lo, hi in bounds)
        return ShardsCommitted(at=self.now, hotkey=asked.hotkey, stage=0, epoch=asked.epoch, shards=blobs)

    def _install(self, hotkey: str, manifest: Manifest) -> Event:
        """By the outer step where the state before is held; what it has made itself it does not fetch."""
        stepped = manifest.base != "" and self.holds.get(hotkey) == manifest.base
        ranks = {name: rank for rank, name in enumerate(self.hotkeys)}
        for index, shard in enumerate(manifest.shards) if self.holds.get(hotkey) != manifest.name else ():
            if shard.weights.digest not in self.made[hotkey]:
                whole = [shard.weights, shard.momentum]
                for blob in [shard.mean] if stepped and shard.mean is not None else whole:
                    sources = turned(blob.urls, [ranks[url] for url in blob.urls if url in ranks], ranks[hotkey], index)
                    source = next((url for url in sources if url not in self.gone), VALIDATOR)
                    self._carry("install", source, hotkey, blob.nbytes)
        self.holds[hotkey] = name = manifest.name
        return StageInstalled(at=self.now, hotkey=hotkey, stage=0, epoch=manifest.epoch, digest=name, manifest=name)

    def _carry(self, what: str, source: str, reader: str, nbytes: int) -> None:
        self.bytes[what, "out", source] += nbytes
        self.bytes[what, "in", reader] += nbytes

    def _gather(self, reader: str, contributions: tuple[Contribution, ...], held: tuple[str, ...]) -> tuple[str, ...]:
        """Fetch what is not held yet; says whose is held then."""
        here = [c for c in contributions if c.hotkey in held or c.hotkey not in self.gone]
        for c in here:
            if c.hotkey != reader and c.hotkey not in held:
                self._carry("reduce", c.hotkey, reader, c.blob.nbytes)
        return tuple(c.hotkey for c in here)

    def _fetch(self, hotkey: str, epoch: int, duty: Duty) -> Event:
        place = hotkey, epoch, duty.shard
        self.duties[place] = duty
        have = self.have[place] = self._gather(hotkey, duty.contributions, self.have.get(place, ()))
        return ShardFetched(at=self.now, hotkey=hotkey, stage=0, epoch=epoch, shard=duty.shard, have=have)

    def _reduce(self, fixed: FixContributors) -> Event | None:
        place = fixed.hotkey, fixed.epoch, fixed.shard
        if place not in self.duties:
            self._later(fixed.hotkey, partial(self._reduce, fixed))
            return None
        duty = self.duties[place]
        # As a real miner: the first word binds.
        counted = self.counted.setdefault(place, fixed.contributors)
        if any(hotkey not in self.have[place] for hotkey in counted):
            return None
        chosen = tuple(c for c in duty.contributions if c.hotkey in counted)
        mean, weights, momentum = self.reduction(self.state.manifests[0], fixed.epoch, duty.lo, duty.hi, chosen)
        if fixed.hotkey in self.lies:
            weights = self.lies[fixed.hotkey](duty, weights)
        self.made[fixed.hotkey].add(weights)
        refs = self._refs((mean, weights, momentum), duty.hi - duty.lo, fixed.hotkey)
        return ShardReduced(
            at=self.now, hotkey=fixed.hotkey, stage=0, epoch=fixed.epoch, shard=fixed.shard,
            mean=refs[0], weights=refs[1], momentum=refs[2],
        )  # fmt: skip

    def _refs(self, names: tuple[str, str, str], values: int, holder: str) -> list[BlobRef]:
        """Mean, weights and momentum of a shard, with the sizes that they have."""
        sizes = mean_bytes(self.spec.train, values), 4 * values, 4 * values
        return [BlobRef(name, nbytes, (holder,)) for name, nbytes in zip(names, sizes, strict=True)]

    def _recompute(self, asked: RecomputeShard) -> Event:
        have = self._gather(VALIDATOR, asked.contributions, ())
        chosen = tuple(c for c in asked.contributions if c.hotkey in have)
        names = self.reduction(asked.base, asked.epoch, asked.lo, asked.hi, chosen)
        refs = self._refs(names, asked.hi - asked.lo, VALIDATOR)
        return ShardRecomputed(
            at=self.now, stage=0, epoch=asked.epoch, shard=asked.shard, mean=refs[0] if chosen else None,
            weights=refs[1], momentum=refs[2], contributors=have,
        )  # fmt: skip
