"""Registration: the burn over adjustment intervals, and which uid a full subnet gives away."""

from __future__ import annotations

from typing import Any

from template.localnet.config import ChainConfig
from template.localnet.registration import adjust_burn, give_uid, prune_candidate
from template.localnet.state import Hyperparameters, Subnet
from template.localnet.vectors.report import Report


def _account(uid: int) -> bytes:
    return uid.to_bytes(32, "little")


def _burn_sequence(sequence: dict[str, Any], report: Report) -> None:
    config = ChainConfig(
        initial_burn=sequence["start_burn_rao"],
        min_burn=sequence["min_burn_rao"],
        max_burn=sequence["max_burn_rao"],
        target_registrations_per_interval=sequence["target_regs_per_interval"],
        adjustment_interval=sequence["adjustment_interval"],
        adjustment_alpha=sequence["adjustment_alpha_u64"],
    )
    subnet = Subnet(1, b"c" * 32, b"h" * 32, 0, Hyperparameters.genesis(config), config.initial_burn, b"x")
    subnet.last_adjustment_block = sequence["steps"][0]["last_adjustment_block"]
    for step in sequence["steps"][1:]:
        where = f"{sequence['name']} block {step['block']}"
        adjust_burn(subnet, step["block"])
        if step["action"] == "burned_register" and step["ok"]:
            subnet.registrations_this_interval += 1
            subnet.burn_registrations_this_interval += 1
        report.number(f"{where} burn_rao", subnet.burn, step["burn_rao"])
        for name in ("registrations_this_interval", "burn_registrations_this_interval", "last_adjustment_block"):
            report.number(f"{where} {name}", getattr(subnet, name), step[name])


def _full_subnet(case: dict[str, Any]) -> Subnet:
    config = ChainConfig(max_uids=case["n"], max_validators=1, immunity_period=case["immunity_period"])
    owner = b"\xff" * 32 if case["owner_uid"] is None else _account(case["owner_uid"])
    subnet = Subnet(1, b"c" * 32, owner, 0, Hyperparameters.genesis(config), 10**9, b"x")
    pairs = zip(case["pruning_scores_before"], case["block_at_registration_before"], strict=True)
    for number, (score, block) in enumerate(pairs):
        give_uid(subnet, _account(number), block)
        subnet.pruning_scores[number] = score
    return subnet


def check_registration(content: dict[str, Any], report: Report) -> None:
    """Burn sequences exactly, the replaced uid exactly. Error names are checked by sending calls, not here."""
    for sequence in content.get("burn_sequences", ()):
        _burn_sequence(sequence, report)
    for case in content.get("replacement", ()):
        chosen = prune_candidate(_full_subnet(case), case["block_of_registration"])
        report.values(f"{case['name']} replaced_uid", [chosen], [case["replaced_uid"]])
    if "errors" in content:
        report.left_out.append("errors: their order is checked by sending the calls (tests of the calls)")
