"""Whose epoch is computed again, and what follows from what was found.

Law: who is audited is drawn from a secret when it installs a state, so nothing that it does can depend on it; it shows
only after the miner has committed to its pseudo-gradient and to the transcript of its passes. The books kept here say
what the miner was given and what its receipts said while the epoch trained; whether that is what an honest replica
computes is for the auditor to say (`train/replay.py`), in its own time: nobody waits for it.

A false pass leads to others: all who had a hand in the same microbatch are audited in full, once, for that epoch. Who
lets a friend skip work has skipped its own there, and will be honest from now on.

A failed audit is a fault: the window pays nothing and the seat is lost. Who does not show what it must keep is not paid
for that epoch, because a machine may crash; the second time it is a fault. An auditor that could not look says nothing.
"""

from __future__ import annotations

from iota_subnet.core import scoring
from iota_subnet.core.actions import Action, AuditMiner, PublishScores
from iota_subnet.core.draw import digest
from iota_subnet.core.events import LeaseFailed, LeaseFinished, MinerAudited
from iota_subnet.core.state import Fault, Lease, Miner, Open, Phase, RunState, Verdict, Watch, Watched

#: To look up an enumeration's member costs as much as two calls.
TRAIN = Phase.TRAIN

#: Verdicts of one hotkey by one auditor that are remembered.
MAX_VERDICTS = 8

#: First passes that are looked at where not all are; beyond it, all might as well be.
MAX_DEPTH = 1 << 16

#: Optimiser steps by which replicas of one run may differ from what was last heard of them.
SLACK = 2


def draws(state: RunState, hotkey: str, epoch: int) -> tuple[tuple[str, int], ...]:
    """Which validators audit `hotkey` in `epoch` ("" is the orchestrator), and how many of its first passes; 0 is all.

    The chance that pass number d, counted from 1, is looked at is `audit_passes` / d, and `audit_miners` that all of it
    is. So who cheats from the start is found at little cost, and who begins late still cheats on less. Nobody who lacks
    a secret can tell.
    """
    swarm = state.spec.swarm
    found: list[tuple[str, int]] = []
    for auditor, secret in {"": state.secret, state.auditor: state.audit_secret or state.secret}.items():
        label = digest(secret, "miner", epoch, hotkey)
        whole, depth = (int.from_bytes(part, "big") / 2.0**64 for part in (label[:8], label[8:16]))
        if whole < swarm.audit_miners:
            found.append((auditor, 0))
        elif depth < swarm.audit_passes:
            found.append((auditor, min(MAX_DEPTH, int(swarm.audit_passes / max(depth, 2.0**-64)))))
    return tuple(found)


def begin(state: RunState, miner: Miner, epoch: int) -> None:
    """A replica has installed the state of `epoch`: from here on its passes are determined. Books are kept of all,
    because a verdict on another may lead to anybody."""
    base, before = state.manifests[miner.stage], state.watched.pop(miner.hotkey, None)
    if before is not None and (before.boot, before.base) == (miner.boot, base):
        # It had lost its seat and has it again: the process and what it holds are the same, its transcript goes on.
        state.watched[miner.hotkey] = before
        return
    swarm = state.spec.swarm
    # What a replica carries over depends on more than the manifest: with overlap there is nothing to compute again.
    if swarm.overlap or not (swarm.audit_miners or swarm.audit_passes):
        return
    by = draws(state, miner.hotkey, epoch)
    steps = [*state.steps.values(), miner.inner_step]
    watch = Watch(miner.stage, epoch, miner.boot, by, base, state.next_lease, min(steps), max(steps) + SLACK)
    for number in miner.leases:
        note(state, watch, state.leases[number])
    for lease in state.expired.values():
        if lease.hotkey == miner.hotkey:
            note(state, watch, lease)
    state.watched[miner.hotkey] = watch


def note(state: RunState, watch: Watch, lease: Lease) -> None:
    """A lease that the miner has, with what it reads."""
    batch = state.batches.get(lease.batch)
    if batch is not None and batch.tokens is not None and _readable(state, lease):
        watch.leases[lease.id] = Watched(lease.op, lease.batch, batch.inputs(lease.op, lease.stage))


def _readable(state: RunState, lease: Lease) -> bool:
    """Whether the inputs of a lease are still known: an output that was lost is made again under another name."""
    batch = state.batches[lease.batch]
    before = lease.stage == 0 or batch.forward[lease.stage - 1] is not None
    return before and (lease.op != "backward" or batch.gradient[lease.stage + 1] is not None)


def finished(state: RunState, watch: Watch, event: LeaseFinished) -> None:
    """A receipt that was taken. What is said once COMMIT has opened may belong to passes after the transcript."""
    known = watch.leases.get(event.lease)
    if known is not None and state.phase is TRAIN:
        known.output, known.losses, known.done = event.output, event.losses, True


def refused(state: RunState, event: LeaseFailed) -> None:
    """It says that bytes which it has read are unfit; whether they are, its next audit will see."""
    watch = state.watched.get(event.hotkey)
    known = watch.leases.get(event.lease) if watch is not None else None
    if known is not None and state.phase is Phase.TRAIN:
        known.blamed = event.digest


