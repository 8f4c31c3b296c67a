"""Stages as models of transformers and back: `LlamaForCausalLM` without a bottleneck, `IotaForCausalLM` with one.

transformers is imported on use only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from iota_subnet.model.bottleneck import basis, fixed_embedding
from iota_subnet.model.stage import Stage
from iota_subnet.spec import ModelSpec, SpecError

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn.wq": "self_attn.q_proj",
    "attn.wk": "self_attn.k_proj",
    "attn.wv": "self_attn.v_proj",
    "attn.wo": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


def llama_names(model: ModelSpec) -> dict[str, str]:
    """Our global parameter name -> the name in `LlamaForCausalLM`'s state dict."""
    names = {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    names["head.weight"] = "lm_head.weight"
    for index in range(model.blocks):
        for ours, theirs in _BLOCK.items():
            names[f"blocks.{index}.{ours}.weight"] = f"model.layers.{index}.{theirs}.weight"
    return names


def to_llama(stages: Sequence[Stage], model: ModelSpec) -> LlamaForCausalLM:
    """The same function of tokens as the chained `stages`, as a float32 `LlamaForCausalLM` with its own copies.

    Raises:
        SpecError: the model has bottlenecks, which Llama cannot express, or stages are missing.
    """
    if model.bottleneck and model.stages > 1:
        raise SpecError(f"a model with bottleneck={model.bottleneck} is no Llama; export it as IotaForCausalLM")
    _complete(stages, model)
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=model.vocab,
        hidden_size=model.dim,
        intermediate_size=model.ffn,
        num_hidden_layers=model.blocks,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        max_position_embeddings=model.seq,
        rms_norm_eps=model.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        tie_word_embeddings=False,
        attention_bias=False,
        mlp_bias=False,
    )
    llama = LlamaForCausalLM(config)
    names = llama_names(model)
    llama.load_state_dict({names[name]: p.detach() for stage in stages for name, p in stage.named_parameters()})
    return llama


def to_iota(stages: Sequence[Stage], model: ModelSpec) -> PreTrainedModel:
    """The same function of tokens as the chained `stages`, as a float32 `IotaForCausalLM` with its own copies.

    Raises:
        SpecError: stages are missing, or a bottleneck of this release is unknown to `modeling_iota`.
    """
    _complete(stages, model)
    from iota_subnet.model.auto import IotaConfig, IotaForCausalLM

    config = IotaConfig(
        vocab_size=model.vocab,
        hidden_size=model.dim,
        intermediate_size=model.ffn,
        num_hidden_layers=model.blocks,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        max_position_embeddings=model.seq,
        rotary_base=model.rope_theta,
        rms_norm_eps=model.norm_eps,
        bottleneck=model.bottleneck,
        boundaries=[model.blocks_of(stage).start for stage in range(1, model.stages)],
        boundary_codec=model.boundary_codec,
    )
    tensors = {name: p.detach() for stage in stages for name, p in stage.named_parameters()}
    if model.boundary_codec == "subspace":
        # Who has only the exported files cannot draw them.
        tensors |= {"subspace.basis": basis(model), "subspace.fixed": fixed_embedding(model)}
    try:
        iota = IotaForCausalLM(config)
        iota.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise SpecError(f"modeling_iota.py does not know this model's bottleneck: {error}") from None
    return iota


def to_transformers(stages: Sequence[Stage], model: ModelSpec) -> PreTrainedModel:
    """The chained `stages` as whichever of the two can express them. Raises SpecError as these do."""
    narrow = model.bottleneck and model.stages > 1
    return to_iota(stages, model) if narrow else to_llama(stages, model)


def _complete(stages: Sequence[Stage], model: ModelSpec) -> None:
    if [stage.index for stage in stages] != list(range(model.stages)):
        raise SpecError(f"the stages 0..{model.stages - 1} are needed, in order")
