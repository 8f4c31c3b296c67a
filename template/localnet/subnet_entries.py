"""Storage entries of the SubtensorModule that are a value of one subnet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from template.localnet.state import ROOT_NETUID, Subnet


def _moving_price(subnet: Subnet) -> dict[str, int]:
    return {"bits": int(subnet.moving_price * 2**32)}


PARAMETERS: dict[str, Callable[[Subnet], Any]] = {
    "Tempo": lambda s: s.params.tempo,
    "Kappa": lambda s: s.params.kappa,
    "Rho": lambda s: s.params.rho,
    "ImmunityPeriod": lambda s: s.params.immunity_period,
    "ActivityCutoff": lambda s: s.params.activity_cutoff,
    # the runtime now states the cutoff in thousandths of a tempo
    "ActivityCutoffFactorMilli": lambda s: -(-s.params.activity_cutoff * 1000 // s.params.tempo),
    "MaxAllowedUids": lambda s: s.params.max_uids,
    "MaxAllowedValidators": lambda s: s.params.max_validators,
    "MinAllowedWeights": lambda s: s.params.min_allowed_weights,
    "MaxWeightsLimit": lambda s: s.params.max_weights_limit,
    "WeightsVersionKey": lambda s: s.params.weights_version,
    "WeightsSetRateLimit": lambda s: s.params.weights_rate_limit,
    "ServingRateLimit": lambda s: s.params.serving_rate_limit,
    "CommitRevealWeightsEnabled": lambda s: s.params.commit_reveal,
    "BondsMovingAverage": lambda s: s.params.bonds_moving_avg,
    "RevealPeriodEpochs": lambda s: s.params.reveal_period,
    "Yuma3On": lambda s: s.params.yuma3,
    "LiquidAlphaOn": lambda s: s.params.liquid_alpha,
    "BondsPenalty": lambda s: s.params.bonds_penalty,
    "MinBurn": lambda s: s.params.min_burn,
    "MaxBurn": lambda s: s.params.max_burn,
    "AdjustmentInterval": lambda s: s.params.adjustment_interval,
    "AdjustmentAlpha": lambda s: s.params.adjustment_alpha,
    "TargetRegistrationsPerInterval": lambda s: s.params.target_registrations,
    "MaxRegistrationsPerBlock": lambda s: s.params.max_registrations_per_block,
    "NetworkRegistrationAllowed": lambda s: s.params.registration_allowed,
    "NetworkPowRegistrationAllowed": lambda s: False,
    "TransferToggle": lambda s: s.params.transfers,
    "OwnerCutEnabled": lambda s: s.params.owner_cut,
}

VALUES: dict[str, Callable[[Subnet], Any]] = {
    "NetworksAdded": lambda s: True,
    "SubnetworkN": lambda s: s.size,
    "Burn": lambda s: s.burn,
    "SubnetOwner": lambda s: s.owner_coldkey,
    "SubnetOwnerHotkey": lambda s: s.owner_hotkey,
    "NetworkRegisteredAt": lambda s: s.registered_at,
    "FirstEmissionBlockNumber": lambda s: s.started_at,
    "SubtokenEnabled": lambda s: s.started_at is not None,
    "LastEpochBlock": lambda s: s.last_step_block,
    "LastMechansimStepBlock": lambda s: s.last_step_block,
    "SubnetEpochIndex": lambda s: s.epoch_index,
    "PendingEpochAt": lambda s: s.pending_epoch_at,
    "RegistrationsThisInterval": lambda s: s.registrations_this_interval,
    "RegistrationsThisBlock": lambda s: s.registrations_this_block,
    "BurnRegistrationsThisInterval": lambda s: s.burn_registrations_this_interval,
    "LastAdjustmentBlock": lambda s: s.last_adjustment_block,
    "RAORecycledForRegistration": lambda s: s.recycled,
    "SubnetTAO": lambda s: s.tao_in,
    "SubnetAlphaIn": lambda s: s.alpha_in,
    "SubnetAlphaOut": lambda s: s.alpha_out,
    "SubnetTaoInEmission": lambda s: s.tao_in_emission,
    "SubnetAlphaInEmission": lambda s: s.alpha_in_emission,
    "SubnetAlphaOutEmission": lambda s: s.alpha_out_emission,
    "SubnetVolume": lambda s: s.volume,
    "SubnetMechanism": lambda s: 0 if s.netuid == ROOT_NETUID else 1,
    "SubnetMovingPrice": _moving_price,
    "TokenSymbol": lambda s: s.symbol,
    "SubnetIdentitiesV3": lambda s: s.identity,
    "PendingServerEmission": lambda s: s.pending_emission - s.pending_emission // 2,
    "PendingValidatorEmission": lambda s: s.pending_emission // 2,
    "PendingOwnerCut": lambda s: s.pending_owner_cut,
    "Active": lambda s: s.active,
    "Consensus": lambda s: s.consensus,
    "Incentive": lambda s: s.incentive,
    "Dividends": lambda s: s.dividends,
    "Emission": lambda s: s.emission,
    "LastUpdate": lambda s: s.last_update,
    "ValidatorPermit": lambda s: s.validator_permit,
    "ValidatorTrust": lambda s: s.validator_trust,
    "StakeWeight": lambda s: s.stake_weight,
}

SUBNET_ENTRIES = {**PARAMETERS, **VALUES}
