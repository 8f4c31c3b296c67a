"""Butterfly All-Reduce, the deciding half (arXiv 2507.17766, section 5). The arithmetic is in `train/allreduce.py`.

Law: every parameter is covered. Replicas commit to digests first; only then are pairs of reducers drawn, from a salt
whose commitment was public. Twins must agree to the bit. Whose reducers are gone is given to living replicas, evenly;
where twins differ, or nobody is left to be one, the validator recomputes that one shard and its result stands.
"""

from __future__ import annotations

from iota_subnet.core import agreement, recompute
from iota_subnet.core.actions import Action, Duty, FixContributors, Refuse, SendMergePlan
from iota_subnet.core.draw import salt
from iota_subnet.core.events import Manifest, ShardFetched, ShardReduced, ShardRef, ShardsCommitted
from iota_subnet.core.pairs import pairs, shards_for
from iota_subnet.core.recompute import MAX_MISSED, contributions
from iota_subnet.core.reducers import is_alive, replaced
from iota_subnet.core.state import AUDIT, Miner, Phase, RunState, Shard, StageMerge
from iota_subnet.spec import BlobRef, delta_bytes, mean_bytes, shard_bounds

#: Bytes that the file format may add to the values of a shard.
HEADER = 64 << 10


def begin(state: RunState) -> None:
    """COMMIT opens: who may commit, and into how many shards."""
    state.merges = []
    for stage in range(state.spec.model.stages):
        ready = state.ready_members(stage)
        enough = [m.hotkey for m in ready if m.batches >= state.spec.swarm.min_batches]
        eligible = tuple(sorted(enough or [m.hotkey for m in ready if m.batches]))
        shards = shards_for(len(eligible), state.sizes[stage])
        state.merges.append(StageMerge(stage, eligible, shards))


def committed(state: RunState, event: ShardsCommitted) -> list[Action]:
    """A replica publishes its pseudo-gradient."""
    merge = _merge(state, event.stage, event.epoch)
    miner = state.miners.get(event.hotkey)
    what = f"commit of epoch {event.epoch}"
    if merge is None or state.phase is not Phase.COMMIT or miner is None or event.hotkey not in merge.eligible:
        return [Refuse(event.hotkey, what, "this stage does not take a commit from you now")]
    if event.hotkey in merge.commits:
        if merge.commits[event.hotkey][1] == event.shards:
            return []
        return [Refuse(event.hotkey, what, "you have already committed to other shards")]
    if len(event.shards) != merge.shard_count:
        return [Refuse(event.hotkey, what, f"{len(event.shards)} shards instead of {merge.shard_count}")]
    bounds, train = shard_bounds(state.sizes[merge.stage], merge.shard_count), state.spec.train
    for (lo, hi), blob in zip(bounds, event.shards, strict=True):
        if not _fits(blob, delta_bytes(train, hi - lo)):
            return [
                Refuse(event.hotkey, what, f"{blob.nbytes} bytes cannot be {hi - lo} values in {train.delta_codec}")
            ]
    merge.commits[event.hotkey] = (max(1, miner.batches), event.shards)
    if event.transcript is not None:
        merge.transcripts[event.hotkey] = event.transcript
    # What is done from here on belongs to the next pseudo-gradient.
    miner.batches = 0
    state.index.miner(miner.hotkey)
    return []


def missing_commits(state: RunState) -> int:
    """How many may still commit and have not; a miner that is gone is not waited for (see `release`)."""
    return sum(len(merge.eligible) - len(merge.commits) for merge in state.merges)


def plan(state: RunState) -> list[Action]:
    """REDUCE opens: draw the pairs and hand out duties. Shards that nobody can reduce go to the validator."""
    actions: list[Action] = []
    for merge in state.merges:
        if not merge.commits:
            continue
        bounds = shard_bounds(state.sizes[merge.stage], merge.shard_count)
        drawn = pairs(tuple(merge.commits), merge.shard_count, salt(state.secret, state.epoch), merge.stage)
        merge.shards = [Shard(i, lo, hi, list(drawn[i])) for i, (lo, hi) in enumerate(bounds)]
        merge.left = dict.fromkeys(range(len(merge.shards)))
        # Before anybody is told, so that all are told once.
        replaced(state, merge, merge.shards)
        for hotkey in merge.commits:
            if is_alive(state, merge, hotkey):
                actions += duties_of(state, merge, hotkey)
        for shard in merge.shards:
            actions += settle(state, merge, shard)
    return actions


def duties_of(state: RunState, merge: StageMerge, hotkey: str) -> list[Action]:
    """The merge plan of one miner, as often as it asks."""
    mine = [shard for shard in merge.shards if hotkey in shard.reducers and shard.accepted is None]
    return _tell(state, merge, hotkey, mine) if mine and is_alive(state, merge, hotkey) else []


