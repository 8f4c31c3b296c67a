"""The `iota` command. Each subcommand imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from iota_subnet import __version__
from template.errors import NeuronError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 the run did not complete, 2 a wrong setting or environment (one line says what to do)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["chain"]:
        from template.localnet.cli import main as chain

        return chain(arguments[1:])
    parser = argparse.ArgumentParser(prog="iota", description="IOTA on Bittensor: strangers' machines train one model.")
    parser.add_argument("--version", action="version", version=f"iota {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    from iota_subnet.localnet import options

    local = commands.add_parser("localnet", help="run a whole subnet on this machine and watch it train")
    options.add_arguments(local)
    commands.add_parser("chain", help="run the embedded test chain alone (iota chain --help)", add_help=False)
    if arguments[:1] == ["simulate"]:
        from iota_subnet.sim import command

        simulate = commands.add_parser("simulate", help="play seeded disasters on the real core, in virtual time")
        command.add_arguments(simulate)
        return command.main(parser.parse_args(arguments))
    commands.add_parser("simulate", help="play seeded disasters on the real core, in virtual time", add_help=False)
    raw = parser.parse_args(arguments)
    try:
        chosen = options.parse(raw)
        from iota_subnet.localnet.launch import main as localnet

        return localnet(chosen)
    except NeuronError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
