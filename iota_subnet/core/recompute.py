"""Shards that the validator reduces itself: what twins could not settle, what was lost, and what is checked by chance.

Law: its result stands. Whoever published another one, from the same inputs, is named. A check by chance delays nobody:
twins that agree are taken at their word, and if the word was false the right result takes its place while it still can.
"""

from __future__ import annotations

from iota_subnet.core import assignment, safety
from iota_subnet.core.actions import Action, Contribution, RecomputeShard
from iota_subnet.core.draw import digest
from iota_subnet.core.events import Manifest, ShardRecomputed, ShardRef
from iota_subnet.core.state import AUDIT, Fault, Phase, RunState, Shard, StageMerge

#: So often the validator tries again when it can get no contribution at all; then the shard stays as it was.
EMPTY_HANDED = 3

#: So many times a stage's bytes may be fetched to check shards by chance, where `audit_shards` asks for less.
STAGES_WORTH = 2.0

#: Lines in an epoch's report about contributions that could not be had or used.
MAX_MISSED = 32


def contributions(merge: StageMerge, shard: int) -> tuple[Contribution, ...]:
    """All committed pseudo-gradients of a shard, sorted by hotkey: the order in which they are added up."""
    return tuple(
        Contribution(hotkey, merge.commits[hotkey][0], merge.commits[hotkey][1][shard])
        for hotkey in sorted(merge.commits)
    )


def ask(state: RunState, merge: StageMerge, shard: Shard, reason: str) -> list[Action]:
    """Have the validator reduce a shard."""
    shard.recomputing, shard.asked_at = reason, state.now
    report = state.reports[-1]
    if reason == AUDIT:
        report.audited += 1
    else:
        report.recomputed += 1
    wanted = [
        c for c in contributions(merge, shard.index) if shard.contributors is None or c.hotkey in shard.contributors
    ]
    return [
        RecomputeShard(merge.stage, state.epoch, shard.index, shard.lo, shard.hi, tuple(wanted), _base(state, merge))
    ]


def checked_share(state: RunState, merge: StageMerge) -> float:
    """The share of a stage's agreed shards that is recomputed, none where `audit_shards` is 0.

    With n replicas a share p costs the validator n p stages of traffic. Small stages are looked at more, up to two
    stages' worth: all shards of two replicas, whom no third would contradict; half of those of four.
    """
    share, replicas = state.spec.swarm.audit_shards, len(merge.commits)
    return max(share, min(1.0, STAGES_WORTH / replicas)) if share and replicas > 1 else share


def by_chance(state: RunState, merge: StageMerge, shard: Shard) -> list[Action]:
    """Twins agree: some shards are recomputed all the same, see `checked_share`.

    Which one cannot be known before the results are in: the draw depends on the run's secret, not on the epoch's salt.
    Two colluding twins that lie on the one shard they share are caught with this probability per epoch, and always
    where there is nobody but them.
    """
    label = digest(state.secret, "audit", state.epoch, merge.stage, shard.index)
    if int.from_bytes(label[:8], "big") >= checked_share(state, merge) * 2.0**64:
        return []
    return ask(state, merge, shard, AUDIT)


def resend(state: RunState, older: float = 0.0) -> list[Action]:
    """Ask the auditor again for what it did not answer in `older` seconds: at deadlines, and after a restart."""
    actions: list[Action] = []
    for merge in state.merges:
        for shard in merge.shards:
            owed = shard.recomputing and (shard.accepted is None or shard.missing or shard.recomputing == AUDIT)
            if owed and state.now >= shard.asked_at + older:
                actions += resend_one(state, merge, shard)
    return actions


def resend_one(state: RunState, merge: StageMerge, shard: Shard) -> list[Action]:
    """Ask for one again; the report counts it once."""
    report = state.reports[-1]
    before = report.audited, report.recomputed
    actions = ask(state, merge, shard, shard.recomputing)
    report.audited, report.recomputed = before
    return actions


