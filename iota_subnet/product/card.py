"""The model card: what somebody who finds the exported folder has to know, in the run's own figures."""

from __future__ import annotations

from math import log

from iota_subnet.product.facts import Facts
from iota_subnet.product.words import short
from iota_subnet.spec import RunSpec


def card(spec: RunSpec, facts: Facts, kind: str) -> str:
    """README.md of an exported model whose class in transformers is `kind`."""
    return "\n".join([*_head(), *_about(spec, facts, kind), *_use(kind), *_facts(spec, facts), *_limits(spec), ""])


def _head() -> list[str]:
    return [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        "- iota",
        "- bittensor",
        "---",
    ]


def _about(spec: RunSpec, facts: Facts, kind: str) -> list[str]:
    model = spec.model
    cut = f"cut into {model.stages} stages" if model.stages > 1 else "in one stage"
    narrow = ""
    if model.bottleneck and model.stages > 1:
        narrow = (
            f" Between two stages the residual stream passes a bottleneck of {model.bottleneck} of {model.dim} "
            f"channels ({model.dim / model.bottleneck:g}x), which is part of the model."
        )
    return [
        f"# {facts.name}",
        "",
        f"A language model of {short(facts.parameters)} parameters, {cut}, which a swarm of {facts.miners} miners "
        f"trained on a Bittensor subnet with IOTA (arXiv 2507.17766).{narrow} Its class is `{kind}`.",
        "",
    ]


def _use(kind: str) -> list[str]:
    trust = ", trust_remote_code=True" if kind == "IotaForCausalLM" else ""
    return [
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("DIR"{trust})',
        f'tokenizer = AutoTokenizer.from_pretrained("DIR"{trust})',
        'out = model.generate(**tokenizer("def main(", return_tensors="pt"), max_new_tokens=64, do_sample=True)',
        "print(tokenizer.decode(out[0]))",
        "```",
        "",
        *(["`modeling_iota.py` in this folder is all that it needs beside transformers.", ""] if trust else []),
    ]


def _facts(spec: RunSpec, facts: Facts) -> list[str]:
    rows = [
        ("epochs merged", f"{facts.epoch}"),
        ("tokens trained on", f"{facts.tokens:,} in {facts.microbatches:,} microbatches"),
        ("held-out loss", _loss(facts.loss, spec)),
        ("held-out loss before training", "not known" if facts.loss_first is None else _loss(facts.loss_first, spec)),
        ("miners paid", f"{facts.miners}"),
        ("merges of a stage", f"{facts.merges}"),
        ("parameters averaged in each", "none" if facts.coverage is None else f"at least {100 * facts.coverage:.4g} %"),
        ("twins compared, disagreed", f"{facts.twins_compared}, {facts.twin_disagreements}"),
        ("epochs of miners audited, failed", f"{facts.miners_audited}, {facts.audits_failed}"),
        ("seconds of training", f"{facts.seconds:,.0f}"),
        ("text", f"`{spec.data.source}`, tokenizer `{spec.data.tokenizer}`"),
        ("digest of the held-out text", f"`{spec.data.eval_digest}`"),
        ("digest of the run's specification", f"`{facts.spec_digest}`"),
    ]
    return ["## How it was trained", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _limits(spec: RunSpec) -> list[str]:
    rounded = ""
    if spec.model.stages > 1 and spec.train.activation_codec != "fp32":
        rounded = (
            f" In the swarm, values between stages are rounded to {spec.train.activation_codec}; here they are not, "
            "which changes losses by some 1e-5."
        )
    return [
        "## Limits",
        "",
        f"Trained on sequences of {spec.model.seq} tokens; nothing was done to make it follow instructions, or to keep "
        f"it from repeating what its text holds.{rounded} `iota.json` holds the run's specification, these figures, "
        "and the manifests whose digests name the weights.",
    ]


def _loss(nats: float, spec: RunSpec) -> str:
    return f"{nats:.4f} nats per {'byte' if spec.data.tokenizer == 'bytes' else 'token'}{_bits(nats, spec)}"


def _bits(nats: float, spec: RunSpec) -> str:
    return f", {nats / log(2):.4f} bits per byte" if spec.data.tokenizer == "bytes" else ""
