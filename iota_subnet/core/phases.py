"""When the run moves on: WAIT -> (TRAIN -> COMMIT -> REDUCE -> INSTALL)* -> DONE.

Law: a phase has a deadline, a quorum and a reason for waiting that a person can read; no dead miner can block one.
"""

from __future__ import annotations

from iota_subnet.core import assignment, audits, balance, flow, merge, recompute, safety, scoring
from iota_subnet.core.actions import Action, PublishScores, SetPhase
from iota_subnet.core.draw import commitment, salt
from iota_subnet.core.state import EpochReport, Miner, Phase, RunState

TRAIN = Phase.TRAIN


def advance(state: RunState) -> list[Action]:
    """Move on as far as the rules allow, and say what is waited for."""
    actions: list[Action] = []
    while True:
        state.index.settle(state)
        phase, epoch = state.phase, state.epoch
        # An enumeration's member as a key costs a call in Python, with every event.
        actions += _train(state) if phase is TRAIN else _STEPS[phase](state)
        if state.phase is phase and state.epoch == epoch:
            return actions


def announce(state: RunState, miner: Miner) -> SetPhase:
    """The phase, as this miner must see it: whether it shall commit, and what it shall install."""
    mine = state.merges[miner.stage] if 0 <= miner.stage < len(state.merges) else None
    shards = 0
    if state.phase is Phase.COMMIT and mine and miner.hotkey in mine.eligible and miner.hotkey not in mine.commits:
        shards = mine.shard_count
    install = state.phase is Phase.INSTALL and miner.stage >= 0 and miner.installed <= state.epoch
    return SetPhase(
        miner.hotkey,
        state.phase.value,
        state.epoch,
        state.deadline,
        state.waiting_for,
        commitment(salt(state.secret, state.epoch)),
        shards,
        state.manifests[miner.stage] if install else None,
    )


def _enter(state: RunState, phase: Phase, seconds: float, reason: str) -> list[Action]:
    state.phase = phase
    state.phase_since = state.now
    state.deadline = state.now + seconds
    state.waiting_for = reason
    return [announce(state, miner) for miner in state.miners.values() if miner.connected]


def _wait(state: RunState) -> list[Action]:
    if not state.manifests:
        return []
    empty = state.index.empty
    if empty:
        state.waiting_for = f"a miner for stage {', '.join(map(str, empty))}"
        state.deadline = state.now + state.spec.swarm.start_s
        return balance.rescue(state)
    ready = state.index.ready
    if ready < state.spec.swarm.start_miners and state.now < state.deadline:
        state.waiting_for = f"{ready} of {state.spec.swarm.start_miners} miners are ready"
        return []
    return _start_epoch(state)


def _start_epoch(state: RunState) -> list[Action]:
    state.draining = False
    if not state.spec.swarm.overlap:
        # With it, they have been counted since the last COMMIT.
        state.opened = len(state.batches)
    state.merges = []
    state.reports.append(EpochReport(state.epoch, state.now, microbatches=state.early))
    state.early = 0
    # Whoever holds the new epoch's manifest is ready from here on, and nobody else.
    state.index.rebuild(state)
    moved = balance.even_out(state) if state.epoch else []
    return moved + _enter(state, Phase.TRAIN, state.spec.swarm.train_s, "miners train")


def _help(state: RunState, empty: list[int]) -> list[Action]:
    """For stages in which nobody can work."""
    return balance.rescue(state) + safety.watch(state, empty)


def _train(state: RunState) -> list[Action]:
    swarm = state.spec.swarm
    empty = state.index.empty
    state.waiting_for = f"a miner for stage {', '.join(map(str, empty))}" if empty else "miners train"
    actions = _help(state, empty) if empty else []
    if not state.draining:
        full = flow.full(state)
        if not full and state.now < state.deadline:
            return actions
        if state.reports[-1].microbatches == 0 and not full:
            # Merging what nobody trained would only cost bytes.
            state.deadline = state.now + swarm.train_s
            return actions
        if state.overlaps:
            state.opened = 0
            return actions + _commit_opens(state)
        state.draining = True
        state.deadline = state.now + swarm.drain_s
    if state.batches and state.now < state.deadline:
        left = len(state.batches)
        state.waiting_for = f"{left} microbatch{'es are' if left > 1 else ' is'} still on the way"
        return actions
    return actions + _commit_opens(state)


