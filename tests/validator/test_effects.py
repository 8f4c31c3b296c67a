"""Actions are carried out in order for each miner, beside each other for all, and what fails comes back as an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from iota_subnet import messages as m
from iota_subnet.core import actions as a
from iota_subnet.core.events import EffectFailed, Event, Manifest, ShardRef
from iota_subnet.core.state import Miner
from iota_subnet.protocol import AssignLayer, MergePlan, SetPhase
from iota_subnet.spec import BlobRef
from iota_subnet.validator.effects import MAX_CALLS, Effects
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobServer, MemoryStore
from iota_subnet.wire.channel import ChannelServer
from template.errors import BadReply, Refused, Unreachable
from template.wallet import verify

from .kit import NOW, digest, eventually, hotkey, seated, signer

A, B = hotkey("A"), hotkey("B")
MANIFEST = Manifest(0, 2, (ShardRef(0, 3, BlobRef(digest("w"), 12), BlobRef(digest("m"), 12)),))


class Post:
    """A dendrite whose answers are scripted: an exception to raise, a reason to refuse with, or "" to accept."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Any]] = []
        self.script: dict[str, list[Any]] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def call(self, hotkey: str, ip: str, port: int, synapse: Any, timeout_s: float = 0.0) -> Any:
        assert ip == "127.0.0.1" and timeout_s > 0
        self.calls.append((hotkey, port, synapse))
        if hotkey in self.gates:
            await self.gates[hotkey].wait()
        answer = self.script[hotkey].pop(0) if self.script.get(hotkey) else ""
        if isinstance(answer, Exception):
            raise answer
        synapse.accepted, synapse.reason = not answer, answer
        return synapse

    def to(self, hotkey: str) -> list[Any]:
        return [synapse for called, _, synapse in self.calls if called == hotkey]


