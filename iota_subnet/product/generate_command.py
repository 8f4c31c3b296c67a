"""`iota generate`: let a model go on with a text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from template.errors import BadSettings

EXAMPLES = """examples:
  iota generate "def main(" --run runs/main
  iota generate "Once upon a time" --model model --tokens 400 --temperature 0.7 --top-p 0.9 --seed 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota generate`."""
    parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("text", help="where to begin; - reads it from standard input")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--run", type=Path, metavar="DIR", help="a validator's --run.dir, or an iota localnet --keep folder"
    )
    which.add_argument("--model", type=Path, metavar="DIR", help="a folder that iota export or transformers wrote")
    add("--epoch", type=int, metavar="N", help="with --run: that checkpoint (default: the newest)")
    add("--tokens", type=int, default=200, metavar="N", help="new tokens at most (default 200)")
    add("--temperature", type=float, default=0.8, metavar="T", help="0 takes the likeliest token (default 0.8)")
    add("--top-k", type=int, default=0, metavar="K", help="draw among the K likeliest (default 0: all)")
    add("--top-p", type=float, default=1.0, metavar="P", help="draw among the likeliest that make up this share")
    add("--seed", type=int, metavar="S", help="the same seed gives the same text")
    add("--json", action="store_true", help="print one JSON object at the end instead of text as it comes")


def main(options: argparse.Namespace) -> int:
    """Exit code: 0 done, 130 interrupted. Raises NeuronError."""
    if options.tokens < 1:
        raise BadSettings(f"--tokens {options.tokens}: at least 1")
    if not 0 <= options.temperature <= 100 or not 0 < options.top_p <= 1 or options.top_k < 0:
        raise BadSettings("--temperature goes from 0 to 100, --top-p from above 0 to 1, --top-k from 0")
    if options.model is not None and options.epoch is not None:
        raise BadSettings("--epoch belongs to --run; a folder holds one model")
    text = sys.stdin.read() if options.text == "-" else options.text
    from iota_subnet.product.loaded import from_folder, from_run
    from iota_subnet.product.sample import Sampling, pieces, tokens

    loaded = from_run(options.run, options.epoch) if options.run is not None else from_folder(options.model)
    prompt = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    ends = loaded.model.generation_config.eos_token_id
    if loaded.data.tokenizer == "bytes" and loaded.spec is not None:
        ends = 0
    if not prompt:
        # Whatever separates documents comes before the first one too.
        prompt = [ends if isinstance(ends, int) else 0]
    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.seed)
    made = tokens(loaded.model, prompt, options.tokens, loaded.seq, sampling, ends if isinstance(ends, int) else None)
    try:
        if options.json:
            new = list(made)
            said = loaded.tokenizer.decode(new, clean_up_tokenization_spaces=False)
            print(json.dumps({"model": loaded.name, "prompt": text, "text": said, "tokens": len(new)}))
            return 0
        sys.stdout.write(text)
        for piece in pieces(loaded.tokenizer, made):
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
    except KeyboardInterrupt:
        print()
        return 130
    except BrokenPipeError:
        # Whoever reads has seen enough; the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
