"""What `--link` says, and one direction of such a link as arithmetic. No I/O, no clock.

Law: a packet first finds room in the queue or is dropped; then it takes its time on the wire, lost or not; what is not
lost arrives half a round trip later. Packets of one direction never overtake each other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from template.errors import BadSettings

#: Bytes of one packet on an emulated link, as on most ways through the internet: a loss of 1 % is 1 % of these.
MTU = 1400

#: The queue before the wire holds what it sends in so many seconds, and never less than a burst of 45 packets. More
#: would hide every loss behind seconds of waiting, as bad modems do.
QUEUE_S = 0.1
QUEUE_MIN_BYTES = 64 << 10

#: Bytes under way at most on a link without a rate; only a fault of ours would reach it.
UNDER_WAY_MAX = 64 << 20

_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}

USAGE = "use RATE,ROUND_TRIP,LOSS, for example 20mbit,80ms,1%; each part may be left out"


@dataclass(frozen=True, slots=True)
class Link:
    """A miner's line to the rest of the world. `rate` in bits a second, 0 for no limit; `rtt_s` in seconds, there and
    back; `loss` as a share of the packets of either direction."""

    rate: float = 0.0
    rtt_s: float = 0.0
    loss: float = 0.0

    def __str__(self) -> str:
        parts = []
        if self.rate:
            parts.append(f"{self.rate / 1e6:g}mbit")
        if self.rtt_s:
            parts.append(f"{self.rtt_s * 1e3:g}ms")
        if self.loss:
            parts.append(f"{self.loss * 100:g}%")
        return ",".join(parts)

    @classmethod
    def parse(cls, text: str) -> Link:
        """`text` as a link. Raises BadSettings."""
        found: dict[str, float] = {}
        for part in text.split(","):
            name, value = _part(part.strip().lower(), text)
            if name in found:
                raise BadSettings(f"--link {text}: {part.strip()} is the second of its kind; {USAGE}")
            found[name] = value
        return cls(**found)


def _part(part: str, text: str) -> tuple[str, float]:
    """The field of Link that `part` sets, and its value."""
    bounds = {
        "rate": (1e4, 1e10, "10kbit to 10gbit"),
        "rtt_s": (0.0, 10.0, "0 to 10 s"),
        "loss": (0.0, 0.5, "0 to 50 %"),
    }
    try:
        if part.endswith("%"):
            name, value = "loss", float(part[:-1]) / 100
        elif part.endswith("bit"):
            name, value = "rate", float(part[:-4]) * _UNITS[part[-4:]]
        elif part.endswith("ms"):
            name, value = "rtt_s", float(part[:-2]) / 1e3
        elif part.endswith("s"):
            name, value = "rtt_s", float(part[:-1])
        else:
            raise ValueError
    except (ValueError, KeyError):
        raise BadSettings(f"--link {text}: {part!r} is no rate, time or loss; {USAGE}") from None
    low, high, words = bounds[name]
    if not low <= value <= high:
        raise BadSettings(f"--link {text}: {part} is out of bounds, {words} can be emulated")
    return name, value


class Lane:
    """One direction of one link. The figures count IP packets and their bytes."""

    def __init__(self, link: Link, seed: str) -> None:
        self.packets = 0
        self.bytes = 0
        self.lost = 0
        self.dropped = 0
        self._byte_s = 8 / link.rate if link.rate else 0.0
        self._delay_s = link.rtt_s / 2
        self._loss = link.loss
        self._queue_s = max(QUEUE_S, QUEUE_MIN_BYTES * self._byte_s)
        self._chance = random.Random(seed).random
        self._free_at = 0.0

    def send(self, now: float, nbytes: int) -> float | None:
        """When a packet of `nbytes`, given to this lane at `now` (seconds, never running backwards), arrives at its
        other end; None when it does not."""
        self.packets += 1
        self.bytes += nbytes
        starts, takes = max(now, self._free_at), nbytes * self._byte_s
        if starts + takes > now + self._queue_s:
            self.dropped += 1
            return None
        self._free_at = starts + takes
        if self._chance() < self._loss:
            self.lost += 1
            return None
        return self._free_at + self._delay_s

    def figures(self) -> dict[str, int]:
        """Packets and bytes taken, packets lost by chance, packets dropped by a full queue."""
        return {"packets": self.packets, "bytes": self.bytes, "lost": self.lost, "dropped": self.dropped}
