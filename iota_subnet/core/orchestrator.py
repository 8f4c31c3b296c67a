"""One way in: `Orchestrator.handle(event)` is the only thing that changes a run's state. Dispatch only."""

from __future__ import annotations

from dataclasses import replace

from iota_subnet.core import (
    admission,
    assignment,
    audits,
    departure,
    flow,
    lapses,
    merge,
    phases,
    recompute,
    routing,
    safety,
    trust,
)
from iota_subnet.core.actions import Action, Evaluate, PublishScores, Refuse
from iota_subnet.core.deadlines import Due
from iota_subnet.core.events import (
    BatchPublished,
    EffectFailed,
    Evaluated,
    Event,
    LeaseFailed,
    LeaseFinished,
    MetagraphChanged,
    MinerAudited,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    MinerLeft,
    RunStarted,
    ShardFetched,
    ShardRecomputed,
    ShardReduced,
    ShardRef,
    ShardsCommitted,
    StageInstalled,
    Tick,
    ValidatorRestarted,
    WeightsSet,
)
from iota_subnet.core.state import Miner, Phase, RunState
from iota_subnet.spec import RunSpec

#: Seconds that miners have to come back after the validator was down.
RESTART_S = 30.0


class Orchestrator:
    """The state of one run, and its rules. Synchronous, so no two events interleave; deterministic, so a replay of the
    same events gives the same state and the same actions on any machine."""

    def __init__(self, spec: RunSpec) -> None:
        self.state = RunState(spec)

    def handle(self, event: Event) -> list[Action]:
        """Take one event, change the state, say what to do. Time never runs backwards: `at` is clamped."""
        state = self.state
        before = state.now
        if event.at > before:
            state.now = event.at
        if isinstance(event, ValidatorRestarted):
            self._stop_clocks(state.now - before)
        if state.index.wakes.soonest <= state.now:
            state.index.wake(state.now)
        actions = self._dispatch(event)
        actions += phases.advance(state)
        actions += routing.fill(state)
        state.index.settle(state)
        return actions

    def judge(self, event: MinerAudited) -> list[Action]:
        """Take in a verdict that is not in the ledger: one of a validator that follows it. Nothing else may move, not
        even time, or its state would be another story."""
        assert event.auditor == self.state.auditor != ""
        return audits.concluded(self.state, event)

    def _dispatch(self, event: Event) -> list[Action]:
        state = self.state
        match event:
            case LeaseFinished():
                return routing.finished(state, event)
            case BatchPublished():
                return flow.published(state, event)
            case RunStarted():
                return self._run_started(event)
            case ValidatorRestarted():
                return self._restarted()
            case MinerJoined():
                return self._joined(event)
            case MinerLeft():
                return self._left(event)
            case MinerConnected():
                return self._connected(event)
            case MinerDisconnected():
                miner = state.miners.get(event.hotkey)
                if miner is not None and miner.connected:
                    self._away(miner, state.spec.swarm.reconnect_s)
                return []
            case MetagraphChanged():
                state.registered = event.hotkeys
                registered = frozenset(event.hotkeys)
                gone = [hotkey for hotkey in state.miners if hotkey not in registered]
                reason = "the hotkey is no longer registered on this subnet; register it and join again"
                return [action for hotkey in gone for action in self._unseat(hotkey, reason)]
            case StageInstalled():
                return self._installed(event)
            case LeaseFailed():
                return lapses.failed(state, event)
            case ShardsCommitted():
                return merge.committed(state, event)
            case ShardFetched():
                return merge.fetched(state, event)
            case ShardReduced():
                return merge.reduced(state, event)
            case ShardRecomputed():
                return recompute.recomputed(state, event)
            case MinerAudited():
                return audits.concluded(state, event)
            case Evaluated():
                return self._evaluated(event)
            case WeightsSet():
                for report in state.reports:
                    if report.epoch == event.epoch and event.ok:
                        report.weights_set, report.weights_failed = event.message, ""
                    elif report.epoch == event.epoch:
                        report.weights_failed = event.message
                return []
            case EffectFailed():
                return self._effect_failed(event)
            case Tick():
                return self._tick()
        raise AssertionError(f"an event without a rule: {event!r}")

    def _run_started(self, event: RunStarted) -> list[Action]:
        state = self.state
        assert not state.manifests, "a run starts once"
        assert event.spec_digest == state.spec.digest(), "the ledger belongs to another run specification"
        state.secret, state.sizes, state.manifests = event.secret, event.sizes, list(event.manifests)
        # The validator made them.
        state.safe = list(event.manifests)
        state.index.rebuild(state)
        return [Evaluate(0, event.manifests)]

    def _restarted(self) -> list[Action]:
        state = self.state
        reconnect_s = state.spec.swarm.reconnect_s
        for miner in state.miners.values():
            # All have to find it again at once, maybe at another address; who was away before has what it had left.
            left = RESTART_S if miner.connected else miner.back_by - state.now
            self._away(miner, max(left, reconnect_s))
        # The feed, the auditor and the chain writer are new too; whatever they still owed is asked for again.
        actions: list[Action] = [flow.ask(state, batch) for batch in state.batches.values()]
        if state.manifests:
            actions += safety.ask(state)
        for report in [report for report in state.reports if report.scores][-1:]:
            if not report.weights_set:
                actions.append(PublishScores(report.epoch, tuple(report.scores.items())))
        return [*actions, *recompute.resend(state), *audits.resend(state)]

    def _stop_clocks(self, seconds: float) -> None:
        """Nobody could keep a deadline while the validator was down: the time it was away does not count."""
        state = self.state
        state.deadline += seconds
        for miner in state.miners.values():
            miner.assign_deadline += seconds
            miner.back_by += seconds
        state.leases = {lease.id: replace(lease, deadline=lease.deadline + seconds) for lease in state.leases.values()}
        if state.manifests:
            state.index.rebuild(state)

    def _away(self, miner: Miner, seconds: float) -> None:
        state = self.state
        miner.connected, miner.back_by = False, state.now + seconds
        state.index.miner(miner.hotkey)
        state.index.seats.add(miner.back_by, Due.AWAY, miner.hotkey)

    def _joined(self, event: MinerJoined) -> list[Action]:
        state = self.state
        refusal = admission.refusal(state, event.hotkey)
        if refusal:
            return [Refuse(event.hotkey, "join", refusal)]
        known = state.miners.get(event.hotkey)
        actions: list[Action] = []
        if known is not None and known.boot != event.boot:
            # A new process: its graphs, its optimiser and its outbox are gone, its stage is not.
            actions = self._drop(event.hotkey)
            # Nobody can look into what it did in this epoch: its transcript is gone with it.
            state.unseen[event.hotkey] = state.volume.get(event.hotkey, 0.0)
        if event.hotkey not in state.miners:
            miner = Miner(event.hotkey, event.boot, state.next_lease)
            if known is not None:
                miner.stage, miner.slot = known.stage, known.slot
            state.miners[event.hotkey] = miner
            self._away(miner, state.spec.swarm.reconnect_s)
        # The same process may have moved to other ports since it joined.
        state.miners[event.hotkey].leaving = False
        state.index.miner(event.hotkey)
        state.miners[event.hotkey].axon, state.miners[event.hotkey].data_url = event.axon, event.data_url
        return actions

    def _left(self, event: MinerLeft) -> list[Action]:
        miner = self.state.miners.get(event.hotkey)
        if event.drain and miner is not None and miner.connected:
            departure.begin(self.state, miner)
            reason = departure.needed_for(self.state, miner)
            if reason:
                return [Refuse(event.hotkey, "leave", f"still needed for {reason}")]
        return self._drop(event.hotkey)

    def _connected(self, event: MinerConnected) -> list[Action]:
        state = self.state
        miner = state.miners.get(event.hotkey)
        if miner is None:
            return [Refuse(event.hotkey, "connection", "join first")]
        miner.connected = True
        # What was not heard while it was away says nothing of its speed.
        miner.last_receipt_at = state.now
        state.index.miner(miner.hotkey)
        actions: list[Action] = []
        if miner.stage < 0 or miner.installed < state.manifests[miner.stage].epoch:
            actions += assignment.seat(state, miner)
        if state.phase is not Phase.INSTALL:
            # In INSTALL the seat's offer says it all; everywhere else the miner must learn what is going on.
            actions.append(phases.announce(state, miner))
        if state.phase is Phase.REDUCE:
            actions += [a for stage in state.merges for a in merge.duties_of(state, stage, miner.hotkey)]
        return actions + routing.resend(state, miner)

    def _installed(self, event: StageInstalled) -> list[Action]:
        state = self.state
        miner = state.miners.get(event.hotkey)
        if miner is None or event.stage < 0 or miner.stage != event.stage:
            return [Refuse(event.hotkey, "installation", "you have no seat in this stage; join again")]
        wanted = state.manifests[event.stage]
        if (event.epoch, event.manifest) != (wanted.epoch, wanted.name):
            # An older state, or one that has been replaced since: a twin that trained on it would look like a liar.
            return [] if miner.installed == wanted.epoch else assignment.remind(state, miner)
        if miner.installed < event.epoch:
            stepped = bool(wanted.base) and miner.installed == event.epoch - 1
            own = merge.made_by(state, miner)
            state.bytes_merge += sum(_traffic(shard, stepped) for shard in wanted.shards if shard.lo not in own)
        if miner.installed < event.epoch:
            audits.begin(state, miner, event.epoch)
        if miner.installed < event.epoch - 1:
            # Nothing leads from what it held to this: what it did there is not in what it holds now.
            miner.batches = 0
        miner.installed, miner.state_digest, miner.assign_tries = event.epoch, event.digest, 0
        state.index.miner(miner.hotkey)
        return []

    def _evaluated(self, event: Evaluated) -> list[Action]:
        """What was measured of manifests that were replaced within their epoch says nothing of those that count."""
        state = self.state
        if safety.copied(state, event.manifests):
            if event.epoch == 0:
                state.first_eval_loss = event.loss
            for report in state.reports:
                if report.epoch == event.epoch - 1:
                    report.eval_loss = event.loss
        return []

    def _effect_failed(self, event: EffectFailed) -> list[Action]:
        if event.action == "Evaluate":
            self.state.copy_due = self.state.now + safety.RETRY_S
        miner = self.state.miners.get(event.hotkey)
        if miner is not None and event.action == "AssignLayer":
            assignment.expect(self.state, miner, min(miner.assign_deadline, self.state.now + 2.0))
        return []

    def _drop(self, hotkey: str) -> list[Action]:
        """A miner is gone: its seat is free, its work goes to others, nothing waits for it."""
        state = self.state
        miner = state.miners.get(hotkey)
        if miner is None:
            return []
        actions = lapses.release(state, miner)
        del state.miners[hotkey]
        state.index.miner(hotkey)
        return actions + merge.release(state, miner)

    def _unseat(self, hotkey: str, reason: str) -> list[Action]:
        """Take a seat from a miner that is still there, and tell it why."""
        return [*self._drop(hotkey), Refuse(hotkey, "seat", reason)]

    def _tick(self) -> list[Action]:
        state = self.state
        index = state.index
        actions = lapses.expire(state) + safety.retry(state)
        for when, kind, key in index.seats.pop(state.now):
            actions += self._due(Due(kind), str(key), when)
        index.settle(state)
        for hotkey in sorted(index.doomed):
            miner = state.miners[hotkey]
            actions += self._unseat(hotkey, assignment.given_up(state, miner) or lapses.given_up(miner))
        for hotkey, reason in trust.judge(state).items():
            actions += self._unseat(hotkey, reason)
        index.tidy(state)
        return actions

    def _due(self, kind: Due, hotkey: str, when: float) -> list[Action]:
        """A reminder about somebody with a seat; whether it is still needed is for the state to say."""
        state = self.state
        if kind == Due.SEAT:
            return assignment.overdue(state, hotkey, when)
        if kind == Due.PLACE:
            admission.expire(state, hotkey, when)
            return []
        miner = state.miners.get(hotkey)
        gone = miner is not None and not miner.connected
        if miner is not None and gone and miner.back_by <= when:
            return self._drop(hotkey)
        return []


def _traffic(shard: ShardRef, stepped: bool) -> int:
    """Bytes that it takes to install a shard: the mean, for who makes the outer step itself, or the state."""
    return shard.mean.nbytes if stepped and shard.mean is not None else shard.weights.nbytes + shard.momentum.nbytes
