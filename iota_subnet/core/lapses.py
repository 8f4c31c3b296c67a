"""Work that came to nothing: a lease that failed, ran late, or whose miner is gone.

Law: the step comes back and goes to others first; who failed rests, longer every time, and so does what keeps failing;
late work is remembered, so that it still counts while it is needed. Nothing is dropped but a microbatch that nobody can
do, and that is counted.
"""

from __future__ import annotations

from iota_subnet.core import audits, flow, trust
from iota_subnet.core.actions import Action, Op, Refuse, WithdrawLease
from iota_subnet.core.deadlines import Due
from iota_subnet.core.events import LeaseFailed
from iota_subnet.core.speed import overran
from iota_subnet.core.state import MAX_STRIKES, Lease, Microbatch, Miner, Output, RunState

#: A microbatch that failed this often has something wrong with it; it is counted as lost, never silently dropped.
MAX_ATTEMPTS = 40

#: Leases that ran late are remembered, so that late work is still credited while it is needed.
MAX_EXPIRED = 1024


def failed(state: RunState, event: LeaseFailed) -> list[Action]:
    """A miner could not do a lease. If two of its readers could not use an input, the step that made it comes back."""
    lease = state.leases.get(event.lease)
    if lease is None or lease.hotkey != event.hotkey:
        late = state.expired.get(event.lease)
        if late is not None and late.hotkey == event.hotkey:
            close(state, late)
            return []
        return [Refuse(event.hotkey, f"failure of lease {event.lease}", "it is not a lease of yours that is open")]
    batch = state.batches[lease.batch]
    if event.kind != "work" and event.digest in [blob.digest for blob in batch.inputs(lease.op, lease.stage)]:
        if event.kind == "bytes":
            audits.refused(state, event)
        return lapse(state, lease) + _doubt(state, batch, lease, event.digest)
    strike(state, event.hotkey)
    return lapse(state, lease)


def _doubt(state: RunState, batch: Microbatch, lease: Lease, digest: str) -> list[Action]:
    """A reader could not use an input. One reader's word undoes nobody's work: where there is another one it is asked
    first, and if that one can use what was made, all that the first has lost is its own lease."""
    if batch.id not in state.batches:
        return []
    if batch.tokens is not None and batch.tokens.digest == digest:
        batch.tokens = None
        return [flow.ask(state, batch)]
    alone = all(blob != digest or reader == lease.hotkey for blob, reader in batch.doubts)
    another = len(batch.tried.get((lease.op, lease.stage), ())) < state.index.stages[lease.stage].ready
    batch.doubts = (*batch.doubts, (digest, lease.hotkey))
    for outputs, stage, op in _sources(batch, lease):
        output = outputs[stage]
        if output is None or output.blob is None or output.blob.digest != digest:
            continue
        trust.complain(state, lease.hotkey, output.hotkey)
        if not (alone and another):
            # Let it be made again, by another replica where there is one.
            _drop_output(state, batch, outputs, stage)
            _tried(batch, op, stage, output.hotkey)
    return []


def _sources(batch: Microbatch, lease: Lease) -> list[tuple[list[Output | None], int, Op]]:
    """The steps that made the inputs of a lease."""
    found: list[tuple[list[Output | None], int, Op]] = []
    if lease.stage > 0:
        found.append((batch.forward, lease.stage - 1, "forward"))
    if lease.op == "backward":
        tail = lease.stage + 1 == len(batch.gradient) - 1
        found.append((batch.gradient, lease.stage + 1, "loss" if tail else "backward"))
    return found


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


def lapse(state: RunState, lease: Lease) -> list[Action]:
    """Close a lease that came to nothing. Its microbatch goes to others at once, then rests longer every time."""
    close(state, lease)
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
    return flow.forget(state, batch)


def _tried(batch: Microbatch, op: Op, stage: int, hotkey: str) -> None:
    tried = batch.tried.setdefault((op, stage), [])
    if hotkey not in tried:
        tried.append(hotkey)


def strike(state: RunState, hotkey: str) -> None:
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


def close(state: RunState, lease: Lease) -> None:
    """End a lease, answered or not, and note how much its miner has to do now."""
    end(state, lease, state.miners.get(lease.hotkey))
    state.index.load(lease.hotkey)


def end(state: RunState, lease: Lease, miner: Miner | None) -> None:
    """`close`, for who tells the index."""
    if state.leases.pop(lease.id, None) is None:
        state.expired.pop(lease.id, None)
    if miner is not None:
        miner.leases.pop(lease.id, None)


def expire(state: RunState) -> list[Action]:
    """Take back every lease whose deadline has passed; its work may still arrive late. Ask again for lost tokens."""
    actions: list[Action] = []
    # Looked up once: most entries are of leases that are done.
    leases, of_lease = state.leases, Due.LEASE
    for when, kind, key in state.index.dues.pop(state.now):
        number = int(key)
        if kind == of_lease:
            lease = leases.get(number)
            if lease is not None and lease.deadline <= when:
                actions += _expire_lease(state, lease)
            continue
        batch = state.batches.get(number)
        if batch is not None and batch.tokens is None and when >= batch.asked_at + state.spec.swarm.lease_s:
            actions.append(flow.ask(state, batch))
    return actions


def _expire_lease(state: RunState, lease: Lease) -> list[Action]:
    miner = state.miners.get(lease.hotkey)
    if miner is not None:
        # Its strike, below, has the index look at it.
        overran(state, miner, lease)
    strike(state, lease.hotkey)
    actions = lapse(state, lease)
    _remember(state, lease)
    reason = "the deadline has passed; late work is taken while needed"
    return [*actions, WithdrawLease(lease.hotkey, lease.id, reason)]


def release(state: RunState, miner: Miner) -> list[Action]:
    """Take back all leases of a miner that is gone."""
    actions: list[Action] = []
    for lease_id in list(miner.leases):
        lease = state.leases[lease_id]
        actions += lapse(state, lease)
        _remember(state, lease)
    return actions


def _remember(state: RunState, lease: Lease) -> None:
    state.expired[lease.id] = lease
    while len(state.expired) > MAX_EXPIRED:
        del state.expired[next(iter(state.expired))]
