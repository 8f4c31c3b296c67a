"""Who works on what. Law: at most one open lease per microbatch; what is next is derived, so a lost output is redone.

Backward work goes first, and to the miner that made the forward pass while it lives: it holds the graph. All else is
drawn at random within capacity, because CLASP needs random pathways; the propensity of each draw is kept.
"""

from __future__ import annotations

from hashlib import blake2b
from math import fsum

from iota_subnet.core import choice, receipts, trust
from iota_subnet.core.actions import Action, Forget, ForgetBatch, GiveLease, Op, PublishBatch, Refuse, WithdrawLease
from iota_subnet.core.clasp import Sample
from iota_subnet.core.deadlines import Due
from iota_subnet.core.events import BatchPublished, LeaseFailed, LeaseFinished
from iota_subnet.core.speed import NEWEST, overran, patience, timed
from iota_subnet.core.state import MAX_STRIKES, Lease, Microbatch, Miner, Output, Phase, RunState

#: A microbatch that failed this often has something wrong with it; it is counted as lost, never silently dropped.
MAX_ATTEMPTS = 40

#: Reports of the inner step that are kept; their median is told to who joins.
MAX_STEPS = 64

#: Leases that ran late are remembered, so that late work is still credited while it is needed.
MAX_EXPIRED = 1024


#: As an integer: Python's collector keeps looking at tuples with an enumeration's member in them.
LEASE = int(Due.LEASE)


def fill(state: RunState) -> list[Action]:
    """Open microbatches and give out every lease that has a taker. Looks only where something has changed."""
    if not state.working:
        return []
    index = state.index
    actions = _open(state)
    while index.hot or index.keen:
        # Who holds graphs is served first, then backward before forward.
        if index.keen:
            keen, index.keen = index.keen, {}
            for hotkey in sorted(keen):
                _serve_keeper(state, hotkey, actions)
        if index.hot:
            hot, index.hot = index.hot, {}
            for queue in sorted(hot):
                _serve_stage(state, queue, actions)
    return actions


def _serve_keeper(state: RunState, hotkey: str, actions: list[Action]) -> None:
    """Backward passes that wait for the miner that holds their graphs."""
    miner = state.miners.get(hotkey)
    while miner is not None and len(miner.leases) < state.spec.swarm.leases_per_miner:
        number = state.index.first(hotkey)
        if number is None:
            break
        actions.append(_give(state, state.batches[number], miner))


