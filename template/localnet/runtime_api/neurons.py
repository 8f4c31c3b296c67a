"""NeuronInfoRuntimeApi."""

from __future__ import annotations

from typing import Any

from template.localnet.runtime_api.registry import Query, serves
from template.localnet.state import ZERO_ACCOUNT, AccountId, ChainState, Subnet

_NO_AXON = {
    "block": 0,
    "version": 0,
    "ip": 0,
    "port": 0,
    "ip_type": 0,
    "protocol": 0,
    "placeholder1": 0,
    "placeholder2": 0,
}
_NO_PROMETHEUS = {"block": 0, "version": 0, "ip": 0, "port": 0, "ip_type": 0}


def axon_of(subnet: Subnet, hotkey: AccountId) -> dict[str, int]:
    """Served endpoint, all zero when there is none."""
    return subnet.axons.get(hotkey, _NO_AXON)


def coldkey_of(state: ChainState, hotkey: AccountId) -> AccountId:
    """A hotkey's owner; the zero account if nobody's."""
    return state.owners.get(hotkey, ZERO_ACCOUNT)


def _neuron(state: ChainState, subnet: Subnet, uid: int) -> dict[str, Any]:
    hotkey = subnet.keys[uid]
    coldkey = coldkey_of(state, hotkey)
    return {
        "hotkey": hotkey,
        "coldkey": coldkey,
        "uid": uid,
        "netuid": subnet.netuid,
        "active": subnet.active[uid],
        "axon_info": axon_of(subnet, hotkey),
        "prometheus_info": subnet.prometheus.get(hotkey, _NO_PROMETHEUS),
        "stake": [(coldkey, state.hotkey_stake(hotkey, subnet.netuid))],
        "rank": subnet.rank[uid],
        "emission": subnet.emission[uid],
        "incentive": subnet.incentive[uid],
        "consensus": subnet.consensus[uid],
        "trust": subnet.trust[uid],
        "validator_trust": subnet.validator_trust[uid],
        "dividends": subnet.dividends[uid],
        "last_update": subnet.last_update[uid],
        "validator_permit": subnet.validator_permit[uid],
        "pruning_score": subnet.pruning_scores[uid],
    }


def _full_neuron(state: ChainState, subnet: Subnet, uid: int) -> dict[str, Any]:
    return {**_neuron(state, subnet, uid), "weights": subnet.weights[uid], "bonds": subnet.bonds[uid]}


@serves("NeuronInfoRuntimeApi_get_neurons")
def get_neurons(query: Query, netuid: int) -> list[dict[str, Any]]:
    """All neurons with their weights and bonds, by uid; none of an unknown subnet."""
    subnet = query.state.subnets.get(netuid)
    return [] if subnet is None else [_full_neuron(query.state, subnet, uid) for uid in range(subnet.size)]


@serves("NeuronInfoRuntimeApi_get_neuron")
def get_neuron(query: Query, netuid: int, uid: int) -> dict[str, Any] | None:
    """One neuron with its weights and bonds; None if there is none."""
    subnet = query.state.subnets.get(netuid)
    return None if subnet is None or uid >= subnet.size else _full_neuron(query.state, subnet, uid)


@serves("NeuronInfoRuntimeApi_get_neurons_lite")
def get_neurons_lite(query: Query, netuid: int) -> list[dict[str, Any]]:
    """All neurons without weights and bonds, by uid; none of an unknown subnet."""
    subnet = query.state.subnets.get(netuid)
    return [] if subnet is None else [_neuron(query.state, subnet, uid) for uid in range(subnet.size)]


@serves("NeuronInfoRuntimeApi_get_neuron_lite")
def get_neuron_lite(query: Query, netuid: int, uid: int) -> dict[str, Any] | None:
    """One neuron without weights and bonds; None if there is none."""
    subnet = query.state.subnets.get(netuid)
    return None if subnet is None or uid >= subnet.size else _neuron(query.state, subnet, uid)
