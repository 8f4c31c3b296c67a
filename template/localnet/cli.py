"""Command line of the embedded chain."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import signal
import sys
from collections.abc import Sequence

from template.localnet.accounts import DEV_URIS, account_from_uri, ss58
from template.localnet.config import RAO_PER_TAO, ChainConfig
from template.localnet.server import ChainServer

EXIT_USAGE = 2


def _parser() -> argparse.ArgumentParser:
    defaults = ChainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m template.localnet",
        description="Embedded subtensor for staging: a Substrate JSON-RPC endpoint on loopback that the bittensor 10.5 "
        "SDK and btcli work against. State lives in memory and is gone when the process ends.",
        epilog=f"Prefunded coldkeys: {', '.join(DEV_URIS)}; {DEV_URIS[0]} is also the sudo key.",
    )
    parser.add_argument("--host", default=defaults.host, help="loopback address to bind (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=defaults.port, help="port, 0 picks a free one (default %(default)s)"
    )
    parser.add_argument(
        "--block-time", type=float, default=defaults.block_time, help="seconds per block (default %(default)s)"
    )
    parser.add_argument("--tempo", type=int, default=defaults.tempo, help="blocks per epoch (default %(default)s)")
    parser.add_argument(
        "--max-uids", type=int, default=defaults.max_uids, help="neurons per subnet (default %(default)s)"
    )
    parser.add_argument(
        "--immunity-period",
        type=int,
        default=defaults.immunity_period,
        help="blocks a new neuron cannot be pruned (default %(default)s)",
    )
    parser.add_argument(
        "--weights-rate-limit",
        type=int,
        default=defaults.weights_rate_limit,
        help="blocks between two set_weights of a neuron (default %(default)s)",
    )
    parser.add_argument("--log-level", default="WARNING", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


def _config(arguments: argparse.Namespace) -> ChainConfig:
    return ChainConfig(
        host=arguments.host,
        port=arguments.port,
        block_time=arguments.block_time,
        tempo=arguments.tempo,
        max_uids=arguments.max_uids,
        immunity_period=arguments.immunity_period,
        weights_rate_limit=arguments.weights_rate_limit,
    )


async def _run(config: ChainConfig) -> int:
    server = ChainServer(config)
    try:
        await server.start()
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        print(f"localnet: cannot listen on {config.host}:{config.port}: {reason}", file=sys.stderr)
        return EXIT_USAGE
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    # For fault drills: the endpoint goes away and comes back, the chain goes on.
    turns: asyncio.Queue[bool] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, turns.put_nowait, False)
    loop.add_signal_handler(signal.SIGUSR2, turns.put_nowait, True)
    turning = asyncio.create_task(_turn(server, turns))
    sudo = ss58(account_from_uri(DEV_URIS[0]))
    print(
        f"localnet ready: endpoint {server.endpoint} genesis 0x{server.chain.genesis_hash.hex()} "
        f"{DEV_URIS[0]} {sudo} holds {config.endowment // RAO_PER_TAO} TAO and is sudo",
        flush=True,
    )
    await stopping.wait()
    turning.cancel()
    await server.stop()
    return 0


async def _turn(server: ChainServer, turns: asyncio.Queue[bool]) -> None:
    while True:
        await (server.show() if await turns.get() else server.hide())


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM. Exit code 0 after a clean stop, 2 for bad arguments or a port in use."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = _config(arguments)
    except ValueError as error:
        print(f"localnet: {error}", file=sys.stderr)
        return EXIT_USAGE
    return asyncio.run(_run(config))