def _serve_stage(state: RunState, queue: int, actions: list[Action]) -> None:
    """Steps that any replica of a stage may do, the oldest microbatch first."""
    index = state.index
    skipped: list[int] = []
    stage = index.stages[queue // 2]
    while stage.room.mask:
        number = index.first(queue)
        if number is None:
            break
        batch = state.batches[number]
        found = choice.taker(state, batch, stage, _seed(state, number, queue, batch.attempts))
        if found is None:
            index.skip(queue)
            skipped.append(number)
        else:
            actions.append(_give(state, batch, *found))
    if skipped:
        index.back(queue, skipped)


def _seed(state: RunState, batch: int, queue: int, attempts: int) -> bytes:
    """The chance that one taker is drawn with: 16 bytes."""
    return blake2b(b"%d %d %d" % (batch, queue, attempts), digest_size=16, key=state.index.key).digest()


def resend(state: RunState, miner: Miner) -> list[Action]:
    """The open leases of a miner that has come back: the same ones, so asking twice is harmless."""
    return [_message(state, state.leases[lease]) for lease in miner.leases]


def _open(state: RunState) -> list[Action]:
    actions: list[Action] = []
    index = state.index
    index.settle(state)
    if state.draining or len(state.batches) >= index.graphs:
        return actions
    limit = choice.window(state)
    stages = state.spec.model.stages
    while len(state.batches) < limit and not full(state):
        batch = Microbatch(state.next_batch, state.epoch, state.now, [None] * stages, [None] * stages)
        state.next_batch += 1
        state.opened += 1
        state.opened_total += 1
        state.batches[batch.id] = batch
        actions.append(ask(state, batch))
    return actions


def full(state: RunState) -> bool:
    """Whether the epoch has enough: `epoch_batches` were opened, and a quorum of replicas counts in the merge.

    Past `epoch_batches` more is opened while the quorum is short, or many replicas would share too little for ever.
    """
    swarm = state.spec.swarm
    if state.opened < swarm.epoch_batches:
        return False
    index = state.index
    return index.ready > 0 and index.enough >= swarm.quorum * index.ready


def _give(state: RunState, batch: Microbatch, miner: Miner, chance: float = 1.0) -> Action:
    index = state.index
    _, _, op, stage = index.take(batch.id)
    deadline = state.now + patience(state, miner, op)
    lease = Lease(state.next_lease, miner.hotkey, batch.id, op, stage, state.epoch, state.now, deadline, chance)
    state.next_lease += 1
    state.leases[lease.id] = lease
    miner.leases[lease.id] = None
    batch.lease = lease.id
    batch.hands[miner.hotkey] = None
    index.dues.add(deadline, LEASE, lease.id)
    index.loaded(state, miner)
    return _message(state, lease)


def _message(state: RunState, lease: Lease) -> Action:
    inputs = state.batches[lease.batch].inputs(lease.op, lease.stage)
    return GiveLease(lease.hotkey, lease.id, lease.op, lease.batch, lease.stage, lease.epoch, inputs, lease.deadline)


def published(state: RunState, event: BatchPublished) -> list[Action]:
    """The feed has a microbatch ready."""
    batch = state.batches.get(event.batch)
    if batch is not None and batch.tokens is None:
        batch.tokens = event.tokens
        state.index.batch(batch.id)
    return []


def ask(state: RunState, batch: Microbatch) -> PublishBatch:
    """Have the feed publish, and remember to ask again."""
    batch.asked_at = state.now
    state.index.dues.add(state.now + state.spec.swarm.lease_s, Due.TOKENS, batch.id)
    return PublishBatch(batch.id)


def finished(state: RunState, event: LeaseFinished) -> list[Action]:
    """A receipt: close the lease, or credit late work that is still needed."""
    lease = state.leases.get(event.lease) or state.expired.get(event.lease)
    if lease is None or lease.hotkey != event.hotkey:
        return [Refuse(event.hotkey, f"receipt for lease {event.lease}", "it is not a lease of yours that is open")]
    problem = receipts.problem(state, lease, event)
    if problem:
        _strike(state, event.hotkey)
        return [*_failed(state, lease), Refuse(event.hotkey, f"receipt for lease {event.lease}", problem)]
    actions: list[Action] = []
    miner = state.miners.get(event.hotkey)
    if miner is not None and lease.opened_at >= miner.joined_at:
        timed(state, miner, lease)
    batch = state.batches.get(lease.batch)
    # An open lease is its microbatch's next step.
    if batch is None or (batch.lease != lease.id and batch.next_step() != (lease.op, lease.stage)):
        _close(state, lease)
        return [Refuse(event.hotkey, f"receipt for lease {event.lease}", "another replica has already done this step")]
    if batch.lease is not None and batch.lease != lease.id:
        other = state.leases[batch.lease]
        _close(state, other)
        actions.append(WithdrawLease(other.hotkey, other.id, "a late receipt of another replica arrived first"))
    _end(state, lease, miner)
    batch.lease, batch.rest_until = None, 0.0
    output = Output(event.hotkey, event.output)
    last = lease.op != "forward" and lease.stage == 0
    if state.complaints:
        _praise(state, batch, lease)
    if lease.op == "forward":
        batch.forward[lease.stage] = output
        state.index.hold(output.hotkey, 1)
    else:
        batch.gradient[lease.stage] = output
        made = batch.forward[lease.stage]
        if made is not None:
            state.index.hold(made.hotkey, -1)
    if lease.op != "backward":
        batch.chances[lease.stage] = lease.chance
    if lease.op == "loss":
        batch.losses, batch.path = event.losses, batch.pathway()
        batch.propensity = tuple(batch.chances[stage] for stage in range(lease.stage + 1))
    if miner is not None:
        miner.done += 1
        if miner.strikes or miner.rest_until:
            miner.strikes, miner.rest_until = 0, 0.0
            state.index.miner(miner.hotkey)
        miner.inner_step = event.inner_step
        _report(state, miner)
        miner.seconds = event.seconds if miner.done == 1 else 0.9 * miner.seconds + 0.1 * event.seconds
        if lease.op != "forward" and lease.opened_at >= miner.joined_at:
            # Work of an earlier process is credited, but it is not in what this one will commit.
            miner.batches += 1
            if miner.batches == state.spec.swarm.min_batches:
                state.index.miner(miner.hotkey)
        state.index.loaded(state, miner)
    if last and batch.next_step() is None:
        return actions + _retire(state, batch)
    state.index.placed(state, batch)
    return actions


def _praise(state: RunState, batch: Microbatch, lease: Lease) -> None:
    """Whoever made the inputs of a step that is done has served them."""
    makers = [batch.forward[lease.stage - 1]] if lease.stage else []
    if lease.op == "backward":
        makers.append(batch.gradient[lease.stage + 1])
    for output in makers:
        if output is not None:
            trust.praise(state, lease.hotkey, output.hotkey)


def _retire(state: RunState, batch: Microbatch) -> list[Action]:
    """Every reader has confirmed its writer by now: credit all passes of this microbatch, once."""
    stages = state.spec.model.stages
    for stage in range(stages):
        whole = state.index.shares[stage]
        backward = batch.gradient[stage]
        assert backward is not None
        forward = batch.forward[stage] if stage < stages - 1 else backward
        assert forward is not None
        for output, share in ((forward, 1 / 3), (backward, 2 / 3)):
            state.volume[output.hotkey] = state.volume.get(output.hotkey, 0.0) + whole * share
            if output.blob is not None:
                state.bytes_activations += output.blob.nbytes
    state.samples.append(Sample(batch.path, fsum(batch.losses) / len(batch.losses), batch.propensity))
    if state.phase is Phase.INSTALL:
        # The epoch has been scored: what is done from here on is the next one's.
        state.early += 1
    else:
        state.reports[-1].microbatches += 1
    age = state.now - batch.opened_at
    state.age = state.age + NEWEST * (age - state.age) if state.age else age
    return _forget(state, batch)


def _forget(state: RunState, batch: Microbatch) -> list[Action]:
    """Whoever ever worked on it may hold a graph or a blob of it, also where another's output was taken."""
    del state.batches[batch.id]
    state.index.batch(batch.id)
    for hotkey in batch.holders():
        state.index.hold(hotkey, -1)
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
            trust.complain(state, lease.hotkey, output.hotkey)
            _drop_output(state, batch, outputs, stage)
            _tried(batch, op, stage, output.hotkey)
    if batch.tokens is not None and batch.tokens.digest == digest:
        batch.tokens = None
        return [ask(state, batch)]
    return []


def _drop_output(state: RunState, batch: Microbatch, outputs: list[Output | None], stage: int) -> None:
    """Clear an output, so that its maker's step comes back."""
    before = batch.holders()
    outputs[stage] = None
    after = batch.holders()
    for hotkey in before:
        state.index.hold(hotkey, -1)
    for hotkey in after:
        state.index.hold(hotkey, 1)
    state.index.batch(batch.id)


def _failed(state: RunState, lease: Lease) -> list[Action]:
    """Close a lease that came to nothing. Its microbatch goes to others at once, then rests longer every time."""
    _close(state, lease)
    batch = state.batches.get(lease.batch)
    if batch is None or batch.lease != lease.id:
        return []
    batch.lease = None
    batch.attempts += 1
    batch.rest_until = state.now + _rest(state, batch.attempts)
    state.index.wakes.add(batch.rest_until, Due.PAUSE, batch.id)
    state.index.batch(batch.id)
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
        state.index.wakes.add(miner.rest_until, Due.REST, hotkey)
        state.index.miner(hotkey)


def _rest(state: RunState, failures: int) -> float:
    """The first failure costs no time, another replica may be free; then 1, 2, 4 ... seconds, at most a lease's."""
    return 0.0 if failures < 2 else min(state.spec.swarm.lease_s, 2.0 ** (failures - 2))


def given_up(miner: Miner) -> str:
    """Why its seat goes to somebody else, or nothing."""
    if miner.strikes < MAX_STRIKES:
        return ""
    return f"{MAX_STRIKES} leases in a row failed or ran late; look at the miner's log and join again"


def _report(state: RunState, miner: Miner) -> None:
    """Where the miner stands in the learning-rate schedule, for those who join later."""
    state.steps.pop(miner.hotkey, None)
    state.steps[miner.hotkey] = miner.inner_step
    if len(state.steps) > MAX_STEPS:
        del state.steps[next(iter(state.steps))]


def _close(state: RunState, lease: Lease) -> None:
    _end(state, lease, state.miners.get(lease.hotkey))
    state.index.load(lease.hotkey)


def _end(state: RunState, lease: Lease, miner: Miner | None) -> None:
    """`_close`, for who tells the index."""
    if state.leases.pop(lease.id, None) is None:
        state.expired.pop(lease.id, None)
    if miner is not None:
        miner.leases.pop(lease.id, None)


def expire(state: RunState) -> list[Action]:
    """Take back every lease whose deadline has passed; its work may still arrive late. Ask again for lost tokens."""
    actions: list[Action] = []
    for when, kind, key in state.index.dues.pop(state.now):
        number = int(key)
        if kind == Due.LEASE:
            lease = state.leases.get(number)
            if lease is not None and lease.deadline <= when:
                actions += _expire_lease(state, lease)
            continue
        batch = state.batches.get(number)
        if batch is not None and batch.tokens is None and when >= batch.asked_at + state.spec.swarm.lease_s:
            actions.append(ask(state, batch))
    return actions


def _expire_lease(state: RunState, lease: Lease) -> list[Action]:
    miner = state.miners.get(lease.hotkey)
    if miner is not None:
        # Its strike, below, has the index look at it.
        overran(state, miner, lease)
    _strike(state, lease.hotkey)
    actions = _failed(state, lease)
    _remember(state, lease)
    reason = "the deadline has passed; late work is taken while needed"
    return [*actions, WithdrawLease(lease.hotkey, lease.id, reason)]


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
