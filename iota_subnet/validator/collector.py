"""When Python looks for cycles. Law: a look at everything is made where it disturbs nobody, and never left out.

The core makes no cycles, so all that it lets go is gone at once; connections and exceptions make some, so the collector
is not switched off. It counts what was made less what is gone, so a run in balance seldom reaches `YOUNG`; what it has
looked at once it leaves alone until the next look at everything. That one walks the whole state, 0.3 s with 10,000
miners and more with the chain's SDK: it is made when INSTALL begins, when no work is given out, if there was reason to
look at new ones since the last, or an hour after it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from iota_subnet.core.state import Phase

#: More containers than at the last look before Python looks at the new ones: 0.1 s in a large state, and seldom.
YOUNG = 50_000

#: Looks at the new ones before Python, of its own, looks at older ones: never.
NEVER = 1_000_000

#: Seconds after which everything is looked at whatever the phase is.
LONGEST_S = 3600.0


@contextmanager
def calm() -> Iterator[None]:
    """Nothing that is there now is ever looked at, and what comes later seldom; as it was before at the end."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, NEVER, NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class Rounds:
    """Full collections, at times when they disturb nobody."""

    def __init__(self, now: float) -> None:
        self._last, self._phase = now, Phase.WAIT

    def look(self, phase: Phase, now: float) -> bool:
        """Collect if it is time to; whether it was. Called with every tick."""
        begins = phase is Phase.INSTALL and self._phase is not Phase.INSTALL and gc.get_count()[1] > 0
        self._phase = phase
        if not begins and now < self._last + LONGEST_S:
            return False
        self._last = now
        gc.collect()
        return True
