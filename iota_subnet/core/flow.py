"""Microbatches from their opening to their retirement.

Law: whatever is opened is retired and paid once, or counted as lost; all who worked on it are told when it is over.
"""

from __future__ import annotations

from math import fsum

from iota_subnet.core import choice
from iota_subnet.core.actions import Action, Forget, ForgetBatch, PublishBatch
from iota_subnet.core.clasp import Sample
from iota_subnet.core.deadlines import Due
from iota_subnet.core.events import BatchPublished
from iota_subnet.core.speed import NEWEST
from iota_subnet.core.state import Microbatch, Phase, RunState

#: In a large swarm room for thousands may appear at once: one event opens no more than these, the next goes on.
MOST_AT_ONCE = 64


def open_more(state: RunState) -> list[Action]:
    """As many microbatches as the window has room for, unless the epoch has enough or drains."""
    actions: list[Action] = []
    index = state.index
    index.settle(state)
    live = len(state.batches)
    if state.draining or live >= index.graphs:
        return actions
    limit = choice.window(state)
    if live >= limit:
        return actions
    limit = min(limit, live + MOST_AT_ONCE)
    stages = state.spec.model.stages
    while len(state.batches) < limit and not full(state):
        batch = Microbatch(
            state.next_batch, state.epoch, state.now, [None] * stages, [None] * stages, chances=[0.0] * stages
        )
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


def published(state: RunState, event: BatchPublished) -> list[Action]:
    """The feed has a microbatch ready."""
    batch = state.batches.get(event.batch)
    if batch is not None and batch.tokens is None:
        batch.tokens, batch.difficulty = event.tokens, event.difficulty
        state.index.batch(batch.id)
    return []


def ask(state: RunState, batch: Microbatch) -> PublishBatch:
    """Have the feed publish, and remember to ask again."""
    batch.asked_at = state.now
    state.index.dues.add(state.now + state.spec.swarm.lease_s, Due.TOKENS, batch.id)
    return PublishBatch(batch.id)


def retire(state: RunState, batch: Microbatch) -> list[Action]:
    """Every reader has confirmed its writer by now: credit all passes of this microbatch, once."""
    volume, tail = state.volume, len(batch.gradient) - 1
    for stage, whole in enumerate(state.index.shares):
        backward = batch.gradient[stage]
        forward = batch.forward[stage] if stage < tail else backward
        assert forward is not None and backward is not None
        paid = volume.get(forward.hotkey, 0.0) + whole * (1 / 3)
        if forward.hotkey != backward.hotkey:
            volume[forward.hotkey] = paid
            paid = volume.get(backward.hotkey, 0.0)
        volume[backward.hotkey] = paid + whole * (2 / 3)
        for output in (forward, backward):
            if output.blob is not None:
                state.bytes_activations += output.blob.nbytes
    state.samples.append(
        Sample(
            batch.path, fsum(batch.losses) / len(batch.losses), batch.propensity, batch.difficulty, batch.measured_at
        )
    )
    if state.phase is Phase.INSTALL:
        # The epoch has been scored: what is done from here on is the next one's.
        state.early += 1
    else:
        state.reports[-1].microbatches += 1
    age = state.now - batch.opened_at
    state.age = state.age + NEWEST * (age - state.age) if state.age else age
    return forget(state, batch)


def forget(state: RunState, batch: Microbatch) -> list[Action]:
    """Whoever ever worked on it may hold a graph or a blob of it, also where another's output was taken."""
    del state.batches[batch.id]
    state.index.batch(batch.id)
    for hotkey in batch.holders():
        state.index.hold(hotkey, -1)
    hands = [Forget(hotkey, batch.id) for hotkey in dict.fromkeys(batch.hands) if hotkey in state.miners]
    return [*hands, ForgetBatch(batch.id)]
