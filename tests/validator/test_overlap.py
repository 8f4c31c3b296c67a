"""Training goes on while replicas merge: what a miner has computed and what the validator counts are the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from iota_subnet.core.actions import Refuse
from iota_subnet.core.events import LeaseFinished
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase
from iota_subnet.miner.merge import Merger
from iota_subnet.miner.neuron import IotaMiner

from .swarm import conserved, swarm

#: Backward passes in what a miner committed, by stage, epoch and shards.
Counted = dict[tuple[int, int], int]


class Counting(Merger):
    counted: Counted

    async def _commit(self, stage: int, epoch: int, shards: int) -> None:
        await super()._commit(stage, epoch, shards)
        commit = self._engine.runner._commit  # type: ignore[union-attr]
        assert commit is not None
        self.counted = {**getattr(self, "counted", {}), (stage, epoch): commit.batches}


async def test_passes_of_a_merge_are_in_the_next_pseudo_gradient_and_counted_there(tmp_path: Path) -> None:
    class CountedMiner(IotaMiner):
        merger_type = Counting

    async with swarm(tmp_path, miners=0, start_miners=4, epochs=4, epoch_batches=16, overlap=True) as s:
        miners = [s.add_miner(f"miner-{number}", CountedMiner) for number in range(4)]
        state = await s.finished(within_s=60.0)
        assert conserved(state) and not state.faults
        assert all(report.replicas_identical and report.coverage == [1.0, 1.0] for report in state.reports)
        assert all(score > 0 for score in state.reports[-1].scores.values())
        events = list(s.validator.ledger.events())

    again = Orchestrator(state.spec)
    weights: dict[tuple[str, int, int], int] = {}
    given_in_a_merge = 0
    refused: Counter[str] = Counter()
    for event in events:
        before = again.state.next_lease
        actions = again.handle(event)
        if isinstance(event, LeaseFinished):
            refused[event.hotkey] += any(isinstance(action, Refuse) for action in actions)
        merging = again.state.phase in (Phase.COMMIT, Phase.REDUCE, Phase.INSTALL)
        given_in_a_merge += (again.state.next_lease - before) * merging
        for merge in again.state.merges:
            for hotkey, (weight, _) in merge.commits.items():
                weights[hotkey, merge.stage, again.state.epoch] = weight
    assert given_in_a_merge > 0, "work went on"
    assert len(weights) >= 12
    truth = {
        (miner.hotkey, stage, epoch): count
        for miner in miners
        for (stage, epoch), count in miner.merger.counted.items()  # type: ignore[attr-defined]
    }
    # What two replicas have computed, because one seemed to be late, is in both commits and counts for one of them.
    for hotkey in {key[0] for key in weights}:
        more = [truth[key] - weight for key, weight in weights.items() if key[0] == hotkey]
        assert all(count >= 0 for count in more) and sum(more) <= refused[hotkey], (hotkey, more, refused)
