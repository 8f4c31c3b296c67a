"""Validator and miners together, and what may go wrong between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from iota_subnet import messages as m
from iota_subnet.core.state import Phase
from iota_subnet.miner.merge import Merger, Place
from iota_subnet.miner.neuron import IotaMiner
from iota_subnet.miner.work import Worker
from iota_subnet.train.state import ReducedShard
from iota_subnet.wire.digests import digest_of

from .kit import digest
from .swarm import NETUID, Swarm, conserved, swarm


def paid(s: Swarm) -> dict[str, int]:
    """Weights on chain, by the miners' names."""
    weights = s.chain.weights_of(NETUID, s.hotkey("validator"))
    return {name: weights.get(s.chain.register(NETUID, s.hotkey(name)), 0) for name in s.miners}


async def test_a_run_trains_merges_pays_and_ends(tmp_path: Path) -> None:
    async with swarm(tmp_path) as s:
        state = await s.finished()
        assert conserved(state)
        assert [report.coverage for report in state.reports] == [[1.0, 1.0]] * 2
        assert all(report.replicas_identical for report in state.reports)
        assert all(report.twin_disagreements == 0 for report in state.reports)
        assert state.reports[-1].eval_loss < state.first_eval_loss
        assert not state.faults
        assert all(paid(s).values())


async def test_who_joins_late_starts_from_the_others_state_and_is_paid(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=2, epochs=3, epoch_batches=16) as s:
        await s.phase(Phase.TRAIN)
        late = s.add_miner("late")
        state = await s.finished()
        assert conserved(state)
        assert all(report.replicas_identical for report in state.reports)
        assert late.worker.done > 0 and paid(s)["late"] > 0
        held = {miner.hotkey: miner for miner in state.miners.values()}
        twin = next(x for x in held.values() if x.stage == held[late.hotkey].stage and x.hotkey != late.hotkey)
        assert held[late.hotkey].state_digest == twin.state_digest


async def test_who_is_stopped_finishes_first_and_nothing_has_to_be_done_again(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=4, epochs=2, epoch_batches=24) as s:
        await s.phase(Phase.TRAIN)
        leaver = next(iter(s.miners.values()))
        await s.until(lambda: leaver.worker.done > 1, what="some work of its own")
        leaver.stop()
        await s.until(s.tasks.pop(leaver).done, what="the miner to go")
        assert leaver.hotkey not in s.state.miners
        state = await s.finished()
        assert conserved(state) and not state.faults
        kinds = [type(event).__name__ for event in s.validator.ledger.events()]
        assert "LeaseFailed" not in kinds and kinds.count("MinerLeft") >= 1


class Vanishing(Merger):
    """Does not answer when asked for `on`."""

    on = ""
    asked = False

    def commit(self, *args: Any) -> None:
        self._unless("commit", *args)

    def reduce(self, *args: Any) -> None:
        self._unless("reduce", *args)

    def _unless(self, what: str, *args: Any) -> None:
        if what == self.on:
            self.asked = True
        else:
            getattr(super(), what)(*args)


@pytest.mark.parametrize("step", ["commit", "reduce"])
async def test_a_miner_that_disappears_in_a_merge_costs_seconds_and_no_parameter(tmp_path: Path, step: str) -> None:
    class Mortal(IotaMiner):
        merger_type = type("Vanishing", (Vanishing,), {"on": step})

    async with swarm(tmp_path, miners=3, epochs=1, start_miners=4, reconnect_s=0.5, commit_s=30.0, reduce_s=30.0) as s:
        gone = s.add_miner("gone", Mortal)
        await s.until(lambda: hasattr(gone, "merger") and gone.merger.asked, what=step)  # type: ignore[attr-defined]
        await s.crash(gone)
        state = await s.finished(within_s=10.0)
        assert conserved(state) and not state.faults
        assert state.reports[0].coverage == [1.0, 1.0]
        assert gone.hotkey not in state.miners


class Liar(Merger):
    """Publishes a result that differs in one bit."""

    async def _publish(self, place: Place, made: ReducedShard, digests: Sequence[str]) -> None:
        weights = made.weights[:-4] + bytes([made.weights[-4] ^ 1]) + made.weights[-3:]
        lie = made._replace(weights=weights)
        await super()._publish(place, lie, [digest_of(part) for part in lie])


class Recorder(Merger):
    published: dict[Place, str]

    async def _publish(self, place: Place, made: ReducedShard, digests: Sequence[str]) -> None:
        await super()._publish(place, made, digests)
        self.published = {**getattr(self, "published", {}), place: self._results[place].weights.digest}


async def test_a_reducer_that_lies_is_named_earns_nothing_and_changes_nothing(tmp_path: Path) -> None:
    class Lying(IotaMiner):
        merger_type = Liar

    class Honest(IotaMiner):
        merger_type = Recorder

    async with swarm(tmp_path, miners=0, epochs=1, start_miners=4) as s:
        liar = s.add_miner("liar", Lying)
        honest = [s.add_miner(f"miner-{number}", Honest) for number in range(3)]
        state = await s.finished()
        assert {fault.hotkey for fault in state.faults} == {liar.hotkey}
        assert "truth is" in state.faults[0].what
        assert paid(s)["liar"] == 0 and all(paid(s)[f"miner-{number}"] > 0 for number in range(3))
        stage = state.miners[liar.hotkey].stage
        twins = [miner.merger.published for miner in honest if hasattr(miner.merger, "published")]  # type: ignore[attr-defined]
        said = {digest for published in twins for place, digest in published.items() if place[0] == stage}
        assert {shard.weights.digest for shard in state.manifests[stage].shards} == said
        assert state.reports[0].replicas_identical


class Garbage(Worker):
    """Computes, then says something else, another nonsense each time."""

    sent = 0

    async def _compute(self, lease: m.Lease, inputs: list[bytes]) -> m.Receipt:
        right = await super()._compute(lease, inputs)
        nothing = m.Made(digest(f"nobody has this {lease.lease}"), 64)
        nonsense = [
            m.Receipt(lease.lease, nothing, right.losses, right.seconds, 0),
            m.Receipt(lease.lease, m.Made("../../etc/passwd", 64), right.losses, right.seconds, 0),
            m.Receipt(lease.lease, m.Made(nothing.digest, -1), right.losses, right.seconds, 0),
            m.Receipt(lease.lease, right.output, (float("nan"),) * 2, float("nan"), 0),
            m.Receipt(10**15, right.output, right.losses, -1.0, 0),
        ]
        self.sent += 1
        return nonsense[self.sent % len(nonsense)]


async def test_garbage_receipts_cost_the_others_nothing_but_time(tmp_path: Path) -> None:
    class Bad(IotaMiner):
        worker_type = Garbage

    async with swarm(tmp_path, miners=3, epochs=1, start_miners=4, lease_s=1.0) as s:
        bad = s.add_miner("bad", Bad)
        state = await s.finished(within_s=40.0)
        assert bad.worker.sent > 0  # type: ignore[attr-defined]
        assert conserved(state) and state.reports[0].coverage == [1.0, 1.0]
        assert state.reports[0].eval_loss < state.first_eval_loss
        earned = paid(s)
        assert all(earned["bad"] < earned[f"miner-{number}"] for number in range(3))
