"""`iota eval`: how good a model is on text that it has not seen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from iota_subnet.product.source import open_run
from iota_subnet.train.corpus import DataError
from template.errors import BadSettings

EXAMPLES = """examples:
  iota eval --run runs/main                          # the newest checkpoint, on the run's held-out text
  iota eval --model model --data 'text:books/*.txt'  # any folder of transformers, on a text of yours
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota eval`."""
    parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--run", type=Path, metavar="DIR", help="a validator's --run.dir, or an iota localnet --keep folder"
    )
    which.add_argument("--model", type=Path, metavar="DIR", help="a folder that iota export or transformers wrote")
    parser.add_argument("--epoch", type=int, metavar="N", help="with --run: that checkpoint (default: the newest)")
    parser.add_argument("--data", metavar="SOURCE", help="stdlib, text:GLOB or hf:NAME (default: the run's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(options: argparse.Namespace) -> int:
    """Exit code 0. Raises NeuronError."""
    from iota_subnet.product.measure import measure_model, measure_run

    try:
        if options.run is not None:
            with open_run(options.run) as run:
                found = measure_run(run, run.checkpoint(options.epoch), options.data)
        else:
            if options.epoch is not None:
                raise BadSettings("--epoch belongs to --run; a folder holds one model")
            from iota_subnet.product.loaded import from_folder, quiet

            loaded = from_folder(options.model)
            with quiet():
                found = measure_model(loaded, options.data)
    except DataError as error:
        raise BadSettings(f"--data: {error}") from None
    if options.json:
        print(json.dumps(found.as_json()))
        return 0
    print(f"{found.of}, on held-out text of {found.data}")
    print(f"loss            {found.loss:.4f} nats per token (perplexity {found.perplexity:.4g})")
    print(f"bits per byte   {found.bits_per_byte:.4f}")
    print(f"tokens          {found.tokens:,}, {found.bytes:,} bytes")
    if found.recorded is not None:
        print(f"recorded        {found.recorded:.4f} nats per token, by the run's validator")
    return 0
