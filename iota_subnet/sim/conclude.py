"""What must be true of a world that has come to its end."""

from __future__ import annotations

from iota_subnet.core.state import Phase
from iota_subnet.sim.watch import need
from iota_subnet.sim.world import World


def conclude(world: World) -> None:
    """Raise at the first promise that was not kept."""
    state = world.orchestrator.state
    need(state.phase is Phase.DONE, f"the run ended in {state.phase}")
    need(state.lost == 0, f"{state.lost} microbatches were lost")
    retired = sum(report.microbatches for report in state.reports) + state.early
    need(state.opened_total == retired + len(state.batches), "a microbatch vanished")
    need([report.epoch for report in state.reports] == list(range(world.plan.epochs)), "an epoch is missing")
    for report in state.reports:
        # Where work goes on in a merge, an epoch's share may be done before it has begun.
        early = state.spec.swarm.overlap and sum(report.contributors) > 0
        need(report.microbatches > 0 or early, f"nothing was trained in epoch {report.epoch}")
        need(report.replicas_identical, f"replicas differ after epoch {report.epoch}")
        for stage, count in enumerate(report.contributors):
            told = any(f"of stage {stage}:" in line for line in report.missed)
            whole = report.coverage[stage] == (1.0 if count else 0.0)
            need(whole or told, f"stage {stage} of epoch {report.epoch} is covered to {report.coverage[stage]}")
    for hotkey, score in state.reports[-1].scores.items():
        named = hotkey in world.watch.scored
        need(score >= 0 and not (named and score), f"{hotkey} scores {score}, named: {named}")
    world.replay()
