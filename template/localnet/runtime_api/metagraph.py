"""The metagraph family of SubnetInfoRuntimeApi: whole, selective and state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from template.localnet.children import counted_stake
from template.localnet.codec import Some
from template.localnet.economy import stake_weight
from template.localnet.runtime_api.neurons import axon_of, coldkey_of
from template.localnet.runtime_api.registry import Query, serves
from template.localnet.runtime_api.subnets import FIXED, pending_alpha, subnet_name
from template.localnet.spec import load_spec
from template.localnet.state import ROOT_NETUID, ChainState, Subnet

_Part = Callable[[ChainState, Subnet], Any]


def _tao_stake(state: ChainState, subnet: Subnet) -> list[int]:
    """Root stake as it counts on the subnet (weighted)."""
    weight = state.config.tao_weight
    return [counted_stake(state, subnet, key, ROOT_NETUID) * weight >> 64 for key in subnet.keys]


def _alpha_stake(state: ChainState, subnet: Subnet) -> list[int]:
    return [counted_stake(state, subnet, key, subnet.netuid) for key in subnet.keys]


def _commitments(state: ChainState, subnet: Subnet) -> list[tuple[bytes, bytes]]:
    """Raw commitments of registered hotkeys; hashes and encrypted ones carry no readable bytes."""
    found = []
    for hotkey in subnet.keys:
        known = state.commitments.get((subnet.netuid, hotkey))
        for part in known["info"]["fields"] if known else ():
            if isinstance(part.value, bytes):
                found.append((hotkey, part.value))
    return found


_STATIC: dict[str, _Part] = {
    "netuid": lambda st, s: s.netuid,
    "name": lambda st, s: subnet_name(s),
    "symbol": lambda st, s: s.symbol,
    "identity": lambda st, s: s.identity,
    "network_registered_at": lambda st, s: s.registered_at,
    "owner_hotkey": lambda st, s: s.owner_hotkey,
    "owner_coldkey": lambda st, s: s.owner_coldkey,
    "block": lambda st, s: st.block,
    "tempo": lambda st, s: s.params.tempo,
    "last_step": lambda st, s: s.last_step_block,
    "blocks_since_last_step": lambda st, s: st.block - max(s.last_step_block, s.registered_at),
    "subnet_emission": lambda st, s: 0,  # kept by the runtime for old clients, always zero since dynamic TAO
    "alpha_in": lambda st, s: s.alpha_in,
    "alpha_out": lambda st, s: s.alpha_out,
    "tao_in": lambda st, s: s.tao_in,
    "alpha_out_emission": lambda st, s: s.alpha_out_emission,
    "alpha_in_emission": lambda st, s: s.alpha_in_emission,
    "tao_in_emission": lambda st, s: s.tao_in_emission,
    "pending_alpha_emission": lambda st, s: pending_alpha(s),
    "pending_root_emission": lambda st, s: 0,
    "subnet_volume": lambda st, s: s.volume,
    "moving_price": lambda st, s: {"bits": int(s.moving_price * 2**32)},
    "rho": lambda st, s: s.params.rho,
    "kappa": lambda st, s: s.params.kappa,
    "min_allowed_weights": lambda st, s: s.params.min_allowed_weights,
    "max_weights_limit": lambda st, s: s.params.max_weights_limit,
    "weights_version": lambda st, s: s.params.weights_version,
    "weights_rate_limit": lambda st, s: s.params.weights_rate_limit,
    "activity_cutoff": lambda st, s: s.params.activity_cutoff,
    "max_validators": lambda st, s: s.params.max_validators,
    "num_uids": lambda st, s: s.size,
    "max_uids": lambda st, s: s.params.max_uids,
    "burn": lambda st, s: s.burn,
    "difficulty": lambda st, s: FIXED["difficulty"],
    "registration_allowed": lambda st, s: s.params.registration_allowed,
    "pow_registration_allowed": lambda st, s: False,
    "immunity_period": lambda st, s: s.params.immunity_period,
    "min_difficulty": lambda st, s: FIXED["min_difficulty"],
    "max_difficulty": lambda st, s: FIXED["max_difficulty"],
    "min_burn": lambda st, s: s.params.min_burn,
    "max_burn": lambda st, s: s.params.max_burn,
    "adjustment_alpha": lambda st, s: s.params.adjustment_alpha,
    "adjustment_interval": lambda st, s: s.params.adjustment_interval,
    "target_regs_per_interval": lambda st, s: s.params.target_registrations,
    "max_regs_per_block": lambda st, s: s.params.max_registrations_per_block,
    "serving_rate_limit": lambda st, s: s.params.serving_rate_limit,
    "commit_reveal_weights_enabled": lambda st, s: s.params.commit_reveal,
    "commit_reveal_period": lambda st, s: s.params.reveal_period,
    "liquid_alpha_enabled": lambda st, s: s.params.liquid_alpha,
    "alpha_high": lambda st, s: s.params.alpha_high,
    "alpha_low": lambda st, s: s.params.alpha_low,
    "bonds_moving_avg": lambda st, s: s.params.bonds_moving_avg,
}

_NEURONS: dict[str, _Part] = {
    "hotkeys": lambda st, s: s.keys,
    "coldkeys": lambda st, s: [coldkey_of(st, key) for key in s.keys],
    "identities": lambda st, s: [st.identities.get(coldkey_of(st, key)) for key in s.keys],
    "axons": lambda st, s: [axon_of(s, key) for key in s.keys],
    "active": lambda st, s: s.active,
    "validator_permit": lambda st, s: s.validator_permit,
    "pruning_score": lambda st, s: s.pruning_scores,
    "last_update": lambda st, s: s.last_update,
    "emission": lambda st, s: s.emission,
    "dividends": lambda st, s: s.dividends,
    "incentives": lambda st, s: s.incentive,
    "consensus": lambda st, s: s.consensus,
    "trust": lambda st, s: s.trust,
    "rank": lambda st, s: s.rank,
    "block_at_registration": lambda st, s: s.block_at_registration,
    "alpha_stake": _alpha_stake,
    "tao_stake": _tao_stake,
    "total_stake": lambda st, s: [stake_weight(st, key, s.netuid) for key in s.keys],
    "tao_dividends_per_hotkey": lambda st, s: [(key, 0) for key in s.keys],
    "alpha_dividends_per_hotkey": lambda st, s: [(key, s.alpha_dividends.get(key, 0)) for key in s.keys],
}

_EXTRA: dict[str, _Part] = {
    "validators": lambda st, s: [uid for uid, permit in enumerate(s.validator_permit) if permit],
    "commitments": _commitments,
}

_WHOLE = {**_STATIC, **_NEURONS}
_SELECTIVE = {**_WHOLE, **_EXTRA}
# the index of a part in a selective query is its place in the struct
_ORDER = [str(item.name) for item in load_spec().types["SelectiveMetagraph"].fields or ()]


def _metagraph(state: ChainState, subnet: Subnet | None) -> dict[str, Any] | None:
    return None if subnet is None else {name: part(state, subnet) for name, part in _WHOLE.items()}


def _selective(state: ChainState, netuid: int, indexes: list[int]) -> dict[str, Any] | None:
    subnet = state.subnets.get(netuid)
    if subnet is None:
        return None
    chosen = {_ORDER[index] for index in indexes if index < len(_ORDER)} | {"netuid"}
    result: dict[str, Any] = {}
    for name in _ORDER:
        value = _SELECTIVE[name](state, subnet) if name in chosen else None
        result[name] = Some(value) if name == "identity" and name in chosen else value
    return result


@serves("SubnetInfoRuntimeApi_get_metagraph")
def get_metagraph(query: Query, netuid: int) -> dict[str, Any] | None:
    """All neurons of a subnet and its parameters; None if there is no such subnet."""
    return _metagraph(query.state, query.state.subnets.get(netuid))


@serves("SubnetInfoRuntimeApi_get_mechagraph")
def get_mechagraph(query: Query, netuid: int, mecid: int) -> dict[str, Any] | None:
    """The metagraph of mechanism 0, the only one there is; None of others."""
    return _metagraph(query.state, query.state.subnets.get(netuid)) if mecid == 0 else None


@serves("SubnetInfoRuntimeApi_get_all_metagraphs")
def get_all_metagraphs(query: Query) -> list[dict[str, Any] | None]:
    """That of every subnet, by netuid."""
    return [_metagraph(query.state, subnet) for _, subnet in sorted(query.state.subnets.items())]


@serves("SubnetInfoRuntimeApi_get_all_mechagraphs")
def get_all_mechagraphs(query: Query) -> list[dict[str, Any] | None]:
    """The same: every subnet has one mechanism."""
    return [_metagraph(query.state, subnet) for _, subnet in sorted(query.state.subnets.items())]


@serves("SubnetInfoRuntimeApi_get_selective_metagraph")
def get_selective_metagraph(query: Query, netuid: int, indexes: list[int]) -> dict[str, Any] | None:
    """The metagraph with only the fields whose numbers are in `indexes`; None as above."""
    return _selective(query.state, netuid, indexes)


@serves("SubnetInfoRuntimeApi_get_selective_mechagraph")
def get_selective_mechagraph(query: Query, netuid: int, mecid: int, indexes: list[int]) -> dict[str, Any] | None:
    """The same for mechanism 0; None of others."""
    return _selective(query.state, netuid, indexes) if mecid == 0 else None


@serves("SubnetInfoRuntimeApi_get_subnet_state")
def get_subnet_state(query: Query, netuid: int) -> dict[str, Any] | None:
    """Stakes, permits, incentives and dividends of all uids as columns; no history of emission."""
    subnet = query.state.subnets.get(netuid)
    if subnet is None:
        return None
    names = [str(item.name) for item in load_spec().types["SubnetState"].fields or ()]
    parts = {name: _WHOLE[name](query.state, subnet) for name in names if name in _WHOLE}
    return {**parts, "emission_history": [[] for _ in subnet.keys]}
