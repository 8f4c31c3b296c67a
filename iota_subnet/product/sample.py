"""Text from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the likeliest token; `top_k` 0 and `top_p` 1 leave all tokens in."""

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None


@torch.no_grad()
def tokens(model: Any, prompt: list[int], most: int, seq: int, sampling: Sampling, ends: int | None) -> Iterator[int]:
    """At most `most` ids that follow `prompt`; ends before `ends`.

    A model knows `seq` positions. When they are full, it goes on from the newer half of them.
    """
    chance = torch.Generator()
    if sampling.seed is not None:
        chance.manual_seed(sampling.seed)
    else:
        chance.seed()
    window, cache = prompt[-seq:], None
    fresh = window
    for _ in range(most):
        if len(window) > seq:
            window, cache = window[-max(1, seq // 2) :], None
            fresh = window
        out = model(torch.tensor([fresh]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        chosen = choose(out.logits[0, -1].float(), sampling, chance)
        if chosen == ends:
            return
        yield chosen
        window, fresh = [*window, chosen], [chosen]


def choose(logits: Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    """An id drawn from `logits` [vocab]."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.numel():
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], -torch.inf)
    shares = logits.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = shares.sort(descending=True)
        # The likeliest one always stays: what is before it is nothing.
        shares = shares.index_fill(0, order[ordered.cumsum(-1) - ordered >= sampling.top_p], 0.0)
    return int(torch.multinomial(shares, 1, generator=chance))


def pieces(tokenizer: Any, ids: Iterator[int]) -> Iterator[str]:
    """The text of `ids` as it becomes certain: a letter of several tokens comes when it is whole."""
    kept: list[int] = []
    shown = ""
    for token in ids:
        kept.append(token)
        text = tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd"):
            continue
        yield text[len(shown) :]
        shown = text
        if text.endswith("\n"):
            # Else each token would decode all before it again.
            kept, shown = [], ""
    rest = tokenizer.decode(kept, clean_up_tokenization_spaces=False)[len(shown) :] if kept else ""
    if rest:
        yield rest
