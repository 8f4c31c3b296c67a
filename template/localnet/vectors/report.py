"""What a run of vectors found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Report:
    """Number of values compared, and one line for each that differs or was left out."""

    compared: int = 0
    mismatches: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def number(self, where: str, ours: int, measured: int, tolerance: int = 0) -> None:
        """Compare two integers."""
        self.compared += 1
        if abs(ours - measured) > tolerance:
            self.mismatches.append(f"{where}: {ours}, measured {measured}")

    def values(self, where: str, ours: Sequence[object], measured: Sequence[object]) -> None:
        """Compare two lists, element by element."""
        self.compared += max(len(ours), len(measured))
        if len(ours) != len(measured):
            self.mismatches.append(f"{where}: {len(ours)} values, measured {len(measured)}")
            return
        for place, (mine, theirs) in enumerate(zip(ours, measured, strict=True)):
            if mine != theirs:
                self.mismatches.append(f"{where}[{place}]: {mine}, measured {theirs}")
