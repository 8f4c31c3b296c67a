"""A flat vector that stays where it was received: one array for each shard that it came in.

Law: nothing writes to a piece. Whoever asks for a slice that lies in one piece gets a view of it, else a copy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from iota_subnet.train.codec import Floats


class Pieces:
    """float32 [size], the concatenation of `parts`. Slices and numpy functions take it as an array."""

    def __init__(self, parts: Sequence[Floats]) -> None:
        self._parts = [part for part in parts if part.size]
        self._starts: list[int] = []
        self.size = 0
        for part in self._parts:
            self._starts.append(self.size)
            self.size += part.size

    def __iter__(self) -> Iterator[tuple[int, Floats]]:
        """Each part with the index of its first value."""
        return zip(self._starts, self._parts, strict=True)

    def __getitem__(self, where: slice) -> Floats:
        lo, hi, _ = where.indices(self.size)
        found = []
        for index in range(max(0, bisect_right(self._starts, lo) - 1), len(self._parts)):
            start = self._starts[index]
            if start >= hi:
                break
            found.append(self._parts[index][max(0, lo - start) : hi - start])
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32), dtype)
