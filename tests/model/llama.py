"""A model of transformers to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def a_llama(folder: Path, **changes: Any) -> Any:
    """A tiny random Llama, saved by transformers itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=5)
    shape |= dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    model = LlamaForCausalLM(LlamaConfig(**(shape | changes))).eval()
    model.save_pretrained(folder)
    return model