def _commit_opens(state: RunState) -> list[Action]:
    merge.begin(state)
    return _enter(state, Phase.COMMIT, state.spec.swarm.commit_s, "replicas publish their pseudo-gradients")


def _commit(state: RunState) -> list[Action]:
    missing = merge.missing_commits(state)
    if missing and state.now < state.deadline:
        state.waiting_for = f"the pseudo-gradients of {missing} replicas"
        return []
    # The deadline is set before the plan, which carries it.
    actions = _enter(state, Phase.REDUCE, state.spec.swarm.reduce_s, "pairs reduce their shards")
    return actions + merge.plan(state) + audits.open_all(state)


def _reduce(state: RunState) -> list[Action]:
    actions: list[Action] = []
    if state.now >= state.deadline:
        # What the auditor was asked for and did not answer is asked for again, once per deadline.
        actions = recompute.resend(state) + merge.overdue(state)
        state.deadline = state.now + state.spec.swarm.reduce_s
    if not merge.done(state):
        left = sum(len(stage.left) for stage in state.merges)
        state.waiting_for = f"{left} shards are not settled yet"
        # Where a stage is lost with its makers, nobody can make its shards either.
        empty = state.index.empty
        return actions + (safety.watch(state, empty) if empty else [])
    report = state.reports[-1]
    report.coverage = [merge.coverage(state, stage) for stage in state.merges]
    report.included = [merge.included(state, stage) for stage in state.merges]
    report.contributors = [len(stage.commits) for stage in state.merges]
    state.former, state.manifests = state.manifests, merge.manifests(state)
    state.returned, state.forlorn = {}, {}
    scoring.close_epoch(state)
    actions += safety.ask(state)
    actions.append(PublishScores(state.epoch, tuple(report.scores.items())))
    for miner in state.miners.values():
        # The phase itself is the first offer; `assignment.expire` makes the next ones.
        miner.assign_tries = 0
        assignment.expect(state, miner, state.now + state.spec.swarm.ready_s)
        state.index.miner(miner.hotkey)
    return actions + _enter(state, Phase.INSTALL, state.spec.swarm.install_s, "replicas install the new manifest")


def _install(state: RunState) -> list[Action]:
    nxt = state.epoch + 1
    behind = state.index.behind
    empty = [number for number, stage in enumerate(state.index.stages) if not stage.ahead]
    if empty or (behind and state.now < state.deadline):
        missing = f"a miner for stage {', '.join(map(str, empty))}" if empty and not behind else ""
        state.waiting_for = missing or f"{behind} replicas to install the new manifest"
        return (_help(state, empty) if empty else []) + recompute.resend(state, state.spec.swarm.install_s)
    report = state.reports[-1]
    digests: list[dict[str, None]] = [{} for _ in state.index.stages]
    for miner in state.miners.values():
        if miner.stage >= 0 and miner.connected and miner.installed == nxt:
            digests[miner.stage][miner.state_digest] = None
    report.replicas_identical = report.replicas_identical and all(len(found) == 1 for found in digests)
    report.ended_at = state.now
    for miner in state.miners.values():
        if not merge.carries(state, miner):
            miner.batches = 0
        state.index.miner(miner.hotkey)
    if state.spec.swarm.epochs and nxt >= state.spec.swarm.epochs:
        return _enter(state, Phase.DONE, 0.0, f"the run is complete after {nxt} epochs")
    recompute.expire(state)
    audits.expire(state)
    state.epoch = nxt
    return _start_epoch(state)


def _done(state: RunState) -> list[Action]:
    return []


_STEPS = {
    Phase.WAIT: _wait,
    Phase.TRAIN: _train,
    Phase.COMMIT: _commit,
    Phase.REDUCE: _reduce,
    Phase.INSTALL: _install,
    Phase.DONE: _done,
}
