"""What must hold after every event. Tests and debug runs call `check`; what is not written here is not promised."""

from __future__ import annotations

from math import fsum, isclose

from iota_subnet.core.indexcheck import wrong
from iota_subnet.core.lapses import MAX_ATTEMPTS, MAX_EXPIRED
from iota_subnet.core.sampler import NONE
from iota_subnet.core.state import AUDIT, Phase, RunState, Shard, StageMerge
from iota_subnet.spec import shard_bounds


class Broken(AssertionError):
    """An invariant does not hold; the message says which and where."""


def check(state: RunState) -> None:
    """Raise `Broken` at the first invariant that does not hold (docs/architecture.md, section Invariants)."""
    _leases(state)
    _conservation(state)
    _merges(state)
    _limits(state)
    if state.manifests:
        problem = wrong(state)
        _need(not problem, problem)
        _work_lies_idle(state)


def _need(truth: bool, message: str) -> None:
    if not truth:
        raise Broken(message)


def _leases(state: RunState) -> None:
    for lease in state.leases.values():
        batch = state.batches.get(lease.batch)
        _need(batch is not None, f"lease {lease.id} is for microbatch {lease.batch}, which is gone")
        assert batch is not None
        _need(batch.lease == lease.id, f"microbatch {batch.id} does not know its lease {lease.id}")
        _need(batch.next_step() == (lease.op, lease.stage), f"lease {lease.id} is not the next step of {batch.id}")
        miner = state.miners.get(lease.hotkey)
        _need(miner is not None and lease.id in miner.leases, f"lease {lease.id} is held by nobody")
        assert miner is not None
        _need(miner.stage == lease.stage, f"lease {lease.id} is outside its miner's stage")
        _need(lease.id not in state.expired, f"lease {lease.id} is open and expired")
    for miner in state.miners.values():
        _need(all(lease in state.leases for lease in miner.leases), f"{miner.hotkey} holds a lease that is not open")
        _need(len(miner.leases) <= state.spec.swarm.leases_per_miner, f"{miner.hotkey} holds too many leases")
    for batch in state.batches.values():
        _need(batch.lease is None or batch.lease in state.leases, f"microbatch {batch.id} has a lease that is not open")
        _need(batch.next_step() is not None, f"microbatch {batch.id} is complete and not retired")
        for output in (*batch.forward, *batch.gradient):
            _need(
                output is None or output.hotkey in batch.hands, f"microbatch {batch.id} was worked on without a lease"
            )


def _conservation(state: RunState) -> None:
    retired = sum(report.microbatches for report in state.reports) + state.early
    total = retired + len(state.batches) + state.lost
    _need(total == state.opened_total, f"{state.opened_total} microbatches were opened, {total} are accounted for")
    _need(state.next_batch == state.opened_total, "a microbatch was opened twice or not at all")
    # What is retired is paid once, in full, to somebody: a stage's worth for each stage.
    owed = state.spec.model.stages * len(state.samples)
    paid = fsum(state.volume.values())
    _need(isclose(paid, owed, rel_tol=1e-9, abs_tol=1e-9), f"{owed} stage passes were retired, {paid} were credited")


def _merges(state: RunState) -> None:
    for merge in state.merges:
        _need(all(h in merge.eligible for h in merge.commits), f"stage {merge.stage}: a stranger has committed")
        if not merge.shards:
            continue
        bounds = [(shard.lo, shard.hi) for shard in merge.shards]
        _need(bounds == shard_bounds(state.sizes[merge.stage], merge.shard_count), f"stage {merge.stage} has a gap")
        for shard in merge.shards:
            _shard(merge, shard)
        left = {shard.index for shard in merge.shards if shard.accepted is None}
        _need(merge.left.keys() == left, f"stage {merge.stage} miscounts the shards that are left")
    following = state.phase is Phase.INSTALL or state.phase is Phase.DONE
    for stage, manifest in enumerate(state.manifests):
        _need(manifest.stage == stage, f"the manifest of stage {stage} is that of stage {manifest.stage}")
        _need(manifest.epoch == state.epoch + following, f"the manifest of stage {stage} is of epoch {manifest.epoch}")
        edges = [0] + [shard.hi for shard in manifest.shards]
        _need(
            [shard.lo for shard in manifest.shards] == edges[:-1], f"the manifest of stage {manifest.stage} has a gap"
        )
        _need(edges[-1] == state.sizes[manifest.stage], f"the manifest of stage {manifest.stage} is short")


def _shard(merge: StageMerge, shard: Shard) -> None:
    """A shard is accepted from twins that agree to the bit or from the validator, never from one reducer's word."""
    where = f"shard {shard.index} of stage {merge.stage}"
    _need(len(set(shard.reducers)) == len(shard.reducers) <= 2, f"{where} has reducers {shard.reducers}")
    _need(all(h in merge.commits for h in shard.reducers), f"{where} is reduced by somebody who did not commit")
    _need(all(h in merge.commits for h in shard.contributors or ()), f"{where} averages what nobody committed")
    if shard.accepted is None or shard.recomputing not in ("", AUDIT):
        return
    agree = [h for h, made in shard.results.items() if made.digests == shard.accepted.digests]
    _need(len(agree) >= 2 and len(agree) == len(shard.results), f"{where} was accepted without twins that agree")


def _limits(state: RunState) -> None:
    _need(len(state.miners) <= state.spec.swarm.max_miners, "there are more miners than seats")
    _need(bool(state.waiting_for), "nobody can say what is waited for")
    _need(len(state.expired) <= MAX_EXPIRED, "too many leases that ran late are remembered")
    _need(all(batch.attempts < MAX_ATTEMPTS for batch in state.batches.values()), "a microbatch is tried for ever")
    if state.phase not in (Phase.WAIT, Phase.DONE):
        _need(state.phase_since < state.deadline < float("inf"), f"{state.phase.value} has no deadline")
    _need(all(value >= 0 for value in state.volume.values()), "somebody earned less than nothing")


def _work_lies_idle(state: RunState) -> None:
    """While the run trains, no step waits that somebody could take: whoever has tried it before may only wait."""
    if not state.working:
        return
    index = state.index
    free = [
        [card.hotkey for card, rung in zip(stage.slots, stage.room.at, strict=False) if card is not None and rung >= 0]
        for stage in index.stages
    ]
    for number, where in index.where.items():
        step = state.batches[number].next_step()
        assert step is not None
        tried = state.batches[number].tried.get(step, [])
        takers = free[step[1]]
        if isinstance(where.queue, str):
            keeper = state.miners[where.queue]
            takers = [where.queue] if index.stages[keeper.stage].room.at[keeper.slot] != NONE else []
        _need(all(hotkey in tried for hotkey in takers), f"microbatch {number} waits and {takers} have nothing to do")