def open_all(state: RunState) -> list[Action]:
    """REDUCE opens: everybody has committed. Let those who were drawn be looked at."""
    actions: list[Action] = []
    watched, state.watched, state.shown = state.watched, {}, {}
    for hotkey, watch in watched.items():
        merge = state.merges[watch.stage]
        worked = watch.epoch == state.epoch and any(lease.done for lease in watch.leases.values())
        if not worked or hotkey not in merge.commits or hotkey not in merge.transcripts:
            continue
        watch.transcript, watch.shards = merge.transcripts[hotkey], merge.commits[hotkey][1]
        state.shown[hotkey] = watch
        for auditor, depth in watch.by:
            actions.append(_ask(state, hotkey, watch, auditor, depth))
    return actions


def _ask(state: RunState, hotkey: str, watch: Watch, auditor: str, depth: int) -> Action:
    """Have one miner's epoch computed again, all of it if `depth` is 0."""
    assert watch.transcript is not None
    order = AuditMiner(
        hotkey=hotkey,
        stage=watch.stage,
        epoch=watch.epoch,
        auditor=auditor,
        depth=depth,
        base=watch.base,
        first_lease=watch.first_lease,
        steps=(watch.lowest, watch.highest),
        leases=tuple(
            (number, lease.op, lease.batch, lease.inputs, lease.output, lease.losses, lease.done, lease.blamed)
            for number, lease in watch.leases.items()
        ),
        transcript=watch.transcript,
        shards=watch.shards,
    )
    state.open_audits[hotkey, watch.epoch, auditor] = Open(state.now, order)
    if not depth:
        watch.whole.append(auditor)
    for report in state.reports:
        report.audits += report.epoch == watch.epoch and auditor == state.auditor
    return order


def _follow(state: RunState, event: MinerAudited) -> list[Action]:
    """Whom a verdict leads to: all with a hand in the microbatches of the false passes. An audit that is under way is
    waited for; who did not show its evidence there is not asked again."""
    found: list[str] = []
    if event.verdict == "failed" and event.batches:
        for hotkey, watch in state.shown.items():
            if watch.epoch == event.epoch and hotkey != event.hotkey and _had_a_hand(watch, event.batches):
                watch.doubted.append(event.auditor)
                found.append(hotkey)
    elif event.verdict in ("sound", "void"):
        found.append(event.hotkey)
    actions: list[Action] = []
    for hotkey in found:
        shown = state.shown.get(hotkey)
        if shown is None or shown.epoch != event.epoch or event.auditor not in shown.doubted:
            continue
        if event.auditor not in shown.whole and (hotkey, event.epoch, event.auditor) not in state.open_audits:
            actions.append(_ask(state, hotkey, shown, event.auditor, 0))
    return actions


def _had_a_hand(watch: Watch, batches: tuple[int, ...]) -> bool:
    return any(lease.batch in batches and lease.done for lease in watch.leases.values())


def resend(state: RunState) -> list[Action]:
    """A new process: whatever the auditor still owes is asked for again."""
    return [found.order for found in state.open_audits.values()]


def expire(state: RunState) -> None:
    """What was not answered for so long cannot be answered any more: the bytes are gone."""
    patience = state.spec.swarm.audit_s
    state.open_audits = {
        key: found for key, found in state.open_audits.items() if state.now < found.asked_at + patience
    }
    oldest = state.now - state.spec.swarm.score_window_s
    kept = {h: [v for v in verdicts if v.at > oldest] for h, verdicts in state.verdicts.items()}
    state.verdicts = {hotkey: verdicts for hotkey, verdicts in kept.items() if verdicts}


def concluded(state: RunState, event: MinerAudited) -> list[Action]:
    """A word on one miner's epoch. Who keeps its seat is for the orchestrator to say; what somebody has earned is for
    each validator to say, by its own word alone."""
    if state.open_audits.pop((event.hotkey, event.epoch, event.auditor), None) is None:
        return []
    actions = _follow(state, event)
    if event.verdict == "void":
        return actions
    verdicts = state.verdicts.setdefault(event.hotkey, [])
    verdicts.append(
        Verdict(state.now, event.epoch, event.verdict, event.reason, event.passes, event.losses, event.auditor)
    )
    mine = [known for known in verdicts if known.auditor == event.auditor]
    if len(mine) > MAX_VERDICTS:
        verdicts.remove(mine.pop(0))
    withheld = sum(known.verdict == "withheld" for known in mine)
    fault = event.reason if event.verdict == "failed" else ""
    if event.verdict == "withheld" and withheld > 1:
        fault = f"evidence withheld {withheld} times: {event.reason}"
    if fault and not event.auditor and event.hotkey in state.miners:
        state.expelled[event.hotkey] = f"an audit of epoch {event.epoch} failed: {fault}"
    if event.auditor != state.auditor or event.verdict == "sound":
        return actions
    for report in state.reports:
        report.audits_failed += report.epoch == event.epoch
    for part in state.parts.get(event.hotkey, []):
        if part.epoch == event.epoch:
            part.standing = 0.0
    if fault:
        state.faults.append(Fault(state.now, event.epoch, event.hotkey, f"audit: {fault}"))
    scored = next((report for report in reversed(state.reports) if report.scores), None)
    if scored is None:
        return actions
    scored.scores = scoring.scores(state)
    return [*actions, PublishScores(scored.epoch, tuple(scored.scores.items()))]
