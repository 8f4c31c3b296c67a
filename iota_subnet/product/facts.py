"""What there is to say of a run up to a checkpoint: who trained it, on what, how far, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from iota_subnet.core.state import EpochReport, RunState
from iota_subnet.spec import RunSpec
from iota_subnet.validator.checkpoints import Checkpoint


@dataclass(frozen=True)
class Facts:
    """Figures of the epochs that are in a checkpoint. Losses are held-out, in nats per token.

    `miners` were paid for work in at least one of them; `coverage` is the smallest share of a stage's parameters that
    a merge averaged.
    """

    name: str
    spec_digest: str
    epoch: int
    microbatches: int
    tokens: int
    loss_first: float | None
    loss: float
    losses: tuple[float | None, ...]
    miners: int
    merges: int
    coverage: float | None
    twins_compared: int
    twin_disagreements: int
    miners_audited: int
    audits_failed: int
    seconds: float
    parameters: int

    def as_json(self) -> dict[str, Any]:
        """The fields by name, tuples as lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def facts_of(spec: RunSpec, state: RunState, found: Checkpoint) -> Facts:
    """What the ledger's `state` tells of the checkpoint's epochs."""
    reports = [report for report in state.reports if report.epoch < found.epoch]
    microbatches = sum(report.microbatches for report in reports)
    coverage = [share for report in reports for share in report.coverage]
    return Facts(
        name=spec.name,
        spec_digest=spec.digest(),
        epoch=found.epoch,
        microbatches=microbatches,
        tokens=microbatches * spec.train.microbatch * spec.model.seq,
        loss_first=_finite(state.first_eval_loss),
        loss=found.loss,
        losses=tuple(_finite(report.eval_loss) for report in reports),
        miners=len({hotkey for report in reports for hotkey, score in report.scores.items() if score > 0}),
        merges=sum(len(report.coverage) for report in reports),
        coverage=min(coverage, default=None),
        twins_compared=sum(report.twins_compared for report in reports),
        twin_disagreements=sum(report.twin_disagreements for report in reports),
        miners_audited=sum(report.audits for report in reports),
        audits_failed=sum(report.audits_failed for report in reports),
        seconds=_seconds(reports),
        parameters=sum(state.sizes),
    )


def _seconds(reports: list[EpochReport]) -> float:
    ended = [report.ended_at for report in reports if report.ended_at]
    return round(max(ended) - reports[0].started_at, 1) if ended else 0.0


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
