"""A whole subnet in one process: MemoryChain, real keys, real sockets on loopback, real tensors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from iota_subnet.core.state import Phase, RunState
from iota_subnet.miner.neuron import IotaMiner
from iota_subnet.settings import MinerSettings, ValidatorSettings
from iota_subnet.spec import RunSpec
from iota_subnet.validator.compute import Compute
from iota_subnet.validator.neuron import IotaValidator
from template.memory import MemoryChain, MemoryLedger
from template.settings import parse
from template.staging import wallet_from_uri

from .kit import eventually, small_spec, write_text

NETUID = 1
T = TypeVar("T")


class ThreadCompute(Compute):
    """The validator's arithmetic in a thread: the same functions, without the seconds a new process takes."""

    def _start(self) -> Any:
        return None

    async def run(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.to_thread(function, *args)

    def close(self) -> None:
        return None


class Swarm:
    def __init__(self, folder: Path, spec: RunSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.validator_flags: list[str] = []
        self.chain = MemoryLedger(block=100)
        self.validator: IotaValidator = None  # type: ignore[assignment]
        self.miners: dict[str, IotaMiner] = {}
        self.tasks: dict[object, asyncio.Task[None]] = {}
        (folder / "spec.json").write_text(spec.to_json())
        self.chain.add_subnet(NETUID, self.wallet("owner").hotkey.ss58_address, weights_rate_limit=1)
        self.chain.register(NETUID, self.hotkey("validator"), stake=1000.0, validator_permit=True)

    def wallet(self, name: str) -> Any:
        return wallet_from_uri(self.folder / "wallets", name, name, f"//{name}")

    def hotkey(self, name: str) -> str:
        address: str = self.wallet(name).hotkey.ss58_address
        return address

    def flags(self, name: str) -> list[str]:
        return [
            "--netuid", str(NETUID), "--wallet.name", name, "--wallet.hotkey", name, "--axon.ip", "127.0.0.1",
            "--axon.port", "0", "--neuron.state_dir", str(self.folder / "state"), "--neuron.step_s", "0.1",
            "--neuron.epoch_length", "1",
        ]  # fmt: skip

    @property
    def state(self) -> RunState:
        return self.validator.service.state

    def add_validator(self, pool: Compute | None = None) -> IotaValidator:
        """A validator process; on the run directory of the one before it, if there was one."""
        flags = ["--run.dir", str(self.folder / "run"), "--run.spec", str(self.folder / "spec.json")]
        settings = parse(ValidatorSettings, [*self.flags("validator"), *flags, *self.validator_flags])
        wallet = self.wallet("validator")
        chain = MemoryChain(wallet.hotkey.ss58_address, self.chain)
        pool = pool or ThreadCompute()
        self.validator = IotaValidator(settings, chain, wallet, pool=pool, tick_s=0.05, check=True)
        self.tasks[self.validator] = asyncio.create_task(self.validator.run())
        return self.validator

    def add_miner(self, name: str, kind: type[IotaMiner] = IotaMiner, flags: Sequence[str] = ()) -> IotaMiner:
        wallet = self.wallet(name)
        self.chain.register(NETUID, wallet.hotkey.ss58_address)
        settings = parse(MinerSettings, [*self.flags(name), *flags])
        self.miners[name] = kind(settings, MemoryChain(wallet.hotkey.ss58_address, self.chain), wallet)
        self.tasks[self.miners[name]] = asyncio.create_task(self.miners[name].run())
        return self.miners[name]

    async def crash(self, neuron: IotaValidator | IotaMiner) -> None:
        """As by kill -9: from this moment nothing is journaled, nobody is told, no promise is kept."""
        if isinstance(neuron, IotaValidator):
            neuron.service.close()
            neuron.service._whole = False
        else:
            neuron.validator = None
        task = self.tasks.pop(neuron)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def leave(self, neuron: IotaValidator | IotaMiner) -> None:
        """Stop it as its operator would, and wait for its end."""
        neuron.stop()
        await self.tasks.pop(neuron)

    async def until(self, condition: Callable[[], Any], within_s: float = 25.0, what: str = "it") -> Any:
        """Wait for `condition`; a neuron that ends before it fails the test with what ended it."""

        def met() -> Any:
            for task in self.tasks.values():
                if task.done():
                    task.result()
                    raise AssertionError("a neuron has ended")
            return condition()

        return await eventually(met, within_s, what)

    async def phase(self, *phases: Phase, epoch: int = 0, within_s: float = 25.0) -> None:
        """Wait for one of `phases` in `epoch`."""
        up = self.validator
        await self.until(
            lambda: up._service is not None and self.state.phase in phases and self.state.epoch >= epoch,
            within_s,
            f"{phases} of epoch {epoch}",
        )

    async def finished(self, within_s: float = 25.0) -> RunState:
        """The state after the last epoch was evaluated and its scores are weights on chain."""
        await self.phase(Phase.DONE, within_s=within_s)
        last = self.state.reports[-1]
        await self.until(
            lambda: last.eval_loss is not None and last.weights_set.startswith("block"), within_s, "the end"
        )
        return self.state

    async def blocks(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.chain.advance()


@contextlib.asynccontextmanager
async def swarm(
    folder: Path, miners: int = 3, validator_flags: Sequence[str] = (), **swarm_spec: Any
) -> AsyncIterator[Swarm]:
    """A validator and `miners` miners at work; all are stopped at the end."""
    spec = small_spec(write_text(folder / "text"), **({"start_miners": max(1, miners)} | swarm_spec))
    built = Swarm(folder, spec)
    built.validator_flags = list(validator_flags)
    clock = asyncio.create_task(built.blocks())
    built.add_validator()
    for number in range(miners):
        built.add_miner(f"miner-{number}")
    try:
        yield built
    finally:
        clock.cancel()
        for neuron in built.tasks:
            neuron.stop()  # type: ignore[attr-defined]
        await asyncio.gather(*built.tasks.values(), clock, return_exceptions=True)


def conserved(state: RunState) -> bool:
    """Whether every microbatch that was opened is done, or still on its way."""
    done = sum(report.microbatches for report in state.reports) + state.early
    return state.lost == 0 and state.opened_total == done + len(state.batches)
