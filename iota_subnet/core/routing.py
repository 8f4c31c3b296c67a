"""Who works on what. Law: at most one open lease per microbatch; what is next is derived, so a lost output is redone.

Backward work goes first, and to the miner that made the forward pass while it lives: it holds the graph. All else is
drawn at random within capacity, because CLASP needs random pathways; the propensity of each draw is kept.
"""

from __future__ import annotations

from math import fsum

from iota_subnet.core.actions import Action, Forget, ForgetBatch, GiveLease, Op, PublishBatch, Refuse, WithdrawLease
from iota_subnet.core.clasp import Sample
from iota_subnet.core.draw import choose
from iota_subnet.core.events import BatchPublished, LeaseFailed, LeaseFinished
from iota_subnet.core.state import Lease, Microbatch, Miner, Output, Phase, RunState

#: A microbatch that failed this often has something wrong with it; it is counted as lost, never silently dropped.
MAX_ATTEMPTS = 40

#: A miner that fails so many leases in a row, with nothing done in between, has something wrong with it.
MAX_STRIKES = 12

#: Leases that ran late are remembered, so that late work is still credited while it is needed.
MAX_EXPIRED = 1024


def fill(state: RunState) -> list[Action]:
    """Open microbatches and give out every lease that has a taker."""
    if state.phase is not Phase.TRAIN:
        return []
    actions = _open(state)
    steps = [(batch, step) for batch in state.batches.values() if (step := _waiting(state, batch)) is not None]
    steps.sort(key=lambda item: (item[1][0] != "backward", item[0].id))
    for batch, (op, stage) in steps:
        taker = _taker(state, batch, op, stage)
        if taker is not None:
            actions.append(_give(state, batch, op, stage, taker))
    return actions


def resend(state: RunState, miner: Miner) -> list[Action]:
    """The open leases of a miner that has come back: the same ones, so asking twice is harmless."""
    return [_message(state, state.leases[lease]) for lease in miner.leases]


def _open(state: RunState) -> list[Action]:
    actions: list[Action] = []
    thinnest = min(len(state.ready_members(stage)) for stage in range(state.spec.model.stages))
    limit = thinnest * state.spec.swarm.live_per_replica
    stages = state.spec.model.stages
    while not state.draining and len(state.batches) < limit and not full(state):
        batch = Microbatch(
            state.next_batch, state.epoch, state.now, [None] * stages, [None] * stages, asked_at=state.now
        )
        state.next_batch += 1
        state.opened += 1
        state.opened_total += 1
        state.batches[batch.id] = batch
        actions.append(PublishBatch(batch.id))
    return actions


def full(state: RunState) -> bool:
    """Whether the epoch has enough: `epoch_batches` were opened, and a quorum of replicas counts in the merge.

    Past `epoch_batches` more is opened while the quorum is short, or many replicas would share too little for ever.
    """
    swarm = state.spec.swarm
    if state.opened < swarm.epoch_batches:
        return False
    ready = [miner for miner in state.miners.values() if state.ready(miner)]
    return bool(ready) and sum(m.batches >= swarm.min_batches for m in ready) >= swarm.quorum * len(ready)


def _waiting(state: RunState, batch: Microbatch) -> tuple[Op, int] | None:
    busy = batch.lease is not None or batch.tokens is None or state.now < batch.rest_until
    return None if busy else batch.next_step()


def _taker(state: RunState, batch: Microbatch, op: Op, stage: int) -> Miner | None:
    members = [miner for miner in state.ready_members(stage) if state.now >= miner.rest_until]
    tried = batch.tried.get((op, stage), [])
    if op == "backward":
        made = batch.forward[stage]
        keeper = [miner for miner in members if made is not None and miner.hotkey == made.hotkey]
        if keeper and keeper[0].hotkey not in tried:
            free = len(keeper[0].leases) < state.spec.swarm.leases_per_miner
            return keeper[0] if free else None
    fresh = [miner for miner in members if miner.hotkey not in tried] or members
    free_members = [miner for miner in fresh if len(miner.leases) < state.spec.swarm.leases_per_miner]
    if not free_members:
        return None
    if op != "backward":
        batch.propensity.append(1 / len(free_members))
    return choose(free_members, state.secret, "route", batch.id, op, stage, batch.attempts)


def _give(state: RunState, batch: Microbatch, op: Op, stage: int, miner: Miner) -> Action:
    deadline = state.now + state.spec.swarm.lease_s
    lease = Lease(state.next_lease, miner.hotkey, batch.id, op, stage, state.epoch, state.now, deadline)
    state.next_lease += 1
    state.leases[lease.id] = lease
    miner.leases[lease.id] = None
    batch.lease = lease.id
    batch.hands[miner.hotkey] = None
    return _message(state, lease)


