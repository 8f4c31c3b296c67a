"""How long to wait before trying again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: A number in [0, 1); `random.random` or a seeded `random.Random(...).random`.
Jitter = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential from `first_s` to `max_s` seconds; half of a wait is chance, so a crowd does not return at once."""

    first_s: float = 0.2
    max_s: float = 20.0

    def delay_s(self, failures: int, jitter: Jitter) -> float:
        """Seconds to wait after `failures` (>= 1) failures in a row."""
        # The exponent is capped because 2.0**1024 overflows and a miner may retry for weeks.
        full = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return full * (0.5 + 0.5 * jitter())
