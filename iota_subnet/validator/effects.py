"""Carries out what the core asks for. Decides nothing; what fails after its retries is posted back as an event."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from loguru import logger

from iota_subnet import messages as m
from iota_subnet.core import actions as a
from iota_subnet.core.events import EffectFailed, Event
from iota_subnet.core.state import Miner
from iota_subnet.protocol import AssignLayer, MergePlan, SetPhase
from iota_subnet.tasks import cancel
from iota_subnet.validator.audit import Auditor
from iota_subnet.validator.gateway import plain
from iota_subnet.validator.inspector import Inspector
from iota_subnet.validator.orders import Orders
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.channel import ChannelServer
from iota_subnet.wire.signing import Clock
from template.errors import PeerError
from template.logs import short
from template.synapse import SignedDendrite, SignedSynapse

#: Synapses that may wait for one miner; more means that it does not answer, and the oldest are worthless by then.
MAX_CALLS = 64

TRIES = 3

#: Seconds that one call may take, and before its first repetition.
CALL_S = 10.0
PAUSE_S = 0.3


class Tokens(Protocol):
    """Where microbatches come from."""

    async def publish(self, batch: int) -> None:
        """Make the tokens of a microbatch fetchable. Raises what the source of text raises."""

    def forget(self, batch: int) -> None:
        """Let go of the tokens of a microbatch."""


class Effects:
    """One validator's hands. `perform` never blocks and never raises."""

    def __init__(
        self,
        spec_digest: str,
        outgoing: Outgoing,
        channel: ChannelServer,
        dendrite: SignedDendrite,
        tokens: Tokens,
        auditor: Auditor,
        inspector: Inspector,
        miner_of: Callable[[str], Miner | None],
        publish_scores: Callable[[int, dict[str, float]], None],
        post: Callable[[Event], object],
        clock: Clock,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._spec_digest = spec_digest
        self._outgoing = outgoing
        self._channel = channel
        self._dendrite = dendrite
        self.orders = Orders(channel.send)
        self._tokens = tokens
        self._auditor = auditor
        self._inspector = inspector
        self._miner_of = miner_of
        self._publish_scores = publish_scores
        self._post = post
        self._clock = clock
        self._pause_s = pause_s
        self._calls: dict[str, deque[tuple[str, SignedSynapse]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def perform(self, action: a.Action) -> None:
        """Begin one action."""
        try:
            self._begin(action)
        except Exception as error:
            # The others that the same event caused must not be lost with it.
            self._failed(type(action).__name__, getattr(action, "hotkey", ""), error)

    def _begin(self, action: a.Action) -> None:
        match action:
            case a.GiveLease() | a.WithdrawLease() | a.Refuse() | a.FixContributors() | a.Forget():
                # Not connected: the core says again what counts when the miner is back.
                self._channel.send(action.hotkey, self._message(action))
            case a.AssignLayer() | a.SetPhase() | a.SendMergePlan():
                self._enqueue(action.hotkey, type(action).__name__, self._synapse(action))
            case a.PublishBatch():
                self._spawn("PublishBatch", lambda: self._tokens.publish(action.batch), 1)
            case a.ForgetBatch():
                self._tokens.forget(action.batch)
            case a.RecomputeShard():
                self._spawn("RecomputeShard", lambda: self._auditor.recompute(action), TRIES)
            case a.AuditMiner():
                # A validator that follows this ledger does its own.
                assert not action.auditor
                self._spawn("AuditMiner", lambda: self._inspector.audit(action), 1)
            case a.Evaluate():
                self._spawn("Evaluate", lambda: self._auditor.evaluate(action), TRIES)
            case a.PublishScores():
                self._publish_scores(action.epoch, dict(action.scores))
            case _:
                raise AssertionError(f"an action without an effect: {action!r}")

    async def close(self) -> None:
        """Stop what is under way."""
        await cancel(list(self._tasks))

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock())

    def _message(
        self, action: a.GiveLease | a.WithdrawLease | a.Refuse | a.FixContributors | a.Forget
    ) -> m.FromOrchestrator:
        match action:
            case a.GiveLease():
                inputs = tuple(self._outgoing.blob(ref, action.hotkey) for ref in action.inputs)
                left = self._left(action.deadline)
                return m.Lease(action.lease, action.op, action.batch, action.stage, action.epoch, inputs, left)
            case a.WithdrawLease():
                return m.Withdrawn(action.lease, action.reason)
            case a.Refuse():
                # Who leaves asks twice a second until it may.
                level = "DEBUG" if action.what == "leave" else "INFO"
                logger.log(level, "refused {} of {}: {}", action.what, short(action.hotkey), action.reason)
                return m.Refusal(action.what, action.reason)
            case a.FixContributors():
                return m.Contributors(action.stage, action.epoch, action.shard, action.contributors)
            case a.Forget():
                return m.Retired(action.batch)

    def _synapse(self, action: a.AssignLayer | a.SetPhase | a.SendMergePlan) -> SignedSynapse:
        match action:
            case a.AssignLayer():
                manifest = self._outgoing.manifest(action.manifest, action.hotkey)
                return AssignLayer(
                    spec_digest=self._spec_digest,
                    stage=action.stage,
                    epoch=action.epoch,
                    manifest=manifest,
                    inner_step=action.inner_step,
                    seconds_left=60.0,
                )
            case a.SetPhase():
                install = self._outgoing.manifest(action.manifest, action.hotkey) if action.manifest else None
                return SetPhase(
                    phase=action.phase,
                    epoch=action.epoch,
                    seconds_left=self._left(action.deadline),
                    waiting_for=action.reason,
                    commitment=action.commitment,
                    shards=action.shards,
                    manifest=install,
                )
            case a.SendMergePlan():
                return MergePlan(
                    stage=action.stage,
                    epoch=action.epoch,
                    salt=action.salt,
                    shards=action.shards,
                    seconds_left=self._left(action.deadline),
                    duties=tuple(self._outgoing.duty(duty, action.hotkey) for duty in action.duties),
                )

    def _enqueue(self, hotkey: str, name: str, synapse: SignedSynapse) -> None:
        """Synapses to one miner go out in order, one at a time; miners do not wait for each other."""
        if hotkey not in self._calls:
            self._calls[hotkey] = deque(maxlen=MAX_CALLS)
            self._spawn("calls", lambda: self._caller(hotkey), 1)
        self._calls[hotkey].append((name, synapse))

    async def _caller(self, hotkey: str) -> None:
        """Work off one miner's queue."""
        queue = self._calls[hotkey]
        try:
            while queue:
                name, synapse = queue.popleft()
                try:
                    reason = await self._call(hotkey, synapse)
                except Exception as error:
                    self._failed(name, hotkey, error)
                    continue
                if reason:
                    logger.warning("{} to {} failed: {}", name, short(hotkey), reason)
                    self._post(EffectFailed(at=self._clock(), action=name, hotkey=hotkey, reason=reason))
        finally:
            del self._calls[hotkey]

    async def _call(self, hotkey: str, synapse: SignedSynapse) -> str:
        """One call with its repetitions; why it failed, or nothing."""
        reason = ""
        for attempt in range(TRIES):
            miner = self._miner_of(hotkey)
            if miner is None:
                return ""
            try:
                reply = await self._answer(miner, synapse)
            except (PeerError, ValueError) as error:
                reason = plain(str(error)) or type(error).__name__
                await asyncio.sleep(self._pause_s * (attempt + 1))
                continue
            return "" if reply.accepted else plain(reply.reason) or "not accepted"
        return reason

    async def _answer(self, miner: Miner, synapse: Any) -> Any:
        """`synapse` answered by a miner, over HTTP or, if it has no port, over its work channel."""
        if not miner.axon:
            return await self.orders.call(miner.hotkey, synapse, CALL_S)
        ip, _, port = miner.axon.rpartition(":")
        return await self._dendrite.call(miner.hotkey, ip, int(port), synapse, timeout_s=CALL_S)

    def _spawn(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], tries: int) -> None:
        """Do `work` beside the rest; what still fails the last time is posted."""

        async def guarded() -> None:
            for attempt in range(1, tries + 1):
                try:
                    return await work()
                except Exception as error:
                    if attempt == tries:
                        return self._failed(name, "", error)
                    logger.warning("{}: {}; trying again", name, error)
                await asyncio.sleep(self._pause_s * attempt)

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, name: str, hotkey: str, error: Exception) -> None:
        """An unexpected failure, or the last of several tries: told to people and to the core."""
        logger.opt(exception=error).error("{} failed", name)
        reason = plain(f"{type(error).__name__}: {error}")
        self._post(EffectFailed(at=self._clock(), action=name, hotkey=hotkey, reason=reason))
