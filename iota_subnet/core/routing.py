"""Who works on what. Law: at most one open lease per microbatch; what is next is derived, so a lost output is redone.

Backward work goes first, and to the miner that made the forward pass while it lives: it holds the graph. All else is
drawn at random within capacity, because CLASP needs random pathways; the propensity of each draw is kept.
"""

from __future__ import annotations

from iota_subnet.core import audits, choice, flow, lapses, receipts, trust
from iota_subnet.core.actions import Action, GiveLease, Refuse, WithdrawLease
from iota_subnet.core.cards import Card
from iota_subnet.core.deadlines import Due
from iota_subnet.core.events import LeaseFinished
from iota_subnet.core.facts import where_of
from iota_subnet.core.speed import patience, timed
from iota_subnet.core.state import Lease, Microbatch, Miner, Output, Phase, RunState, Watched

#: Reports of the inner step that are kept; their median is told to who joins.
MAX_STEPS = 64

#: As an integer: Python's collector keeps looking at tuples with an enumeration's member in them.
LEASE = int(Due.LEASE)

#: To look up an enumeration's member costs as much as two calls.
TRAIN = Phase.TRAIN


def fill(state: RunState) -> list[Action]:
    """Open microbatches and give out every lease that has a taker. Looks only where something has changed."""
    if state.phase is not TRAIN and not state.working:
        return []
    index = state.index
    actions = flow.open_more(state)
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
    index = state.index
    card = index.cards.get(hotkey)
    if card is None or card.miner is None:
        return
    while len(card.miner.leases) < state.spec.swarm.leases_per_miner:
        number = index.home(card)
        if number is None:
            break
        actions.append(_give(state, state.batches[number], card))


