"""SubtensorChain: the chain port over the SDK (bittensor 10.5). Besides synapse.py the only file that imports the SDK.

The sync `bt.Subtensor` owns one websocket and may be used by one thread at a time. Reads share one, under a lock, and
try once more on a fresh one; every write has its own and writes take turns, so a slow write delays no read. A call that
does not come back in time is left behind in its daemon thread together with its connection; the next connects anew.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from loguru import logger
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from template.chain import MetagraphView, NeuronView, WeightsResult
from template.errors import ChainUnreachable, NeuronError, NoSuchSubnet
from template.logs import adopt_bittensor
from template.settings import NETWORKS

if TYPE_CHECKING:
    from bittensor_wallet import Wallet

R = TypeVar("R")

CONNECT_TIMEOUT_S = 4.0
WRITE_ATTEMPTS = 3
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SubtensorChain:
    """The chain at a websocket address, or a network's name (finney, test, archive, local), as `wallet` sees it.

    `timeout_s` bounds one read, in seconds; a write may take four times as long, because it waits for blocks.
    `backoff_s` is the first pause between two attempts of a write.
    """

    def __init__(
        self, wallet: Wallet, endpoint_or_network: str, timeout_s: float = 30.0, *, backoff_s: float = 1.0
    ) -> None:
        self.wallet = wallet
        self.timeout_s = timeout_s
        self.backoff_s = backoff_s
        self._endpoint = NETWORKS.get(endpoint_or_network, endpoint_or_network)
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._subtensor: Any = None

    @property
    def endpoint(self) -> str:
        """The websocket address."""
        return self._endpoint

    def block(self) -> int:
        """See `chain.Chain`; this and the following."""
        return self._read(lambda subtensor: int(subtensor.get_current_block()))

    def metagraph(self, netuid: int) -> MetagraphView:
        """One runtime call: every neuron at one and the same block."""
        info = self._read(lambda subtensor: subtensor.get_metagraph_info(netuid, selected_indices=_wanted()))
        if info is None or info.hotkeys is None:
            raise NoSuchSubnet(netuid, self._endpoint)
        return _to_view(info)

    def subnet_exists(self, netuid: int) -> bool:
        """Whether the chain has such a subnet."""
        return self._read(lambda subtensor: bool(subtensor.subnet_exists(netuid)))

    def tempo(self, netuid: int) -> int:
        """Blocks per epoch."""
        return self._known(netuid, lambda subtensor: subtensor.tempo(netuid))

    def weights_rate_limit(self, netuid: int) -> int:
        """Blocks between two settings of weights."""
        return self._known(netuid, lambda subtensor: subtensor.weights_rate_limit(netuid))

    def serve_axon(self, netuid: int, ip: str, port: int) -> None:
        """Announce the axon, and wait until it is in a block. Raises NeuronError when the chain refuses."""
        address = ipaddress.ip_address(ip)

        def send(subtensor: Any) -> Any:
            from bittensor.core.extrinsics.serving import serve_extrinsic

            return serve_extrinsic(
                subtensor=subtensor, wallet=self.wallet, ip=str(address), port=port, protocol=4, netuid=netuid,
                mev_protection=False, wait_for_inclusion=True, wait_for_finalization=False,
            )  # fmt: skip

        response = self._write(send)
        if not response.success:
            raise NeuronError(f"the chain refused the axon {ip}:{port} in subnet {netuid}: {_text(response)}")

    def set_weights(
        self, netuid: int, uids: Sequence[int], weights_u16: Sequence[int], version_key: int
    ) -> WeightsResult:
        """Set weights (or commit them, where the subnet uses commit-reveal), and wait until they are in a block.

        When it is too soon the SDK sends nothing and returns (False, None); the result then says how long to wait.
        """
        limit = self.weights_rate_limit(netuid)

        def send(subtensor: Any) -> WeightsResult:
            import numpy as np

            hotkey = self.wallet.hotkey.ss58_address
            uid = subtensor.get_uid_for_hotkey_on_subnet(hotkey, netuid)
            if uid is None:
                return WeightsResult(False, f"hotkey {hotkey} is not registered in subnet {netuid}")
            passed = subtensor.blocks_since_last_update(netuid, uid)
            if passed is not None and passed <= limit:
                return WeightsResult(
                    False, f"too soon: {passed} blocks since the last update, more than {limit} needed"
                )
            self._prepare_commit(subtensor, netuid)
            response = subtensor.set_weights(
                wallet=self.wallet, netuid=netuid, uids=np.array(uids, dtype=np.int64),
                weights=np.array(weights_u16, dtype=np.float32), version_key=version_key, mev_protection=False,
                max_attempts=1, wait_for_inclusion=True, wait_for_finalization=False,
            )  # fmt: skip
            if not response.success:
                return WeightsResult(False, _text(response))
            return WeightsResult(True, response.message or "weights set", int(subtensor.get_current_block()))

        return self._write(send)

    def _prepare_commit(self, subtensor: Any, netuid: int) -> None:
        """The embedded chain opens committed weights with a beacon of its own; every other chain with the SDK's."""
        if urlsplit(self._endpoint).hostname not in LOOPBACK or not subtensor.commit_reveal_enabled(netuid):
            return
        from template.localnet.beacon import install
        from template.localnet.rpc import NODE_NAME

        if subtensor.substrate.rpc_request("system_name", [])["result"] == NODE_NAME:
            from bittensor.core.extrinsics import weights

            install(weights)

    def close(self) -> None:
        """Close the connection that reads keep."""
        with self._read_lock:
            self._drop()

    def _known(self, netuid: int, read: Callable[[Any], Any]) -> int:
        """A number that every existing subnet has. Raises NoSuchSubnet."""
        value = self._read(lambda subtensor: read(subtensor) if subtensor.subnet_exists(netuid) else None)
        if value is None:
            raise NoSuchSubnet(netuid, self._endpoint)
        return int(value)

    def _read(self, call: Callable[[Any], R]) -> R:
        """`call` on the kept connection; if that fails, once more on a new one."""
        with self._read_lock:
            for attempt in (1, 2):
                try:
                    if self._subtensor is None:
                        self._subtensor = self._connect()
                    subtensor = self._subtensor
                    return in_time(lambda: call(subtensor), self.timeout_s)  # noqa: B023
                except ChainUnreachable:
                    raise
                except Exception as error:  # the SDK raises many unrelated types here, websockets' and its own
                    self._drop()
                    if attempt == 2:
                        raise ChainUnreachable(self._endpoint, _brief(error)) from error
        raise AssertionError("unreachable")

    def _write(self, call: Callable[[Any], R]) -> R:
        """`call` on a fresh connection, up to three times with growing pauses. Raises ChainUnreachable.

        A write whose answer was lost may be sent twice; setting the same weights or axon again is harmless.
        """
        retrying = Retrying(
            stop=stop_after_attempt(WRITE_ATTEMPTS), retry=retry_if_exception_type(ChainUnreachable), reraise=True,
            wait=wait_exponential(multiplier=self.backoff_s, max=30.0) + wait_random(0, self.backoff_s),
            before_sleep=_tell,
        )  # fmt: skip
        result: R = retrying(self._write_once, call)
        return result

    def _write_once(self, call: Callable[[Any], R]) -> R:
        with self._write_lock, self._fresh() as subtensor:
            try:
                return in_time(lambda: call(subtensor), 4 * self.timeout_s)
            except Exception as error:
                raise ChainUnreachable(self._endpoint, _brief(error)) from error

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[Any]:
        subtensor = self._connect()
        try:
            yield subtensor
        finally:
            _close(subtensor)

    def _connect(self) -> Any:
        """A new `bt.Subtensor`. Raises ChainUnreachable within about five seconds when nothing listens."""
        parts = urlsplit(self._endpoint)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        try:
            # The SDK would retry for a minute and print a traceback; a bare TCP connection tells at once.
            socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise ChainUnreachable(self._endpoint, error.strerror or str(error)) from None

        def connect() -> Any:
            import bittensor as bt

            adopt_bittensor()
            return bt.Subtensor(network=self._endpoint)

        try:
            return in_time(connect, self.timeout_s)
        except Exception as error:
            raise ChainUnreachable(self._endpoint, _brief(error)) from error

    def _drop(self) -> None:
        subtensor, self._subtensor = self._subtensor, None
        if subtensor is not None:
            _close(subtensor)


