"""SubnetInfoRuntimeApi: dynamic info, subnet info and hyperparameters."""

from __future__ import annotations

from typing import Any

from template.localnet.codec import Enum
from template.localnet.epoch import next_epoch_block
from template.localnet.runtime_api.registry import Query, serves
from template.localnet.state import ROOT_NETUID, ChainState, Subnet

# parameters the runtime has but this chain does not act on (no proof of work)
FIXED = {
    "difficulty": 10_000_000,
    "min_difficulty": 10_000_000,
    "max_difficulty": 2**62 - 1,
}


def subnet_name(subnet: Subnet) -> bytes:
    """Name of the identity, else of the position."""
    if subnet.identity is not None and subnet.identity["subnet_name"]:
        return subnet.identity["subnet_name"]
    return b"root" if subnet.netuid == ROOT_NETUID else f"subnet {subnet.netuid}".encode()


def pending_alpha(subnet: Subnet) -> int:
    """Alpha (rao) minted since the last epoch, owner cut not counted."""
    return subnet.pending_emission


def _sorted(state: ChainState) -> list[Subnet]:
    return [subnet for _, subnet in sorted(state.subnets.items())]


def _dynamic_info(state: ChainState, subnet: Subnet) -> dict[str, Any]:
    return {
        "netuid": subnet.netuid,
        "owner_hotkey": subnet.owner_hotkey,
        "owner_coldkey": subnet.owner_coldkey,
        "subnet_name": subnet_name(subnet),
        "token_symbol": subnet.symbol,
        "tempo": subnet.params.tempo,
        "last_step": subnet.last_step_block,
        "blocks_since_last_step": state.block - max(subnet.last_step_block, subnet.registered_at),
        "emission": 0,  # kept by the runtime for old clients
        "alpha_in": subnet.alpha_in,
        "alpha_out": subnet.alpha_out,
        "tao_in": subnet.tao_in,
        "alpha_out_emission": subnet.alpha_out_emission,
        "alpha_in_emission": subnet.alpha_in_emission,
        "tao_in_emission": subnet.tao_in_emission,
        "pending_alpha_emission": pending_alpha(subnet),
        "pending_root_emission": 0,
        "subnet_volume": subnet.volume,
        "network_registered_at": subnet.registered_at,
        "subnet_identity": subnet.identity,
        "moving_price": {"bits": int(subnet.moving_price * 2**32)},
    }


def _subnet_info(state: ChainState, subnet: Subnet) -> dict[str, Any]:
    return {
        "netuid": subnet.netuid,
        "rho": subnet.params.rho,
        "kappa": subnet.params.kappa,
        "difficulty": FIXED["difficulty"],
        "immunity_period": subnet.params.immunity_period,
        "max_allowed_validators": subnet.params.max_validators,
        "min_allowed_weights": subnet.params.min_allowed_weights,
        "max_weights_limit": subnet.params.max_weights_limit,
        "scaling_law_power": 50,
        "subnetwork_n": subnet.size,
        "max_allowed_uids": subnet.params.max_uids,
        "blocks_since_last_step": state.block - max(subnet.last_step_block, subnet.registered_at),
        "tempo": subnet.params.tempo,
        "network_modality": 0,
        "network_connect": [],
        "emission_value": 0,
        "burn": subnet.burn,
        "owner": subnet.owner_coldkey,
        "identity": subnet.identity,
    }


