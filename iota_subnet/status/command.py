"""`iota status`: options, exit code, and the loop of --watch."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

from iota_subnet.status.find import Neuron, find, look
from template.settings import NeuronGroup

#: Seconds between two looks with --watch.
WATCH_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota status`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="the neurons' --neuron.state_dir, or a localnet's run folder (default: NEURON_STATE_DIR, or "
        f"{NeuronGroup().state_dir})",
    )
    where.add_argument("--url", help="a validator's public address instead, such as http://203.0.113.7:8093")
    parser.add_argument("--wallet.name", dest="name", help="only neurons of this wallet")
    parser.add_argument("--wallet.hotkey", dest="hotkey", help="only neurons with a hotkey of this name")
    parser.add_argument("--netuid", type=int, help="only neurons of this subnet")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print everything as JSON")
    how.add_argument("--watch", action="store_true", help=f"look again every {WATCH_S:.0f} s until Ctrl-C")
    parser.epilog = (
        "Exit code: 0 all is well, 1 a neuron is not running or has no seat, 2 nothing was found. docs/status.md "
        "explains every line."
    )


def main(options: argparse.Namespace) -> int:
    """0 all is well, 1 a neuron is not running or has no seat. Raises NeuronError when there is nothing to show."""
    neurons = _look(options)
    if options.json:
        print(json.dumps([dataclasses.asdict(neuron) for neuron in neurons], indent=2))
    elif options.watch:
        neurons = _watch(options, neurons)
    else:
        from rich.console import Console

        from iota_subnet.status.view import render

        Console(highlight=False).print(render(neurons, time.time()))
    return 1 if any(neuron.problem for neuron in neurons) else 0


def _look(options: argparse.Namespace) -> list[Neuron]:
    if options.url:
        return [look(options.url)]
    folder = options.state_dir or Path(os.environ.get("NEURON_STATE_DIR") or NeuronGroup().state_dir)
    return find(folder.expanduser(), options.name, options.hotkey, options.netuid)


def _watch(options: argparse.Namespace, neurons: list[Neuron]) -> list[Neuron]:
    """Show what there is until Ctrl-C; the last look."""
    from rich.console import Console
    from rich.live import Live

    from iota_subnet.status.view import render

    try:
        with Live(render(neurons, time.time()), console=Console(highlight=False), auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_S)
                neurons = _look(options)
                live.update(render(neurons, time.time()), refresh=True)
    except KeyboardInterrupt:
        return neurons
