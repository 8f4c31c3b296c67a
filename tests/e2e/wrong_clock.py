"""A miner whose clock is wrong: `python wrong_clock.py SECONDS <the flags of neurons/miner.py>`."""

from __future__ import annotations

import functools
import sys
import time

from iota_subnet.miner import neuron
from neurons import miner

if __name__ == "__main__":
    seconds = float(sys.argv.pop(1))
    wrong = functools.partial(neuron.IotaMiner, clock=lambda: time.time() + seconds)
    neuron.IotaMiner = wrong  # type: ignore[misc, assignment]
    sys.exit(miner.main())
