"""BaseNeuron: registration, metagraph, state and the run loop that miners and validators share.

Law: the state file is read in the constructor and written only after a finished step, so a restart can never put
zeros over what was saved; and when to sync is decided by the block of our own last sync, never by the chain's
`last_update`, which does not move for a neuron that sets no weights.
"""

from __future__ import annotations

import abc
import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from loguru import logger

from template.chain import Chain, MetagraphView
from template.errors import ChainUnreachable, NeuronError, NoSuchSubnet, NotRegistered
from template.settings import NeuronSettings

if TYPE_CHECKING:
    from bittensor_wallet import Wallet

STATE_VERSION = 1

P = ParamSpec("P")
R = TypeVar("R")


class BaseNeuron(abc.ABC):
    """A neuron of one subnet. A subclass gives `step`; it may add to `export_state` and `import_state`.

    A subclass sets the attributes that `import_state` fills before it calls `super().__init__`, which reads the file.
    """

    def __init__(
        self, settings: NeuronSettings, chain: Chain, wallet: Wallet, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.chain = chain
        self.wallet = wallet
        self.clock = clock
        self.hotkey: str = wallet.hotkey.ss58_address
        self.view: MetagraphView | None = None
        self.steps = 0
        self.failures = 0
        self._synced_block: int | None = None
        self._stop = asyncio.Event()
        self._told: set[str] = set()
        self.load_state()

    # What a subclass writes. Only `step` is a duty; the empty hooks are optional, hence noqa B027.

    @abc.abstractmethod
    async def step(self) -> None:
        """One round of the neuron's work. An exception fails this step only; too many in a row end `run`."""

    async def on_start(self) -> None:  # noqa: B027
        """Called once by `run`, registered and with a metagraph, before the first step: open the axon here."""

    async def on_stop(self) -> None:  # noqa: B027
        """Called once by `run` at its end, also after an error: close here what `on_start` opened."""

    async def on_metagraph(self, view: MetagraphView) -> None:  # noqa: B027
        """Called after each resync, with the new view already in `self.view`."""

    def export_state(self) -> dict[str, Any]:
        """What to keep over a restart, as JSON values."""
        return {}

    def import_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `export_state` gave."""

    # The chain

    async def on_chain(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one blocking method of `self.chain` in a thread."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def check_registered(self, view: MetagraphView | None = None) -> None:
        """Raise NoSuchSubnet or NotRegistered unless our hotkey holds a uid in `view` (asked of the chain if None)."""
        netuid = self.settings.netuid
        if view is None:
            if not await self.on_chain(self.chain.subnet_exists, netuid):
                raise NoSuchSubnet(netuid, self.chain.endpoint)
            view = await self.on_chain(self.chain.metagraph, netuid)
        if self.hotkey not in view:
            wallet, subtensor = self.settings.wallet, self.settings.subtensor
            network = subtensor.chain_endpoint or subtensor.network
            raise NotRegistered(self.hotkey, netuid, wallet.name, wallet.hotkey, network)

    async def resync_metagraph(self) -> MetagraphView:
        """Fetch the subnet, check that we are still in it, keep it in `self.view` and tell `on_metagraph`."""
        view = await self.on_chain(self.chain.metagraph, self.settings.netuid)
        await self.check_registered(view)
        self.view = view
        self._synced_block = view.block
        await self.on_metagraph(view)
        return view

    def should_sync(self, block: int) -> bool:
        """Whether `epoch_length` blocks have passed since our own last sync (or the chain began anew)."""
        last = self._synced_block
        return last is None or block < last or block - last >= self.settings.neuron.epoch_length

    async def sync(self) -> int:
        """Resync the metagraph when due; return the newest block."""
        block = await self.on_chain(self.chain.block)
        if self.should_sync(block):
            await self.resync_metagraph()
        return block

    async def announce_axon(self, bound_port: int) -> None:
        """Put our axon's address on chain unless it is there already. Raises BadSettings, NeuronError."""
        ip, port = self.settings.axon.announced(bound_port)
        own = self.view.by_hotkey(self.hotkey) if self.view is not None else None
        if own is None or (own.ip, own.port) != (ip, port):
            await self.on_chain(self.chain.serve_axon, self.settings.netuid, ip, port)

    # The loop

    def stop(self) -> None:
        """Ask `run` to end after the present step. Safe from a signal handler of the loop."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    async def run(self) -> None:
        """Check, sync, then step until `stop`, SIGINT, SIGTERM or SIGHUP.

        Raises what check_registered and on_start raise; NotRegistered or NoSuchSubnet when the subnet drops us; and
        after `failures_max` failed steps in a row the NeuronError, or a RuntimeError that names the last failure.
        """
        self._listen_to_signals()
        try:
            await self.check_registered()
            await self.resync_metagraph()
            await self.on_start()
            while not self.stopping:
                began = time.monotonic()
                await self._step_and_count()
                await self._pause(self.settings.neuron.step_s - (time.monotonic() - began))
        finally:
            self._listen_to_signals(remove=True)
            await self.on_stop()

    async def _step_and_count(self) -> None:
        try:
            try:
                await self.sync()
            except ChainUnreachable as error:
                # Work goes on with the last view: a chain that is away for an hour must not cost finished work.
                self._tell_once(error)
            await self.step()
            self.steps += 1
            self.save_state()
        except (NotRegistered, NoSuchSubnet):
            raise
        except Exception as error:
            self._fail(error)
        else:
            if self.failures:
                logger.info("working again after {} failed steps", self.failures)
                self._told.clear()
            self.failures = 0

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        self._tell_once(error)
        if self.failures >= self.settings.neuron.failures_max:
            if isinstance(error, NeuronError):
                raise error
            raise RuntimeError(
                f"{self.failures} steps failed in a row, the last with {type(error).__name__}: {error}"
            ) from error

    def _tell_once(self, error: Exception) -> None:
        """Log each distinct error once, a defect with its traceback; repetitions only at DEBUG."""
        key = f"{type(error).__name__}: {error}"
        if key in self._told:
            logger.debug("again: {}", key)
            return
        if len(self._told) < 1000:
            self._told.add(key)
        if isinstance(error, NeuronError):
            logger.warning("{}", error)
        else:
            logger.opt(exception=error).error("step failed: {}", key)

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)  # let the axon's handlers run even when steps take longer than their interval
            return
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except asyncio.TimeoutError:
            return

    def _listen_to_signals(self, remove: bool = False) -> None:
        loop = asyncio.get_running_loop()

        def once(number: int) -> None:
            loop.remove_signal_handler(number)  # a second Ctrl-C interrupts for good
            logger.info("stopping after this step; once more to stop at once")
            self.stop()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the terminal may go
            try:
                if remove:
                    loop.remove_signal_handler(number)
                else:
                    loop.add_signal_handler(number, once, number)
            except (NotImplementedError, RuntimeError, ValueError):
                return  # not the main thread, or a platform without signals: the embedder stops us

    # The state file

    def save_state(self) -> None:
        """Write the state file, wholly or not at all."""
        path = self.settings.state_path
        document = {
            "version": STATE_VERSION,
            "netuid": self.settings.netuid,
            "hotkey": self.hotkey,
            "saved_at": self.clock(),
            "steps": self.steps,
            "state": self.export_state(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def load_state(self) -> None:
        """Take up where the state file left off; without one, begin anew.

        Raises NeuronError when the file is unreadable, of another version or of another hotkey: it may be worth
        something, so it is left as it is and the operator decides.
        """
        path = self.settings.state_path
        if not path.is_file():
            return
        advice = f"move {path} away to begin anew"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            version, hotkey, steps, state = (document[key] for key in ("version", "hotkey", "steps", "state"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NeuronError(f"the state file cannot be read ({type(error).__name__}: {error}); {advice}") from None
        if version != STATE_VERSION:
            raise NeuronError(f"the state file has version {version}, this program reads {STATE_VERSION}; {advice}")
        if hotkey != self.hotkey:
            raise NeuronError(f"the state file belongs to hotkey {hotkey}, not {self.hotkey}; {advice}")
        self.steps = int(steps)
        self.import_state(state)
