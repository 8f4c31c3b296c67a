"""The narrow way across a stage boundary: what the sender's stage ends with, and what the receiver's begins with.

Only z [B, T, b] travels, and token ids [B, T] where a codec needs them. By `ModelSpec.boundary_codec`:

    resbm         z = Enc(x) + x[..., :b], x' = Dec(z) + pad(z): a residual bottleneck (ResBM, arXiv 2604.11947). The
                  first b channels of the residual stream pass through, the others are re-made by the decoder.
    resbm+tokens  the same, and x' += E[token]: which token it is needs no room in z.
    subspace      z = U^T (x - F[token]), x' = U z + F[token], with a fixed basis U and a fixed embedding F (Protocol
                  Models, arXiv 2506.01260). Loses nothing but the wire's rounding, because before the tail all that
                  is added to the residual stream lies in the span of U (`blocks.project`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iota_subnet.model.blocks import Embedding, Linear, RMSNorm
from iota_subnet.model.parameters import Parameter, draw
from iota_subnet.spec import ModelSpec


class Encoder(nn.Module):
    """z = Enc(x) + x[..., :b]: [B, T, dim] -> [B, T, b], hidden width dim."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.width = model.bottleneck
        self.norm = RMSNorm(model.dim, model.norm_eps)
        self.hidden, self.out = Linear(model.dim, model.dim), Linear(model.dim, self.width)

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """x [batch, length, dim] -> z [batch, length, width]; `ids` are not looked at."""
        made: Tensor = self.out(F.silu(self.hidden(self.norm(x))))
        return made + x[..., : self.width]


class Decoder(nn.Module):
    """x' = Dec(z) + pad(z): [B, T, b] -> [B, T, dim], hidden width 2 dim."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.padding = model.dim - model.bottleneck
        self.norm = RMSNorm(model.bottleneck, model.norm_eps)
        self.hidden, self.out = Linear(model.bottleneck, 2 * model.dim), Linear(2 * model.dim, model.dim)

    def forward(self, z: Tensor, ids: Tensor | None = None) -> Tensor:
        """z [batch, length, width] -> [batch, length, dim]; `ids` [batch, length] where a decoder needs them."""
        made: Tensor = self.out(F.silu(self.hidden(self.norm(z))))
        return made + F.pad(z, (0, self.padding))


class TokenDecoder(Decoder):
    """x' = Dec(z) + pad(z) + E[token]."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__(model)
        self.tokens = Embedding(model.vocab, model.dim)

    def forward(self, z: Tensor, ids: Tensor | None = None) -> Tensor:
        assert ids is not None
        known: Tensor = self.tokens(ids)
        return super().forward(z) + known


class SubspaceEncoder(nn.Module):
    """z = U^T (x - F[token]), without parameters."""

    basis: Tensor
    fixed: Tensor

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.register_buffer("basis", basis(model), persistent=False)
        self.register_buffer("fixed", fixed_embedding(model), persistent=False)

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """x [batch, length, dim] and `ids` [batch, length] -> z [batch, length, width]."""
        assert ids is not None
        return (x - F.embedding(ids, self.fixed)) @ self.basis


class SubspaceDecoder(SubspaceEncoder):
    """x' = U z + F[token], without parameters."""

    def forward(self, z: Tensor, ids: Tensor | None = None) -> Tensor:
        assert ids is not None
        return z @ self.basis.T + F.embedding(ids, self.fixed)


Make = Callable[[ModelSpec], nn.Module]

#: Encoder and decoder by the name of the codec; their tensors are those of `parameters.BOUNDARIES`.
CODECS: dict[str, tuple[Make, Make]] = {
    "resbm": (Encoder, Decoder),
    "resbm+tokens": (Encoder, TokenDecoder),
    "subspace": (SubspaceEncoder, SubspaceDecoder),
}


def basis(model: ModelSpec) -> Tensor:
    """U [dim, b] with orthonormal columns: the QR factor of a drawn matrix, the same for every run and boundary."""
    d, b = model.dim, model.bottleneck
    drawn = draw(Parameter("subspace.basis", (d, b), 1.0), 0).reshape(d, b).astype(np.float64)
    q, r = np.linalg.qr(drawn)
    # A QR factorisation leaves the signs open; with positive diagonal entries there is only one.
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))


def fixed_embedding(model: ModelSpec) -> Tensor:
    """F [vocab, dim], drawn as the first values of an embedding are, the same for every run and boundary."""
    values = draw(Parameter("subspace.embedding", (model.vocab, model.dim), 1.0), 0)
    return torch.from_numpy(values.reshape(model.vocab, model.dim))
