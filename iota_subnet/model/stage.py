"""One stage of the pipeline: a run of blocks, with the embedding on the head and norm + LM head on the tail.

Parameter names are global ("blocks.3.attn.wq.weight"), so that a stage means the same in any split. The flat vector
lists the tensors in definition order: embedding or decoder, blocks, then norm and head or encoder; the same order as
`parameters.parameters`, which needs no torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from iota_subnet.model.blocks import Block, Embedding, Linear, RMSNorm, project, rotary_tables
from iota_subnet.model.bottleneck import CODECS, SubspaceEncoder
from iota_subnet.model.parameters import initial_vector
from iota_subnet.spec import ModelSpec


class Stage(nn.Module):
    """Stage `index` of `model`. Its values are undefined until `init_stage` or `load_flat`."""

    cos: Tensor
    sin: Tensor

    def __init__(self, model: ModelSpec, index: int) -> None:
        super().__init__()
        self.model, self.index = model, index
        #: Whether a backward pass computes the inside of each block again instead of keeping it.
        self.recompute = False
        self.is_head, self.is_tail = index == 0, index == model.stages - 1
        narrow = model.bottleneck > 0
        if self.is_head:
            self.embed = Embedding(model.vocab, model.dim)
        elif narrow:
            self.decoders = nn.ModuleDict({str(index - 1): CODECS[model.boundary_codec][1](model)})
        self.blocks = nn.ModuleDict({str(i): Block(model) for i in model.blocks_of(index)})
        if self.is_tail:
            self.norm, self.head = RMSNorm(model.dim, model.norm_eps), Linear(model.dim, model.vocab)
        elif narrow:
            self.encoders = nn.ModuleDict({str(index): CODECS[model.boundary_codec][0](model)})
        cos, sin = rotary_tables(model, model.seq)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def entry(self) -> nn.Module:
        """What makes the residual stream from the input: embedding, decoder, or nothing."""
        if self.is_head:
            return self.embed
        return self.decoders[str(self.index - 1)] if self.model.bottleneck else nn.Identity()

    @property
    def exit(self) -> nn.Module:
        """What makes the output from the residual stream: LM head, encoder, or nothing."""
        if self.is_tail:
            return nn.Sequential(self.norm, self.head)
        return self.encoders[str(self.index)] if self.model.bottleneck else nn.Identity()

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """Head: int64 tokens [B, T]; others z [B, T, boundary]. Returns z, or on the tail logits [B, T, vocab].

        `ids` are the same tokens, for who is not the head, where the boundary codec reads them.

        Raises:
            ValueError: T exceeds the spec's `seq`, or ids are needed and not given.
        """
        length = x.shape[1]
        if length > self.model.seq:
            raise ValueError(f"{length} tokens exceed the model's sequence length {self.model.seq}")
        if ids is None and self.model.reads_tokens(self.index):
            raise ValueError(f"stage {self.index} needs the token ids: its boundary is {self.model.boundary_codec}")
        exit = self.exit
        # Whatever is sent on from here must lie in the subspace; after the last boundary nothing is.
        basis = exit.basis if isinstance(exit, SubspaceEncoder) else None
        if self.is_head:
            x, ids = project(self.embed(x), basis), x
            if isinstance(exit, SubspaceEncoder):
                x = x + F.embedding(ids, exit.fixed)
        elif self.model.bottleneck:
            x = self.entry(x, ids)
        given = self.cos[:length], self.sin[:length], basis
        for block in self.blocks.values():
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, *given, use_reentrant=False)
            else:
                x = block(x, *given)
        out: Tensor = exit(x) if self.is_tail or not self.model.bottleneck else exit(x, ids)
        return out


def flat_size(stage: Stage) -> int:
    """P, the number of parameters of `stage`."""
    return sum(p.numel() for p in stage.parameters())


def flatten(stage: Stage) -> Tensor:
    """A float32 copy [P] of all parameters, in definition order."""
    return torch.cat([p.detach().reshape(-1).float() for p in stage.parameters()])


@torch.no_grad()
def load_flat(stage: Stage, vector: Tensor) -> None:
    """Copy `vector` [P] into the parameters.

    Raises:
        ValueError: the vector is not [P].
    """
    if vector.shape != (flat_size(stage),):
        raise ValueError(f"stage {stage.index} has {flat_size(stage)} parameters, the vector {tuple(vector.shape)}")
    at = 0
    for p in stage.parameters():
        p.copy_(vector[at : at + p.numel()].view_as(p))
        at += p.numel()


def bind_flat(stage: Stage) -> Tensor:
    """Move the parameters into one vector [P] and return it; the stage then only holds views.

    One vector makes the optimiser a handful of operations, and merging a copy.
    """
    weights = flatten(stage)
    for p, part in zip(stage.parameters(), views(stage, weights), strict=True):
        p.data = part
    return weights


def views(stage: Stage, vector: Tensor) -> list[Tensor]:
    """`vector` [P] cut into the shapes of the parameters, in definition order; nothing is copied."""
    parts, at = [], 0
    for p in stage.parameters():
        parts.append(vector[at : at + p.numel()].view_as(p))
        at += p.numel()
    return parts


def init_stage(stage: Stage, seed: int) -> Stage:
    """Give `stage` its first values, a function of (seed, parameter name), and return it."""
    load_flat(stage, torch.from_numpy(initial_vector(stage.model, stage.index, seed)))
    return stage
