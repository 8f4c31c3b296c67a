"""A swarm of the real core and real tensors in one process and virtual time, as an arm of a comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from iota_subnet.rehearsal.plan import UNDEFENDED, Member
from iota_subnet.rehearsal.world import Rehearsal
from iota_subnet.spec import RunSpec


def train(spec: RunSpec, replicas: int) -> dict[str, Any]:
    """All of the run. Nobody cheats, so nothing is audited; clipping of pseudo-gradients stays as the spec has it."""
    stages = spec.model.stages
    members = [Member(number % stages) for number in range(stages * replicas)]
    defences = replace(UNDEFENDED, clip=True, trim=True)
    result = Rehearsal(spec, members, spec.seed, defences).run()
    tokens = spec.swarm.epoch_batches * spec.train.microbatch * spec.model.seq
    curve = [(epoch * tokens, loss) for epoch, loss in enumerate(result.held_out)]
    passes = {str(stage): sum(e.passes for e in result.miners.values() if e.stage == stage) for stage in range(stages)}
    return {
        "loss": result.held_out[-1],
        "curve": curve,
        "passes": passes,
        "identical": result.identical,
        "cpu_s": result.cpu.everything,
    }
