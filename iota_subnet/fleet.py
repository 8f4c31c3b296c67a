"""`iota mine`: several miners on one machine, one process for each hotkey of a wallet, from one command.

Law: each miner is the program that runs alone (`neurons/miner.py`), with its own hotkey and ports. One that ends is
started again after a wait that grows while it keeps ending; one that says that a setting is wrong (exit code 2) is not.
Interrupted, all drain beside each other; interrupted again, all go at once. None outlives this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iota_subnet.settings import MinerSettings
from iota_subnet.wire.backoff import Backoff
from template.errors import BadSettings
from template.settings import parse

#: Between two starts of one miner. One that ran for longer than the longest wait starts as if for the first time.
WAITS = Backoff(first_s=1.0, max_s=60.0)

#: Seconds for a miner to end after those that it may drain for.
END_S = 15.0

#: Between the ports of two miners.
STEP = 10

PROGRAM = Path(__file__).parents[1] / "neurons" / "miner.py"

DESCRIPTION = "Run several miners on this machine, one process for each hotkey of a wallet."

EPILOG = """\
Every flag of neurons/miner.py may follow and holds for all of them. Ports count up by ten: with --axon.port 8091
--blobs.port 8092 the second miner has 8101 and 8102. A miner with --blobs.relay or --blobs.bucket needs none.

examples:
  iota mine --count 3 --netuid 9 --wallet.name miner --subtensor.network test --axon.external_ip 203.0.113.7
  iota mine --hotkeys m1,m2 --netuid 9 --wallet.name miner --subtensor.network test --blobs.relay

exit code: 0 stopped by its operator, 1 every miner has ended, 2 a wrong setting
"""


@dataclass(slots=True)
class Miner:
    """One miner: the name of its hotkey, its command, and the process while there is one."""

    name: str
    argv: Sequence[str]
    process: asyncio.subprocess.Process | None = field(default=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options, and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--count", type=int, metavar="N", help="miners to run: the first N hotkeys of the wallet")
    parser.add_argument("--hotkeys", metavar="A,B", help="run these hotkeys of the wallet instead")


def main(argv: Sequence[str]) -> int:
    """The command line; the exit code. What is not its own is for the miners. Raises BadSettings."""
    parser = argparse.ArgumentParser(prog="iota mine", description=DESCRIPTION, allow_abbrev=False)
    add_arguments(parser)
    options, flags = parser.parse_known_args(argv)
    return asyncio.run(keep(planned(options.count, options.hotkeys, flags)))


def planned(count: int | None, hotkeys: str | None, flags: Sequence[str]) -> list[Miner]:
    """The miners to run. Raises BadSettings."""
    settings = parse(MinerSettings, flags, prog="iota mine")
    folder = settings.wallet.path.expanduser() / settings.wallet.name / "hotkeys"
    if hotkeys is not None:
        names = [name for name in hotkeys.split(",") if name]
    else:
        found = folder.iterdir() if folder.is_dir() else ()
        names = sorted(path.name for path in found if path.is_file() and not path.name.endswith("pub.txt"))
        if count is not None and count > len(names):
            raise BadSettings(
                f"--count {count}: {folder} has {len(names)} hotkeys; make more with: btcli wallet new-hotkey"
            )
        names = names[:count]
    if not names or (count is not None and count < 1) or len(set(names)) < len(names):
        raise BadSettings(f"--hotkeys, --count: name one or more different hotkeys of the wallet in {folder.parent}")
    ports = {
        "--axon.port": settings.axon.port,
        "--axon.external_port": settings.axon.external_port or 0,
        "--blobs.port": settings.blobs.port,
        "--local.port": settings.local.port,
    }
    miners = []
    for number, name in enumerate(names):
        moved = [text for flag, port in ports.items() if port for text in (flag, str(port + STEP * number))]
        argv = [sys.executable, str(PROGRAM), *flags, "--wallet.hotkey", name, *moved]
        miners.append(Miner(name, argv))
    parse(MinerSettings, miners[-1].argv[2:], prog="iota mine")
    return miners


async def keep(miners: Sequence[Miner], end_s: float | None = None, waits: Backoff = WAITS) -> int:
    """Run `miners` until a signal, or until none is left that may be started again; the exit code."""
    loop, stop, over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    if end_s is None:
        work = parse(MinerSettings, miners[0].argv[2:]).work
        end_s = work.finish_s + work.drain_s + END_S

    def interrupt() -> None:
        stop.set()
        over.set()
        _signal(miners, signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    running = [asyncio.create_task(_keep_one(miner, stop, waits)) for miner in miners]
    try:
        ended = asyncio.gather(*running)
        ended.add_done_callback(lambda _: over.set())
        await over.wait()
        if stop.is_set():
            await asyncio.wait(running, timeout=end_s)
    finally:
        _signal(miners, signal.SIGKILL)
        codes = await asyncio.gather(*running)
    if stop.is_set():
        return 0
    return 2 if 2 in codes else 1


async def _keep_one(miner: Miner, stop: asyncio.Event, waits: Backoff) -> int:
    """Start one miner again and again; the exit code with which it ended for good."""
    failures, code = 0, 0
    while not stop.is_set():
        began = time.monotonic()
        miner.process = await asyncio.create_subprocess_exec(
            *miner.argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, preexec_fn=_bound(os.getpid())
        )
        code = await miner.process.wait()
        if stop.is_set() or code == 2:
            if code == 2:
                _say(f"{miner.name} ended with a wrong setting and is not started again")
            break
        failures = 1 if time.monotonic() - began > waits.max_s else failures + 1
        pause_s = waits.delay_s(failures, lambda: 0.5)
        _say(f"{miner.name} ended with exit code {code}; started again in {pause_s:.0f} s")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
    return code


def _signal(miners: Sequence[Miner], number: int) -> None:
    for miner in miners:
        if miner.process is not None and miner.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                miner.process.send_signal(number)


def _say(text: str) -> None:
    print(f"iota mine: {text}", file=sys.stderr, flush=True)


def _bound(parent: int) -> Callable[[], None] | None:
    """Linux tells a miner to stop when this process is gone, even by kill -9."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return bind
