"""What is done to the processes of a run, and when: `--kill`, `--freeze`, `--chain-away`. Times only, no signals.

A fault names a process as the launcher does: miner-2, validator, chain. Seconds count from the begin of training.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from template.errors import BadSettings

#: kill: SIGKILL; the validator is started again at once, as pm2 would. freeze: SIGSTOP, and SIGCONT at the end.
#: away: the chain's endpoint is cut and refuses connections, and is there again at the end; blocks go on.
Kind = Literal["kill", "freeze", "away"]


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` happens to the process `name` after `after_s` seconds and, unless it is a kill, lasts `for_s`."""

    kind: Kind
    after_s: float
    name: str
    for_s: float = 0.0

    @classmethod
    def kill(cls, text: str, miners: int) -> Fault:
        """SECONDS:MINER. Raises BadSettings."""
        fault = _parse("kill", text, "SECONDS:MINER", "40:2 or --kill 40:validator")
        return fault._checked("--kill", text, miners, ("validator",))

    @classmethod
    def freeze(cls, text: str, miners: int) -> Fault:
        """SECONDS:MINER:FOR. Raises BadSettings."""
        fault = _parse("freeze", text, "SECONDS:MINER:FOR", "20:2:10 or --freeze 20:validator:10")
        return fault._checked("--freeze", text, miners, ("validator", "chain"))

    @classmethod
    def chain_away(cls, text: str) -> Fault:
        """SECONDS:FOR. Raises BadSettings."""
        return _parse("away", text, "SECONDS:FOR", "20:60")

    def _checked(self, flag: str, text: str, miners: int, others: tuple[str, ...]) -> Fault:
        if self.name not in others and not 0 <= int(self.name.removeprefix("miner-")) < miners:
            raise BadSettings(f"{flag} {text}: the miners are 0 to {miners - 1}")
        return self


def _parse(kind: Kind, text: str, form: str, example: str) -> Fault:
    flag = "--chain-away" if kind == "away" else f"--{kind}"
    parts = text.split(":")
    try:
        if len(parts) != form.count(":") + 1:
            raise ValueError
        after = float(parts[0])
        lasts = 0.0 if kind == "kill" else float(parts[-1])
        if not 0 <= after < math.inf or not 0 <= lasts < math.inf:
            raise ValueError
        name = "chain" if kind == "away" else parts[1]
        if name not in ("validator", "chain") or (name, kind) == ("chain", "kill"):
            name = f"miner-{int(name)}"
    except ValueError:
        raise BadSettings(f"{flag} {text}: use {form}, for example {flag} {example}") from None
    return Fault(kind, after, name, lasts)


class Schedule:
    """The faults of a run as begins and ends, in the order of their times."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._due: list[tuple[float, int, Fault, bool]] = []
        for number, fault in enumerate(faults):
            heapq.heappush(self._due, (fault.after_s, number, fault, True))
            if fault.kind != "kill":
                heapq.heappush(self._due, (fault.after_s + fault.for_s, number, fault, False))

    def due(self, seconds: float) -> list[tuple[Fault, bool]]:
        """What is due `seconds` after the begin, each once: the fault, and whether it begins (or ends)."""
        found: list[tuple[Fault, bool]] = []
        while self._due and self._due[0][0] <= seconds:
            _, _, fault, begins = heapq.heappop(self._due)
            found.append((fault, begins))
        return found

    @property
    def over(self) -> bool:
        """Whether all has happened."""
        return not self._due
