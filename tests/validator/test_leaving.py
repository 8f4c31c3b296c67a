"""Who leaves in the midst of an epoch gives up its pay; who is told to finish it first does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .swarm import conserved, swarm


async def test_who_finishes_its_epoch_is_paid_for_it(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=4, start_miners=6, epochs=2, epoch_batches=160, audit_miners=1.0) as s:
        hasty = s.add_miner("hasty")
        patient = s.add_miner("patient", flags=("--work.finish_s", "60", "--work.drain_s", "90"))
        both = hasty.hotkey, patient.hotkey
        await s.until(lambda: s.validator._service is not None and all(s.state.volume.get(h, 0) > 4 for h in both))
        assert s.state.epoch == 0 and s.state.reports[0].microbatches < 80, "too late to leave in its midst"
        await asyncio.gather(s.leave(hasty), s.leave(patient))
        assert not set(both) & set(s.state.miners) and s.state.parts[patient.hotkey]
        unseen, paid = s.state.parts[hasty.hotkey][0], s.state.parts[patient.hotkey][0]
        assert unseen.standing == 0.0 and paid.standing == 1.0 and paid.volume > unseen.volume
        # It was audited while it was there: nobody has to believe it. A pass of the next epoch may have been its own.
        assert {(found.epoch, found.verdict) for found in s.state.verdicts[patient.hotkey]} >= {(0, "sound")}
        assert conserved(s.state) and not s.state.faults