def _tell(state: RunState, merge: StageMerge, hotkey: str, mine: list[Shard]) -> list[Action]:
    duties = tuple(Duty(s.index, s.lo, s.hi, contributions(merge, s.index)) for s in mine)
    epoch_salt = salt(state.secret, state.epoch)
    actions: list[Action] = [
        SendMergePlan(hotkey, merge.stage, state.epoch, epoch_salt, merge.shard_count, state.deadline, duties)
    ]
    for shard in mine:
        if shard.contributors is not None:
            actions.append(FixContributors(hotkey, merge.stage, state.epoch, shard.index, shard.contributors))
    return actions


def fetched(state: RunState, event: ShardFetched) -> list[Action]:
    """A reducer says whose bytes it holds; while the shard is open it may say so again, with what came late."""
    found = _shard(state, event.stage, event.epoch, event.shard)
    if found is None or not _on_duty(state, found, event.hotkey):
        return [Refuse(event.hotkey, f"fetch report of shard {event.shard}", "it is not a duty of yours now")]
    merge, shard = found
    before = shard.reports.get(event.hotkey, ())
    have = tuple(hotkey for hotkey in merge.commits if hotkey in event.have or hotkey in before)
    shard.reports[event.hotkey] = tuple(sorted(have))
    late = [hotkey for hotkey in have if hotkey not in before]
    state.bytes_merge += sum(merge.commits[h][1][shard.index].nbytes for h in late if h != event.hotkey)
    missed = state.reports[-1].missed
    where = f"shard {shard.index} of stage {merge.stage}"
    missed += [f"{where}: {event.hotkey[:8]} lacks {h[:8]}: {why}" for h, why in event.missed if h in merge.commits]
    del missed[MAX_MISSED:]
    return settle(state, merge, shard)


def reduced(state: RunState, event: ShardReduced) -> list[Action]:
    """A reducer publishes its result."""
    found = _shard(state, event.stage, event.epoch, event.shard)
    what = f"result of shard {event.shard}"
    if found is None or not _on_duty(state, found, event.hotkey) or found[1].contributors is None:
        return [Refuse(event.hotkey, what, "it is not a duty of yours now")]
    merge, shard = found
    made = ShardRef(shard.lo, shard.hi, event.weights, event.momentum, event.mean)
    values = shard.hi - shard.lo
    wrong = [blob for blob in (event.weights, event.momentum) if not _fits(blob, 4 * values)]
    if wrong or not _fits(event.mean, mean_bytes(state.spec.train, values)):
        return [Refuse(event.hotkey, what, f"the sizes are not those of {values} values")]
    if shard.results.setdefault(event.hotkey, made) == made:
        return settle(state, merge, shard)
    return [Refuse(event.hotkey, what, "you have already published another result")]


def settle(state: RunState, merge: StageMerge, shard: Shard) -> list[Action]:
    """Move one shard on as far as what is known allows."""
    if shard.accepted is not None:
        merge.left.pop(shard.index, None)
    if shard.accepted is not None or shard.recomputing:
        return []
    alive = [hotkey for hotkey in shard.reducers if is_alive(state, merge, hotkey)]
    relet = _relet(state, merge, [shard])
    if relet:
        return relet
    if not alive:
        return recompute.ask(state, merge, shard, "no reducer is left")
    if shard.contributors is None:
        if any(hotkey not in shard.reports for hotkey in alive):
            return []
        agreed = tuple(h for h in sorted(merge.commits) if all(h in shard.reports[r] for r in alive))
        # Who is gone may be in it; but a reducer that came later cannot have its bytes, and is not to blame.
        here = [hotkey for hotkey in merge.commits if is_alive(state, merge, hotkey)]
        held = sum(any(h in shard.reports[r] for r in alive) for h in here)
        if not agreed or sum(h in agreed for h in here) < state.spec.swarm.quorum * held:
            # One reducer alone must not be able to keep others out of the mean by saying that it cannot fetch them.
            return recompute.ask(state, merge, shard, "the reducers hold too few pseudo-gradients in common")
        shard.contributors = agreed
        shard.told |= dict.fromkeys(alive)
        return [FixContributors(h, merge.stage, state.epoch, shard.index, agreed) for h in alive]
    if any(hotkey not in shard.results for hotkey in alive):
        return []
    if len(shard.results) < 2:
        return recompute.ask(state, merge, shard, "there is no twin to compare with")
    report = state.reports[-1]
    report.twins_compared += 1
    if not agreement.compare(state, shard.results):
        report.twin_disagreements += 1
        return recompute.ask(state, merge, shard, "the twins disagree")
    shard.accepted = _joined(list(shard.results.values()))
    del merge.left[shard.index]
    return recompute.by_chance(state, merge, shard)


def _relet(state: RunState, merge: StageMerge, shards: list[Shard]) -> list[Action]:
    """Give what reducers that are gone have left to living replicas; each is told once."""
    taken = replaced(state, merge, shards)
    return [action for hotkey, mine in taken.items() for action in _tell(state, merge, hotkey, mine)]


def overdue(state: RunState) -> list[Action]:
    """The deadline of REDUCE has passed: the validator does what is left."""
    actions: list[Action] = []
    for merge in state.merges:
        for shard in merge.shards:
            if shard.accepted is None and not shard.recomputing:
                actions += recompute.ask(state, merge, shard, "the deadline has passed")
    return actions


