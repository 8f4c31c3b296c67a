"""The residual bottleneck at a stage boundary (ResBM, arXiv 2604.11947).

The sender's stage owns the encoder, the receiver's the decoder; only z [B, T, b] travels. The first b channels of the
residual stream pass through unchanged, the others are re-made by the decoder.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from iota_subnet.model.blocks import Linear, RMSNorm
from iota_subnet.spec import ModelSpec


class Encoder(nn.Module):
    """z = Enc(x) + x[..., :b]: [B, T, dim] -> [B, T, b], hidden width dim."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.width = model.bottleneck
        self.norm = RMSNorm(model.dim, model.norm_eps)
        self.hidden, self.out = Linear(model.dim, model.dim), Linear(model.dim, self.width)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.out(F.silu(self.hidden(self.norm(x))))
        return made + x[..., : self.width]


class Decoder(nn.Module):
    """x' = Dec(z) + pad(z): [B, T, b] -> [B, T, dim], hidden width 2 dim."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.padding = model.dim - model.bottleneck
        self.norm = RMSNorm(model.bottleneck, model.norm_eps)
        self.hidden, self.out = Linear(model.bottleneck, 2 * model.dim), Linear(2 * model.dim, model.dim)

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.out(F.silu(self.hidden(self.norm(z))))
        return made + F.pad(z, (0, self.padding))
