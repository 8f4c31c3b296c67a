"""The inner optimisers and the schedules.

AdamW and Muon are written out here because a stage keeps its parameters in one vector, and because importing
`torch.optim` costs 1.5 CPU seconds and 75 MB (it pulls in `torch._dynamo`), which a laptop miner pays on every start.

Law: a step is a function of the spec, the weights, the gradients since `reset`, and the kind of device.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from iota_subnet.model.parameters import Parameter, parameter_count, parameters
from iota_subnet.spec import ModelSpec, TrainSpec
from iota_subnet.train.state import outer_momentum

__all__ = ["AdamW", "Muon", "Optimiser", "clip_norm", "learning_rate", "make", "orthogonalise", "outer_momentum"]

ADAM_EPS = 1e-8

#: Muon's quintic, applied so often; it takes singular values between 0.01 and 1 to about 0.7 .. 1.2
#: (https://kellerjordan.github.io/posts/muon/).
_QUINTIC = 3.4445, -4.7750, 2.0315
_QUINTIC_TIMES = 5
_MUON_EPS = 1e-7


class Optimiser(Protocol):
    """What a runner asks of one.

    Attributes:
        moments: all that it remembers of earlier gradients, float32 vectors.
        steps: how many steps they are made of.
    """

    steps: int

    @property
    def moments(self) -> tuple[Tensor, ...]:
        """See the class."""

    def reset(self) -> None:
        """Forget the moments and the count of steps."""

    def step(self, weights: Tensor, gradient: Tensor, lr: float) -> None:
        """Move `weights` [P] by one step against `gradient` [P], which must be finite."""


def make(train: TrainSpec, model: ModelSpec, stage: int, weights: Tensor) -> Optimiser:
    """The optimiser that the spec names, for flat vectors like `weights` [P] of `stage`."""
    return (Muon if train.optimiser == "muon" else AdamW)(train, model, stage, weights)


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
        self.moments = torch.zeros_like(weights), torch.zeros_like(weights)
        self.steps = 0
        # Neighbours with the same decay are one slice: whether it decays, and where it lies.
        self._slices: list[tuple[bool, int, int]] = []
        at = 0
        for parameter in parameters(model, stage):
            decays, lo = len(parameter.shape) > 1, at
            if self._slices and self._slices[-1][0] == decays:
                lo = self._slices.pop()[1]
            at += parameter.size
            self._slices.append((decays, lo, at))

    def reset(self) -> None:
        """Forget both moments and the bias correction's step count."""
        for moment in self.moments if self.steps else ():
            moment.zero_()
        self.steps = 0

    @torch.no_grad()
    def step(self, weights: Tensor, gradient: Tensor, lr: float) -> None:
        """Move `weights` [P] by one step against `gradient` [P], which must be finite."""
        first, second = self._betas
        mean, square = self.moments
        self.steps += 1
        steps = torch.tensor(float(self.steps), device=gradient.device)
        for decays in (True, False):
            mine = [(lo, hi) for decayed, lo, hi in self._slices if decayed == decays]
            moved, gradients, means, squares = (
                [vector[lo:hi] for lo, hi in mine] for vector in (weights, gradient, mean, square)
            )
            # What `torch.optim.AdamW(fused=True)` calls: one reading of the vectors instead of eight.
            torch._fused_adamw_(
                moved, gradients, means, squares, [], [steps] * len(mine), lr=lr, beta1=first, beta2=second,
                weight_decay=self._weight_decay if decays else 0.0, eps=ADAM_EPS, amsgrad=False, maximize=False,
            )  # fmt: skip


class _Place(NamedTuple):
    """Where a tensor lies in the flat vector, and, for AdamW's, in the vector of mean squares."""

    lo: int
    hi: int
    shape: tuple[int, ...]
    square: int


class Muon:
    """Muon for the matrices inside blocks and boundaries, AdamW for embeddings, LM head and norms, on one vector [P].

    A matrix moves along its momentum (Nesterov's), made near orthogonal; the step is scaled to a root mean square of
    `muon_rms` * lr in every shape, so that both halves share one learning rate (arXiv 2502.16982). The momentum is a
    running mean: where `torch.optim.Muon` has the same, up to a factor that `orthogonalise` takes out.

    Attributes:
        moments: momentum, of all tensors [P], and AdamW's mean square of those that are not Muon's [R].
        steps: how many steps they are made of.
    """

    def __init__(self, train: TrainSpec, model: ModelSpec, stage: int, weights: Tensor) -> None:
        self._train = train
        self._matrices: list[_Place] = []
        self._others: list[_Place] = []
        at = others = 0
        for parameter in parameters(model, stage):
            mine = is_muons(parameter)
            (self._matrices if mine else self._others).append(_Place(at, at + parameter.size, parameter.shape, others))
            at += parameter.size
            others += 0 if mine else parameter.size
        self.moments = torch.zeros_like(weights), weights.new_zeros(others)
        self.steps = 0

    def reset(self) -> None:
        """Forget momentum, mean squares and the bias correction's step count."""
        for moment in self.moments if self.steps else ():
            moment.zero_()
        self.steps = 0

    @torch.no_grad()
    def step(self, weights: Tensor, gradient: Tensor, lr: float) -> None:
        """Move `weights` [P] by one step against `gradient` [P], which must be finite."""
        self.steps += 1
        for place in self._matrices:
            self._muon(place, weights[place.lo : place.hi], gradient[place.lo : place.hi], lr)
        for place in self._others:
            self._adamw(place, weights[place.lo : place.hi], gradient[place.lo : place.hi], lr)

    def _muon(self, place: _Place, weights: Tensor, gradient: Tensor, lr: float) -> None:
        train = self._train
        momentum = self.moments[0][place.lo : place.hi].lerp_(gradient, 1 - train.muon_momentum)
        update = orthogonalise(gradient.lerp(momentum, train.muon_momentum).view(place.shape))
        # An orthogonal matrix has entries of root mean square 1 / sqrt(its longer side).
        scale = train.muon_rms * math.sqrt(max(place.shape))
        weights.mul_(1 - lr * train.weight_decay).add_(update.reshape(-1), alpha=-lr * scale)

    def _adamw(self, place: _Place, weights: Tensor, gradient: Tensor, lr: float) -> None:
        first, second = self._train.betas
        mean = self.moments[0][place.lo : place.hi].lerp_(gradient, 1 - first)
        square = self.moments[1][place.square : place.square + gradient.numel()]
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        if len(place.shape) > 1:
            weights.mul_(1 - lr * self._train.weight_decay)
        scale = square.div(1 - second**self.steps).sqrt_().add_(ADAM_EPS)
        weights.addcdiv_(mean, scale, value=-lr / (1 - first**self.steps))


def is_muons(parameter: Parameter) -> bool:
    """Whether Muon moves a tensor: a matrix that maps hidden states to hidden states. Tables of tokens are none."""
    inside = parameter.name.startswith(("blocks.", "encoders.", "decoders."))
    return inside and len(parameter.shape) == 2 and not parameter.name.endswith("tokens.weight")


def orthogonalise(matrix: Tensor) -> Tensor:
    """About U V^T of `matrix` = U S V^T, float32; zeros stay zeros.

    On a CPU all is float32: many have no bfloat16 units, and on those `torch.optim.Muon` takes 5 times as long for a
    whole step. Elsewhere the products are in bfloat16, as torch has them.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=_MUON_EPS)
    x = x if x.device.type == "cpu" else x.bfloat16()
    a, b, c = _QUINTIC
    for _ in range(_QUINTIC_TIMES):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).float()
