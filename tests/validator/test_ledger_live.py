"""The ledger of a real run: read while it is written, and sound after a kill."""

from __future__ import annotations

from pathlib import Path

from iota_subnet.core.state import Phase
from iota_subnet.validator import snapshots
from iota_subnet.validator.journal import reading
from iota_subnet.validator.verify import verify

from .swarm import swarm


async def test_a_run_can_be_verified_while_it_goes_on_and_after_a_kill(tmp_path: Path) -> None:
    async with swarm(tmp_path, epochs=2, epoch_batches=12, commit_s=60.0, reduce_s=60.0, install_s=60.0) as s:
        run = s.folder / "run"
        await s.phase(Phase.TRAIN)
        await s.until(lambda: s.state.reports[0].microbatches >= 4)
        with reading(run) as journal:
            found = verify(journal)
        assert found.snapshots == 1 and found.state.phase is Phase.TRAIN
        await s.crash(s.validator)
        up = s.add_validator()
        await s.until(lambda: up._service is not None and up.gateway.opened, what="the restart")
        state = await s.finished()
        with reading(run) as journal:
            found = verify(journal)
        assert found.snapshots == 2 and found.head.seq == found.played
        assert snapshots.state_hash(found.state) == snapshots.state_hash(state)
