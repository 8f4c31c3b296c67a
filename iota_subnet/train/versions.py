"""The weights of the newest inner steps, so that a backward pass can use those of its forward pass.

Law: a version is never written to while a pass may ask for it: a step copies the newest into the place of the oldest
and moves the copy. So kept graphs stay valid for `back` steps, each of which costs a stage's weights in memory (weight
stashing, PipeDream, arXiv 1806.03377). With `back` = 0 there is one version, and a step moves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from iota_subnet.model.stage import Stage, bind_flat, views


class Versions:
    """The flat vectors of `stage` after the newest `back` + 1 inner steps, on its device; it is bound to the newest.

    Attributes:
        weights: the newest [P].
    """

    def __init__(self, stage: Stage, back: int) -> None:
        newest = bind_flat(stage)
        self._flats = [newest, *(torch.empty_like(newest) for _ in range(back))]
        first = list(stage.parameters())
        self._leaves = [first, *([nn.Parameter(part) for part in views(stage, flat)] for flat in self._flats[1:])]
        self._places = [(part, name) for part in stage.modules() for name in part._parameters]
        self._newest = 0

    @property
    def weights(self) -> Tensor:
        """See the class."""
        return self._flats[self._newest]

    def leaves(self, back: int = 0) -> list[nn.Parameter]:
        """The parameters of `back` steps ago, in definition order: graphs made then hand gradients to them."""
        return self._leaves[(self._newest - back) % len(self._flats)]

    @torch.no_grad()
    def advance(self) -> None:
        """Begin the next version as a copy of the newest; the oldest is gone."""
        if len(self._flats) > 1:
            last = self.weights
            self._newest = (self._newest + 1) % len(self._flats)
            self.weights.copy_(last)
            self._bind(0)

    @contextmanager
    def of(self, back: int) -> Iterator[None]:
        """The stage computes with the weights of `back` steps ago."""
        if back:
            self._bind(back)
        try:
            yield
        finally:
            if back:
                self._bind(0)

    def _bind(self, back: int) -> None:
        for (part, name), leaf in zip(self._places, self.leaves(back), strict=True):
            part._parameters[name] = leaf
