"""MemoryChain: the chain port in memory, for tests and for subnets that want to run without any node.

Blocks pass only when told (`advance`). Many wallets share one `MemoryLedger`; each gets its own `MemoryChain`, as each
process has its own connection. Simplified on purpose: no balances, no emission, weights stay as they were set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from template.chain import MetagraphView, NeuronView, WeightsResult
from template.errors import ChainUnreachable, NeuronError, NoSuchSubnet


@dataclass
class _Subnet:
    """The mutable state of one subnet."""

    owner_hotkey: str
    tempo: int
    weights_rate_limit: int
    max_uids: int
    neurons: list[NeuronView] = field(default_factory=list)
    weights: dict[int, dict[int, int]] = field(default_factory=dict)


class MemoryLedger:
    """The state that all MemoryChain objects of one test share."""

    def __init__(self, block: int = 1) -> None:
        self.block = block
        self.online = True
        self._subnets: dict[int, _Subnet] = {}

    def advance(self, blocks: int = 1) -> int:
        """Let `blocks` blocks pass; return the newest block number."""
        self.block += blocks
        return self.block

    def add_subnet(
        self, netuid: int, owner_hotkey: str, *, tempo: int = 20, weights_rate_limit: int = 5, max_uids: int = 256
    ) -> None:
        """Create a subnet and register its owner's hotkey as uid 0, as the real chain does."""
        self._subnets[netuid] = _Subnet(owner_hotkey, tempo, weights_rate_limit, max_uids)
        self.register(netuid, owner_hotkey)

    def register(self, netuid: int, hotkey: str, *, stake: float = 0.0, validator_permit: bool = False) -> int:
        """Give `hotkey` a uid (its old one if it has one). A full subnet re-uses the uid with the least stake."""
        subnet = self.subnet(netuid)
        for neuron in subnet.neurons:
            if neuron.hotkey == hotkey:
                return neuron.uid
        fresh = NeuronView(
            uid=len(subnet.neurons), hotkey=hotkey, coldkey=f"cold-{hotkey}", stake=stake,
            validator_permit=validator_permit, active=True, last_update=self.block, incentive=0.0, dividends=0.0,
            emission=0.0, ip="0.0.0.0", port=0,
        )  # fmt: skip
        if len(subnet.neurons) < subnet.max_uids:
            subnet.neurons.append(fresh)
            return fresh.uid
        losers = [neuron for neuron in subnet.neurons if neuron.hotkey != subnet.owner_hotkey]
        loser = min(losers, key=lambda neuron: (neuron.stake, neuron.uid))
        subnet.neurons[loser.uid] = replace(fresh, uid=loser.uid)
        return loser.uid

    def edit(self, netuid: int, hotkey: str, **changes: object) -> None:
        """Change fields of one neuron, e.g. `edit(1, "A", stake=10.0)`. Raises KeyError for an unknown hotkey."""
        subnet = self.subnet(netuid)
        for index, neuron in enumerate(subnet.neurons):
            if neuron.hotkey == hotkey:
                subnet.neurons[index] = replace(neuron, **changes)  # type: ignore[arg-type]
                return
        raise KeyError(hotkey)

    def weights_of(self, netuid: int, hotkey: str) -> dict[int, int]:
        """The u16 weights that `hotkey` has set, by uid."""
        subnet = self.subnet(netuid)
        return dict(next(subnet.weights.get(n.uid, {}) for n in subnet.neurons if n.hotkey == hotkey))

    def subnet(self, netuid: int) -> _Subnet:
        """The subnet's state. Raises NoSuchSubnet, and ChainUnreachable while `online` is False."""
        if not self.online:
            raise ChainUnreachable("memory")
        if netuid not in self._subnets:
            raise NoSuchSubnet(netuid, "memory")
        return self._subnets[netuid]

    def has_subnet(self, netuid: int) -> bool:
        """Whether `add_subnet` was called for `netuid`."""
        return netuid in self._subnets


class MemoryChain:
    """The chain port on a MemoryLedger, as seen by one hotkey."""

    def __init__(self, hotkey: str, ledger: MemoryLedger) -> None:
        self.hotkey = hotkey
        self.ledger = ledger

    @property
    def endpoint(self) -> str:
        """Always "memory"."""
        return "memory"

    def block(self) -> int:
        """The newest block. Raises ChainUnreachable while the ledger is offline."""
        if not self.ledger.online:
            raise ChainUnreachable("memory")
        return self.ledger.block

    def metagraph(self, netuid: int) -> MetagraphView:
        """The subnet now, frozen."""
        subnet = self.ledger.subnet(netuid)
        return MetagraphView(netuid, self.ledger.block, tuple(subnet.neurons), subnet.owner_hotkey)

    def subnet_exists(self, netuid: int) -> bool:
        """Whether there is such a subnet."""
        self.block()
        return self.ledger.has_subnet(netuid)

    def tempo(self, netuid: int) -> int:
        """Blocks per epoch."""
        return self.ledger.subnet(netuid).tempo

    def weights_rate_limit(self, netuid: int) -> int:
        """Blocks between two settings of weights."""
        return self.ledger.subnet(netuid).weights_rate_limit

    def serve_axon(self, netuid: int, ip: str, port: int) -> None:
        """Announce the axon. Raises NeuronError when the hotkey has no uid."""
        if self._own(netuid) is None:
            raise NeuronError(f"the chain refused the axon of {self.hotkey}: not registered in subnet {netuid}")
        self.ledger.edit(netuid, self.hotkey, ip=ip, port=port)

    def set_weights(
        self, netuid: int, uids: Sequence[int], weights_u16: Sequence[int], version_key: int
    ) -> WeightsResult:
        """Store the weights, under the rules the chain has: registered, in range, not too soon."""
        subnet = self.ledger.subnet(netuid)
        own = self._own(netuid)
        if own is None:
            return WeightsResult(False, f"hotkey {self.hotkey} is not registered in subnet {netuid}")
        if not own.validator_permit:
            return WeightsResult(False, "the neuron holds no validator permit")
        passed = self.ledger.block - own.last_update
        if passed <= subnet.weights_rate_limit:
            return WeightsResult(
                False, f"too soon: {passed} blocks since the last update, more than {subnet.weights_rate_limit} needed"
            )
        if len(uids) != len(weights_u16) or not uids:
            return WeightsResult(False, "as many weights as uids are needed, and at least one")
        if len(set(uids)) != len(uids) or not all(0 <= uid < len(subnet.neurons) for uid in uids):
            return WeightsResult(False, "a uid is repeated or does not exist")
        if not all(0 <= weight <= 65535 for weight in weights_u16):
            return WeightsResult(False, "a weight is outside 0..65535")
        subnet.weights[own.uid] = dict(zip(uids, weights_u16, strict=True))
        self.ledger.edit(netuid, self.hotkey, last_update=self.ledger.block)
        return WeightsResult(True, "weights set", self.ledger.block)

    def close(self) -> None:
        """Nothing to free."""

    def _own(self, netuid: int) -> NeuronView | None:
        return next((n for n in self.ledger.subnet(netuid).neurons if n.hotkey == self.hotkey), None)