def recomputed(state: RunState, event: ShardRecomputed) -> list[Action]:
    """The validator's own result stands; a reducer with another one, from the same inputs, is named."""
    place = event.stage, event.epoch, event.shard
    if place in state.audits:
        # The epoch is over: who lied is named, what it did cannot be undone.
        _name(state, event, state.audits.pop(place))
        return []
    merge = state.merges[event.stage] if event.stage < len(state.merges) and event.epoch == state.epoch else None
    if merge is None or not 0 <= event.shard < len(merge.shards):
        return []
    shard = merge.shards[event.shard]
    if not shard.recomputing:
        return []
    truth = ShardRef(shard.lo, shard.hi, event.weights, event.momentum, event.mean)
    settled = shard.accepted is not None and not shard.missing
    if settled and shard.recomputing == AUDIT:
        shard.recomputing = ""
        if not _name(state, event, shard):
            return []
        shard.recomputing = "its reducers lied"
        return _replaced(state, merge, shard, truth)
    if settled:
        return []
    if not event.contributors and shard.empty_handed < EMPTY_HANDED:
        shard.empty_handed += 1
        return resend_one(state, merge, shard)
    _name(state, event, shard)
    shard.contributors, shard.missing = event.contributors, False
    if not event.contributors:
        missed = state.reports[-1].missed
        missed[MAX_MISSED - 1 :] = [f"shard {shard.index} of stage {merge.stage}: nobody's bytes could be had"]
    return _replaced(state, merge, shard, truth)


def expire(state: RunState) -> None:
    """The epoch is over: checks that are still under way can only name somebody. One epoch later they are given up."""
    state.audits = {
        (merge.stage, state.epoch, shard.index): shard
        for merge in state.merges
        for shard in merge.shards
        if shard.recomputing == AUDIT
    }


def manifest(state: RunState, merge: StageMerge) -> Manifest:
    """A stage's next global state. One in which nobody trained keeps what it had."""
    base, before = _base(state, merge), state.manifests[merge.stage]
    revision = before.revision + 1 if before.epoch == state.epoch + 1 else 0
    if not merge.commits:
        # The means led to the state before.
        kept = tuple(ShardRef(s.lo, s.hi, s.weights, s.momentum) for s in before.shards)
        return Manifest(merge.stage, state.epoch + 1, kept, revision)
    made = tuple(shard.accepted for shard in merge.shards if shard.accepted is not None)
    return Manifest(merge.stage, state.epoch + 1, made, revision, base.name)


def _base(state: RunState, merge: StageMerge) -> Manifest:
    """The state that the epoch began with: from INSTALL on the manifests are what the merge has made."""
    return (state.former if state.phase in (Phase.INSTALL, Phase.DONE) else state.manifests)[merge.stage]


def _name(state: RunState, event: ShardRecomputed, shard: Shard) -> list[str]:
    """Who published something else, from the same inputs."""
    if shard.contributors != event.contributors:
        return []
    truth = ShardRef(shard.lo, shard.hi, event.weights, event.momentum, event.mean).digests
    liars = [hotkey for hotkey, result in shard.results.items() if result.digests != truth]
    for hotkey in liars:
        said = shard.results[hotkey].digests
        which = next(n for n, (one, other) in enumerate(zip(said, truth, strict=True)) if one != other)
        what = f"shard {shard.index} of stage {event.stage}: published {said[which][:12]}, truth is {truth[which][:12]}"
        state.faults.append(Fault(state.now, event.epoch, hotkey, what))
    return liars


def _replaced(state: RunState, merge: StageMerge, shard: Shard, truth: ShardRef) -> list[Action]:
    """What had been accepted was lost, or was a lie; now there is something else in its place.

    In INSTALL the manifest is another one then, and who has installed the first has to install again. It is offered
    when nothing of it is missing any more: an offer before that could not be taken.
    """
    shard.accepted = truth
    if state.phase is Phase.REDUCE:
        merge.left.pop(shard.index, None)
        return []
    before, now = state.manifests[merge.stage], manifest(state, merge)
    state.manifests[merge.stage] = now
    members = state.members(merge.stage)
    for miner in members if before.name != now.name else ():
        if miner.installed > state.epoch:
            # It had moved on from what is replaced now; what it did since is lost with it.
            miner.installed, miner.state_digest, miner.batches = state.epoch, "", 0
        state.index.miner(miner.hotkey)
    if any(shard.missing for shard in merge.shards):
        return []
    behind = [miner for miner in members if miner.connected and miner.installed <= state.epoch]
    return [*safety.ask(state), *(offer for miner in behind for offer in assignment.remind(state, miner))]