def in_time(call: Callable[[], R], timeout_s: float) -> R:
    """Run `call` in a daemon thread and return or raise what it does. Raises TimeoutError after `timeout_s` seconds.

    Not a ThreadPoolExecutor: its threads are joined at exit, so one hung call would keep the process alive.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put((True, call()))
        except BaseException as error:  # handed to the waiting thread, whatever it is
            results.put((False, error))

    threading.Thread(target=work, daemon=True, name="chain call").start()
    try:
        ok, value = results.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    if not ok:
        raise value
    result: R = value
    return result


def _wanted() -> list[int]:
    """The parts of the metagraph that NeuronView and MetagraphView hold; weights and bonds stay on the chain."""
    from bittensor.core.chain_data import SelectiveMetagraphIndex as Index

    names = (
        "OwnerHotkey Block Hotkeys Coldkeys Axons Active ValidatorPermit LastUpdate Emission Dividends Incentives "
        "TotalStake NumUids"
    )
    return [Index[name].value for name in names.split()]


def _to_view(info: Any) -> MetagraphView:
    neurons = []
    for uid, hotkey in enumerate(info.hotkeys):
        axon = info.axons[uid]
        neurons.append(
            NeuronView(
                uid=uid, hotkey=str(hotkey), coldkey=str(info.coldkeys[uid]), stake=float(info.total_stake[uid]),
                validator_permit=bool(info.validator_permit[uid]), active=bool(info.active[uid]),
                last_update=int(info.last_update[uid]), incentive=float(info.incentives[uid]),
                dividends=float(info.dividends[uid]), emission=float(info.emission[uid]),
                ip=_ip(axon), port=int(_part(axon, "port")),
            )
        )  # fmt: skip
    return MetagraphView(int(info.netuid), int(info.block), tuple(neurons), str(info.owner_hotkey))


def _part(axon: Any, name: str) -> Any:
    return axon[name] if isinstance(axon, dict) else getattr(axon, name)


def _ip(axon: Any) -> str:
    """The address as text; the chain keeps it as a number, the SDK hands out either."""
    raw = _part(axon, "ip")
    if isinstance(raw, int):
        version = int(_part(axon, "ip_type"))
        return str(ipaddress.IPv6Address(raw) if version == 6 else ipaddress.IPv4Address(raw))
    return str(raw)


def _text(response: Any) -> str:
    message = response.message or (str(response.error) if response.error is not None else "")
    return " ".join(str(message).split()) or "the SDK sent nothing and gave no reason, as it does when it is too soon"


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _tell(state: RetryCallState) -> None:
    logger.warning("chain write failed, attempt {} of {}", state.attempt_number, WRITE_ATTEMPTS)


def _close(subtensor: Any) -> None:
    """Close quietly: the connection may be broken, and its close may hang."""
    with contextlib.suppress(Exception):
        in_time(subtensor.close, 2.0)
