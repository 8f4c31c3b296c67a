"""A folder of transformers as the first weights of a run: a Llama, or what `iota export` wrote.

Law: what the stages compute from these weights is what the folder's model computes; whatever our blocks cannot express
is refused by name. No code in the folder is run. torch is imported only to read weights.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import blake3
import numpy as np
import numpy.typing as npt

from iota_subnet.model.parameters import initial_vector, parameters
from iota_subnet.model.presets import divide
from iota_subnet.spec import Bottleneck, ModelSpec, SpecError

Floats = npt.NDArray[np.float32]

#: Tokens of a sequence, for a model that was made for longer ones.
SEQ_MAX = 1024

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def model_of(
    folder: Path, stages: int | None = None, bottleneck: int | None = None, split: str = "auto", seq: int = SEQ_MAX
) -> ModelSpec:
    """The model in `folder`, cut into `stages`.

    Args:
        folder: holds config.json and safetensors.
        stages: 1 if None; an exported model with bottlenecks has its own number, which cannot be changed.
        bottleneck: None or 0 for a Llama as it is; a width puts new, untrained bottlenecks between its stages.
        split: as in `presets.choose`; an exported model with bottlenecks has its own.
        seq: tokens of a sequence at most.

    Raises:
        SpecError: there is no such model, or it has something that ours has not.
    """
    config = _config(folder)
    kind = config.get("model_type")
    if kind not in ("llama", "iota"):
        raise SpecError(
            f"{folder} holds a model of type {kind!r}; only llama, and what iota export wrote, can be continued"
        )
    for name in _REQUIRED:
        if type(config.get(name)) is not int:
            raise SpecError(f"{folder}/config.json: {name} is {config.get(name)!r}, not a whole number")
    model = ModelSpec(
        preset=folder.resolve().name,
        vocab=config["vocab_size"],
        dim=config["hidden_size"],
        blocks=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        ffn=config["intermediate_size"],
        seq=min(seq, int(config.get("max_position_embeddings") or seq)),
        rope_theta=_rope_theta(config, folder),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        stages=1,
        bottleneck=0,
    )
    if kind == "iota":
        return _cut_as_before(model, config, folder, stages, bottleneck)
    _plain(config, model, folder)
    return divide(replace(model, stages=stages or 1, bottleneck=bottleneck or 0), split)


def weights_of(folder: Path, model: ModelSpec, seed: int) -> list[Floats]:
    """The flat vector, float32 [P], of each stage. What a Llama has not, new bottlenecks, is drawn from `seed`.

    Raises:
        SpecError: a tensor is missing, of another shape, or not finite.
    """
    given = _tensors(folder)
    # Settings are read with what is above, in every process: it does not wait for torch.
    from iota_subnet.model.hf import llama_names

    theirs = llama_names(model) if _config(folder).get("model_type") == "llama" else {}
    vectors: list[Floats] = []
    for stage in range(model.stages):
        fresh, at, parts = initial_vector(model, stage, seed), 0, []
        for p in parameters(model, stage):
            name = theirs.get(p.name, p.name)
            if theirs and p.name not in theirs:
                parts.append(fresh[at : at + p.size])
            else:
                parts.append(_values(folder, given, name, p.shape))
            at += p.size
        vectors.append(np.concatenate(parts))
    return vectors


def weights_digest(vectors: list[Floats]) -> str:
    """blake3 of all stages' little-endian float32 bytes in order, in hex: `RunSpec.init`."""
    digest = blake3.blake3()
    for vector in vectors:
        digest.update(memoryview(vector.astype("<f4", copy=False)).cast("B"))
    return digest.hexdigest()


def tokenizer_of(folder: Path) -> str:
    """What to call the tokenizer in a run's specification: `bytes`, or the folder, if it holds one."""
    try:
        name = json.loads((folder / "iota.json").read_bytes())["spec"]["data"]["tokenizer"]
        return str(name)
    except (OSError, ValueError, KeyError, TypeError):
        return str(folder.resolve()) if (folder / "tokenizer_config.json").is_file() else "bytes"


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except OSError as error:
        raise SpecError(
            f"{folder}/config.json cannot be read: {error.strerror}; give a folder of transformers"
        ) from None
    except ValueError as error:
        raise SpecError(f"{folder}/config.json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise SpecError(f"{folder}/config.json is no object")
    return config


def _rope_theta(config: dict[str, Any], folder: Path) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise SpecError(f"{folder}: its positions are scaled ({kind}); only plain rotary positions can be continued")
    return float(rope.get("rope_theta") or config.get("rope_theta") or config.get("rotary_base") or 10_000.0)


def _plain(config: dict[str, Any], model: ModelSpec, folder: Path) -> None:
    """Refuse a Llama that has what our blocks have not."""
    head = config.get("head_dim") or model.dim // model.heads
    for bad, words in (
        (config.get("hidden_act", "silu") not in ("silu", "swish"), f"its activation is {config.get('hidden_act')!r}"),
        (config.get("attention_bias"), "its attention has biases"),
        (config.get("mlp_bias"), "its feed-forward has biases"),
        (head * model.heads != model.dim, f"its heads are {head} wide, not {model.dim}/{model.heads}"),
    ):
        if bad:
            raise SpecError(f"{folder} cannot be continued: {words}")


def _cut_as_before(
    model: ModelSpec, config: dict[str, Any], folder: Path, stages: int | None, bottleneck: int | None
) -> ModelSpec:
    """A model whose bottlenecks stand where its stages were cut has to be cut there again."""
    cuts, width = config.get("boundaries"), config.get("bottleneck")
    if not isinstance(cuts, list) or not all(type(cut) is int for cut in cuts) or type(width) is not int:
        raise SpecError(f"{folder}/config.json: boundaries or bottleneck are missing; export the model again")
    codec = config.get("boundary_codec", "resbm")
    if codec not in get_args(Bottleneck):
        raise SpecError(f"{folder}/config.json: boundary_codec={codec!r} is not known; use a newer release")
    own = len(cuts) + 1
    if stages not in (None, own):
        raise SpecError(f"{folder} has bottlenecks between {own} stages and cannot be cut into stages={stages}")
    if bottleneck not in (None, width):
        raise SpecError(f"{folder} has bottlenecks of {width}, not of bottleneck={bottleneck}")
    edges = [0, *cuts, model.blocks]
    counts = ",".join(str(end - first) for first, end in pairwise(edges))
    return divide(replace(model, stages=own, bottleneck=width, boundary_codec=codec), counts)


def _tensors(folder: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SpecError(f"{folder} holds no *.safetensors; save the model with save_pretrained")
    found: dict[str, Path] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as file:
                found |= dict.fromkeys(file.keys(), path)
        except (OSError, SafetensorError) as error:
            raise SpecError(f"{path} cannot be read: {error}") from None
    return found


def _values(folder: Path, given: dict[str, Path], name: str, shape: tuple[int, ...]) -> Floats:
    if name == "lm_head.weight" and name not in given:
        # Tied: here the head starts as the embedding, and learns on its own from then on.
        name = "model.embed_tokens.weight"
    if name not in given:
        raise SpecError(f"{folder} has no tensor {name}")
    from safetensors import safe_open

    # numpy has no bfloat16.
    with safe_open(given[name], framework="pt") as file:
        values: Floats = file.get_tensor(name).float().numpy()
    if values.shape != shape:
        raise SpecError(f"{folder}: {name} is {values.shape}, its config.json says {shape}")
    if not np.isfinite(values).all():
        raise SpecError(f"{folder}: {name} has values that are not finite")
    return values.reshape(-1)
