"""What the page shows of a run as a whole: where it stands, its stages, its epochs. Pure: state in, records out.

Law: the same state gives the same view, whoever asks and whatever was shown before. Times are Unix seconds by the
validator's clock. Names of the fields are the page's; the order of `Row`'s is that of the columns on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from iota_subnet.core.state import EpochReport, Phase, RunState, StageMerge
from template.chain import MetagraphView

#: Newest losses whose mean is shown as that of now.
NEWEST = 32

#: Epochs shown one by one; of a longer run evenly chosen ones, and the newest all.
EPOCHS = 400
EPOCHS_NEWEST = 100

#: Characters of a text.
MAX_TEXT = 240


@dataclass(frozen=True, slots=True)
class Run:
    """What does not change once the run has begun. `blocks` are [a, b) of each stage, `params` its parameters."""

    name: str
    spec: str
    preset: str
    validator: str
    netuid: int
    tokens: int
    stages: int
    blocks: tuple[tuple[int, int], ...]
    params: tuple[int, ...]
    window: float


@dataclass(frozen=True, slots=True)
class Head:
    """Where the run stands. `progress` of the phase, in [0, 1]; `loss` of the newest microbatches, `held_out` of the
    newest state that was measured, after `held_out_epoch` epochs; bytes since the run began."""

    phase: str
    epoch: int
    epochs: int
    waiting_for: str
    since: float
    deadline: float
    progress: float
    in_epoch: int
    per_epoch: int
    live: int
    retired: int
    lost: int
    loss: float | None
    held_out: float | None
    held_out_epoch: int
    first_held_out: float | None
    seated: int
    ready: int
    line: int
    banned: int
    audits_open: int
    bytes_activations: int
    bytes_merge: int
    block: int
    empty: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage now. `work` are open leases: forward, loss, backward. In a merge `commits` of `eligible` replicas have
    committed, and `settled` of `shards` are settled; `twins` are pairs of hotkeys that reduce one of the others."""

    members: int
    ready: int
    installed: int
    work: tuple[int, int, int]
    commits: int
    eligible: int
    settled: int
    shards: int
    epoch: int
    twins: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch that has been trained. Shares are the smallest over the stages, 1 is all of it; `identical` says that
    all replicas held the same bits; `weights` are "set", "refused" or "" while the chain has not answered."""

    epoch: int
    started: float
    ended: float
    microbatches: int
    train_loss: float | None
    held_out: float | None
    coverage: float | None
    included: float | None
    replicas: int
    compared: int
    differed: int
    recomputed: int
    audits: int
    audits_failed: int
    identical: bool
    weights: str


#: Pairs of twins of one stage that are drawn at most.
TWINS = 48


def run(state: RunState, validator: str, netuid: int) -> Run:
    """The frame of the page."""
    spec = state.spec
    blocks = [spec.model.blocks_of(stage) for stage in range(spec.model.stages)]
    return Run(
        name=spec.name[:MAX_TEXT],
        spec=spec.digest(),
        preset=spec.model.preset,
        validator=validator,
        netuid=netuid,
        tokens=spec.train.microbatch * spec.model.seq,
        stages=spec.model.stages,
        blocks=tuple((part.start, part.stop) for part in blocks),
        params=state.sizes,
        window=spec.swarm.score_window_s,
    )


def head(state: RunState, chain: MetagraphView | None) -> Head:
    """Costs the same in a large swarm."""
    newest = [sample.loss for sample in state.samples[-NEWEST:]]
    before = next((report.train_loss for report in reversed(state.reports) if report.train_loss is not None), None)
    measured = next((report for report in reversed(state.reports) if report.eval_loss is not None), None)
    last = state.reports[-1] if state.reports else None
    index = state.index
    return Head(
        phase=state.phase.value,
        epoch=state.epoch,
        epochs=state.spec.swarm.epochs,
        waiting_for=state.waiting_for[:MAX_TEXT],
        since=state.phase_since,
        deadline=state.deadline,
        progress=round(progress(state), 4),
        in_epoch=last.microbatches if last is not None else 0,
        per_epoch=state.spec.swarm.epoch_batches,
        live=len(state.batches),
        retired=sum(report.microbatches for report in state.reports) + state.early,
        lost=state.lost,
        loss=round(fsum(newest) / len(newest), 5) if newest else before,
        held_out=measured.eval_loss if measured is not None else state.first_eval_loss,
        held_out_epoch=measured.epoch + 1 if measured is not None else 0,
        first_held_out=state.first_eval_loss,
        seated=len(state.miners),
        ready=index.ready,
        line=len(state.line),
        banned=sum(until > state.now for until, _ in state.banned.values()),
        audits_open=len(state.open_audits),
        bytes_activations=state.bytes_activations,
        bytes_merge=state.bytes_merge,
        block=chain.block if chain is not None else 0,
        empty=tuple(index.empty),
    )


def progress(state: RunState) -> float:
    """How much of the present phase is done, by what it counts: microbatches, commits, shards, installed replicas."""
    match state.phase:
        case Phase.WAIT:
            return min(1.0, state.index.ready / max(1, state.spec.swarm.start_miners))
        case Phase.TRAIN:
            done = state.reports[-1].microbatches if state.reports else 0
            return min(1.0, done / max(1, state.spec.swarm.epoch_batches))
        case Phase.COMMIT:
            return _part(sum(len(m.commits) for m in state.merges), sum(len(m.eligible) for m in state.merges))
        case Phase.REDUCE:
            shards = sum(len(merge.shards) for merge in state.merges)
            return _part(shards - sum(len(merge.left) for merge in state.merges), shards)
        case Phase.INSTALL:
            ahead = sum(stage.ahead for stage in state.index.stages)
            return _part(ahead, ahead + state.index.behind)
    return 1.0


def _part(done: int, of: int) -> float:
    return done / of if of else 1.0


def stages(state: RunState) -> list[Stage]:
    """All stages; none before the run has begun."""
    if not state.manifests:
        return []
    work = [[0, 0, 0] for _ in state.manifests]
    order = {"forward": 0, "loss": 1, "backward": 2}
    for lease in state.leases.values():
        work[lease.stage][order[lease.op]] += 1
    return [_stage(state, number, (kinds[0], kinds[1], kinds[2])) for number, kinds in enumerate(work)]


def _stage(state: RunState, number: int, work: tuple[int, int, int]) -> Stage:
    page = state.index.stages[number]
    found: StageMerge | None = state.merges[number] if number < len(state.merges) else None
    # While an epoch trains, the merge of the one before is history.
    merge = StageMerge(number, (), 0) if found is None or state.phase is Phase.TRAIN else found
    left = [merge.shards[index] for index in list(merge.left)[:TWINS] if index < len(merge.shards)]
    twins = [(shard.reducers[0], shard.reducers[-1]) for shard in left if len(shard.reducers) > 1]
    return Stage(
        members=page.members,
        ready=page.ready,
        installed=page.ahead if state.phase in (Phase.INSTALL, Phase.DONE) else page.ready,
        work=work,
        commits=len(merge.commits),
        eligible=len(merge.eligible),
        settled=len(merge.shards) - len(merge.left),
        shards=len(merge.shards),
        epoch=state.manifests[number].epoch,
        twins=tuple(twins) if state.phase is Phase.REDUCE else (),
    )


def epochs(state: RunState) -> list[Epoch]:
    """The newest epochs, and evenly chosen older ones, in order."""
    return [epoch(report) for report in chosen(state.reports)]


def chosen(reports: list[EpochReport]) -> list[EpochReport]:
    """At most `EPOCHS` of them."""
    if len(reports) <= EPOCHS:
        return reports
    old, new = reports[:-EPOCHS_NEWEST], reports[-EPOCHS_NEWEST:]
    room = EPOCHS - EPOCHS_NEWEST
    return [old[number * len(old) // room] for number in range(room)] + new


def epoch(report: EpochReport) -> Epoch:
    """A closed or present epoch as the page shows it. Losses are nats per token."""
    return Epoch(
        epoch=report.epoch,
        started=report.started_at,
        ended=report.ended_at,
        microbatches=report.microbatches,
        train_loss=report.train_loss,
        held_out=report.eval_loss,
        coverage=min(report.coverage, default=None),
        included=min(report.included, default=None),
        replicas=sum(report.contributors),
        compared=report.twins_compared,
        differed=report.twin_disagreements,
        recomputed=report.recomputed,
        audits=report.audits,
        audits_failed=report.audits_failed,
        identical=report.replicas_identical,
        weights="set" if report.weights_set else "refused" if report.weights_failed else "",
    )
