"""The inner optimiser and the schedules.

AdamW is written out here because a stage keeps its parameters in one vector, and because importing `torch.optim` costs
1.5 CPU seconds and 75 MB (it pulls in `torch._dynamo`), which a laptop miner pays on every start.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from iota_subnet.model.parameters import parameter_count, parameters
from iota_subnet.spec import ModelSpec, TrainSpec
from iota_subnet.train.state import outer_momentum

__all__ = ["AdamW", "clip_norm", "learning_rate", "outer_momentum"]

_EPS = 1e-8


def learning_rate(train: TrainSpec, step: int) -> float:
    """Inner learning rate of step 0, 1, ...: linear warm-up, cosine to `lr_min` at step `decay`, constant after."""
    if step < train.warmup:
        return train.lr * (step + 1) / train.warmup
    done = min(1.0, (step - train.warmup) / max(1, train.decay - train.warmup))
    return train.lr_min + (train.lr - train.lr_min) * 0.5 * (1 + math.cos(math.pi * done))


def clip_norm(train: TrainSpec, model: ModelSpec, stage: int) -> float:
    """The gradient norm at which `stage` clips.

    A whole-model norm of `clip` would need all stages to talk; if every parameter's gradient were as large as any
    other's, a stage's part of it would be clip * sqrt(its share of the parameters).
    """
    counts = [parameter_count(model, index) for index in range(model.stages)]
    return train.clip * math.sqrt(counts[stage] / sum(counts))


class AdamW:
    """Adam with decoupled weight decay on one vector [P]; decay on matrices only (arXiv 1711.05101).

    Attributes:
        moments: running mean of the gradient and of its square, each [P].
        steps: how many steps they are made of, for the bias correction.
    """

    def __init__(self, train: TrainSpec, model: ModelSpec, stage: int, weights: Tensor) -> None:
        self._betas, self._weight_decay = train.betas, train.weight_decay
        self._weights = weights
        self.moments = torch.zeros_like(weights), torch.zeros_like(weights)
        self.steps = 0
        self._decayed: list[Tensor] = []
        at = 0
        for parameter in parameters(model, stage):
            if len(parameter.shape) > 1:
                self._decayed.append(weights[at : at + parameter.size])
            at += parameter.size

    def reset(self) -> None:
        """Forget both moments and the bias correction's step count."""
        for moment in self.moments if self.steps else ():
            moment.zero_()
        self.steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: float) -> None:
        """Move the weights by one step against `gradient` [P], which must be finite."""
        first, second = self._betas
        mean, square = self.moments
        self.steps += 1
        for matrix in self._decayed:
            matrix.mul_(1 - lr * self._weight_decay)
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = square.div(1 - second**self.steps).sqrt_().add_(_EPS)
        self._weights.addcdiv_(mean, scale, value=-lr / (1 - first**self.steps))
