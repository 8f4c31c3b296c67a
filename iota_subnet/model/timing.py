"""What the parts of a model cost on this machine: seconds of a forward and backward pass, for `cost.balanced`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iota_subnet.model.blocks import Embedding, Linear, RMSNorm, rotary_tables
from iota_subnet.model.cost import Costs
from iota_subnet.model.stage import Stage
from iota_subnet.spec import ModelSpec

#: Of so many runs the fastest counts: what is slower was disturbed.
RUNS = 5


def measure(model: ModelSpec, microbatch: int, device: str = "cpu", runs: int = RUNS) -> Costs:
    """Seconds per microbatch of a block and of both ends of each kind, forward and backward.

    One part is built at a time, so that a machine which holds one block can measure a model of any depth.
    """
    where = torch.device(device)
    narrow = 0 < model.bottleneck and model.stages > 1
    two = replace(model, stages=2, blocks=2, split=())
    tokens = torch.zeros(microbatch, model.seq, dtype=torch.int64, device=where)
    wide = torch.randn(microbatch, model.seq, model.dim, device=where)
    thin = torch.randn(microbatch, model.seq, model.boundary, device=where)
    cos, sin = (table.to(where) for table in rotary_tables(model, model.seq))

    def part(build: Callable[[], nn.Module], x: Tensor, *more: Tensor, loss: bool = False) -> float:
        module = _filled(build()).to(where)
        y = x.clone().requires_grad_() if x.is_floating_point() else x
        return min(_once(module, y, more, loss) for _ in range(runs))

    # Head and tail of a model of two blocks have the very modules that stand at a boundary.
    return Costs(
        block=part(lambda: Stage(two, 0).blocks["0"], wide, cos, sin),
        embed=part(lambda: Embedding(model.vocab, model.dim), tokens),
        head=part(lambda: _head(model), wide, loss=True),
        encoder=part(lambda: Stage(two, 0).exit, wide) if narrow else 0.0,
        decoder=part(lambda: Stage(two, 1).entry, thin) if narrow else 0.0,
    )


def _head(model: ModelSpec) -> nn.Module:
    return nn.Sequential(RMSNorm(model.dim, model.norm_eps), Linear(model.dim, model.vocab))


def _filled(module: nn.Module) -> nn.Module:
    """Values of a usual size: time depends on them only where they are not finite or tiny."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.02)
    return module


def _once(module: nn.Module, x: Tensor, more: tuple[Tensor, ...], loss: bool) -> float:
    _wait(x.device)
    began = time.perf_counter()
    with nullcontext() if x.device.type == "cpu" else torch.autocast(x.device.type, torch.bfloat16):
        y = module(x, *more)
    if loss:
        y = F.cross_entropy(
            y.float().flatten(0, 1), torch.zeros(y.shape[:2].numel(), dtype=torch.int64, device=x.device)
        )
    y.float().sum().backward()
    _wait(x.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
