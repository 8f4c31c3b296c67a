"""A checkpoint as a folder that transformers loads: weights, configuration, tokenizer, card.

Law: the folder appears whole or not at all, and only if the model in it gives the logits of the swarm's own stages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iota_subnet.model.hf import to_transformers
from iota_subnet.model.stage import Stage
from iota_subnet.product.card import card
from iota_subnet.product.facts import Facts
from iota_subnet.product.tokens import tokenizer_for
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.train.codec import Floats
from iota_subnet.train.evaluate import chain
from iota_subnet.validator.checkpoints import Checkpoint
from template.errors import BadSettings, NeuronError

#: What an exported folder says of its run.
RUN_FILE = "iota.json"
#: The largest difference of two float32 logits that is rounding, relative to the largest logit where that exceeds 1.
TOLERANCE = 1e-5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODELING = Path(__file__).resolve().parents[1] / "model" / "modeling_iota.py"


def assemble(spec: RunSpec, weights: Sequence[Floats]) -> Any:
    """The model of transformers that these flat vectors make, in float32, checked against the stages.

    Raises:
        NeuronError: it would not be the model that was trained.
    """
    stages = chain(spec.model, weights)
    try:
        model = to_transformers(stages, spec.model).eval()
    except SpecError as error:
        raise NeuronError(f"this model cannot be exported: {error}") from None
    off = difference(model, stages, spec)
    if not off <= TOLERANCE:
        raise NeuronError(f"the exported model's logits would differ by {off:.3g} from the trained one's: not written")
    return model


@torch.no_grad()
def difference(model: Any, stages: Sequence[Stage], spec: RunSpec) -> float:
    """Largest difference of the logits on tokens drawn at random, relative to the largest logit above 1."""
    length = min(spec.model.seq, 64)
    drawn = np.random.default_rng(0).integers(0, spec.model.vocab, (2, length))
    tokens = torch.from_numpy(drawn).long()
    x: Tensor = tokens
    for stage in stages:
        x = stage(x, tokens)
    return float((model(tokens).logits - x).abs().max() / max(1.0, float(x.abs().max())))


def export(
    spec: RunSpec, found: Checkpoint, weights: Sequence[Floats], facts: Facts, out: Path, dtype: str
) -> list[str]:
    """Write the folder `out`; the names of its files.

    Args:
        spec: the run's.
        found: the checkpoint that `weights` were read from.
        weights: a float32 vector [P] per stage.
        facts: what the card tells.
        out: must not exist, or be empty.
        dtype: one of `DTYPES`.

    Raises:
        BadSettings: `out` is in use or cannot be written.
        NeuronError: as `assemble`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadSettings(f"--out {out}: there is something already; choose a new folder")
    model = assemble(spec, weights).to(DTYPES[dtype])
    kind = type(model).__name__
    # The byte that separates documents ends a text; transformers' own defaults would be ids of another vocabulary.
    model.config.bos_token_id = model.config.pad_token_id = None
    tokenizer = tokenizer_for(spec.data, spec.model)
    ends = 0 if spec.data.tokenizer == "bytes" else tokenizer.eos_token_id
    model.config.eos_token_id = model.generation_config.eos_token_id = ends
    model.generation_config.bos_token_id, model.generation_config.pad_token_id = None, ends
    if kind == "IotaForCausalLM":
        module = MODELING.stem
        model.config.auto_map = {"AutoConfig": f"{module}.IotaConfig", "AutoModelForCausalLM": f"{module}.{kind}"}
    draft = out.with_name(f".{out.name}.draft")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        _plain_tokenizer_class(draft / "tokenizer_config.json")
        if kind == "IotaForCausalLM":
            shutil.copyfile(MODELING, draft / MODELING.name)
        (draft / "README.md").write_text(card(spec, facts, kind), encoding="utf-8")
        (draft / RUN_FILE).write_text(json.dumps(_told(spec, found, facts), indent=2), encoding="utf-8")
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise BadSettings(f"--out {out}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return sorted(path.name for path in out.iterdir())


def _plain_tokenizer_class(path: Path) -> None:
    """The name under which any release of transformers knows a tokenizer that is all in tokenizer.json."""
    told = json.loads(path.read_text(encoding="utf-8"))
    if told.get("tokenizer_class") == "TokenizersBackend":
        told["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(told, indent=2), encoding="utf-8")


def _told(spec: RunSpec, found: Checkpoint, facts: Facts) -> dict[str, Any]:
    manifests = [{"name": manifest.name, **asdict(manifest)} for manifest in found.manifests]
    return {"spec": json.loads(spec.to_json()), "facts": facts.as_json(), "manifests": manifests}


def spec_in(folder: Path) -> RunSpec | None:
    """The specification of the run that an exported folder came from; None for a folder of another origin.

    Raises:
        BadSettings: the file is there and of no use.
    """
    path = folder / RUN_FILE
    try:
        return RunSpec.from_json(json.dumps(json.loads(path.read_bytes())["spec"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{path} cannot be used: {error}; export the model again") from None