def done(state: RunState) -> bool:
    """Whether no shard of any stage waits for a result."""
    return not any(merge.left for merge in state.merges)


def manifests(state: RunState) -> list[Manifest]:
    """The next epoch's global state."""
    return [recompute.manifest(state, merge) for merge in state.merges]


def coverage(state: RunState, merge: StageMerge) -> float:
    """Share of a stage's parameters that a merge averaged. What nobody's contribution reached is not covered."""
    averaged = (s.hi - s.lo for s in merge.shards if s.accepted is not None and s.contributors)
    return sum(averaged) / state.sizes[merge.stage]


def included(state: RunState, merge: StageMerge) -> float:
    """Share of what was committed, in passes x parameters, that entered a mean."""
    committed = sum(weight for weight, _ in merge.commits.values()) * state.sizes[merge.stage]
    entered = sum(merge.commits[h][0] * (s.hi - s.lo) for s in merge.shards for h in s.contributors or ())
    return entered / committed if committed else 0.0


def release(state: RunState, miner: Miner) -> list[Action]:
    """A miner's process is gone: nothing waits for it any more, and its successor has nothing to commit or reduce."""
    actions: list[Action] = []
    for merge in state.merges:
        if miner.hotkey in merge.commits:
            merge.gone[miner.hotkey] = None
        elif miner.hotkey in merge.eligible:
            merge.eligible = tuple(hotkey for hotkey in merge.eligible if hotkey != miner.hotkey)
        mine = merge.shards if miner.hotkey in merge.commits else []
        mine = [shard for shard in mine if miner.hotkey in shard.reducers or miner.hotkey in shard.results]
        for shard in mine:
            if not _homeless(state, merge, shard):
                continue
            # Twins agreed and died before anybody had a copy: without this, nobody could ever install the stage.
            if state.phase is Phase.REDUCE:
                shard.accepted = None
                merge.left[shard.index] = None
            if state.phase is Phase.REDUCE and not shard.recomputing:
                shard.results.clear()
                continue
            shard.missing = shard.accepted is not None
            actions += recompute.ask(state, merge, shard, "all who held the result are gone")
        actions += _relet(state, merge, mine)
        for shard in mine:
            actions += settle(state, merge, shard)
    return actions


def carries(state: RunState, miner: Miner) -> bool:
    """Whether what a miner has done since its commit is in what it holds after the merge, and so in its next commit."""
    merge = state.merges[miner.stage] if state.overlaps and miner.stage >= 0 else None
    return merge is not None and miner.hotkey in merge.commits and is_alive(state, merge, miner.hotkey)


def made_by(state: RunState, miner: Miner) -> list[int]:
    """Where the shards begin that a miner has reduced itself and need not fetch."""
    shards = state.merges[miner.stage].shards if state.merges else []
    made = [(shard, shard.results.get(miner.hotkey)) for shard in shards if shard.accepted is not None]
    return [s.lo for s, own in made if own is not None and s.accepted is not None and own.digests == s.accepted.digests]


def _homeless(state: RunState, merge: StageMerge, shard: Shard) -> bool:
    """Whether an accepted result is nowhere any more: its makers' processes are gone, nobody has installed it, and the
    validator has no copy of it yet."""
    under_way = shard.recomputing and shard.recomputing != AUDIT
    if shard.accepted is None or under_way or any(is_alive(state, merge, hotkey) for hotkey in shard.results):
        return False
    if state.phase is Phase.REDUCE:
        return True
    if merge.stage in state.returned:
        return False
    held = any(miner.installed > state.epoch for miner in state.members(merge.stage))
    return not held and state.safe != state.manifests


def _on_duty(state: RunState, found: tuple[StageMerge, Shard], hotkey: str) -> bool:
    return hotkey in found[1].reducers and is_alive(state, found[0], hotkey)


def _fits(blob: BlobRef, body: int) -> bool:
    """Whether a blob has a size that it can have; nobody is asked to fetch anything else."""
    return 0 < blob.nbytes <= body + HEADER


def _joined(results: list[ShardRef]) -> ShardRef:
    """One reference that names every place where the same bytes lie."""

    def every(blobs: list[BlobRef]) -> BlobRef:
        return BlobRef(blobs[0].digest, blobs[0].nbytes, tuple(url for blob in blobs for url in blob.urls))

    weights, momentum = every([r.weights for r in results]), every([r.momentum for r in results])
    mean = every([r.mean for r in results if r.mean is not None])
    return ShardRef(results[0].lo, results[0].hi, weights, momentum, mean)


def _merge(state: RunState, stage: int, epoch: int) -> StageMerge | None:
    if epoch != state.epoch or not 0 <= stage < len(state.merges):
        return None
    return state.merges[stage]


def _shard(state: RunState, stage: int, epoch: int, index: int) -> tuple[StageMerge, Shard] | None:
    merge = _merge(state, stage, epoch)
    if merge is None or not 0 <= index < len(merge.shards) or merge.shards[index].accepted is not None:
        return None
    return merge, merge.shards[index]