class Part:
    """Feed and auditor: note what they are asked, fail as often as they are told."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.failures = 0

    async def publish(self, batch: int) -> None:
        await self._do(batch)

    async def recompute(self, action: a.RecomputeShard) -> None:
        await self._do(action)

    async def evaluate(self, action: a.Evaluate) -> None:
        await self._do(action)

    async def audit(self, action: a.AuditMiner) -> None:
        await self._do(action)

    def forget(self, batch: int) -> None:
        self.asked.append(("forget", batch))
        if batch < 0:
            raise OSError("the disk is gone")

    async def _do(self, what: Any) -> None:
        self.asked.append(what)
        if self.failures > 0:
            self.failures -= 1
            raise OSError("not now")


class Hands:
    def __init__(self) -> None:
        store = MemoryStore(1 << 20)
        server = BlobServer(store, "127.0.0.1", 80, hotkey("V"), verify, lambda: NOW)
        self.outgoing = Outgoing("run", signer("V"), lambda: NOW, store, lambda: server)
        self.post, self.part = Post(), Part()
        self.events: list[Event] = []
        self.scores: list[Any] = []
        self.seats: dict[str, Miner] = {A: seated("A"), B: seated("B")}
        channel = ChannelServer(
            hotkey=hotkey("V"), sign=signer("V"), verify=verify, who=lambda hotkey: None, inbound=m.ToOrchestrator,
            outbound=m.ToMiner, on_message=lambda hotkey, message: None,
        )  # fmt: skip
        self.sent: list[tuple[str, m.FromOrchestrator]] = []
        self.channel = channel
        really = channel.send

        def send(hotkey: str, message: Any) -> bool:
            self.sent.append((hotkey, message))
            return really(hotkey, message)

        channel.send = send  # type: ignore[method-assign]
        parts: Any = (self.post, self.part, self.part, self.part)
        self.effects = Effects(
            "spec", self.outgoing, channel, *parts, self.seats.get, lambda *args: self.scores.append(args),
            self.events.append, lambda: NOW, pause_s=0.001,
        )  # fmt: skip

    def phase(self, hotkey: str, epoch: int) -> None:
        self.effects.perform(a.SetPhase(hotkey, "train", epoch, NOW + 5, "why"))


@pytest.fixture
async def hands() -> Any:
    built = Hands()
    yield built
    await built.effects.close()


async def test_synapses_to_one_miner_arrive_in_order_one_at_a_time(hands: Hands) -> None:
    hands.post.gates[A] = asyncio.Event()
    for epoch in range(5):
        hands.phase(A, epoch)
    await eventually(lambda: hands.post.calls)
    assert len(hands.post.calls) == 1
    hands.post.gates[A].set()
    await eventually(lambda: len(hands.post.calls) == 5)
    assert [synapse.epoch for synapse in hands.post.to(A)] == list(range(5))


async def test_a_slow_miner_does_not_delay_the_others(hands: Hands) -> None:
    hands.post.gates[A] = asyncio.Event()
    hands.phase(A, 0)
    for epoch in range(3):
        hands.phase(B, epoch)
    await eventually(lambda: len(hands.post.to(B)) == 3)
    assert len(hands.post.to(A)) == 1 and hands.events == []


async def test_what_waits_for_a_miner_that_does_not_answer_is_bounded_and_the_newest_stays(hands: Hands) -> None:
    hands.post.gates[A] = asyncio.Event()
    hands.phase(A, 0)
    await eventually(lambda: hands.post.calls)
    for epoch in range(1, 3 * MAX_CALLS):
        hands.phase(A, epoch)
    hands.post.gates[A].set()
    await eventually(lambda: hands.post.to(A)[-1].epoch == 3 * MAX_CALLS - 1)
    assert len(hands.post.calls) == 1 + MAX_CALLS


@pytest.mark.parametrize("error", [Unreachable("no answer"), Refused("busy"), BadReply("unsigned"), ValueError("port")])
async def test_a_call_is_tried_again_and_then_posted_as_failed(hands: Hands, error: Exception) -> None:
    hands.post.script[A] = [error, ""]
    hands.phase(A, 1)
    await eventually(lambda: len(hands.post.calls) == 2)
    hands.post.script[A] = [error] * 3
    hands.phase(A, 2)
    hands.phase(A, 3)
    await eventually(lambda: hands.post.to(A)[-1].epoch == 3)
    assert hands.events == [EffectFailed(at=NOW, action="SetPhase", hotkey=A, reason=str(error))]
    assert [synapse.epoch for synapse in hands.post.to(A)] == [1, 1, 2, 2, 2, 3]


async def test_a_refusal_is_not_repeated_and_its_words_are_bounded(hands: Hands) -> None:
    hands.post.script[A] = ["no\n" + "x" * 5000]
    hands.effects.perform(a.AssignLayer(A, 0, 2, MANIFEST))
    await eventually(lambda: hands.events)
    assert hands.events == [EffectFailed(at=NOW, action="AssignLayer", hotkey=A, reason="no " + "x" * 197)]
    assert len(hands.post.calls) == 1


async def test_an_error_nobody_thought_of_does_not_end_the_calls_to_that_miner(hands: Hands) -> None:
    hands.post.script[A] = [RuntimeError("session is closed")]
    hands.phase(A, 1)
    hands.phase(A, 2)
    await eventually(lambda: len(hands.post.calls) == 2)
    assert hands.events == [EffectFailed(at=NOW, action="SetPhase", hotkey=A, reason="RuntimeError: session is closed")]


async def test_a_miner_that_lost_its_seat_is_not_called_and_one_that_moved_is_called_there(hands: Hands) -> None:
    hands.post.script[A] = [Unreachable("moved")]
    hands.post.gates[A] = asyncio.Event()
    hands.phase(A, 1)
    await eventually(lambda: hands.post.calls)
    hands.seats[A].axon = "127.0.0.1:77"
    hands.post.gates[A].set()
    await eventually(lambda: len(hands.post.calls) == 2)
    assert [port for _, port, _ in hands.post.calls] == [8, 77]
    del hands.seats[A]
    hands.phase(A, 2)
    hands.phase(B, 2)
    await eventually(lambda: hands.post.to(B))
    assert len(hands.post.to(A)) == 2 and hands.events == []


async def test_a_lease_to_a_disconnected_miner_is_harmless(hands: Hands) -> None:
    lease = a.GiveLease(A, 3, "forward", 4, 0, 2, (BlobRef(digest("x"), 9, ("http://u:1/",)),), NOW + 8)
    hands.effects.perform(lease)
    ((to, message),) = hands.sent
    assert to == A and isinstance(message, m.Lease)
    assert (message.lease, message.op, message.batch, message.seconds_left) == (3, "forward", 4, 8.0)
    assert message.inputs[0].digest == digest("x") and message.inputs[0].ticket
    assert hands.events == []


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (a.WithdrawLease(A, 3, "late"), m.Withdrawn(3, "late")),
        (a.Refuse(A, "join", "full"), m.Refusal("join", "full")),
        (a.FixContributors(A, 0, 1, 2, (A, B)), m.Contributors(0, 1, 2, (A, B))),
        (a.Forget(A, 9), m.Retired(9)),
    ],
)
async def test_what_is_small_goes_over_the_channel(hands: Hands, action: a.Action, message: m.FromOrchestrator) -> None:
    hands.effects.perform(action)
    assert hands.sent == [(A, message)]


async def test_what_is_large_goes_as_a_signed_call(hands: Hands) -> None:
    duty = a.Duty(1, 0, 3, (a.Contribution(A, 5, BlobRef(digest("c"), 6)),))
    hands.effects.perform(a.AssignLayer(A, 0, 2, MANIFEST))
    hands.effects.perform(a.SetPhase(A, "commit", 2, NOW + 5, "why", "bound", 6))
    hands.effects.perform(a.SetPhase(A, "install", 2, NOW - 5, "why", manifest=MANIFEST))
    hands.effects.perform(a.SendMergePlan(A, 0, 2, "salt", 6, NOW + 4, (duty,)))
    await eventually(lambda: len(hands.post.calls) == 4)
    assign, commit, install, plan = hands.post.to(A)
    assert isinstance(assign, AssignLayer) and assign.manifest.signature and assign.spec_digest == "spec"
    assert isinstance(commit, SetPhase) and (commit.shards, commit.commitment, commit.seconds_left) == (6, "bound", 5)
    assert isinstance(install, SetPhase) and install.manifest is not None and install.seconds_left == 0
    assert (
        isinstance(plan, MergePlan)
        and (plan.salt, plan.shards) == ("salt", 6)
        and plan.duties[0].contributions[0].weight == 5
    )


RECOMPUTE = a.RecomputeShard(0, 1, 0, 0, 3, (), MANIFEST)


@pytest.mark.parametrize(("action", "tries"), [(a.PublishBatch(4), 1), (RECOMPUTE, 3), (a.Evaluate(2, (MANIFEST,)), 3)])
async def test_slow_work_is_tried_again_and_then_posted_as_failed(hands: Hands, action: a.Action, tries: int) -> None:
    hands.part.failures = tries - 1
    hands.effects.perform(action)
    await eventually(lambda: len(hands.part.asked) == tries)
    hands.part.failures = tries
    hands.effects.perform(action)
    await eventually(lambda: hands.events)
    reason = "OSError: not now"
    assert hands.events == [EffectFailed(at=NOW, action=type(action).__name__, hotkey="", reason=reason)]
    assert len(hands.part.asked) == 2 * tries


async def test_an_action_that_cannot_be_begun_is_an_event_and_not_an_exception(hands: Hands) -> None:
    hands.effects.perform(a.ForgetBatch(-1))
    hands.effects.perform(a.GiveLease(A, 1, "forward", 1, 0, 0, (BlobRef("no digest", 1),), NOW))
    failed = [(event.action, event.hotkey) for event in hands.events if isinstance(event, EffectFailed)]
    assert failed == [("ForgetBatch", ""), ("GiveLease", A)]


async def test_scores_and_forgotten_batches_are_passed_on(hands: Hands) -> None:
    hands.effects.perform(a.PublishScores(3, ((A, 1.5),)))
    hands.effects.perform(a.ForgetBatch(8))
    assert hands.scores == [(3, {A: 1.5})] and hands.part.asked == [("forget", 8)]
