"""Emission: what each block mints, and who is paid what at the epochs.

Payouts are kept in rao here and in shares (U64F64) on the measured runtime; a position may therefore differ by
``PAYOUT_TOLERANCE`` rao, block amounts by nothing. Root stake is paid in alpha here, so scenarios with TAO on root are
left out.
"""

from __future__ import annotations

from typing import Any

from template.localnet.config import ChainConfig
from template.localnet.epoch import mint, pay_neurons
from template.localnet.registration import give_uid
from template.localnet.state import ChainState, Hyperparameters, Subnet
from template.localnet.vectors.report import Report

PAYOUT_TOLERANCE = 5  # rao

_NAMES = {
    "SubnetTaoInEmission": "tao_in_emission",
    "SubnetAlphaInEmission": "alpha_in_emission",
    "SubnetAlphaOutEmission": "alpha_out_emission",
    "SubnetTAO": "tao_in",
    "SubnetAlphaIn": "alpha_in",
    "SubnetAlphaOut": "alpha_out",
    "PendingEmission": "pending_emission",
    "PendingOwnerCut": "pending_owner_cut",
}


def _account(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")[:32]


def _owner(scenario: dict[str, Any]) -> str:
    takes: dict[str, int] = scenario["takes_u16"]
    return next(name for name in takes if name.startswith("owner hotkey"))


def _start(scenario: dict[str, Any]) -> tuple[ChainState, Subnet]:
    config = ChainConfig(owner_cut=scenario["subnet_owner_cut_u16"])
    state, start, netuid = ChainState(config), scenario["start"]["state"], scenario["netuid"]
    owner = _account(_owner(scenario))
    coldkey, block = _account("subnet owner coldkey"), scenario["start"]["block"]
    subnet = Subnet(netuid, coldkey, owner, 0, Hyperparameters.genesis(config), 10**9, b"x", started_at=block)
    for measured in ("SubnetTAO", "SubnetAlphaIn", "SubnetAlphaOut"):
        setattr(subnet, _NAMES[measured], start[measured])
    subnet.moving_price = start["SubnetMovingPrice_bits_I96F32"] / 2**32
    subnet.set(registration_allowed=scenario["registration_allowed"])
    for hotkey in dict.fromkeys(item["hotkey"] for item in scenario["start"]["stakes"]):
        give_uid(subnet, _account(hotkey), 0)
    state.takes = {_account(name): take for name, take in scenario["takes_u16"].items()}
    state.subnets[netuid] = subnet
    return state, subnet


def _check_blocks(scenario: dict[str, Any], report: Report) -> None:
    state, subnet = _start(scenario)
    blocks = scenario["blocks"]
    if not scenario["registration_allowed"]:
        blocks = blocks[:1]
        report.left_out.append(
            f"{scenario['name']}: blocks after the first: alpha without TAO moves the price here, the ratio of the pool"
        )
    for block in blocks:
        state.block = block["block"]
        mint(state)
        if block["epoch"]:
            subnet.pending_emission = subnet.pending_owner_cut = 0
        for measured, ours in _NAMES.items():
            where = f"{scenario['name']} block {block['block']} {measured}"
            report.number(where, getattr(subnet, ours), block[measured])


def _check_payout(scenario: dict[str, Any], epoch: dict[str, Any], report: Report) -> None:
    state, subnet = _start(scenario)
    netuid = subnet.netuid
    for item in epoch["stakes_before"]:
        hotkey, coldkey = _account(item["hotkey"]), _account(item["coldkey"])
        if not item["coldkey"].startswith("nominator"):
            state.owners[hotkey] = coldkey
        if item["netuid"] == netuid and item["value_rao_floor"]:
            state.change_stake(hotkey, coldkey, netuid, item["value_rao_floor"])
    validates = [dividend > 0 or not any(epoch["incentive"]) for dividend in epoch["dividends"]]
    pairs = list(zip(epoch["emission_rao"], validates, strict=True))
    server = [0 if voter else amount for amount, voter in pairs]
    pay_neurons(state, subnet, server, [amount if voter else 0 for amount, voter in pairs])
    for item in epoch["stakes_after"]:
        if item["netuid"] != netuid or item["hotkey"] == _owner(scenario):
            continue  # the owner hotkey also gets the cut
        ours = state.stake_of(_account(item["hotkey"]), _account(item["coldkey"]), netuid)
        where = f"{scenario['name']} block {epoch['block']} stake of {item['coldkey']} on {item['hotkey']}"
        report.number(where, ours, item["value_rao_floor"], PAYOUT_TOLERANCE)


def check_emission(content: dict[str, Any], report: Report) -> None:
    """Compare the amounts of every block exactly and every payout within ``PAYOUT_TOLERANCE``."""
    for scenario in content["scenarios"]:
        if any(block["SubnetTAO_root"] for block in scenario["blocks"]):
            report.left_out.append(f"{scenario['name']}: TAO on root is paid in alpha on this chain")
            continue
        _check_blocks(scenario, report)
        for epoch in scenario["epochs"]:
            _check_payout(scenario, epoch, report)
