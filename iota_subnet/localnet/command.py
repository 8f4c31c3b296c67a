"""`iota localnet`: from the options to the run."""

from __future__ import annotations

import argparse

from iota_subnet.localnet.options import add_arguments, parse

__all__ = ["add_arguments", "main"]


def main(raw: argparse.Namespace) -> int:
    """Exit code: 0 the run completed, 1 it did not."""
    chosen = parse(raw)
    from iota_subnet.localnet.launch import main as launch

    return launch(chosen)