def _hyperparameters(subnet: Subnet) -> dict[str, tuple[str, Any]]:
    """Name -> (kind of HyperparamValue, native value), in the order of SubnetHyperparamsV2."""
    p = subnet.params
    return {
        "rho": ("U16", p.rho),
        "kappa": ("U16", p.kappa),
        "immunity_period": ("U16", p.immunity_period),
        "min_allowed_weights": ("U16", p.min_allowed_weights),
        "max_weights_limit": ("U16", p.max_weights_limit),
        "tempo": ("U16", p.tempo),
        "min_difficulty": ("U64", FIXED["min_difficulty"]),
        "max_difficulty": ("U64", FIXED["max_difficulty"]),
        "weights_version": ("U64", p.weights_version),
        "weights_rate_limit": ("U64", p.weights_rate_limit),
        "adjustment_interval": ("U16", p.adjustment_interval),
        "activity_cutoff": ("U64", p.activity_cutoff),
        "registration_allowed": ("Bool", p.registration_allowed),
        "target_regs_per_interval": ("U16", p.target_registrations),
        "min_burn": ("TaoBalance", p.min_burn),
        "max_burn": ("TaoBalance", p.max_burn),
        "bonds_moving_avg": ("U64", p.bonds_moving_avg),
        "max_regs_per_block": ("U16", p.max_registrations_per_block),
        "serving_rate_limit": ("U64", p.serving_rate_limit),
        "max_validators": ("U16", p.max_validators),
        "adjustment_alpha": ("U64", p.adjustment_alpha),
        "difficulty": ("U64", FIXED["difficulty"]),
        "commit_reveal_period": ("U64", p.reveal_period),
        "commit_reveal_weights_enabled": ("Bool", p.commit_reveal),
        "alpha_high": ("U16", p.alpha_high),
        "alpha_low": ("U16", p.alpha_low),
        "liquid_alpha_enabled": ("Bool", p.liquid_alpha),
        "alpha_sigmoid_steepness": ("I32F32", {"bits": p.alpha_sigmoid_steepness << 32}),
        "yuma_version": ("U16", 3 if p.yuma3 else 2),
        "subnet_is_active": ("Bool", subnet.started_at is not None),
        "transfers_enabled": ("Bool", p.transfers),
        "bonds_reset_enabled": ("Bool", p.bonds_reset),
        "user_liquidity_enabled": ("Bool", False),
    }


@serves("SubnetInfoRuntimeApi_get_dynamic_info")
def get_dynamic_info(query: Query, netuid: int) -> dict[str, Any] | None:
    """Pool, price, emission and identity of a subnet; None if there is none."""
    subnet = query.state.subnets.get(netuid)
    return None if subnet is None else _dynamic_info(query.state, subnet)


@serves("SubnetInfoRuntimeApi_get_all_dynamic_info")
def get_all_dynamic_info(query: Query) -> list[dict[str, Any]]:
    """The same for every subnet, by netuid."""
    return [_dynamic_info(query.state, subnet) for subnet in _sorted(query.state)]


@serves("SubnetInfoRuntimeApi_get_subnet_info_v2")
def get_subnet_info_v2(query: Query, netuid: int) -> dict[str, Any] | None:
    """Owner, size, price of registration and parameters; None if there is none."""
    subnet = query.state.subnets.get(netuid)
    return None if subnet is None else _subnet_info(query.state, subnet)


@serves("SubnetInfoRuntimeApi_get_subnets_info_v2")
def get_subnets_info_v2(query: Query) -> list[dict[str, Any]]:
    """The same for every subnet, by netuid."""
    return [_subnet_info(query.state, subnet) for subnet in _sorted(query.state)]


@serves("SubnetInfoRuntimeApi_get_subnet_hyperparams_v2")
def get_subnet_hyperparams_v2(query: Query, netuid: int) -> dict[str, Any] | None:
    """Hyperparameters by name; None if there is no such subnet."""
    subnet = query.state.subnets.get(netuid)
    return None if subnet is None else {name: value for name, (_, value) in _hyperparameters(subnet).items()}


@serves("SubnetInfoRuntimeApi_get_subnet_hyperparams_v3")
def get_subnet_hyperparams_v3(query: Query, netuid: int) -> list[dict[str, Any]] | None:
    """The same as a list of names and typed values."""
    subnet = query.state.subnets.get(netuid)
    if subnet is None:
        return None
    return [{"name": name.encode(), "value": Enum(*pair)} for name, pair in _hyperparameters(subnet).items()]


@serves("SubnetInfoRuntimeApi_get_next_epoch_start_block")
def get_next_epoch_start_block(query: Query, netuid: int) -> int | None:
    """The block at which the subnet's next epoch runs; None for root."""
    subnet = query.state.subnets.get(netuid)
    if subnet is None or subnet.is_root:
        return None
    return next_epoch_block(query.state.block, netuid, subnet.params.tempo)


@serves("SubnetInfoRuntimeApi_get_coldkey_auto_stake_hotkey")
def get_coldkey_auto_stake_hotkey(query: Query, coldkey: bytes, netuid: int) -> bytes | None:
    """Where a coldkey's earnings are staked by themselves; None if nowhere."""
    return query.state.auto_stake.get((coldkey, netuid))


@serves("SubnetInfoRuntimeApi_get_subnet_to_prune")
def get_subnet_to_prune(query: Query) -> int | None:
    """None: subnets are never pruned here."""
    return None  # subnets are never pruned here: registration stops at the limit
