"""The `iota` command. Each subcommand is imported only when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
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
    "track": ("iota_subnet.status.track_command", "draw a run's curves in trackio or wandb"),
    "doctor": ("iota_subnet.doctor.command", "say whether this machine and wallet are ready to join, and what to do"),
    "model": ("iota_subnet.product.model_command", "say what a model and its split come to"),
    "checkpoint": ("iota_subnet.product.checkpoint_command", "list, verify or prune the models that a run has kept"),
    "export": ("iota_subnet.product.export_command", "write a run's model as a folder for transformers"),
    "eval": ("iota_subnet.product.eval_command", "measure a model on held-out text"),
    "generate": ("iota_subnet.product.generate_command", "let a model go on with a text"),
    "bench": ("iota_subnet.bench", "list or run the benchmarks"),
    "simulate": ("iota_subnet.sim.command", "play seeded disasters on the real core, in virtual time"),
}

#: For those whose module shows none.
EXAMPLES = {
    "localnet": (
        "iota localnet                                      six miners, three stages, four epochs",
        "iota localnet --miners 4 --stages 2 --kill 20:1    a miner dies on the way",
        "iota localnet --no-ui --json out.json              for scripts",
    ),
    "simulate": (
        "iota simulate                                      seed 0, everything that can go wrong",
        "iota simulate --seeds 1000 --json -                a thousand disasters, the result as JSON",
        "iota simulate --seed 17 --faults kill --shrink     one seed; if it fails, a smaller one that fails too",
    ),
    "status": (
        "iota status                                        all neurons of this machine",
        "iota status --url http://203.0.113.7:8093 --json   a validator elsewhere, for scripts",
        "iota status --wallet.name miner --watch            look again every two seconds",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 what was asked for did not come out, 2 a wrong setting or environment (one line says
    what to do)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["chain"], ["faucet"]):
        # It stands alone: its command line is its own.
        from template.localnet.cli import main as chain

        return chain(arguments[1:], "iota chain") if arguments[0] == "chain" else chain(arguments, "iota")
    if arguments[:1] == ["mine"]:
        # What it does not know are flags of the miners.
        return _checked(lambda: import_module("iota_subnet.fleet").main(arguments[1:]))
    parser = argparse.ArgumentParser(prog="iota", description="IOTA on Bittensor: strangers' machines train one model.")
    parser.add_argument("--version", action="version", version=f"iota {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("chain", help="run the embedded test chain alone (iota chain --help)", add_help=False)
    commands.add_parser("faucet", help="give TAO of the test chain to an address", add_help=False)
    commands.add_parser("mine", help="run several miners on this machine (iota mine --help)", add_help=False)
    for name, (module, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        if arguments[:1] == [name]:
            import_module(module).add_arguments(command)
            if name in EXAMPLES:
                command.formatter_class = argparse.RawDescriptionHelpFormatter
                lines = "".join(f"\n  {line}" for line in EXAMPLES[name])
                command.epilog = f"examples:{lines}\n" + (f"\n{command.epilog}" if command.epilog else "")
    options = parser.parse_args(arguments)
    return _checked(lambda: import_module(COMMANDS[options.command][0]).main(options))


def _checked(command: Callable[[], int]) -> int:
    try:
        return command()
    except NeuronError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
