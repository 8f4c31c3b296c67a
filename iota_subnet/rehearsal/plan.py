"""What a rehearsal is of: the run, who takes part, and which defences are up. Nothing here knows of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from iota_subnet.core.draw import choose
from iota_subnet.miner.conduct import Conduct
from iota_subnet.spec import ModelSpec, RunSpec, SwarmSpec, TrainSpec

#: Suffixes of a hotkey that are tried until the core's own draw gives it the seat that is wanted.
TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Member:
    """One miner. `stage` is where it sits first, None for anywhere; `speed` is FLOPs per second against the others.

    `threads` and `precision` are its machine's: with bfloat16 it multiplies matrices as a GPU does. Members of one
    `machine` share it, and take turns; with None it has one of its own.
    """

    stage: int | None = None
    speed: float = 1.0
    conduct: type[Conduct] = Conduct
    threads: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    machine: int | None = None

    @property
    def honest(self) -> bool:
        """Whether it does what every miner should."""
        return self.conduct is Conduct


@dataclass(frozen=True, slots=True)
class Defences:
    """What is up; what is not turned off is as the run's specification says. Twins are compared in any case."""

    audits: bool = True
    clasp: bool = True
    clip: bool = True
    trim: bool = True

    def applied(self, spec: RunSpec) -> RunSpec:
        """The specification with these defences. CLASP has no part in it: see `Rehearsal`."""
        train, swarm = spec.train, spec.swarm
        if not self.audits:
            swarm = replace(swarm, audit_miners=0.0, audit_passes=0.0, audit_shards=0.0)
        train = replace(
            train,
            delta_clip=train.delta_clip if self.clip else 0.0,
            delta_trim=train.delta_trim if self.trim else 0.0,
        )
        return replace(spec, train=train, swarm=swarm)


#: All that the specification asks for.
DEFENDED = Defences()

#: Nothing but the twins of a merge.
UNDEFENDED = Defences(audits=False, clasp=False, clip=False, trim=False)


def nano(epochs: int = 8, batches: int = 48, stages: int = 3) -> RunSpec:
    """The smallest model that learns text: 33,000 parameters a stage, one block each.

    Times are virtual: a machine of speed 1 needs about a second for a stage's forward and backward pass. The score
    window is longer than the run, so that its end shows all of it, and so is a ban.
    """
    # The wide FFN makes the tail's head cost a third of a block: no stage is so poor that somebody has to move there.
    model = ModelSpec("nano", 256, 32, stages, 2, 1, 224, 32, stages=stages, bottleneck=0)
    train = TrainSpec(microbatch=4, lr=5e-3, lr_min=1e-3, warmup=8, decay=epochs * batches, outer_warmup=epochs)
    swarm = SwarmSpec(
        epochs=epochs,
        epoch_batches=batches,
        min_batches=4,
        live_per_replica=2,
        audit_s=3600.0,
        score_window_s=86_400.0,
        ban_s=86_400.0,
    )
    return RunSpec(name="rehearsal", model=model, train=train, swarm=swarm)


def seated(spec: RunSpec, members: Sequence[Member]) -> list[tuple[int, str]]:
    """(number of the member, its hotkey) in the order of joining. The core draws seats; hotkeys are chosen so that the
    draw comes out as the members say.

    Raises:
        ValueError: the stages that are asked for differ by more than one seat.
    """
    counts = [0] * spec.model.stages
    waiting = list(range(len(members)))
    order: list[tuple[int, str]] = []
    while waiting:
        fewest = [stage for stage, count in enumerate(counts) if count == min(counts)]
        fitting = [number for number in waiting if members[number].stage in fewest]
        found = next(iter(fitting), None)
        if found is None:
            found = next((number for number in waiting if members[number].stage is None), None)
        if found is None:
            raise ValueError(f"member {waiting[0]} wants stage {members[waiting[0]].stage}, which has enough already")
        wanted = members[found].stage
        wanted = fewest[0] if wanted is None else wanted
        names = (f"miner-{found:02}-{suffix}" for suffix in range(TRIES))
        order.append((found, next(name for name in names if choose(fewest, spec.seed, "stage", name) == wanted)))
        counts[wanted] += 1
        waiting.remove(found)
    return order