def _message(state: RunState, lease: Lease) -> Action:
    inputs = state.batches[lease.batch].inputs(lease.op, lease.stage)
    return GiveLease(
        lease.hotkey, lease.id, lease.op, lease.batch, lease.stage, lease.epoch, inputs, deadline=lease.deadline
    )


def published(state: RunState, event: BatchPublished) -> list[Action]:
    """The feed has a microbatch ready."""
    batch = state.batches.get(event.batch)
    if batch is not None and batch.tokens is None:
        batch.tokens = event.tokens
    return []


def finished(state: RunState, event: LeaseFinished) -> list[Action]:
    """A receipt: close the lease, or credit late work that is still needed."""
    lease = state.leases.get(event.lease) or state.expired.get(event.lease)
    if lease is None or lease.hotkey != event.hotkey:
        return [Refuse(event.hotkey, f"receipt for lease {event.lease}", "it is not a lease of yours that is open")]
    problem = _problem(state, lease, event)
    if problem:
        _strike(state, event.hotkey)
        return [*_failed(state, lease), Refuse(event.hotkey, f"receipt for lease {event.lease}", problem)]
    actions: list[Action] = []
    batch = state.batches.get(lease.batch)
    if batch is None or batch.next_step() != (lease.op, lease.stage):
        _close(state, lease)
        return [Refuse(event.hotkey, f"receipt for lease {event.lease}", "another replica has already done this step")]
    if batch.lease is not None and batch.lease != lease.id:
        other = state.leases[batch.lease]
        _close(state, other)
        actions.append(WithdrawLease(other.hotkey, other.id, "a late receipt of another replica arrived first"))
    _close(state, lease)
    batch.lease, batch.rest_until = None, 0.0
    output = Output(event.hotkey, event.output)
    if lease.op == "forward":
        batch.forward[lease.stage] = output
    else:
        batch.gradient[lease.stage] = output
    if lease.op == "loss":
        batch.losses, batch.path = event.losses, batch.pathway()
    miner = state.miners.get(event.hotkey)
    if miner is not None:
        miner.done += 1
        miner.strikes, miner.rest_until = 0, 0.0
        miner.last_receipt_at = event.at
        miner.inner_step = event.inner_step
        miner.seconds = event.seconds if miner.done == 1 else 0.9 * miner.seconds + 0.1 * event.seconds
        if lease.op != "forward" and lease.opened_at >= miner.joined_at:
            # Work of an earlier process is credited, but it is not in what this one will commit.
            miner.batches += 1
    return actions + (_retire(state, batch) if batch.next_step() is None else [])


def _problem(state: RunState, lease: Lease, event: LeaseFinished) -> str:
    """Why a receipt cannot be right, or nothing."""
    last = lease.op != "forward" and lease.stage == 0
    if (event.output is None) != last:
        return "the head's backward pass has no output" if last else "the receipt names no output"
    if event.output is not None and not 0 < event.output.nbytes <= state.spec.swarm.max_blob_bytes:
        return f"an output of {event.output.nbytes} bytes is outside the limits"
    if lease.op == "loss" and len(event.losses) != state.spec.train.microbatch:
        return f"{len(event.losses)} losses for {state.spec.train.microbatch} samples"
    if not all(0 <= loss < 1e4 for loss in event.losses):
        return "a loss is negative, huge or not a number"
    if not 0 <= event.seconds < 1e6:
        return "the seconds are negative, huge or not a number"
    if not 0 <= event.inner_step < 1 << 40:
        return "the inner step is negative or huge"
    return ""


def _retire(state: RunState, batch: Microbatch) -> list[Action]:
    """Every reader has confirmed its writer by now: credit all passes of this microbatch, once."""
    stages = state.spec.model.stages
    for stage in range(stages):
        whole = state.spec.model.flops_share(stage) * stages
        backward = batch.gradient[stage]
        assert backward is not None
        forward = batch.forward[stage] if stage < stages - 1 else backward
        assert forward is not None
        for output, share in ((forward, 1 / 3), (backward, 2 / 3)):
            state.volume[output.hotkey] = state.volume.get(output.hotkey, 0.0) + whole * share
            if output.blob is not None:
                state.bytes_activations += output.blob.nbytes
    state.samples.append(Sample(batch.path, fsum(batch.losses) / len(batch.losses)))
    state.reports[-1].microbatches += 1
    return _forget(state, batch)


def _forget(state: RunState, batch: Microbatch) -> list[Action]:
    """Whoever ever worked on it may hold a graph or a blob of it, also where another's output was taken."""
    del state.batches[batch.id]
    hands = [Forget(hotkey, batch.id) for hotkey in batch.hands if hotkey in state.miners]
    return [*hands, ForgetBatch(batch.id)]


