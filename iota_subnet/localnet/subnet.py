"""A subnet on a test chain, ready for its neurons: wallets, funds, registrations, stake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from template.staging import Stage, wallet_from_uri
from template.subtensor import SubtensorChain

#: The validator's stake. Paid miners hold stake too, and vote with nothing: with much less than this they would outvote
#: the validator within minutes.
STAKE_TAO = 20_000.0

OWNER_TAO = 5_000.0
MINERS_TAO = 5_000.0


@dataclass(frozen=True)
class Subnet:
    """What there is on chain now. `names` are the miners' names by hotkey, `validators` those of the validators, of
    which the first orchestrates."""

    endpoint: str
    netuid: int
    chain: SubtensorChain
    stage: Stage
    names: dict[str, str]
    validators: dict[str, str]


def create(endpoint: str, wallets: Path, miners: int, step: Callable[[str], None], validators: int = 1) -> Subnet:
    """Set all up; `step` hears what is done next, and may raise to end it. Raises NeuronError."""
    stage = Stage(endpoint)
    alice = wallet_from_uri(wallets, "faucet", "none", "//Alice")
    owner = wallet_from_uri(wallets, "owner", "owner", "//Owner")
    judges = [wallet_from_uri(wallets, "validator", name, "//Validator") for name in called(validators)]
    validator = judges[0]
    workers = [wallet_from_uri(wallets, "miners", f"miner-{i}", "//Miners") for i in range(miners)]
    for name, wallet, tao in (
        ("owner", owner, OWNER_TAO),
        ("validator", validator, validators * (STAKE_TAO + 1_000.0)),
        ("miners", workers[0], MINERS_TAO),
    ):
        step(f"funding {name}")
        stage.fund(alice, wallet.coldkeypub.ss58_address, tao)
    step("creating the subnet")
    netuid = stage.create_subnet(owner)
    for judge in judges:
        step(f"registering {judge.hotkey_str} on subnet {netuid}")
        stage.register(judge, netuid)
        stage.stake(judge, netuid, STAKE_TAO)
    names: dict[str, str] = {}
    for wallet in workers:
        step(f"registering {wallet.hotkey_str} on subnet {netuid}")
        stage.register(wallet, netuid)
        names[wallet.hotkey.ss58_address] = wallet.hotkey_str
    known = {judge.hotkey.ss58_address: judge.hotkey_str for judge in judges}
    return Subnet(endpoint, netuid, SubtensorChain(validator, endpoint, 15.0), stage, names, known)


def called(validators: int) -> list[str]:
    """Names of so many validators: "validator", "validator-2" ..."""
    return ["validator", *(f"validator-{number}" for number in range(2, validators + 1))]
