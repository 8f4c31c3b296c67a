"""IOTA's language model for `transformers`: Llama's blocks, with a residual bottleneck where its pipeline was cut.

This file stands alone: it needs torch and transformers, and travels with the weights. Names of parameters are those of
the training swarm ("blocks.3.attn.wq.weight"). Shapes: x [B, T, dim], z [B, T, bottleneck].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast


class IotaConfig(PretrainedConfig):
    """Shape of the model. `boundaries` lists how many blocks come before each bottleneck of width `bottleneck`, which
    `boundary_codec` makes: resbm, resbm+tokens or subspace."""

    model_type = "iota"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 256,
        hidden_size: int = 128,
        intermediate_size: int = 352,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 4,
        num_key_value_heads: int = 2,
        max_position_embeddings: int = 128,
        rotary_base: float = 10_000.0,
        rms_norm_eps: float = 1e-5,
        bottleneck: int = 32,
        boundaries: tuple[int, ...] | list[int] = (2, 4),
        boundary_codec: str = "resbm",
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.max_position_embeddings = max_position_embeddings
        self.rotary_base = rotary_base
        self.rms_norm_eps = rms_norm_eps
        self.bottleneck = bottleneck
        self.boundaries = list(boundaries)
        self.boundary_codec = boundary_codec
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., dim] -> the same shape."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def linear(wide: int, narrow: int) -> nn.Linear:
    """x W^T, without bias."""
    return nn.Linear(wide, narrow, bias=False)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of x [B, heads, T, size] by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def project(x: Tensor, basis: Tensor | None) -> Tensor:
    """U U^T x for a basis U [dim, bottleneck] with orthonormal columns; without one x itself."""
    return x if basis is None else (x @ basis) @ basis.T


class Attention(nn.Module):
    """Causal attention in which several query heads share each key and value head."""

    def __init__(self, config: IotaConfig, index: int) -> None:
        super().__init__()
        dim = config.hidden_size
        self.index = index
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = dim // self.heads
        self.wq, self.wk = linear(dim, dim), linear(dim, self.kv_heads * self.size)
        self.wv, self.wo = linear(dim, self.kv_heads * self.size), linear(dim, dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """x [batch, length, dim] -> the same shape; `cache` is a `Cache` of transformers, or None."""
        batch, length, dim = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, length, heads, self.size).transpose(1, 2)

        q = rotate(split(self.wq(x), self.heads), cos, sin)
        k = rotate(split(self.wk(x), self.kv_heads), cos, sin)
        v = split(self.wv(x), self.kv_heads)
        if cache is not None:
            k, v = cache.update(k, v, self.index)
        grouped = self.heads != self.kv_heads
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)
        out: Tensor = self.wo(y.transpose(1, 2).reshape(batch, length, dim))
        return out


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: IotaConfig) -> None:
        super().__init__()
        dim, ffn = config.hidden_size, config.intermediate_size
        self.gate, self.up, self.down = linear(dim, ffn), linear(dim, ffn), linear(ffn, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., dim] -> the same shape, through the intermediate size."""
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    """One pre-norm decoder block."""

    def __init__(self, config: IotaConfig, index: int) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config, index)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Any, basis: Tensor | None
    ) -> Tensor:
        """x [batch, length, dim] -> the same shape; with a `basis` both branches are projected on it."""
        x = x + project(self.attn(self.attn_norm(x), cos, sin, mask, cache), basis)
        x = x + project(self.mlp(self.mlp_norm(x)), basis)
        return x


