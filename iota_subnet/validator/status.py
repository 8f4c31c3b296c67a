"""The run as JSON, for people: what it does, what it waits for, who did what. Read by the terminal view."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from iota_subnet.core.scoring import score
from iota_subnet.core.state import RunState

#: Losses shown; older ones are thinned out by the reader's own history.
RECENT = 240


def snapshot(state: RunState, now: float) -> dict[str, Any]:
    """Everything a view shows. Times are seconds from now."""
    tokens = state.spec.train.microbatch * state.spec.model.seq
    retired = sum(report.microbatches for report in state.reports)
    return {
        "run": state.spec.name,
        "spec": state.spec.digest(),
        "phase": state.phase.value,
        "epoch": state.epoch,
        "epochs": state.spec.swarm.epochs,
        "waiting_for": state.waiting_for,
        "seconds_left": round(max(0.0, state.deadline - now), 1),
        "microbatches": {
            "opened": state.opened_total,
            "live": len(state.batches),
            "retired": retired,
            "lost": state.lost,
            "in_epoch": state.reports[-1].microbatches if state.reports else 0,
            "per_epoch": state.spec.swarm.epoch_batches,
        },
        "tokens": retired * tokens,
        "first_eval": state.first_eval_loss,
        "recent_losses": [round(sample.loss, 4) for sample in state.samples[-RECENT:]],
        "wire_bytes_activations": state.bytes_activations,
        "wire_bytes_merge": state.bytes_merge,
        "miners": [
            {
                "hotkey": miner.hotkey,
                "stage": miner.stage,
                "connected": miner.connected,
                "installed": miner.installed,
                "leases": len(miner.leases),
                "done": miner.done,
                "batches": miner.batches,
                "seconds": round(miner.seconds, 4),
                "score": round(score(state, miner.hotkey), 4),
            }
            for miner in state.miners.values()
        ],
        "scores": {hotkey: round(score(state, hotkey), 4) for hotkey in dict.fromkeys([*state.parts, *state.miners])},
        "faults": [asdict(fault) for fault in state.faults],
        "reports": [asdict(report) for report in state.reports[-64:]],
    }
