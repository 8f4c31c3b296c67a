"""Yuma epochs: every field that an epoch stores, exactly."""

from __future__ import annotations

from typing import Any

from template.localnet.vectors.report import Report
from template.localnet.yuma import EpochInput, EpochResult, Row, run_epoch

FIELDS = (
    "active",
    "validator_permit",
    "stake_weight",
    "consensus",
    "incentive",
    "dividends",
    "rank",
    "trust",
    "validator_trust",
    "pruning_scores",
)


def _rows(sparse: list[list[list[int]]], size: int) -> list[Row]:
    rows: list[Row] = [tuple((j, value) for j, value in row) for row in sparse]
    return rows + [()] * (size - len(rows))


def run_vector(scenario: dict[str, Any], params: dict[str, Any], epoch: dict[str, Any]) -> EpochResult:
    """Run one recorded epoch under the hyperparameters in force."""
    before, size = epoch["before"], scenario["n"]
    low, high = params.get("alpha_values_low_high", (45875, 58982))
    return run_epoch(
        EpochInput(
            block=epoch["block"],
            tempo=params["tempo"],
            kappa=params["kappa"],
            bonds_moving_avg=params["bonds_moving_avg"],
            bonds_penalty=params["bonds_penalty"],
            activity_cutoff=params["activity_cutoff"],
            max_validators=params["max_allowed_validators"],
            stake_threshold=params["stake_threshold"],
            tao_weight=params["tao_weight_u64"],
            owner_uid=scenario.get("owner_uid"),
            emission=epoch["epoch_emission_rao"],
            alpha_stake=before["alpha_stake_rao"],
            root_stake=before["root_stake_rao"],
            last_update=before["last_update"],
            block_at_registration=before["block_at_registration"],
            validator_permit=before["validator_permit"],
            weights=_rows(before["weights"], size),
            bonds=_rows(before["bonds"], size),
            yuma3=params.get("yuma3_enabled", False),
            liquid_alpha=params.get("liquid_alpha_enabled", False),
            alpha_low=low,
            alpha_high=high,
            alpha_sigmoid_steepness=params.get("alpha_sigmoid_steepness", 1000),
        )
    )


def check_yuma(content: dict[str, Any], report: Report) -> None:
    """Compare every epoch of every scenario; each starts from the measured state before it."""
    for scenario in content["scenarios"]:
        params = scenario["hyperparameters"]
        for epoch in scenario["epochs"]:
            params = {**params, **epoch.get("hyperparameters_now", {})}
            ours, measured = run_vector(scenario, params, epoch), epoch["after"]
            where = f"{scenario['name']} epoch {epoch['epoch']}"
            for name in FIELDS:
                if name in measured:
                    report.values(f"{where} {name}", getattr(ours, name), measured[name])
            if "emission_rao" in measured:
                report.values(f"{where} emission_rao", ours.emission, measured["emission_rao"])
            if "bonds" in measured:
                report.values(f"{where} bonds", ours.bonds, _rows(measured["bonds"], scenario["n"]))
