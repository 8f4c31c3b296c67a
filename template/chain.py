"""The chain as a neuron sees it: a port of eight synchronous methods and three frozen values. Std-lib only.

`memory.MemoryChain` and `subtensor.SubtensorChain` satisfy it and pass one contract suite (test_chain.py).
The methods block; asyncio code calls them through `asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NeuronView:
    """One uid of a subnet. `stake` and `emission` in alpha (TAO units); `last_update` in blocks; shares in [0, 1].

    `ip` is "0.0.0.0" and `port` 0 while the neuron has not announced an axon.
    """

    uid: int
    hotkey: str
    coldkey: str
    stake: float
    validator_permit: bool
    active: bool
    last_update: int
    incentive: float
    dividends: float
    emission: float
    ip: str
    port: int

    @property
    def is_serving(self) -> bool:
        """True when the neuron has announced where its axon listens."""
        return self.port > 0 and self.ip not in ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class MetagraphView:
    """A subnet at one block. Immutable, so that a decision taken on it can be explained later."""

    netuid: int
    block: int
    neurons: tuple[NeuronView, ...]
    owner_hotkey: str

    def __post_init__(self) -> None:
        # Lookups happen once per request; build the index once. Not a field: equality stays that of the four fields.
        object.__setattr__(self, "_by_hotkey", {neuron.hotkey: neuron for neuron in self.neurons})

    def by_hotkey(self, hotkey: str) -> NeuronView | None:
        """The neuron that holds `hotkey`, or None."""
        index: dict[str, NeuronView] = self.__dict__["_by_hotkey"]
        return index.get(hotkey)

    def uid_of(self, hotkey: str) -> int | None:
        """The uid of `hotkey`, or None when it is not registered."""
        neuron = self.by_hotkey(hotkey)
        return None if neuron is None else neuron.uid

    def votes(self, hotkey: str, share: float = 0.1) -> bool:
        """Whether `hotkey` is a validator in earnest: it has a permit, and at least `share` of the largest stake.

        A permit alone says little: where there are fewer neurons than permits, a paid miner's stake earns it one.
        """
        neuron = self.by_hotkey(hotkey)
        if neuron is None or not neuron.validator_permit:
            return False
        return neuron.stake > 0 and neuron.stake >= share * max(other.stake for other in self.neurons)

    def __contains__(self, hotkey: object) -> bool:
        return isinstance(hotkey, str) and self.by_hotkey(hotkey) is not None

    def __len__(self) -> int:
        return len(self.neurons)


@dataclass(frozen=True, slots=True)
class WeightsResult:
    """What became of one attempt to set weights. `block` is that of inclusion, None when nothing was included."""

    ok: bool
    message: str
    block: int | None = None


class Chain(Protocol):
    """What a neuron asks of the chain. Every method may raise ChainUnreachable.

    Methods that take `netuid` raise NoSuchSubnet when there is none, except `subnet_exists`.
    """

    @property
    def endpoint(self) -> str:
        """Where the chain is, for messages to people."""
        ...

    def block(self) -> int:
        """The number of the newest block."""
        ...

    def metagraph(self, netuid: int) -> MetagraphView:
        """The subnet at the newest block."""
        ...

    def subnet_exists(self, netuid: int) -> bool:
        """Whether the chain has such a subnet."""
        ...

    def tempo(self, netuid: int) -> int:
        """Blocks per epoch of the subnet."""
        ...

    def weights_rate_limit(self, netuid: int) -> int:
        """Blocks that must pass between two settings of weights by one hotkey."""
        ...

    def serve_axon(self, netuid: int, ip: str, port: int) -> None:
        """Announce where this wallet's axon listens. Raises NeuronError when the chain refuses."""
        ...

    def set_weights(
        self, netuid: int, uids: Sequence[int], weights_u16: Sequence[int], version_key: int
    ) -> WeightsResult:
        """Set this wallet's weights. A refusal by the chain is a result, not an exception."""
        ...

    def close(self) -> None:
        """Free the connection. The object may be used again; it reconnects."""
        ...
