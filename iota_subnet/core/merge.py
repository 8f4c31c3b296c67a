"""Butterfly All-Reduce, the deciding half (arXiv 2507.17766, section 5). The arithmetic is in `train/allreduce.py`.

Law: every parameter is covered. Replicas commit to digests first; only then are pairs of reducers drawn, from a salt
whose commitment was public. Twins must agree to the bit; where they differ, or one is missing, the validator recomputes
that one shard and its result stands.
"""

from __future__ import annotations

from itertools import combinations

from iota_subnet.core import assignment, safety
from iota_subnet.core.actions import (
    Action,
    Contribution,
    Duty,
    FixContributors,
    RecomputeShard,
    Refuse,
    SendMergePlan,
)
from iota_subnet.core.draw import choose, salt, shuffled
from iota_subnet.core.events import Manifest, ShardFetched, ShardRecomputed, ShardReduced, ShardRef, ShardsCommitted
from iota_subnet.core.state import Fault, Miner, Phase, RunState, Shard, StageMerge
from iota_subnet.spec import CODEC_BYTES, BlobRef, shard_bounds

#: Bytes that the file format may add to the values of a shard.
HEADER = 64 << 10


def pairs(hotkeys: tuple[str, ...], shards: int, *label: object) -> list[tuple[str, ...]]:
    """Who reduces which shard: all pairs of `hotkeys` in a drawn order, repeated if there are more shards than pairs.

    One hotkey alone reduces everything; nobody gives no reducers.
    """
    if len(hotkeys) < 2:
        return [hotkeys] * shards
    drawn = shuffled(list(combinations(sorted(hotkeys), 2)), *label)
    return [drawn[index % len(drawn)] for index in range(shards)]


