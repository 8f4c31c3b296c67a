"""Boundaries that were tried and are not in the product: a residual bottleneck with knobs.

`use` puts one in the place of a codec of `bottleneck.CODECS` for the rest of the process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iota_subnet.model import bottleneck, parameters
from iota_subnet.model.blocks import Embedding, Linear, RMSNorm
from iota_subnet.model.parameters import Parameter
from iota_subnet.spec import ModelSpec

RANK = 32


@dataclass(frozen=True)
class Knobs:
    """Of encoder and decoder. `encoder` and `decoder` are hidden widths over dim, 0 for one matrix; `identity` is the
    share of the b channels that pass through; `gain` the first scale of the last matrices; `rate` multiplies the
    learning rate of their matrices; `tokens` is "full", "low" (rank 32) or ""; `grams` mixes the embeddings of so many
    last tokens by a causal convolution; `cut` does not read z at all, to see what the token ids alone are worth."""

    encoder: float = 1.0
    decoder: float = 2.0
    identity: float = 1.0
    norms: bool = True
    gain: float = 0.1
    rate: float = 1.0
    tokens: str = ""
    grams: int = 1
    cut: bool = False


def use(codec: str, knobs: Knobs) -> None:
    """From here on a stage whose spec says `codec` has these."""

    class Narrow(Encoder):
        def __init__(self, model: ModelSpec) -> None:
            super().__init__(model, knobs)

    class Wide(Decoder):
        def __init__(self, model: ModelSpec) -> None:
            super().__init__(model, knobs)

    bottleneck.CODECS[codec] = Narrow, Wide
    parameters.BOUNDARIES[codec] = (
        lambda model, at: _encoder_table(model, at, knobs),
        lambda model, at: _decoder_table(model, at, knobs),
    )


def _perceptron(at: str, wide: int, hidden: int, narrow: int, knobs: Knobs) -> list[Parameter]:
    table = [Parameter(f"{at}.norm.weight", (wide,), 0.0)] if knobs.norms else []
    if hidden:
        table.append(Parameter(f"{at}.hidden.weight", (hidden, wide), wide**-0.5 / knobs.rate))
    last = hidden or wide
    return [*table, Parameter(f"{at}.out.weight", (narrow, last), knobs.gain * last**-0.5 / knobs.rate)]


def _encoder_table(model: ModelSpec, at: str, knobs: Knobs) -> list[Parameter]:
    return _perceptron(at, model.dim, int(knobs.encoder * model.dim), model.bottleneck, knobs)


def _decoder_table(model: ModelSpec, at: str, knobs: Knobs) -> list[Parameter]:
    d = model.dim
    table = _perceptron(at, model.bottleneck, int(knobs.decoder * d), d, knobs)
    if knobs.tokens:
        width = d if knobs.tokens == "full" else RANK
        table.append(Parameter(f"{at}.tokens.weight", (model.vocab, width), 1.0))
        if width < d:
            table.append(Parameter(f"{at}.up.weight", (d, width), width**-0.5))
    if knobs.grams > 1:
        table.append(Parameter(f"{at}.taps", (knobs.grams, d), knobs.grams**-0.5))
        table.append(Parameter(f"{at}.mix.weight", (d, d), d**-0.5))
    return table


class _Perceptron(nn.Module):
    def __init__(self, wide: int, hidden: int, narrow: int, knobs: Knobs) -> None:
        super().__init__()
        self.knobs = knobs
        if knobs.norms:
            self.norm = RMSNorm(wide, 1e-5)
        if hidden:
            self.hidden = Linear(wide, hidden)
        self.out = Linear(hidden or wide, narrow)

    def made(self, x: Tensor) -> Tensor:
        x = self.norm(x) if self.knobs.norms else x
        if hasattr(self, "hidden"):
            x = F.silu(F.linear(x, self.hidden.weight * self.knobs.rate))
        return F.linear(x, self.out.weight * self.knobs.rate)


class Encoder(_Perceptron):
    def __init__(self, model: ModelSpec, knobs: Knobs) -> None:
        super().__init__(model.dim, int(knobs.encoder * model.dim), model.bottleneck, knobs)
        self.width, self.through = model.bottleneck, int(knobs.identity * model.bottleneck)

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        return self.made(x) + F.pad(x[..., : self.through], (0, self.width - self.through))


class Decoder(_Perceptron):
    def __init__(self, model: ModelSpec, knobs: Knobs) -> None:
        super().__init__(model.bottleneck, int(knobs.decoder * model.dim), model.dim, knobs)
        self.dim, self.through = model.dim, int(knobs.identity * model.bottleneck)
        if knobs.tokens:
            self.tokens = Embedding(model.vocab, model.dim if knobs.tokens == "full" else RANK)
        if knobs.tokens == "low":
            self.up = Linear(RANK, model.dim)
        if knobs.grams > 1:
            self.taps = nn.Parameter(torch.empty(knobs.grams, model.dim))
            self.mix = Linear(model.dim, model.dim)

    def forward(self, z: Tensor, ids: Tensor | None = None) -> Tensor:
        # Times zero: all parameters keep a gradient, of zero.
        z = z * 0 if self.knobs.cut else z
        x = self.made(z) + F.pad(z[..., : self.through], (0, self.dim - self.through))
        return x + self._known(ids) if self.knobs.tokens else x

    def _known(self, ids: Tensor | None) -> Tensor:
        assert ids is not None
        known: Tensor = self.tokens(ids)
        known = self.up(known) if self.knobs.tokens == "low" else known
        if self.knobs.grams == 1:
            return known
        mixed = known * self.taps[0]
        for back in range(1, self.knobs.grams):
            mixed = mixed + F.pad(known, (0, 0, back, 0))[:, :-back] * self.taps[back]
        return known + self.mix(F.silu(mixed))
