"""Counters of bytes by kind, for the wire statistics that operators see."""

from __future__ import annotations


class ByteCounter:
    """Bytes by label. At most `max_labels` labels; what comes later is counted as "other", so that it cannot grow."""

    def __init__(self, max_labels: int = 64) -> None:
        self._max_labels = max_labels
        self._bytes: dict[str, int] = {}

    def add(self, label: str, nbytes: int) -> None:
        """Count `nbytes` more under `label`."""
        if label not in self._bytes and len(self._bytes) >= self._max_labels:
            label = "other"
        self._bytes[label] = self._bytes.get(label, 0) + nbytes

    @property
    def total(self) -> int:
        """All bytes so far."""
        return sum(self._bytes.values())

    def by_label(self) -> dict[str, int]:
        """A copy of the counts."""
        return dict(self._bytes)
