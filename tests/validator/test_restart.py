"""A validator that is killed and comes back, on other ports, on the same run directory. Deadlines are long here: what
comes of the run comes of asking again, not of waiting for somebody to give up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iota_subnet import messages as m
from iota_subnet.core.events import BatchPublished, LeaseFailed
from iota_subnet.core.state import Phase
from iota_subnet.miner.neuron import IotaMiner

from .swarm import Swarm, conserved, swarm

PATIENT = {"commit_s": 60.0, "reduce_s": 60.0, "install_s": 60.0, "lease_s": 60.0, "ready_s": 60.0}


def seats(s: Swarm) -> dict[str, tuple[str, int]]:
    return {miner.hotkey: (miner.boot, miner.stage) for miner in s.state.miners.values()}


def works(s: Swarm, miner: IotaMiner) -> bool:
    """It has a seat and its channel is open, or the run is over already."""
    found = s.state.miners.get(miner.hotkey)
    return s.state.phase is Phase.DONE or (found is not None and found.connected and found.stage >= 0)


async def back(s: Swarm) -> None:
    """Crash the validator, start it again, wait for the miners."""
    held = {name: miner._engine.runner for name, miner in s.miners.items()}
    before, ports = seats(s), (s.validator.axon.port, s.validator.server.port)
    count = len(s.state.miners)
    await s.crash(s.validator)
    up = s.add_validator()
    await s.until(lambda: up._service is not None and up.gateway.opened, what="the restart")
    assert (up.axon.port, up.server.port) != ports
    await s.until(lambda: sum(x.connected for x in s.state.miners.values()) == count, 5.0, "that all miners are back")
    assert seats(s) == before
    assert {name: miner._engine.runner for name, miner in s.miners.items()} == held


async def test_no_finished_work_is_lost_or_done_twice_when_the_validator_is_killed(tmp_path: Path) -> None:
    async with swarm(tmp_path, epoch_batches=24, **PATIENT) as s:
        await s.phase(Phase.TRAIN)
        await s.until(lambda: s.state.reports[0].microbatches >= 6)
        await back(s)
        state = await s.finished()
        assert conserved(state) and not state.faults
        assert all(report.replicas_identical and report.coverage == [1.0, 1.0] for report in state.reports)
        assert state.first_eval_loss is not None and all(report.eval_loss is not None for report in state.reports)
        credited = {miner.hotkey: miner.done for miner in state.miners.values()}
        assert credited == {miner.hotkey: miner.worker.done for miner in s.miners.values()}


async def test_a_validator_that_stood_still_counts_none_of_it_against_anybody(tmp_path: Path) -> None:
    """Longer than any deadline of the run; whatever is heard first when it goes on finds no deadline passed."""
    async with swarm(tmp_path, epoch_batches=24) as s:
        await s.phase(Phase.TRAIN)
        await s.until(lambda: s.state.reports[0].microbatches >= 6)
        before = seats(s)
        away = 1000.0
        clock = s.validator.clock
        s.validator.clock = lambda: clock() + away
        await s.until(lambda: s.validator._posted_at > clock() + away / 2, what="the leap")
        assert seats(s) == before and not s.state.draining
        state = await s.finished()
        assert conserved(state) and not state.faults
        assert all(report.microbatches >= 24 for report in state.reports), "an epoch was closed for being late"
        assert all(report.replicas_identical and report.coverage == [1.0, 1.0] for report in state.reports)


@pytest.mark.parametrize("kind", [m.Receipt, m.Committed, m.Fetched, m.Reduced, m.Installed])
async def test_an_answer_that_was_lost_with_the_validator_is_given_again(
    tmp_path: Path, kind: type[m.FromMiner]
) -> None:
    class Unheard(IotaMiner):
        """Its first answer of this kind goes to a validator that dies before it writes it down."""

        lost = False

        def _send(self, message: m.FromMiner) -> None:
            first = isinstance(message, kind) and not self.lost
            if first and not (isinstance(message, m.Installed) and message.epoch == 0):
                self.lost = True
            else:
                super()._send(message)

    async with swarm(tmp_path, miners=0, epochs=1, start_miners=2, **PATIENT) as s:
        miners: list[Any] = [s.add_miner(f"miner-{number}", Unheard) for number in range(2)]
        awaited = (lambda: miners[0].lost or miners[1].lost) if kind is m.Receipt else None
        await s.until(awaited or (lambda: all(miner.lost for miner in miners)), what=f"a {kind.__name__}")
        await back(s)
        state = await s.finished(within_s=12.0)
        assert conserved(state) and not state.faults
        assert state.reports[0].coverage == [1.0, 1.0] and state.reports[0].replicas_identical


async def test_a_validator_that_comes_back_after_the_end_keeps_the_weights_going(tmp_path: Path) -> None:
    async with swarm(tmp_path, epochs=1, epoch_batches=4) as s:
        await s.finished()
        await s.crash(s.validator)
        (s.folder / "state").rename(s.folder / "lost state")
        up = s.add_validator()
        await s.until(lambda: up._service is not None and up.scores_epoch == 0 and up.weights_block, what="weights")
        assert s.state.phase is Phase.DONE and set(up.scores) == {miner.hotkey for miner in s.miners.values()}


async def test_what_a_crash_left_pinned_and_nobody_needs_can_go(tmp_path: Path) -> None:
    async with swarm(tmp_path, epochs=1, epoch_batches=4) as s:
        await s.finished()
        stray = s.validator.store.put(b"left behind", pin=True).digest
        await s.crash(s.validator)
        up = s.add_validator()
        await s.until(lambda: up._service is not None and up.gateway.opened)
        needed = {shard.weights.digest for manifest in s.state.manifests for shard in manifest.shards}
        assert stray not in up.store._pinned
        assert needed <= up.store._pinned


async def test_an_upgrade_one_process_after_the_other_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swarm(tmp_path, miners=4, epochs=5, epoch_batches=30, **PATIENT) as s:
        await s.phase(Phase.TRAIN)
        await s.until(lambda: s.state.reports[0].microbatches >= 4)
        await s.leave(s.validator)
        monkeypatch.setattr("iota_subnet.validator.ledger.__version__", "99.0")
        up = s.add_validator()
        await s.until(lambda: up._service is not None and up.gateway.opened, what="the new release")
        assert up.ledger.written_by != "99.0"
        begun = next(row.seq for row in up.ledger.rows() if row.kind == "ValidatorRestarted")
        assert begun - 1 in up.ledger.snapshot_seqs(), "something was left to replay"
        await s.until(lambda: all(works(s, miner) for miner in s.miners.values()), what="all to be back")
        for name in list(s.miners):
            await s.leave(s.miners[name])
            again = s.add_miner(name)
            await s.until(lambda one=again: works(s, one))
        state = await s.finished()
        assert conserved(state) and not state.faults
        assert all(report.replicas_identical and report.coverage == [1.0, 1.0] for report in state.reports)
        # The validator may have moved away under somebody who was fetching tokens; no miner did.
        events = list(up.ledger.events())
        tokens = {event.tokens.digest for event in events if isinstance(event, BatchPublished)}
        assert {event.digest for event in events if isinstance(event, LeaseFailed)} <= tokens
