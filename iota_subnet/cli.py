"""The `iota` command. Each subcommand is imported only when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from iota_subnet import __version__
from template.errors import NeuronError

#: Name: the module that has `add_arguments(parser)` and `main(options) -> exit code`, and one line of help.
COMMANDS = {
    "localnet": ("iota_subnet.localnet.command", "run a whole subnet on this machine and watch it train"),
    "ledger": ("iota_subnet.validator.ledger_command", "verify, replay or show the history of a run"),
    "score": ("iota_subnet.status.score_command", "explain what a miner has earned, part by part"),
    "audit": ("iota_subnet.validator.audit_command", "compute a replica's epoch again and judge it"),
    "status": ("iota_subnet.status.command", "say what this machine's neurons do, wait for and have earned"),
    "model": ("iota_subnet.product.model_command", "say what a model and its split come to"),
    "checkpoint": ("iota_subnet.product.checkpoint_command", "list, verify or prune the models that a run has kept"),
    "export": ("iota_subnet.product.export_command", "write a run's model as a folder for transformers"),
    "eval": ("iota_subnet.product.eval_command", "measure a model on held-out text"),
    "generate": ("iota_subnet.product.generate_command", "let a model go on with a text"),
    "simulate": ("iota_subnet.sim.command", "play seeded disasters on the real core, in virtual time"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 what was asked for did not come out, 2 a wrong setting or environment (one line says
    what to do)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["chain"], ["faucet"]):
        # It stands alone: its command line is its own.
        from template.localnet.cli import main as chain

        return chain(arguments[1:] if arguments[0] == "chain" else arguments)
    parser = argparse.ArgumentParser(prog="iota", description="IOTA on Bittensor: strangers' machines train one model.")
    parser.add_argument("--version", action="version", version=f"iota {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("chain", help="run the embedded test chain alone (iota chain --help)", add_help=False)
    commands.add_parser("faucet", help="give TAO of the test chain to an address", add_help=False)
    for name, (module, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        if arguments[:1] == [name]:
            import_module(module).add_arguments(command)
    options = parser.parse_args(arguments)
    try:
        code: int = import_module(COMMANDS[options.command][0]).main(options)
    except NeuronError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
