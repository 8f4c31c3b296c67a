"""`iota score`: what a miner has earned, part by part, and where each part is in the ledger.

A miner asks the validator, which answers the signing hotkey about itself alone. Who holds a ledger asks that, about
anybody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from iota_subnet.messages import StandingReport
from iota_subnet.validator import caller
from template.errors import NeuronError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota score`."""
    parser.add_argument("hotkey", nargs="?", help="with --ledger: whose score, in full or as it begins")
    parser.add_argument("--ledger", type=Path, metavar="PATH", help="a ledger.sqlite, or the folder of a run")
    caller.add_arguments(parser, "the subnet; needed without --ledger")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        "  iota score --netuid 1 --wallet.name me --wallet.hotkey m1     # ask the validator, signed by the hotkey\n"
        "  iota score 5Grwva --ledger runs/validator                     # any miner, from a ledger\n\n"
        "exit code: 0 there is a score, 1 the score is zero, 2 nobody could say"
    )


def main(options: argparse.Namespace) -> int:
    """0 there is a score, 1 it is zero. Raises NeuronError."""
    if options.ledger is not None:
        hotkey, report, references = _from_ledger(options.ledger, options.hotkey)
    else:
        hotkey, report = asyncio.run(_ask(options))
        references = {}
    standing = msgspec.to_builtins(report)
    if options.json:
        print(json.dumps({"hotkey": hotkey, **standing, "ledger": references}, indent=2))
    else:
        from rich.console import Console

        from iota_subnet.status.view import explained

        Console(highlight=False).print(explained(hotkey, standing, references))
    return 0 if report.score > 0 else 1


def _from_ledger(path: Path, hotkey: str | None) -> tuple[str, StandingReport, dict[str, Any]]:
    """Replay, and look up where what counts is written: first and last receipt of each epoch, audits."""
    from iota_subnet.core.events import LeaseFinished, MinerAudited
    from iota_subnet.validator.journal import LedgerError, decode, reading
    from iota_subnet.validator.ledger_command import earliest
    from iota_subnet.validator.standing import standing

    if not hotkey:
        raise NeuronError("whose score? give a hotkey, as: iota score 5Grwva --ledger PATH")
    try:
        with reading(path) as journal:
            head = journal.head().seq
            core, start = earliest(journal, head)
            for event in journal.events(start, head):
                core.handle(event)
            state = core.state
            known = sorted({*state.parts, *state.miners, *(fault.hotkey for fault in state.faults)})
            found = [name for name in known if name.startswith(hotkey)]
            if len(found) != 1:
                raise NeuronError(
                    f"{hotkey} is {'several' if found else 'none'} of the {len(known)} hotkeys of this run"
                )
            references: dict[str, Any] = {"receipts": [0, 0, 0], "audits": []}
            for row in journal.rows(0, head):
                if row.kind not in ("LeaseFinished", "MinerAudited"):
                    continue
                event = decode(row)
                if isinstance(event, LeaseFinished) and event.hotkey == found[0]:
                    first, _, number = references["receipts"]
                    references["receipts"] = [first or row.seq, row.seq, number + 1]
                elif isinstance(event, MinerAudited) and event.hotkey == found[0]:
                    references["audits"].append(row.seq)
    except LedgerError as error:
        raise NeuronError(str(error)) from None
    return found[0], standing(state, found[0], state.now), references


async def _ask(options: argparse.Namespace) -> tuple[str, StandingReport]:
    """The validator's word on the hotkey that signs."""
    from iota_subnet.protocol import Standing

    if options.netuid is None:
        raise NeuronError("--netuid: which subnet? Or give --ledger PATH")
    async with caller.calling(options) as validator:
        reply = await validator.ask(Standing())
        if reply.report is None:
            raise NeuronError("the validator gave no report; is it of another release of iota?")
        return validator.own, reply.report