def begin(state: RunState) -> None:
    """COMMIT opens: who may commit, and into how many shards."""
    state.merges = []
    for stage in range(state.spec.model.stages):
        ready = state.ready_members(stage)
        enough = [m.hotkey for m in ready if m.batches >= state.spec.swarm.min_batches]
        eligible = tuple(sorted(enough or [m.hotkey for m in ready if m.batches]))
        n = len(eligible)
        state.merges.append(StageMerge(stage, eligible, max(1, n * (n - 1) // 2)))


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
    width = CODEC_BYTES[state.spec.train.delta_codec]
    bounds = shard_bounds(state.sizes[merge.stage], merge.shard_count)
    for (lo, hi), blob in zip(bounds, event.shards, strict=True):
        if not _fits(blob, hi - lo, width):
            return [Refuse(event.hotkey, what, f"{blob.nbytes} bytes cannot be {hi - lo} values of {width} bytes")]
    merge.commits[event.hotkey] = (max(1, miner.batches), event.shards)
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
        for hotkey in merge.commits:
            if _alive(state, merge, hotkey):
                actions += duties_of(state, merge, hotkey)
        for shard in merge.shards:
            actions += settle(state, merge, shard)
    return actions


def duties_of(state: RunState, merge: StageMerge, hotkey: str) -> list[Action]:
    """The merge plan of one miner, as often as it asks."""
    mine = [shard for shard in merge.shards if hotkey in shard.reducers and shard.accepted is None]
    if not mine or not _alive(state, merge, hotkey):
        return []
    duties = tuple(Duty(s.index, s.lo, s.hi, contributions(merge, s.index)) for s in mine)
    epoch_salt = salt(state.secret, state.epoch)
    actions: list[Action] = [SendMergePlan(hotkey, merge.stage, state.epoch, epoch_salt, state.deadline, duties)]
    for shard in mine:
        if shard.contributors is not None:
            actions.append(FixContributors(hotkey, merge.stage, state.epoch, shard.index, shard.contributors))
    return actions


def contributions(merge: StageMerge, shard: int) -> tuple[Contribution, ...]:
    """All committed pseudo-gradients of a shard, sorted by hotkey: the order in which they are added up."""
    return tuple(
        Contribution(hotkey, merge.commits[hotkey][0], merge.commits[hotkey][1][shard])
        for hotkey in sorted(merge.commits)
    )


def fetched(state: RunState, event: ShardFetched) -> list[Action]:
    """A reducer says whose bytes it holds."""
    found = _shard(state, event.stage, event.epoch, event.shard)
    if found is None or not _on_duty(state, found, event.hotkey):
        return [Refuse(event.hotkey, f"fetch report of shard {event.shard}", "it is not a duty of yours now")]
    merge, shard = found
    if event.hotkey not in shard.reports:
        have = tuple(hotkey for hotkey in sorted(set(event.have)) if hotkey in merge.commits)
        shard.reports[event.hotkey] = have
        state.bytes_merge += sum(merge.commits[h][1][shard.index].nbytes for h in have if h != event.hotkey)
    return settle(state, merge, shard)


def reduced(state: RunState, event: ShardReduced) -> list[Action]:
    """A reducer publishes its result."""
    found = _shard(state, event.stage, event.epoch, event.shard)
    what = f"result of shard {event.shard}"
    if found is None or not _on_duty(state, found, event.hotkey) or found[1].contributors is None:
        return [Refuse(event.hotkey, what, "it is not a duty of yours now")]
    merge, shard = found
    if not all(_fits(blob, shard.hi - shard.lo, 4) for blob in (event.weights, event.momentum)):
        return [Refuse(event.hotkey, what, f"the sizes are not those of {shard.hi - shard.lo} fp32 values")]
    if shard.results.setdefault(event.hotkey, (event.weights, event.momentum)) == (event.weights, event.momentum):
        return settle(state, merge, shard)
    return [Refuse(event.hotkey, what, "you have already published another result")]


def settle(state: RunState, merge: StageMerge, shard: Shard) -> list[Action]:
    """Move one shard on as far as what is known allows."""
    if shard.accepted is not None:
        merge.left.pop(shard.index, None)
    if shard.accepted is not None or shard.recomputing:
        return []
    alive = [hotkey for hotkey in shard.reducers if _alive(state, merge, hotkey)]
    if len(alive) < 2 and not any(hotkey in shard.results for hotkey in alive):
        replaced = _replace(state, merge, shard, alive)
        if replaced:
            return replaced
    if not alive:
        return _recompute(state, merge, shard, "no reducer is left")
    if shard.contributors is None:
        if any(hotkey not in shard.reports for hotkey in alive):
            return []
        agreed = tuple(h for h in sorted(merge.commits) if all(h in shard.reports[r] for r in alive))
        held = sum(any(h in shard.reports[r] for r in alive) for h in merge.commits)
        if not agreed or len(agreed) < state.spec.swarm.quorum * held:
            # One reducer alone must not be able to keep others out of the mean by saying that it cannot fetch them.
            return _recompute(state, merge, shard, "the reducers hold too few pseudo-gradients in common")
        shard.contributors = agreed
        return [FixContributors(h, merge.stage, state.epoch, shard.index, agreed) for h in alive]
    if any(hotkey not in shard.results for hotkey in alive):
        return []
    results = list(shard.results.values())
    if len(results) < 2:
        return _recompute(state, merge, shard, "there is no twin to compare with")
    report = state.reports[-1]
    report.twins_compared += 1
    if len({(weights.digest, momentum.digest) for weights, momentum in results}) > 1:
        report.twin_disagreements += 1
        return _recompute(state, merge, shard, "the twins disagree")
    _accept(shard, *_joined(results))
    del merge.left[shard.index]
    return []


def _replace(state: RunState, merge: StageMerge, shard: Shard, alive: list[str]) -> list[Action]:
    """Put a replica that is not in the pair in the place of a reducer that is gone."""
    spare = [
        h
        for h in sorted(merge.commits)
        if h not in shard.reducers and _alive(state, merge, h) and state.miners[h].connected
    ]
    if not spare:
        return []
    taker = choose(spare, salt(state.secret, state.epoch), "replace", merge.stage, shard.index)
    shard.reducers = [*alive, taker]
    return duties_of(state, merge, taker)


def _recompute(state: RunState, merge: StageMerge, shard: Shard, reason: str) -> list[Action]:
    shard.recomputing, shard.asked_at = reason, state.now
    state.reports[-1].recomputed += 1
    wanted = [
        c for c in contributions(merge, shard.index) if shard.contributors is None or c.hotkey in shard.contributors
    ]
    # From INSTALL on the manifests are what the merge has made.
    base = (state.manifests if state.phase is Phase.REDUCE else state.former)[merge.stage]
    return [RecomputeShard(merge.stage, state.epoch, shard.index, shard.lo, shard.hi, tuple(wanted), base)]


def resend_recomputes(state: RunState, older: float = 0.0) -> list[Action]:
    """Ask the auditor again for what it did not answer in `older` seconds: at deadlines, and after a restart."""
    actions: list[Action] = []
    for merge in state.merges:
        for shard in merge.shards:
            owed = shard.recomputing and (shard.accepted is None or shard.missing)
            if owed and state.now >= shard.asked_at + older:
                reason, shard.recomputing = shard.recomputing, ""
                state.reports[-1].recomputed -= 1
                actions += _recompute(state, merge, shard, reason)
    return actions


def recomputed(state: RunState, event: ShardRecomputed) -> list[Action]:
    """The validator's own result stands; a reducer with another one, from the same inputs, is named."""
    if state.phase in (Phase.INSTALL, Phase.DONE):
        return _restored(state, event)
    found = _shard(state, event.stage, event.epoch, event.shard)
    if found is None or not found[1].recomputing:
        return []
    merge, shard = found
    truth = (event.weights.digest, event.momentum.digest)
    same_inputs = shard.contributors == event.contributors
    for hotkey, (weights, momentum) in shard.results.items():
        if same_inputs and (weights.digest, momentum.digest) != truth:
            what = (
                f"shard {shard.index} of stage {event.stage}: published {weights.digest[:12]}, truth is {truth[0][:12]}"
            )
            state.faults.append(Fault(event.at, state.epoch, hotkey, what))
    _accept(shard, event.weights, event.momentum)
    merge.left.pop(shard.index, None)
    return []


def _restored(state: RunState, event: ShardRecomputed) -> list[Action]:
    """What had been accepted and was lost is there again, maybe from fewer contributions.

    Then the manifest is another one, and who has installed the first has to install again. It is offered when nothing
    of it is missing any more: an offer before that could not be taken.
    """
    merge = _merge(state, event.stage, event.epoch)
    if merge is None or not 0 <= event.shard < len(merge.shards) or not merge.shards[event.shard].missing:
        return []
    shard = merge.shards[event.shard]
    shard.missing = False
    _accept(shard, event.weights, event.momentum)
    before, now = state.manifests[merge.stage], _manifest(state, merge)
    state.manifests[merge.stage] = now
    members = state.members(merge.stage)
    for miner in members if before.name != now.name else ():
        miner.installed, miner.state_digest = min(miner.installed, state.epoch), ""
        state.index.miner(miner.hotkey)
    if any(shard.missing for shard in merge.shards):
        return []
    behind = [miner for miner in members if miner.connected and miner.installed <= state.epoch]
    return [*safety.ask(state), *(offer for miner in behind for offer in assignment.remind(state, miner))]


def overdue(state: RunState) -> list[Action]:
    """The deadline of REDUCE has passed: the validator does what is left."""
    actions: list[Action] = []
    for merge in state.merges:
        for shard in merge.shards:
            if shard.accepted is None and not shard.recomputing:
                actions += _recompute(state, merge, shard, "the deadline has passed")
    return actions


def done(state: RunState) -> bool:
    return not any(merge.left for merge in state.merges)


def manifests(state: RunState) -> list[Manifest]:
    """The next epoch's global state. A stage in which nobody trained keeps what it had."""
    return [_manifest(state, merge) for merge in state.merges]


def _manifest(state: RunState, merge: StageMerge) -> Manifest:
    made = tuple(shard.accepted for shard in merge.shards if shard.accepted is not None)
    before = state.manifests[merge.stage]
    revision = before.revision + 1 if before.epoch == state.epoch + 1 else 0
    return Manifest(merge.stage, state.epoch + 1, made if merge.commits else before.shards, revision)


def coverage(state: RunState, merge: StageMerge) -> float:
    """Share of a stage's parameters that a merge averaged."""
    if not merge.commits:
        return 0.0
    return sum(s.hi - s.lo for s in merge.shards if s.accepted is not None) / state.sizes[merge.stage]


def release(state: RunState, miner: Miner) -> list[Action]:
    """A miner's process is gone: nothing waits for it any more, and its successor has nothing to commit or reduce."""
    actions: list[Action] = []
    for merge in state.merges:
        if miner.hotkey in merge.commits:
            merge.gone[miner.hotkey] = None
        elif miner.hotkey in merge.eligible:
            merge.eligible = tuple(hotkey for hotkey in merge.eligible if hotkey != miner.hotkey)
        for shard in merge.shards if miner.hotkey in merge.commits else ():
            if miner.hotkey not in shard.reducers and miner.hotkey not in shard.results:
                continue
            if _homeless(state, merge, shard):
                # Twins agreed and died before anybody had a copy: without this, nobody could ever install the stage.
                if state.phase is Phase.REDUCE:
                    shard.accepted = None
                    merge.left[shard.index] = None
                shard.missing = shard.accepted is not None
                actions += _recompute(state, merge, shard, "all who held the result are gone")
            actions += settle(state, merge, shard)
    return actions


def _homeless(state: RunState, merge: StageMerge, shard: Shard) -> bool:
    """Whether an accepted result is nowhere any more: its makers' processes are gone, nobody has installed it, and the
    validator has no copy of it yet."""
    if shard.accepted is None or shard.recomputing or any(_alive(state, merge, hotkey) for hotkey in shard.results):
        return False
    if state.phase is Phase.REDUCE:
        return True
    if merge.stage in state.returned:
        return False
    held = any(miner.installed > state.epoch for miner in state.members(merge.stage))
    return not held and state.safe != state.manifests


def _alive(state: RunState, merge: StageMerge, hotkey: str) -> bool:
    """Whether the process that committed is still there, be it briefly away."""
    return hotkey in state.miners and hotkey not in merge.gone


def _on_duty(state: RunState, found: tuple[StageMerge, Shard], hotkey: str) -> bool:
    return hotkey in found[1].reducers and _alive(state, found[0], hotkey)


def _fits(blob: BlobRef, values: int, width: int) -> bool:
    """Whether a blob has a size that its values can have; nobody is asked to fetch anything else."""
    return 0 < blob.nbytes <= values * width + HEADER


def _accept(shard: Shard, weights: BlobRef, momentum: BlobRef) -> None:
    shard.accepted = ShardRef(shard.lo, shard.hi, weights, momentum)


def _joined(results: list[tuple[BlobRef, BlobRef]]) -> tuple[BlobRef, BlobRef]:
    """One ref that names every place where the same bytes lie."""
    weights, momentum = results[0]
    return (
        BlobRef(weights.digest, weights.nbytes, tuple(url for w, _ in results for url in w.urls)),
        BlobRef(momentum.digest, momentum.nbytes, tuple(url for _, m in results for url in m.urls)),
    )


def _merge(state: RunState, stage: int, epoch: int) -> StageMerge | None:
    if epoch != state.epoch or not 0 <= stage < len(state.merges):
        return None
    return state.merges[stage]


def _shard(state: RunState, stage: int, epoch: int, index: int) -> tuple[StageMerge, Shard] | None:
    merge = _merge(state, stage, epoch)
    if merge is None or not 0 <= index < len(merge.shards) or merge.shards[index].accepted is not None:
        return None
    return merge, merge.shards[index]
