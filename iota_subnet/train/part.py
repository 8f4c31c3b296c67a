"""One device's part of a stage: FSDP2 (`torch.distributed.fsdp.fully_shard`) over the team's devices.

Law: every member is called with the same name in the same order, as each call may be a collective. Weights, gradients
and moments lie cut along their first dimension; samples of a microbatch are split evenly, and gradients summed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from iota_subnet.model.stage import Stage
from iota_subnet.spec import RunSpec
from iota_subnet.train.optim import ADAM_EPS
from iota_subnet.train.tuning import Tuning

#: A collective that takes longer has lost somebody.
TIMEOUT = timedelta(minutes=10)

Array = np.ndarray[Any, Any]


class _Graph(NamedTuple):
    entry: Tensor
    exit: Tensor


class Part:
    """What the member of rank `rank` holds. Arrays come and go in the host's memory."""

    def __init__(self, spec: RunSpec, stage: int, tuning: Tuning, rank: int, store: str) -> None:
        self._spec, self._rank, self._world = spec, rank, len(tuning.devices)
        self._device = torch.device(tuning.devices[rank])
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        dist.init_process_group(
            "gloo" if self._device.type == "cpu" else "nccl",
            init_method=store, rank=rank, world_size=self._world, timeout=TIMEOUT,
        )  # fmt: skip
        mesh = init_device_mesh(self._device.type, (self._world,))
        self._halves = tuning.halves(tuning.devices[rank])
        self._module: Any = Stage(spec.model, stage)
        self._module.recompute = tuning.recompute
        # Also the outermost is cut again after a forward pass: no copy of old weights is left to compute with.
        for block in self._module.blocks.values():
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(self._module, mesh=mesh, reshard_after_forward=True)
        self._module.to(self._device)
        for module in self._module.modules():
            if isinstance(module, FSDPModule):
                # The loss is divided by the whole microbatch already, and gloo has no mean.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._leaves: list[Any] = list(self._module.parameters())
        self._shapes = [leaf.shape for leaf in self._leaves]
        self._weights = [leaf.to_local().detach() for leaf in self._leaves]
        self._vectors = {name: [torch.zeros_like(w) for w in self._weights] for name in ("gradient", "mean", "square")}
        self._fresh: list[Tensor] = []
        self._graphs: dict[int, _Graph] = {}
        self._kept: list[Tensor] = []
        #: Weights of 1, 2, ... inner steps ago, as many as the run keeps; and the newest, while older ones are in use.
        self._past: deque[list[Tensor]] = deque(maxlen=spec.train.stash)
        self._newest: list[Tensor] = []

    # Passes

    def forward(
        self, key: int, dropped: Iterable[int], entry: Array, ids: Array | None, targets: Array | None
    ) -> Array:
        """Output of these samples, or with `targets` their losses [rows, T]; its graph is kept as `key`."""
        for old in dropped:
            self._graphs.pop(old, None)
        x = torch.from_numpy(entry).to(self._device)
        if x.is_floating_point():
            x.requires_grad_()
        known = None if ids is None else torch.from_numpy(ids).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16) if self._halves else nullcontext():
            out = self._module(x, known)
        if targets is not None:
            wanted = torch.from_numpy(targets).to(self._device)
            losses = F.cross_entropy(out.float().flatten(0, 1), wanted.flatten(), reduction="none")
            out = losses.view(wanted.shape)
        self._graphs[key] = _Graph(x, out.float())
        return self._graphs[key].exit.detach().cpu().numpy()

    def backward(self, key: int, outer: Array) -> tuple[Array | None, bool]:
        """Gradient by the input, and whether this part of the parameters' gradient is finite; it is kept apart."""
        graph = self._graphs.pop(key)
        graph.exit.backward(torch.from_numpy(outer).to(self._device))  # type: ignore[no-untyped-call]
        self._fresh = [
            torch.zeros_like(weight) if leaf.grad is None else leaf.grad.to_local()
            for leaf, weight in zip(self._leaves, self._weights, strict=True)
        ]
        for leaf in self._leaves:
            leaf.grad = None
        finite = all(bool(torch.isfinite(part).all()) for part in self._fresh)
        return None if graph.entry.grad is None else graph.entry.grad.cpu().numpy(), finite

    def accumulate(self) -> None:
        """Add the last backward pass's gradient to the accumulated one."""
        for total, part in zip(self._vectors["gradient"], self._fresh, strict=True):
            total.add_(part)
        self._fresh = []

    def norm(self) -> float:
        """Of this part of the accumulated gradient."""
        parts = self._vectors["gradient"]
        return math.hypot(*(float(torch.linalg.vector_norm(part, dtype=torch.float64)) for part in parts))

    # Steps

    @torch.no_grad()
    def step(self, scale: float, steps: int, lr: float) -> None:
        """AdamW's step number `steps` against `scale` times the accumulated gradient; see `optim.AdamW`."""
        train, at = self._spec.train, torch.tensor(float(steps), device=self._device)
        for part in self._vectors["gradient"]:
            part.mul_(scale)
        for decays in (True, False):
            mine = [
                n for n, shape in enumerate(self._shapes) if (len(shape) > 1) == decays and self._weights[n].numel()
            ]
            weights = [self._weights[n] for n in mine]
            gradients, means, squares = (
                [self._vectors[name][n] for n in mine] for name in ("gradient", "mean", "square")
            )
            torch._fused_adamw_(
                weights, gradients, means, squares, [], [at] * len(mine), lr=lr, beta1=train.betas[0],
                beta2=train.betas[1], weight_decay=train.weight_decay if decays else 0.0, eps=ADAM_EPS,
                amsgrad=False, maximize=False,
            )  # fmt: skip

    @torch.no_grad()
    def advance(self) -> None:
        """Remember the weights, before a step moves them."""
        full = len(self._past) == self._past.maxlen
        copies = self._past.pop() if full else [torch.empty_like(part) for part in self._weights]
        _copy(copies, self._weights)
        self._past.appendleft(copies)

    @torch.no_grad()
    def use(self, back: int) -> None:
        """Compute with the weights of `back` steps ago; 0: with the newest again.

        What was gathered for a pass is gathered anew for the way back, so that its graph finds them too.
        """
        if back:
            self._newest = [part.clone() for part in self._weights]
        _copy(self._weights, self._past[back - 1] if back else self._newest)

    def zero(self, names: Iterable[str]) -> None:
        """Set vectors ("gradient", "mean", "square") to zero."""
        for name in names:
            for part in self._vectors[name]:
                part.zero_()

    def keep(self) -> None:
        """Remember all that a step changes, in the host's memory."""
        self._kept = [part.to("cpu", copy=True) for part in self._all()]

    @torch.no_grad()
    def restore(self) -> None:
        """Take back what has happened since `keep`."""
        _copy(self._all(), self._kept)

    # Vectors of the whole stage

    @torch.no_grad()
    def load(self, flat: Array) -> None:
        """Take this part of the weights [P]."""
        at = 0
        for shape, weight in zip(self._shapes, self._weights, strict=True):
            size = math.prod(shape)
            whole = torch.from_numpy(flat[at : at + size]).view(shape)
            mine = torch.chunk(whole, self._world)[self._rank : self._rank + 1]
            if mine:
                weight.copy_(mine[0])
            at += size

    @torch.no_grad()
    def read(self, name: str) -> Array | None:
        """A vector [P] ("weights" or as in `zero`) at rank 0, nothing at the others."""
        whole = []
        parts = self._weights if name == "weights" else self._vectors[name]
        for leaf, part in zip(self._leaves, parts, strict=True):
            like = DTensor.from_local(
                part, leaf.device_mesh, leaf.placements, run_check=False, shape=leaf.shape, stride=leaf.stride()
            )
            joined = like.full_tensor()
            if self._rank == 0:
                whole.append(joined.reshape(-1).cpu().numpy())
        return np.concatenate(whole) if self._rank == 0 else None

    def held(self) -> int:
        """How many values of the stage's parameters lie here between two passes."""
        return sum(weight.numel() for weight in self._weights)

    def _all(self) -> list[Tensor]:
        return [*self._weights, *(part for parts in self._vectors.values() for part in parts)]


def _copy(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(into, values, strict=True):
        tensor.copy_(value)
