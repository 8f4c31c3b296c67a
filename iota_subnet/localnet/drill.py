"""Does to the processes of a run what its schedule says, and remembers to whom."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from iota_subnet.localnet.faults import Fault, Schedule
from iota_subnet.localnet.processes import Child


class Drill:
    """The faults of one run. `processes` are the living by name; `restart(name)` starts one anew in its place."""

    def __init__(
        self,
        faults: tuple[Fault, ...],
        processes: dict[str, Child],
        restart: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self.killed: list[str] = []
        self.frozen: list[str] = []
        self.recoveries: list[float] = []
        self._schedule = Schedule(faults)
        self._processes = processes
        self._restart = restart
        self._say = say
        self._restarted_at = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing is still to come, or under way."""
        return self._schedule.over

    def act(self, seconds: float) -> None:
        """Do all that is due `seconds` after training began."""
        for fault, begins in self._schedule.due(seconds):
            match fault.kind:
                case "kill":
                    self._kill(fault.name)
                case "freeze":
                    self._freeze(fault, begins)
                case "away":
                    self._processes["chain"].send(signal.SIGUSR1 if begins else signal.SIGUSR2)
                    self._say(f"the chain is away for {fault.for_s:g} s" if begins else "the chain is there again")

    def _kill(self, name: str) -> None:
        child = self._processes[name]
        child.send(signal.SIGKILL)
        if name != "validator":
            self.killed.append(name)
            self._say(f"killed {name} with SIGKILL")
            return
        child.process.wait()
        self._restarted_at = time.monotonic()
        self._restart(name)
        self._say("killed the validator with SIGKILL and started it again")

    def _freeze(self, fault: Fault, begins: bool) -> None:
        if fault.name in self.killed:
            return
        self._processes[fault.name].send(signal.SIGSTOP if begins else signal.SIGCONT)
        if begins:
            self.frozen.append(fault.name)
        self._say(f"stopped {fault.name} for {fault.for_s:g} s" if begins else f"{fault.name} goes on")

    def note(self, status: dict[str, Any]) -> None:
        """Seconds from a restart of the validator to the first lease in a connected miner's hands."""
        if self._restarted_at and any(row["connected"] and row["leases"] for row in status["miners"]):
            self.recoveries.append(round(time.monotonic() - self._restarted_at, 2))
            self._restarted_at = 0.0