def _serve_stage(state: RunState, queue: int, actions: list[Action]) -> None:
    """Steps that any replica of a stage may do, the oldest microbatch first."""
    index = state.index
    skipped: list[int] = []
    stage, waiting = index.stages[queue // 2], index.queues[queue]
    while waiting and stage.room.mask:
        number = index.first(queue)
        if number is None:
            break
        batch = state.batches[number]
        found = choice.taker(state, batch, stage, _seed(state, number, queue, batch.attempts))
        if found is None:
            index.skip(queue)
            skipped.append(number)
        else:
            slot, chance = found
            card = stage.slots[slot]
            assert card is not None
            actions.append(_give(state, batch, card, chance))
    if skipped:
        index.back(queue, skipped)


def _seed(state: RunState, batch: int, queue: int, attempts: int) -> bytes:
    """The chance that one taker is drawn with: 16 bytes."""
    found = state.index.chance.copy()
    found.update(b"%d %d %d" % (batch, queue, attempts))
    return found.digest()


def resend(state: RunState, miner: Miner) -> list[Action]:
    """The open leases of a miner that has come back: the same ones, so asking twice is harmless."""
    leases = [state.leases[number] for number in miner.leases]
    return [_message(state.batches[lease.batch], lease) for lease in leases]


def _give(state: RunState, batch: Microbatch, card: Card, chance: float = 1.0) -> Action:
    index, miner = state.index, card.miner
    assert miner is not None
    _, _, op, stage = index.take(batch.id)
    deadline = state.now + patience(state, miner, op)
    lease = Lease(state.next_lease, card.hotkey, batch.id, op, stage, state.epoch, state.now, deadline, chance)
    state.next_lease += 1
    state.leases[lease.id] = lease
    miner.leases[lease.id] = op
    batch.lease = lease.id
    batch.hands.append(card.hotkey)
    index.dues.add(deadline, LEASE, lease.id)
    index.loaded(state, card)
    message = _message(batch, lease)
    watch = state.watched.get(card.hotkey)
    if watch is not None:
        watch.leases[lease.id] = Watched(op, batch.id, message.inputs)
    return message


def _message(batch: Microbatch, lease: Lease) -> GiveLease:
    inputs = batch.inputs(lease.op, lease.stage)
    return GiveLease(lease.hotkey, lease.id, lease.op, lease.batch, lease.stage, lease.epoch, inputs, lease.deadline)


def finished(state: RunState, event: LeaseFinished) -> list[Action]:
    """A receipt: close the lease, or credit late work that is still needed."""
    lease = state.leases.get(event.lease) or state.expired.get(event.lease)
    if lease is None or lease.hotkey != event.hotkey:
        receipts.foreign(state, event)
        return [Refuse(event.hotkey, f"receipt for lease {event.lease}", "it is not a lease of yours that is open")]
    problem = receipts.problem(state, lease, event)
    if problem:
        lapses.strike(state, event.hotkey)
        return [*lapses.lapse(state, lease), Refuse(event.hotkey, f"receipt for lease {event.lease}", problem)]
    card = state.index.cards.get(event.hotkey)
    miner = card.miner if card is not None else None
    if miner is not None and lease.id >= miner.first_lease:
        timed(state, miner, lease)
    batch = state.batches.get(lease.batch)
    # An open lease is its microbatch's next step.
    if batch is None or (batch.lease != lease.id and batch.next_step() != (lease.op, lease.stage)):
        lapses.close(state, lease)
        return [Refuse(event.hotkey, f"receipt for lease {event.lease}", "another replica has already done this step")]
    actions: list[Action] = []
    if batch.lease is not None and batch.lease != lease.id:
        other = state.leases[batch.lease]
        lapses.close(state, other)
        actions.append(WithdrawLease(other.hotkey, other.id, "a late receipt of another replica arrived first"))
    lapses.end(state, lease, miner)
    batch.lease, batch.rest_until = None, 0.0
    if state.complaints:
        _praise(state, batch, lease)
    if event.hotkey in state.watched:
        audits.finished(state, state.watched[event.hotkey], event)
    _deliver(state.now, batch, lease, event)
    made = batch.forward[lease.stage]
    if made is not None:
        # A forward pass leaves a graph with its maker, a backward pass takes it away.
        graphs = 1 if lease.op == "forward" else -1
        if card is not None and miner is not None and made.hotkey == card.hotkey:
            # `loaded`, below, looks at it at once.
            card.held += graphs
        else:
            state.index.hold(made.hotkey, graphs)
    if card is not None and miner is not None:
        _credit(state, miner, lease, event)
        state.index.loaded(state, card)
    # It was the next step: all before it are there too.
    done = batch.steps_until(lease.op, lease.stage)
    if done == 2 * state.spec.model.stages - 1:
        return actions + flow.retire(state, batch)
    state.index.place(batch.id, where_of(state, batch, done))
    return actions


def _deliver(at: float, batch: Microbatch, lease: Lease, event: LeaseFinished) -> None:
    """Put what a lease has made where the next step finds it."""
    op, stage, output = lease.op, lease.stage, Output(event.hotkey, event.output)
    if op == "forward":
        batch.forward[stage] = output
    else:
        batch.gradient[stage] = output
    if op != "backward":
        batch.chances[stage] = lease.chance
    if op == "loss":
        batch.losses, batch.path = event.losses, batch.pathway()
        batch.measured_at = at
        batch.propensity = tuple(batch.chances)


def _credit(state: RunState, miner: Miner, lease: Lease, event: LeaseFinished) -> None:
    """What a receipt says of its miner: it is well, and has done so much. Its volume is paid when all is done."""
    miner.done += 1
    if miner.strikes or miner.rest_until:
        miner.strikes, miner.rest_until = 0, 0.0
        state.index.miner(miner.hotkey)
    miner.seconds = event.seconds if miner.done == 1 else 0.9 * miner.seconds + 0.1 * event.seconds
    if lease.op == "forward":
        return
    miner.inner_step = event.inner_step
    # Where it stands in the learning-rate schedule, for those who join later: the newest reports, in order.
    state.steps.pop(miner.hotkey, None)
    state.steps[miner.hotkey] = event.inner_step
    if len(state.steps) > MAX_STEPS:
        del state.steps[next(iter(state.steps))]
    if lease.id >= miner.first_lease:
        # Work of an earlier process, or in another stage, is credited, but it is not in what this one will commit.
        miner.batches += 1
        if miner.batches == state.spec.swarm.min_batches:
            state.index.miner(miner.hotkey)


def _praise(state: RunState, batch: Microbatch, lease: Lease) -> None:
    """Whoever made the inputs of a step that is done has served them."""
    makers = [batch.forward[lease.stage - 1]] if lease.stage else []
    if lease.op == "backward":
        makers.append(batch.gradient[lease.stage + 1])
    for output in makers:
        if output is not None:
            trust.praise(state, lease.hotkey, output.hotkey)
