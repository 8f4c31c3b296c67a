"""A stage runner whose stage lies on several devices: the same bytes in and out, one interface for the miner.

Law: as for `runner`, within the rounding of sums in another order: gradients of the samples are added by device first.
Who audits such a miner computes on one device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iota_subnet.model.parameters import parameter_count
from iota_subnet.spec import RunSpec
from iota_subnet.train import optim
from iota_subnet.train.pieces import Pieces
from iota_subnet.train.runner import StageRunner
from iota_subnet.train.team import Team
from iota_subnet.train.tuning import Tuning


class ShardedRunner(StageRunner):
    """One replica of `stage` on `tuning.devices`. Everything may raise `team.DevicesLost`, after which nothing works.

    Raises (constructor):
        ValueError: the tuning, the number of devices or the run's optimiser does not do.
        DevicesLost: a device cannot be used.
    """

    def __init__(self, spec: RunSpec, stage: int, tuning: Tuning, max_graphs: int = 2, threads: int = 1) -> None:
        count = len(tuning.devices)
        if spec.train.microbatch % count:
            raise ValueError(f"a microbatch of {spec.train.microbatch} samples cannot be split over {count} devices")
        if spec.train.optimiser != "adamw":
            raise ValueError(
                f"several devices can do adamw only, the run has {spec.train.optimiser}; choose one device"
            )
        self._threads = threads
        super().__init__(spec, stage, "cpu", max_graphs, tuning)

    def close(self) -> None:
        self._team.close()

    def _hold(self, tuning: Tuning) -> None:
        self._team = Team(self.spec, self.stage, tuning, self._threads)
        self._optimiser: optim.Optimiser = _Moments(self._team)
        self.parameters = parameter_count(self.spec.model, self.stage)
        self._keys = 0
        self._dropped: list[int] = []

    @property
    def _weights(self) -> Tensor:
        return self._read("weights")

    @property
    def _gradient(self) -> Tensor:
        return self._read("gradient")

    def _read(self, name: str) -> Tensor:
        return torch.from_numpy(self._team.call("read", name)[0])

    def _load(self, weights: Pieces) -> None:
        self._team.call("load", np.array(weights))

    def _apply(self, entry: Tensor, ids: Tensor | None, targets: Tensor | None) -> Tensor:
        self._keys += 1
        handle = _Handle(self._keys, self._dropped)
        anchor = torch.zeros((), requires_grad=True)
        made: Tensor = _Passed.apply(anchor, entry, self, handle, ids, targets)  # type: ignore[no-untyped-call]
        return made

    def _forward_rows(self, handle: _Handle, *given: Tensor | None) -> Tensor:
        dropped = list(self._dropped)
        self._dropped.clear()
        parts = zip(*(self._rows(tensor) for tensor in given), strict=True)
        outputs = self._team.each("forward", [(handle.key, dropped, *rows) for rows in parts])
        return torch.from_numpy(np.concatenate(outputs))

    def _backward_rows(self, handle: _Handle, outer: Tensor) -> Tensor | None:
        answers = self._team.each("backward", [(handle.key, rows) for rows in self._rows(outer)])
        self._finite = all(finite for _, finite in answers)
        inner = [rows for rows, _ in answers if rows is not None]
        return torch.from_numpy(np.concatenate(inner)) if inner else None

    def _rows(self, tensor: Tensor | None) -> list[Any]:
        if tensor is None:
            return [None] * self._team.size
        return np.split(np.ascontiguousarray(tensor.detach().numpy()), self._team.size)

    def _take_gradient(self, back: int) -> list[Tensor] | None:
        return [] if self._finite else None

    def _add_gradient(self, fresh: list[Tensor]) -> None:
        self._team.call("accumulate")

    def _gradient_norm(self) -> float:
        return math.hypot(*self._team.call("norm"))

    def _move(self, scale: float, lr: float) -> None:
        self._optimiser.steps += 1
        self._team.call("step", scale, self._optimiser.steps, lr)

    def _advance(self) -> None:
        if self.spec.train.stash:
            self._team.call("advance")

    @contextmanager
    def _with(self, back: int) -> Iterator[None]:
        if back:
            self._team.call("use", back)
        yield
        if back:
            self._team.call("use", 0)

    def _zero_gradient(self) -> None:
        self._team.call("zero", ["gradient"])

    def _copy(self) -> tuple[list[Tensor], tuple[int, int, int]]:
        self._team.call("keep")
        return [], (self._optimiser.steps, self._pending, self.inner_step)

    def _restore(self, kept: tuple[list[Tensor], tuple[int, int, int]]) -> None:
        self._team.call("restore")
        self._optimiser.steps, self._pending, self.inner_step = kept[1]


class _Handle:
    """A graph that the team keeps; when nobody here needs it any more, the team is told with the next pass."""

    def __init__(self, key: int, dropped: list[int]) -> None:
        self.key, self._dropped = key, dropped

    def __del__(self) -> None:
        self._dropped.append(self.key)


class _Passed(torch.autograd.Function):
    """The team's forward and backward pass as one function of autograd's. `anchor` makes token ids' output need one."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, entry: Tensor, runner: ShardedRunner, handle: _Handle, *rest: Any) -> Tensor:
        ctx.runner, ctx.handle = runner, handle
        return runner._forward_rows(handle, entry, *rest)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        return None, ctx.runner._backward_rows(ctx.handle, outer), None, None, None, None


class _Moments:
    """`optim.AdamW`'s moments, where they lie."""

    def __init__(self, team: Team) -> None:
        self._team, self.steps = team, 0

    @property
    def moments(self) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(self._team.call("read", name)[0]) for name in ("mean", "square"))

    def reset(self) -> None:
        if self.steps:
            self._team.call("zero", ["mean", "square"])
        self.steps = 0

    def step(self, weights: Tensor, gradient: Tensor, lr: float) -> None:
        raise NotImplementedError("the devices step against the gradient that they hold")
