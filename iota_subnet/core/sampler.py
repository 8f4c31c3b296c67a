"""A bag of weighted slots: change one, add them up, find one by a drawn number; each in O(log n) (a Fenwick tree).

Law: what is found depends on the slots and their weights alone, never on the order in which they were set.
"""

from __future__ import annotations


class Sampler:
    """Slots are small numbers from 0; weights are whole numbers, so that sums are exact on any machine."""

    __slots__ = ("_tree", "filled", "total", "weights")

    def __init__(self) -> None:
        self.weights: list[int] = []
        self.total = 0
        self.filled = 0
        self._tree: list[int] = [0]

    def set(self, slot: int, weight: int) -> None:
        """Give `slot` a weight; 0 takes it out."""
        while slot >= len(self.weights):
            self._grow()
        change = weight - self.weights[slot]
        if not change:
            return
        self.filled += (weight > 0) - (self.weights[slot] > 0)
        self.weights[slot] = weight
        self.total += change
        tree, at = self._tree, slot + 1
        while at < len(tree):
            tree[at] += change
            at += at & -at

    def find(self, point: int) -> int:
        """The slot in which `point`, a number in [0, total), falls."""
        assert 0 <= point < self.total
        tree, at, size = self._tree, 0, len(self.weights)
        step = size
        while step:
            ahead = at + step
            if ahead <= size and tree[ahead] <= point:
                at, point = ahead, point - tree[ahead]
            step >>= 1
        return at

    def _grow(self) -> None:
        """Twice the room, a power of two."""
        size = max(4, 2 * len(self.weights))
        self.weights += [0] * (size - len(self.weights))
        tree = [0, *self.weights]
        for at in range(1, size + 1):
            above = at + (at & -at)
            if above <= size:
                tree[above] += tree[at]
        self._tree = tree