class Encoder(nn.Module):
    """What the sender's stage does at a boundary: z = Enc(x) + x[..., :b]."""

    def __init__(self, config: IotaConfig) -> None:
        super().__init__()
        dim, self.width = config.hidden_size, config.bottleneck
        self.norm = RMSNorm(dim, config.rms_norm_eps)
        self.hidden, self.out = linear(dim, dim), linear(dim, self.width)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, length, dim] -> z [batch, length, width]."""
        made: Tensor = self.out(F.silu(self.hidden(self.norm(x))))
        return made + x[..., : self.width]


class Decoder(nn.Module):
    """What the receiver's stage does with z: x' = Dec(z) + pad(z), and + E[token] with the codec resbm+tokens."""

    def __init__(self, config: IotaConfig) -> None:
        super().__init__()
        dim, width = config.hidden_size, config.bottleneck
        self.padding = dim - width
        self.norm = RMSNorm(width, config.rms_norm_eps)
        self.hidden, self.out = linear(width, 2 * dim), linear(2 * dim, dim)
        self.tokens = nn.Embedding(config.vocab_size, dim) if config.boundary_codec == "resbm+tokens" else None

    def forward(self, z: Tensor, ids: Tensor | None) -> Tensor:
        """z [batch, length, width] -> [batch, length, dim]; `ids` [batch, length] if it has a table of tokens."""
        made: Tensor = self.out(F.silu(self.hidden(self.norm(z))))
        made = made + F.pad(z, (0, self.padding))
        return made if self.tokens is None else made + self.tokens(ids)


class Subspace(nn.Module):
    """A boundary of the codec subspace, both sides: z = U^T (x - F[token]), x' = U z + F[token]. Nothing is trained;
    up to the last boundary all that is added to x lies in the span of U, so that no more than rounding is lost."""

    basis: Tensor
    fixed: Tensor

    def __init__(self, config: IotaConfig) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(config.hidden_size, config.bottleneck))
        self.register_buffer("fixed", torch.zeros(config.vocab_size, config.hidden_size))

    def enter(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """The residual stream that begins with the embeddings x."""
        return project(x, self.basis) + self.known(ids)

    def known(self, ids: Tensor | None) -> Tensor:
        """ids [batch, length] -> what both sides know of the tokens, [batch, length, dim]."""
        return F.embedding(ids, self.fixed)

    def forward(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """x [batch, length, dim] -> the same shape, without what would not cross the boundary."""
        return project(x - self.known(ids), self.basis) + self.known(ids)


#: How a boundary can be made narrow; all but the first read the token ids beyond it.
CODECS = ("resbm", "resbm+tokens", "subspace")


class IotaForCausalLM(PreTrainedModel, GenerationMixin):
    """Tokens to logits: embedding, blocks with a bottleneck at each boundary, norm, LM head."""

    config_class = IotaConfig
    main_input_name = "input_ids"
    _no_split_modules = ("Block",)

    def __init__(self, config: IotaConfig) -> None:
        super().__init__(config)
        if config.boundary_codec not in CODECS:
            known = ", ".join(CODECS)
            raise ValueError(f"boundary_codec={config.boundary_codec!r} is not known; this file knows {known}")
        trained = config.boundary_codec != "subspace"
        boundaries = range(len(config.boundaries) if trained else 0)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_hidden_layers))
        self.encoders = nn.ModuleList(Encoder(config) for _ in boundaries)
        self.decoders = nn.ModuleList(Decoder(config) for _ in boundaries)
        self.subspace = None if trained else Subspace(config)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings, where transformers looks for it."""
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        """The LM head, where transformers looks for it."""
        return self.head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, vocab] of `input_ids` [B, T]; with `labels` [B, T] also the mean loss, -100 left out.

        Raises:
            ValueError: `inputs_embeds` without `input_ids`, which the boundaries of this model read.
        """
        if input_ids is None and self.config.boundary_codec != CODECS[0]:
            raise ValueError(f"boundary_codec={self.config.boundary_codec!r} reads the tokens: give input_ids")
        x = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        batch, length, _ = x.shape
        cache = past_key_values
        if cache is None and use_cache:
            cache = DynamicCache()
        before = 0 if cache is None else cache.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(before, before + length, device=x.device).expand(batch, length)
        cos, sin = self._rotary(position_ids, x.dtype)
        mask = _mask(attention_mask, batch, length, before, x.device)
        crossing = {place: number for number, place in enumerate(self.config.boundaries)}
        narrow, basis = self.subspace, None
        if narrow is not None and crossing:
            x = narrow.enter(x, input_ids)
        for index, block in enumerate(self.blocks):
            if index in crossing:
                number = crossing[index]
                x = narrow(x, input_ids) if narrow is not None else self._cross(x, number, input_ids)
            if narrow is not None:
                # What the blocks after the last boundary add is sent nowhere.
                basis = narrow.basis if index < max(crossing, default=0) else None
            x = block(x, cos, sin, mask, cache, basis)
        logits = self.head(self.norm(x[:, -logits_to_keep:] if logits_to_keep else x))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)

    def _cross(self, x: Tensor, number: int, ids: Tensor | None) -> Tensor:
        out: Tensor = self.decoders[number](self.encoders[number](x), ids)
        return out

    def _rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin [B, 1, T, head size]; always computed in float32."""
        size = self.config.hidden_size // self.config.num_attention_heads
        steps = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device)
        frequency = self.config.rotary_base ** (-steps / size)
        angle = (positions[:, None, :, None].float() * frequency).repeat(1, 1, 1, 2)
        return angle.cos().to(dtype), angle.sin().to(dtype)


def _mask(given: Tensor | None, batch: int, length: int, before: int, device: torch.device) -> Tensor | None:
    """Who may look at whom, bool [B, 1, T, S]; None where causality alone decides."""
    if given is not None and given.dim() == 4:
        return given
    padded = given is not None and not bool(given.all())
    if not padded and before == 0:
        return None
    total = before + length
    mask = torch.ones(length, total, dtype=torch.bool, device=device).tril(before).expand(batch, 1, length, total)
    if padded:
        # A row that may look at nothing would become NaN: each token sees itself.
        itself = torch.ones(length, total, dtype=torch.bool, device=device).triu(before).tril(before)
        mask = (mask & given[:, None, None, :total].bool()) | itself
    return mask
