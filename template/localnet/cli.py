"""Command line of the embedded chain: run it, or do something to a running one."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from template.localnet.accounts import DEV_URIS, account_from_uri, ss58
from template.localnet.chain import LocalChain
from template.localnet.config import RAO_PER_TAO, ChainConfig
from template.localnet.operate import add_advance, add_check_vectors, add_faucet
from template.localnet.server import ChainServer
from template.localnet.store import StateFileError, Store, export_chain, import_chain

EXIT_FAILED = 1
EXIT_USAGE = 2

PROG = "python -m template.localnet"

# settings of the chain that become part of its genesis: option, field, help
_GENESIS = (
    ("--tempo", "tempo", "blocks per epoch"),
    ("--max-uids", "max_uids", "neurons per subnet"),
    ("--immunity-period", "immunity_period", "blocks a new neuron cannot be pruned"),
    ("--weights-rate-limit", "weights_rate_limit", "blocks between two set_weights of a neuron"),
)


def _parser(prog: str = PROG) -> argparse.ArgumentParser:
    defaults = ChainConfig()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Embedded subtensor for staging: a Substrate JSON-RPC endpoint on loopback that the bittensor 10.5 "
        "SDK and btcli work against. Without --state, the chain is gone when the process ends. "
        f"Other commands: {', '.join(COMMANDS)} (each with --help).",
        epilog=f"Prefunded coldkeys: {', '.join(DEV_URIS)}; {DEV_URIS[0]} is also the sudo key.\n\nexamples:\n"
        "  %(prog)s                     blocks every few seconds on ws://127.0.0.1:9944\n"
        "  %(prog)s --block-time 0.25   faster blocks\n"
        "  %(prog)s --state chain.db    the chain is kept, and gone on with",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default=defaults.host, help="loopback address to bind (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=defaults.port, help="port, 0 picks a free one (default %(default)s)"
    )
    parser.add_argument(
        "--block-time", type=float, default=defaults.block_time, help="seconds per block (default %(default)s)"
    )
    parser.add_argument(
        "--on-demand", action="store_true", help="make blocks only for extrinsics and by the command advance"
    )
    for option, name, text in _GENESIS:
        parser.add_argument(
            option, dest=name, type=int, help=f"{text} (default {getattr(defaults, name)}; set once, at genesis)"
        )
    parser.add_argument("--commit-reveal", action="store_true", help="new subnets start with commit-reveal weights")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep the chain in this file and go on from it")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write a snapshot of the chain in --state and end")
    parser.add_argument("--import", type=Path, metavar="FILE", dest="import_", help="start from a snapshot")
    parser.add_argument(
        "--log-level",
        default="WARNING",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        help="INFO shows each extrinsic in one line (default %(default)s)",
    )
    return parser


def _config(arguments: argparse.Namespace) -> ChainConfig:
    genesis = {name: getattr(arguments, name) for _, name, _ in _GENESIS if getattr(arguments, name) is not None}
    return ChainConfig(
        host=arguments.host,
        port=arguments.port,
        block_time=arguments.block_time,
        commit_reveal=arguments.commit_reveal,
        **genesis,
    )


def _chain(arguments: argparse.Namespace, config: ChainConfig, store: Store | None) -> LocalChain:
    """The chain of the state file, of the snapshot, or a new one. Raises StateFileError."""
    chain = None if store is None else store.open_chain()
    if chain is not None and arguments.import_ is not None:
        raise StateFileError(f"state file {arguments.state} holds a chain already: import into a new file")
    if chain is None:
        seed = os.urandom(16)
        if arguments.import_ is not None:
            chain = import_chain(arguments.import_, seed)
        else:
            chain = LocalChain(config, genesis_ms=int(time.time() * 1000), seed=seed)
        if store is not None:
            store.adopt(chain)
    chain.config = dataclasses.replace(chain.config, host=config.host, port=config.port, block_time=config.block_time)
    return chain


async def _run(server: ChainServer) -> int:
    config = server.config
    try:
        await server.start()
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        print(f"localnet: cannot listen on {config.host}:{config.port}: {reason}", file=sys.stderr)
        return EXIT_USAGE
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.ended.set)
    # For fault drills: the endpoint goes away and comes back, the chain goes on.
    turns: asyncio.Queue[bool] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, turns.put_nowait, False)
    loop.add_signal_handler(signal.SIGUSR2, turns.put_nowait, True)
    turning = asyncio.create_task(_turn(server, turns))
    sudo = account_from_uri(DEV_URIS[0])
    print(
        f"localnet ready: endpoint {server.endpoint} genesis 0x{server.chain.genesis_hash.hex()} "
        f"{DEV_URIS[0]} {ss58(sudo)} holds {server.chain.state.free(sudo) // RAO_PER_TAO} TAO and is sudo, "
        f"block {server.chain.head.number}",
        flush=True,
    )
    await server.ended.wait()
    turning.cancel()
    await server.stop()
    if server.failure:
        print(f"localnet: {server.failure}", file=sys.stderr)
        return EXIT_FAILED
    return 0


async def _turn(server: ChainServer, turns: asyncio.Queue[bool]) -> None:
    while True:
        await (server.show() if await turns.get() else server.hide())


def _start(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    if arguments.export is not None and (arguments.state is None or not arguments.state.exists()):
        raise ValueError("--export needs --state with the file of a chain")
    store = None if arguments.state is None else Store(arguments.state)
    chain = _chain(arguments, config, store)
    if arguments.export is not None:
        export_chain(chain, arguments.export)
        print(f"block {chain.head.number} is in {arguments.export}")
        code = 0
    else:
        code = asyncio.run(_run(ChainServer(chain.config, chain, store, on_demand=arguments.on_demand)))
    if store is not None:
        store.close(chain if code == 0 else None)
    return code


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], Callable[[argparse.Namespace], int]]] = {
    "advance": add_advance,
    "faucet": add_faucet,
    "check-vectors": add_check_vectors,
}


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run until SIGINT or SIGTERM, or one of COMMANDS. `prog` is how help calls this program.

    Exit code 0 after a clean stop, 1 when something asked for did not come out, 2 for bad arguments, a port in use or a
    state file that cannot be used.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        parser = argparse.ArgumentParser(prog=f"{prog} {words[0]}")
        action = COMMANDS[words[0]](parser)
        return action(parser.parse_args(words[1:]))
    arguments = _parser(prog).parse_args(words)
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("websockets").setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        return _start(arguments)
    except (ValueError, StateFileError) as error:
        print(f"localnet: {error}", file=sys.stderr)
        return EXIT_USAGE
