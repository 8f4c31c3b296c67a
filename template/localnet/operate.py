"""The operator's commands on a running embedded chain, and the check of golden vectors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from template.localnet.accounts import DEV_URIS, from_ss58
from template.localnet.client import ClientError, LocalClient, keypair
from template.localnet.codec import Enum
from template.localnet.config import RAO_PER_TAO, ChainConfig
from template.localnet.vectors import main as check_vectors

Action = Callable[[argparse.Namespace], int]
_MAX_ADVANCE = 1_000_000


def _endpoint(parser: argparse.ArgumentParser) -> None:
    defaults = ChainConfig()
    parser.add_argument(
        "--endpoint",
        "--network",
        default=f"ws://{defaults.host}:{defaults.port}",
        help="of the chain (default %(default)s)",
    )


def _amount(text: str) -> int:
    """TAO, with up to nine decimals, as rao."""
    try:
        rao = Decimal(text) * RAO_PER_TAO
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of TAO") from None
    if not rao.is_finite() or rao <= 0 or rao != rao.to_integral_value() or rao >= 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of TAO: above 0, at most nine decimals")
    return int(rao)


def _blocks(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_ADVANCE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of blocks within 1..{_MAX_ADVANCE}")
    return int(text)


def _address(text: str) -> bytes:
    try:
        return from_ss58(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _guarded(action: Action) -> Action:
    def run(options: argparse.Namespace) -> int:
        try:
            return action(options)
        except ClientError as error:
            print(f"{error}", file=sys.stderr)
            return 1

    return run


def add_advance(parser: argparse.ArgumentParser) -> Action:
    """``advance N``: make N blocks at once."""
    parser.description = "Make blocks at once, on top of those that come by themselves."
    parser.add_argument("blocks", type=_blocks, metavar="N", help="how many")
    _endpoint(parser)

    def advance(options: argparse.Namespace) -> int:
        with LocalClient(options.endpoint) as client:
            print(f"block {client.advance(options.blocks)}")
        return 0

    return _guarded(advance)


def add_faucet(parser: argparse.ArgumentParser) -> Action:
    """``faucet ADDRESS AMOUNT``: give TAO from a development account."""
    parser.description = "Give TAO of a development account to an address, on an embedded chain."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        "  %(prog)s 5F3s..HGKA 30000                                 from //Alice\n"
        "  %(prog)s 5F3s..HGKA 5 --endpoint ws://127.0.0.1:9945      on another chain"
    )
    parser.add_argument("address", type=_address, metavar="ADDRESS", help="who gets it (ss58)")
    parser.add_argument("amount", type=_amount, metavar="AMOUNT", help="TAO")
    parser.add_argument("--from", dest="source", default=DEV_URIS[0], metavar="URI", help="giver (default %(default)s)")
    _endpoint(parser)

    def faucet(options: argparse.Namespace) -> int:
        giver = keypair(options.source)
        with LocalClient(options.endpoint) as client:
            before = client.free_balance(options.address)
            dest = Enum("Id", options.address)
            client.submit(giver, "Balances", "transfer_keep_alive", {"dest": dest, "value": options.amount})
            after = client.free_balance(options.address)
        print(f"balance {after / RAO_PER_TAO:.9f} TAO")
        if after - before < options.amount:
            print(f"the transfer failed: does {options.source} hold enough?", file=sys.stderr)
            return 1
        return 0

    return _guarded(faucet)


def add_check_vectors(parser: argparse.ArgumentParser) -> Action:
    """``check-vectors FILE...``: compare with measured numbers."""
    parser.description = "Compare this chain with numbers measured on a real runtime; exit 1 if any differs."
    parser.add_argument("files", nargs="+", metavar="FILE", help="Yuma, emission or registration vectors (JSON)")
    return lambda options: check_vectors(options.files)
