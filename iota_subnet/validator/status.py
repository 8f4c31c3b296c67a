"""The run as JSON, for people: what it does, what it waits for, who did what. Read by the terminal view."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from iota_subnet.core.scoring import score
from iota_subnet.core.state import Phase, RunState
from iota_subnet.settings import ValidatorSettings
from iota_subnet.wire.blobs import BlobServer

#: Pairs of twins that are shown; those that differed most often come first.
DIFFERED = 64

#: Losses shown; older ones are thinned out by the reader's own history.
RECENT = 240


def snapshot(state: RunState, now: float) -> dict[str, Any]:
    """Everything a view shows. Times are seconds from now.

    `line` is in order, with the seconds since each last asked; `returned` are stages whose state was lost and that went
    back to that of the epoch given; `empty` are stages in which nobody can work. `met` says how often a miner and its
    twins, so many of them, got the same bits within the window of the scores, and `differed` names pairs that did not.
    """
    tokens = state.spec.train.microbatch * state.spec.model.seq
    retired = sum(report.microbatches for report in state.reports) + state.early
    return {
        "run": state.spec.name,
        "spec": state.spec.digest(),
        "phase": state.phase.value,
        "epoch": state.epoch,
        "epochs": state.spec.swarm.epochs,
        "audits_open": len(state.open_audits),
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
        "line": [{"hotkey": hotkey, "asked_s": round(max(0.0, now - at), 1)} for hotkey, at in state.line.items()],
        "banned": [
            {"hotkey": hotkey, "seconds_left": round(until - now, 1), "reason": reason}
            for hotkey, (until, reason) in state.banned.items()
            if until > now
        ],
        "returned": {str(stage): epoch for stage, epoch in state.returned.items()},
        "empty": empty(state),
        **agreement(state),
        "faults": [asdict(fault) for fault in state.faults],
        "reports": [asdict(report) for report in state.reports[-64:]],
    }


def agreement(state: RunState) -> dict[str, Any]:
    """Who agreed with whom: per miner in all, and the pairs that differed, with the stage in which one of them sits."""
    met: dict[str, list[int]] = {}
    for pair, count in state.agreement.items():
        for hotkey in pair:
            sums = met.setdefault(hotkey, [0, 0, 0])
            sums[0] += count.agreed
            sums[1] += count.agreed + count.differed
            sums[2] += 1
    stages = {hotkey: miner.stage for hotkey, miner in state.miners.items()}
    pairs = sorted((-count.differed, *pair) for pair, count in state.agreement.items() if count.differed)
    return {
        "met": {hotkey: dict(zip(("agreed", "of", "twins"), sums, strict=True)) for hotkey, sums in met.items()},
        "differed": [
            {
                "stage": max(stages.get(one, -1), stages.get(other, -1)),
                "pair": [one, other],
                "times": -times,
                "of": state.agreement[one, other].agreed - times,
            }
            for times, one, other in pairs[:DIFFERED]
        ],
    }


def empty(state: RunState) -> list[int]:
    """Stages in which nobody can work: nobody connected holds the state that the phase asks for."""
    wanted = state.epoch + (state.phase in (Phase.INSTALL, Phase.DONE))
    staffed = {miner.stage for miner in state.miners.values() if miner.connected and miner.installed == wanted}
    return [stage for stage in range(state.spec.model.stages) if stage not in staffed]


def pointer(settings: ValidatorSettings, hotkey: str, server: BlobServer) -> dict[str, Any]:
    """The validator's status file: who it is, and where its status is served. Small, because a whole one is not."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.axon.ip, settings.axon.ip)
    return {
        "kind": "validator",
        "hotkey": hotkey,
        "wallet": settings.wallet.name,
        "wallet_hotkey": settings.wallet.hotkey,
        "netuid": settings.netuid,
        "state": "running",
        "url": f"http://{f'[{host}]' if ':' in host else host}:{server.port}",
    }
