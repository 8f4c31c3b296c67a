"""What a rehearsal came to, by hotkey and by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum

from iota_subnet.core.clasp import Effect
from iota_subnet.core.events import MinerAudited
from iota_subnet.core.state import Fault


@dataclass(frozen=True, slots=True)
class Earned:
    """One miner over the whole run. FLOPs are shares of what one microbatch costs the whole model.

    `flops` is what its runner computed, `volume` what of that was paid for, `merged` the pay of its merge duties.
    `number` is its place in the list of members, `stage` where it sat at the end, -1 for nowhere.
    """

    number: int
    stage: int
    flops: float
    passes: int
    volume: float
    merged: float
    score: float
    weight: float


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of processor time of this process."""

    training: float
    audits: float
    everything: float


@dataclass(frozen=True, slots=True)
class Result:
    """`held_out` has the loss before the first epoch too; `effects` are by epoch; `bans` say when and why.

    Two runs of the same plan give equal results; processor time is not compared.
    """

    miners: dict[str, Earned]
    held_out: tuple[float, ...]
    train_loss: tuple[float | None, ...]
    faults: tuple[Fault, ...]
    bans: dict[str, tuple[int, str]]
    verdicts: tuple[MinerAudited, ...]
    effects: tuple[dict[str, Effect], ...]
    digests: tuple[str, ...]
    identical: bool
    audited: int
    audit_passes: int
    seconds: float
    cpu: Cpu = field(compare=False)

    def of(self, number: int) -> Earned:
        """The member with this number."""
        return next(earned for earned in self.miners.values() if earned.number == number)

    def hotkey(self, number: int) -> str:
        """The hotkey of the member with this number. StopIteration if there is none."""
        return next(hotkey for hotkey, earned in self.miners.items() if earned.number == number)

    @property
    def train_passes(self) -> int:
        """Passes that all members computed, a forward pass as a third."""
        return sum(earned.passes for earned in self.miners.values())

    def suspicions(self, hotkey: str) -> list[tuple[int, str]]:
        """(epoch, why) of all that was held against somebody: faults, audits that were not sound, bans, harm."""
        found = [(fault.epoch, f"fault: {fault.what}") for fault in self.faults if fault.hotkey == hotkey]
        found += [
            (audit.epoch, f"audit {audit.verdict}: {audit.reason}")
            for audit in self.verdicts
            if audit.hotkey == hotkey and audit.verdict in ("failed", "withheld")
        ]
        if hotkey in self.bans:
            epoch, reason = self.bans[hotkey]
            found.append((epoch, f"ban: {reason}"))
        for epoch, effects in enumerate(self.effects):
            effect = effects.get(hotkey)
            if effect is not None and effect.quality < 1.0:
                found.append((epoch, f"harm: {effect.effect:.3f} nats, quality {effect.quality:.3f}"))
        return sorted(found)


def normalised(scores: dict[str, float]) -> dict[str, float]:
    """Shares of the whole; all zero if nobody has earned anything."""
    total = fsum(scores.values())
    return {hotkey: score / total if total else 0.0 for hotkey, score in scores.items()}
