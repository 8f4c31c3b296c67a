"""`iota audit`: come to a verdict again, from the folder of an audit; a miner fetches it from the validator first."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from iota_subnet.train import bundle
from iota_subnet.train.books import BadOrder, name_of
from iota_subnet.train.order import Check, Finding, Order
from iota_subnet.train.transcript import BadTranscript, decode
from iota_subnet.validator import caller
from template.errors import BadSettings

EXAMPLES = """examples:
  iota audit fetch mine --netuid 1 --wallet.name me --wallet.hotkey m1    # what the newest verdict rests on
  iota audit replay audits/12-5Grwva               # the whole epoch
  iota audit replay audits/12-5Grwva --passes 8    # only its first passes
  iota audit replay audits/12-5Grwva --json | jq .reason

DIR has order.json and blobs/, named by their blake3 digests. docs/audits.md says what is compared.
exit code: 0 sound, or fetched; 1 failed; 2 bytes are missing, or the folder or an option cannot be used
"""

#: Exit code by verdict.
CODES = {"sound": 0, "failed": 1, "withheld": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and flags of `iota audit`."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "compute one replica's epoch again and judge it"
    replay: argparse.ArgumentParser = actions.add_parser(
        "replay", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EXAMPLES
    )
    replay.formatter_class = argparse.RawDescriptionHelpFormatter
    replay.add_argument("folder", type=Path, metavar="DIR", help="the folder of an audit")
    replay.add_argument("--passes", type=int, default=0, metavar="N", help="only the first N passes (default: all)")
    replay.add_argument("--device", default="cpu", help="where to compute, such as cuda:0 (default: cpu)")
    replay.add_argument("--json", action="store_true", help="print the finding as one JSON object")
    text = "get from the validator what its verdict on your hotkey rests on"
    fetch: argparse.ArgumentParser = actions.add_parser(
        "fetch", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EXAMPLES
    )
    fetch.formatter_class = argparse.RawDescriptionHelpFormatter
    fetch.add_argument("folder", type=Path, metavar="DIR", help="where to write it")
    fetch.add_argument(
        "--epoch", type=int, default=0, metavar="E", help="of this epoch, the first being 1 (default: the newest)"
    )
    caller.add_arguments(fetch)


def main(options: argparse.Namespace) -> int:
    """Exit code by `CODES`; 0 for what was fetched. Raises NeuronError."""
    return asyncio.run(_fetch(options)) if options.action == "fetch" else _replay(options)


async def _fetch(options: argparse.Namespace) -> int:
    from iota_subnet.validator import audit_fetch
    from iota_subnet.wire.blobs import THIN_BYTES_S, BlobFetcher

    if options.netuid is None:
        raise BadSettings("--netuid: which subnet?")
    if options.epoch < 0:
        raise BadSettings(f"--epoch {options.epoch}: the first is 1")
    fetching = BlobFetcher(audit_fetch.MAX_BLOB_BYTES, min_bytes_s=THIN_BYTES_S, max_concurrent=audit_fetch.AT_ONCE)
    async with caller.calling(options) as validator, fetching as fetcher:
        try:
            epoch, finding = await audit_fetch.fetch(validator.ask, options.epoch - 1, options.folder, fetcher)
        except OSError as error:
            raise BadSettings(f"{options.folder}: {error.strerror or error}") from None
    print(f"epoch {epoch + 1}: {finding.verdict}: {finding.reason}")
    print(f"come to it again with: iota audit replay {options.folder}")
    return 0


def _replay(options: argparse.Namespace) -> int:
    if options.passes < 0:
        raise BadSettings(f"--passes {options.passes}: give a number of passes, or 0 for all of them")
    _require(options.device)
    from iota_subnet.train.replay import replay

    try:
        order, blob = bundle.load(options.folder)
        finding = replay(order, blob, device=options.device, max_passes=options.passes)
    except BadOrder as error:
        raise BadSettings(str(error)) from None
    if options.json:
        print(msgspec.json.encode(finding).decode())
    else:
        _show(order, blob(order.transcript), finding)
    return CODES[finding.verdict]


def _require(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise BadSettings(f"--device {device} cannot be used here ({reason}); try --device cpu") from None


def _show(order: Order, said: bytes | None, finding: Finding) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    color = {"sound": "green", "failed": "red", "withheld": "yellow"}[finding.verdict]
    console.print(f"[{color} bold]{finding.verdict}[/]: {escape(finding.reason)}")
    console.print(f"{escape(order.hotkey)}, stage {order.stage}, epoch {order.epoch}")
    console.print(f"{finding.passes} passes computed again, {finding.exact} to the bit, {finding.seconds:.1f} s")
    if not finding.checks:
        return
    table = Table(box=box.SIMPLE)
    for name in ("check", "worst", "limit", "where", ""):
        table.add_column(name, justify="right" if name in ("worst", "limit") else "left")
    for check in finding.checks:
        mark = "[red]failed[/]" if check.bad else "ok"
        table.add_row(check.what, f"{check.value:.3g}", f"{check.limit:.3g}", escape(_where(check, said)), mark)
    console.print(table)


def _where(check: Check, said: bytes | None) -> str:
    """The pass in words, if it is one."""
    if check.place < 0 or said is None:
        return ""
    try:
        return name_of(check.place, decode(said).passes[check.place])
    except (BadTranscript, IndexError):
        return f"pass {check.place}"
