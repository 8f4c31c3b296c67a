"""One way in: `Orchestrator.handle(event)` is the only thing that changes a run's state. Dispatch only."""

from __future__ import annotations

from dataclasses import replace

from iota_subnet.core import assignment, merge, phases, routing
from iota_subnet.core.actions import Action, Evaluate, PublishBatch, PublishScores, Refuse
from iota_subnet.core.events import (
    BatchPublished,
    EffectFailed,
    Evaluated,
    Event,
    LeaseFailed,
    LeaseFinished,
    MetagraphChanged,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    MinerLeft,
    RunStarted,
    ShardFetched,
    ShardRecomputed,
    ShardReduced,
    ShardsCommitted,
    StageInstalled,
    Tick,
    ValidatorRestarted,
    WeightsSet,
)
from iota_subnet.core.state import Miner, Phase, RunState
from iota_subnet.spec import RunSpec


class Orchestrator:
    """The state of one run, and its rules. Synchronous, so no two events interleave; deterministic, so a replay of the
    same events gives the same state and the same actions on any machine."""

    def __init__(self, spec: RunSpec) -> None:
        self.state = RunState(spec)

    def handle(self, event: Event) -> list[Action]:
        """Take one event, change the state, say what to do. Time never runs backwards: `at` is clamped."""
        state = self.state
        before, state.now = state.now, max(state.now, event.at)
        if isinstance(event, ValidatorRestarted):
            self._stop_clocks(state.now - before)
        actions = self._dispatch(event)
        actions += phases.advance(state)
        actions += routing.fill(state)
        return actions

    def _dispatch(self, event: Event) -> list[Action]:
        state = self.state
        match event:
            case RunStarted():
                return self._run_started(event)
            case ValidatorRestarted():
                return self._restarted()
            case MinerJoined():
                return self._joined(event)
            case MinerLeft():
                return self._drop(event.hotkey)
            case MinerConnected():
                return self._connected(event)
            case MinerDisconnected():
                miner = state.miners.get(event.hotkey)
                if miner is not None and miner.connected:
                    miner.connected, miner.away_since = False, state.now
                return []
            case MetagraphChanged():
                state.registered = event.hotkeys
                gone = [hotkey for hotkey in state.miners if hotkey not in event.hotkeys]
                reason = "the hotkey is no longer registered on this subnet; register it and join again"
                return [action for hotkey in gone for action in self._unseat(hotkey, reason)]
            case StageInstalled():
                return self._installed(event)
            case BatchPublished():
                return routing.published(state, event)
            case LeaseFinished():
                return routing.finished(state, event)
            case LeaseFailed():
                return routing.failed(state, event)
            case ShardsCommitted():
                return merge.committed(state, event)
            case ShardFetched():
                return merge.fetched(state, event)
            case ShardReduced():
                return merge.reduced(state, event)
            case ShardRecomputed():
                return merge.recomputed(state, event)
            case Evaluated():
                if event.epoch == 0:
                    state.first_eval_loss = event.loss
                for report in state.reports:
                    if report.epoch == event.epoch - 1:
                        report.eval_loss = event.loss
                return []
            case WeightsSet():
                for report in state.reports:
                    if report.epoch == event.epoch:
                        report.weights_set = event.message
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
        return [Evaluate(0, event.manifests)]

    def _restarted(self) -> list[Action]:
        state = self.state
        for miner in state.miners.values():
            miner.connected, miner.away_since = False, state.now
        # The feed, the auditor and the chain writer are new too; whatever they still owed is asked for again.
        actions: list[Action] = [PublishBatch(batch.id) for batch in state.batches.values()]
        for batch in state.batches.values():
            batch.asked_at = state.now
        if state.manifests:
            actions.append(Evaluate(state.manifests[0].epoch, tuple(state.manifests)))
        for report in [report for report in state.reports if report.scores][-1:]:
            if not report.weights_set:
                actions.append(PublishScores(report.epoch, tuple(report.scores.items())))
        return [*actions, *merge.resend_recomputes(state)]

    def _stop_clocks(self, seconds: float) -> None:
        """Nobody could keep a deadline while the validator was down: the time it was away does not count."""
        state = self.state
        state.deadline += seconds
        for miner in state.miners.values():
            miner.assign_deadline += seconds
        state.leases = {lease.id: replace(lease, deadline=lease.deadline + seconds) for lease in state.leases.values()}

    def _joined(self, event: MinerJoined) -> list[Action]:
        state = self.state
        if state.registered is not None and event.hotkey not in state.registered:
            return [Refuse(event.hotkey, "join", "the hotkey is not registered on this subnet")]
        known = state.miners.get(event.hotkey)
        if known is None and len(state.miners) >= state.spec.swarm.max_miners:
            return [Refuse(event.hotkey, "join", f"all {state.spec.swarm.max_miners} seats are taken; try again later")]
        actions: list[Action] = []
        if known is not None and known.boot != event.boot:
            # A new process: its graphs, its optimiser and its outbox are gone, its stage is not.
            actions = self._drop(event.hotkey)
        if event.hotkey not in state.miners:
            miner = Miner(event.hotkey, event.boot, state.now, away_since=state.now)
            miner.stage = known.stage if known is not None else -1
            state.miners[event.hotkey] = miner
        # The same process may have moved to other ports since it joined.
        state.miners[event.hotkey].axon, state.miners[event.hotkey].data_url = event.axon, event.data_url
        return actions

    def _connected(self, event: MinerConnected) -> list[Action]:
        state = self.state
        miner = state.miners.get(event.hotkey)
        if miner is None:
            return [Refuse(event.hotkey, "connection", "join first")]
        miner.connected = True
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
        if event.epoch != state.manifests[event.stage].epoch:
            return [] if miner.installed == state.manifests[event.stage].epoch else assignment.remind(state, miner)
        if miner.installed < event.epoch:
            shards = state.manifests[event.stage].shards
            state.bytes_merge += sum(shard.weights.nbytes + shard.momentum.nbytes for shard in shards)
        miner.installed, miner.state_digest, miner.assign_tries = event.epoch, event.digest, 0
        return []

    def _effect_failed(self, event: EffectFailed) -> list[Action]:
        miner = self.state.miners.get(event.hotkey)
        if miner is not None and event.action == "AssignLayer":
            miner.assign_deadline = min(miner.assign_deadline, self.state.now + 2.0)
        return []

    def _drop(self, hotkey: str) -> list[Action]:
        """A miner is gone: its seat is free, its work goes to others, nothing waits for it."""
        state = self.state
        miner = state.miners.get(hotkey)
        if miner is None:
            return []
        actions = routing.release(state, miner)
        del state.miners[hotkey]
        return actions + merge.release(state, miner)

    def _unseat(self, hotkey: str, reason: str) -> list[Action]:
        """Take a seat from a miner that is still there, and tell it why."""
        return [*self._drop(hotkey), Refuse(hotkey, "seat", reason)]

    def _tick(self) -> list[Action]:
        state = self.state
        actions = routing.expire(state)
        actions += assignment.expire(state)
        for hotkey, reason in (assignment.given_up(state) | routing.given_up(state)).items():
            actions += self._unseat(hotkey, reason)
        limit = state.now - state.spec.swarm.reconnect_s
        for hotkey in [m.hotkey for m in state.miners.values() if not m.connected and m.away_since <= limit]:
            actions += self._drop(hotkey)
        return actions
