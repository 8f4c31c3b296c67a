"""A stage runner that counts what it computes: virtual time passes for work that was really done, and for no other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from iota_subnet.spec import RunSpec
from iota_subnet.train.runner import StageRunner

#: What a forward pass costs of a stage's whole round; the rest is the backward pass. As `flow.retire` pays them.
FORWARD = 1 / 3


class CountedRunner(StageRunner):
    """`spent` is FLOPs, as a share of what one microbatch costs the whole model; `passes` how many calls it took.

    A graph that has to be made again is not counted: who is paid is not paid for it either.
    """

    def __init__(self, spec: RunSpec, stage: int, precision: str) -> None:
        super().__init__(spec, stage)
        self.spent = 0.0
        self.passes = 0
        self._share = spec.model.flops_share(stage)
        self._precision = precision

    def forward(self, mb: int, input: bytes) -> bytes:
        self._count(FORWARD)
        return super().forward(mb, input)

    def forward_backward(self, mb: int, input: bytes, tokens: bytes) -> tuple[bytes, list[float]]:
        self._count(1.0)
        return super().forward_backward(mb, input, tokens)

    def backward(self, mb: int, input: bytes, grad: bytes) -> bytes:
        self._count(1.0 - FORWARD)
        return super().backward(mb, input, grad)

    def _count(self, part: float) -> None:
        self.spent += self._share * part
        self.passes += 1

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast("cpu", torch.bfloat16)
