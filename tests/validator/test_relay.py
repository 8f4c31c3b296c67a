"""A miner without an open port trains, merges and is paid like the others; its orders come over the work channel."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from iota_subnet import messages as m
from iota_subnet.core.state import Phase
from iota_subnet.protocol import SetPhase
from iota_subnet.validator.orders import Orders
from iota_subnet.wire.relay import PREFIX
from template.errors import Unreachable

from .kit import eventually
from .swarm import conserved, swarm

PATIENCE_S = 300.0


async def test_a_miner_without_an_open_port_trains_merges_and_shows_its_evidence(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=3, start_miners=4, epochs=2, epoch_batches=16, audit_miners=1.0) as s:
        closed = s.add_miner("closed", flags=["--blobs.relay", "--axon.ip", "0.0.0.0"])
        state = await s.finished(within_s=PATIENCE_S)
        assert closed.server._listener is None and state.miners[closed.hotkey].axon == ""
        assert state.miners[closed.hotkey].data_url == f"{s.validator.server.url}{PREFIX}/{closed.hotkey}"
        assert conserved(state) and not state.faults
        assert [report.coverage for report in state.reports] == [[1.0, 1.0]] * 2
        assert all(report.replicas_identical for report in state.reports)
        assert closed.worker.done > 0 and state.reports[-1].scores[closed.hotkey] > 0
        await s.until(lambda: not state.open_audits, PATIENCE_S, "the audits")
        assert {verdict.verdict for verdict in state.verdicts[closed.hotkey]} == {"sound"}
        relay = s.validator.relay
        assert relay.bytes_in.total > 0 and relay.used <= relay.max_bytes


async def test_relayed_miners_come_back_after_their_line_was_cut(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=2, start_miners=4, epochs=2, epoch_batches=24, reconnect_s=20.0) as s:
        closed = [s.add_miner(name, flags=["--blobs.relay"]) for name in ("one", "two")]
        await s.phase(Phase.TRAIN, within_s=PATIENCE_S)
        await s.until(lambda: closed[0].worker.done > 1, PATIENCE_S, "some work")
        s.validator.channel.disconnect(closed[0].hotkey, "a test")
        state = await s.finished(within_s=PATIENCE_S)
        assert conserved(state) and not state.faults
        assert all(report.replicas_identical for report in state.reports)


async def test_a_validator_that_does_not_relay_says_so(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=0, validator_flags=["--blobs.relay_bytes", "0"]) as s:
        closed = s.add_miner("closed", flags=["--blobs.relay"])
        await s.until(lambda: "relays nothing" in closed.doing, PATIENCE_S, "the refusal")
        assert "--axon.external_ip" in closed.doing


def order() -> SetPhase:
    return SetPhase(phase="train", epoch=1, seconds_left=9.0)


async def test_an_order_is_answered_by_whom_it_was_given_to_and_nobody_else() -> None:
    sent: list[tuple[str, Any]] = []
    orders = Orders(lambda hotkey, message: not sent.append((hotkey, message)))
    asking = asyncio.create_task(orders.call("A", order(), 30.0))
    await eventually(lambda: sent, what="the order")
    ((_, message),) = sent
    assert SetPhase.from_body(message.body).epoch == 1 and message.name == "SetPhase"
    orders.answered("B", m.Obeyed(message.call, True, ""))
    orders.answered("A", m.Obeyed(message.call + 1, True, ""))
    assert not asking.done()
    orders.answered("A", m.Obeyed(message.call, False, "no seat"))
    answer = await asking
    assert (answer.accepted, answer.reason) == (False, "no seat")


async def test_an_order_to_a_miner_that_is_not_there_ends_in_its_time_or_with_its_line() -> None:
    with pytest.raises(Unreachable, match="the work channel within"):
        await Orders(lambda hotkey, message: False).call("A", order(), 0.1)
    orders = Orders(lambda hotkey, message: True)
    asking = asyncio.create_task(orders.call("A", order(), 30.0))
    await eventually(lambda: orders._open, what="the order")
    orders.lost("A")
    with pytest.raises(Unreachable, match="ended"):
        await asking
