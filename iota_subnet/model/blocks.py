"""The transformer block of Llama: RMSNorm, grouped-query attention with rotary positions, SwiGLU.

Shapes: x [B, T, dim]; cos, sin [T, head size]. Everything is float32 unless the caller autocasts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iota_subnet.spec import ModelSpec


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., dim] -> the same shape."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Linear(nn.Module):
    """x W^T without bias. Its values are undefined: `parameters.initial_vector` gives the first ones.

    `nn.Linear` would draw values that nobody uses, and `nn.utils.skip_init` imports `torch._dynamo`.
    """

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(narrow, wide))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs]; no bias."""
        return F.linear(x, self.weight)


class Embedding(nn.Module):
    """Rows of a table [vocab, dim] by token id; values undefined as in `Linear`."""

    def __init__(self, vocab: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [...], integers below the vocabulary -> [..., dim]."""
        return F.embedding(tokens, self.weight)


def project(x: Tensor, basis: Tensor | None) -> Tensor:
    """U U^T x for a basis U [dim, b] with orthonormal columns; without one x itself.

    What the stream gets is projected, not, as Protocol Models has it, the matrices that write it after each step: the
    gradients are the same and so are the functions, while optimisers, merges and first values need not know of it.
    """
    return x if basis is None else (x @ basis) @ basis.T


def rotary_tables(model: ModelSpec, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin [length, head size] of the rotary positions; a pure function of the frozen spec."""
    size = model.dim // model.heads
    frequency = model.rope_theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency).repeat(1, 2)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of x [..., T, head size] by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal attention in which `heads / kv_heads` query heads share each key and value head."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = model.heads, model.kv_heads, model.dim // model.heads
        narrow = self.kv_heads * self.size
        self.wq, self.wk = Linear(model.dim, model.dim), Linear(model.dim, narrow)
        self.wv, self.wo = Linear(model.dim, narrow), Linear(model.dim, model.dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [batch, length, dim] -> the same shape; `cos` and `sin` are `rope`'s for these positions."""
        batch, length, dim = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, length, heads, self.size).transpose(1, 2)

        q = rotate(split(self.wq(x), self.heads), cos, sin)
        k = rotate(split(self.wk(x), self.kv_heads), cos, sin)
        v = split(self.wv(x), self.kv_heads)
        grouped = self.heads != self.kv_heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        out: Tensor = self.wo(y.transpose(1, 2).reshape(batch, length, dim))
        return out


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.gate, self.up = Linear(model.dim, model.ffn), Linear(model.dim, model.ffn)
        self.down = Linear(model.ffn, model.dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., dim] -> the same shape, through `ffn` values."""
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    """One pre-norm decoder block."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(model.dim, model.norm_eps)
        self.attn = Attention(model)
        self.mlp_norm = RMSNorm(model.dim, model.norm_eps)
        self.mlp = SwiGLU(model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, basis: Tensor | None = None) -> Tensor:
        """x [B, T, dim] plus both branches, each projected on the span of `basis` [dim, b] if there is one."""
        x = x + project(self.attn(self.attn_norm(x), cos, sin), basis)
        x = x + project(self.mlp(self.mlp_norm(x)), basis)
        return x