def failed(state: RunState, event: LeaseFailed) -> list[Action]:
    """A miner could not do a lease. If an input was missing or wrong, the step that made it comes back."""
    lease = state.leases.get(event.lease)
    if lease is None or lease.hotkey != event.hotkey:
        late = state.expired.get(event.lease)
        if late is not None and late.hotkey == event.hotkey:
            _close(state, late)
            return []
        return [Refuse(event.hotkey, f"failure of lease {event.lease}", "it is not a lease of yours that is open")]
    batch = state.batches[lease.batch]
    if event.kind == "input" and event.digest in [blob.digest for blob in batch.inputs(lease.op, lease.stage)]:
        return _failed(state, lease) + _unmake(state, batch, lease, event.digest)
    _strike(state, event.hotkey)
    return _failed(state, lease)


def _unmake(state: RunState, batch: Microbatch, lease: Lease, digest: str) -> list[Action]:
    """An input of `lease` cannot be had: let it be made again, by another replica where there is one."""
    if batch.id not in state.batches:
        return []
    sources: list[tuple[list[Output | None], int, Op]] = []
    if lease.stage > 0:
        sources.append((batch.forward, lease.stage - 1, "forward"))
    if lease.op == "backward":
        tail = lease.stage + 1 == len(batch.gradient) - 1
        sources.append((batch.gradient, lease.stage + 1, "loss" if tail else "backward"))
    for outputs, stage, op in sources:
        output = outputs[stage]
        if output is not None and output.blob is not None and output.blob.digest == digest:
            outputs[stage] = None
            _tried(batch, op, stage, output.hotkey)
    if batch.tokens is not None and batch.tokens.digest == digest:
        batch.tokens, batch.asked_at = None, state.now
        return [PublishBatch(batch.id)]
    return []


def _failed(state: RunState, lease: Lease) -> list[Action]:
    """Close a lease that came to nothing. Its microbatch goes to others at once, then rests longer every time."""
    _close(state, lease)
    batch = state.batches.get(lease.batch)
    if batch is None or batch.lease != lease.id:
        return []
    batch.lease = None
    batch.attempts += 1
    batch.rest_until = state.now + _rest(state, batch.attempts)
    _tried(batch, lease.op, lease.stage, lease.hotkey)
    if batch.attempts < MAX_ATTEMPTS:
        return []
    state.lost += 1
    return _forget(state, batch)


def _tried(batch: Microbatch, op: Op, stage: int, hotkey: str) -> None:
    tried = batch.tried.setdefault((op, stage), [])
    if hotkey not in tried:
        tried.append(hotkey)


def _strike(state: RunState, hotkey: str) -> None:
    """A miner's own failure: it rests, so that a broken machine cannot run through everybody's microbatches."""
    miner = state.miners.get(hotkey)
    if miner is not None:
        miner.strikes += 1
        miner.rest_until = state.now + _rest(state, miner.strikes)


def _rest(state: RunState, failures: int) -> float:
    """The first failure costs no time, another replica may be free; then 1, 2, 4 ... seconds, at most a lease's."""
    return 0.0 if failures < 2 else min(state.spec.swarm.lease_s, 2.0 ** (failures - 2))


def given_up(state: RunState) -> dict[str, str]:
    """Whose seat goes to somebody else, and why."""
    reason = f"{MAX_STRIKES} leases in a row failed or ran late; look at the miner's log and join again"
    return {miner.hotkey: reason for miner in state.miners.values() if miner.strikes >= MAX_STRIKES}


def _close(state: RunState, lease: Lease) -> None:
    state.leases.pop(lease.id, None)
    state.expired.pop(lease.id, None)
    miner = state.miners.get(lease.hotkey)
    if miner is not None:
        miner.leases.pop(lease.id, None)


def expire(state: RunState) -> list[Action]:
    """Take back every lease whose deadline has passed; its work may still arrive late. Ask again for lost tokens."""
    actions: list[Action] = []
    for lease in [lease for lease in state.leases.values() if lease.deadline <= state.now]:
        _strike(state, lease.hotkey)
        actions += _failed(state, lease)
        _remember(state, lease)
        actions.append(
            WithdrawLease(lease.hotkey, lease.id, "the deadline has passed; late work is taken while needed")
        )
    for batch in state.batches.values():
        if batch.tokens is None and state.now >= batch.asked_at + state.spec.swarm.lease_s:
            batch.asked_at = state.now
            actions.append(PublishBatch(batch.id))
    return actions


def release(state: RunState, miner: Miner) -> list[Action]:
    """Take back all leases of a miner that is gone."""
    actions: list[Action] = []
    for lease_id in list(miner.leases):
        lease = state.leases[lease_id]
        actions += _failed(state, lease)
        _remember(state, lease)
    return actions


def _remember(state: RunState, lease: Lease) -> None:
    state.expired[lease.id] = lease
    while len(state.expired) > MAX_EXPIRED:
        del state.expired[next(iter(state.expired))]
