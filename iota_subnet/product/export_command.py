"""`iota export`: take the trained model home."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from iota_subnet.product.source import open_run, state_of
from iota_subnet.product.words import size
from iota_subnet.validator.journal import LedgerError
from template.errors import NeuronError

EXAMPLES = """examples:
  iota export --run runs/main --out model           # the newest checkpoint, in fp32
  iota export --run runs/main --out model --epoch 12 --dtype bf16

then, with transformers:
  AutoModelForCausalLM.from_pretrained("model", trust_remote_code=True)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota export`."""
    parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="a validator's --run.dir, or an iota localnet --keep folder",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="new folder for the model")
    add("--epoch", type=int, metavar="N", help="the checkpoint after so many merges (default: the newest)")
    add("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="type of the weights (default fp32)")
    add("--json", action="store_true", help="print one JSON object")


def main(options: argparse.Namespace) -> int:
    """Exit code 0. Raises NeuronError."""
    with open_run(options.run) as run:
        found = run.checkpoint(options.epoch)
        weights = run.weights(found)
        try:
            state = state_of(run.journal)
        except LedgerError as error:
            raise NeuronError(f"{error}") from None
        spec = run.spec
    from iota_subnet.product.export import export
    from iota_subnet.product.facts import facts_of
    from iota_subnet.product.loaded import quiet

    facts = facts_of(spec, state, found)
    with quiet():
        files = export(spec, found, weights, facts, options.out, options.dtype)
    nbytes = sum((options.out / name).stat().st_size for name in files)
    if options.json:
        print(json.dumps({"out": str(options.out), "files": files, "bytes": nbytes, "facts": facts.as_json()}))
        return 0
    print(
        f"{options.out}: {size(nbytes)}, checkpoint {found.epoch} of run {spec.name}, "
        f"trained on {facts.tokens:,} tokens"
    )
    print(f"held-out loss {found.loss:.4f}; logits equal those of the {spec.model.stages} stages")
    print(f"files: {', '.join(files)}")
    return 0
