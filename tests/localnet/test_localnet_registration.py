"""Burn, pruning and uids. Measured numbers: test_localnet_vectors.py."""

from __future__ import annotations

from typing import Any

import pytest
from localnet_kit import TAO, Driver, key

from template.localnet.config import ChainConfig
from template.localnet.registration import give_uid, next_burn, prune_candidate
from template.localnet.state import Hyperparameters, Subnet


def full_subnet(scores: list[int], registered: list[int], owner_uid: int | None, **params: Any) -> Subnet:
    settings = {"max_uids": len(scores), "max_validators": 1, **params}
    keys = [bytes((uid,)) * 32 for uid in range(len(scores))]
    owner = b"\xff" * 32 if owner_uid is None else keys[owner_uid]
    subnet = Subnet(1, b"c" * 32, owner, 0, Hyperparameters.genesis(ChainConfig(**settings)), TAO, b"x")
    for hotkey, score, block in zip(keys, scores, registered, strict=True):
        uid = give_uid(subnet, hotkey, block)
        assert uid is not None
        subnet.pruning_scores[uid] = score
    return subnet


@pytest.mark.parametrize(
    ("registrations", "expected"), [(0, 500), (1, 750), (2, 1000), (6, 2000)], ids=["none", "under", "target", "over"]
)
def test_next_burn_without_memory(registrations: int, expected: int) -> None:
    assert next_burn(1000, registrations, 2, 0, 1, 10**9) == expected


def test_next_burn_is_clamped_and_remembers() -> None:
    assert next_burn(1000, 6, 2, 0, 1, 1500) == 1500
    assert next_burn(1000, 0, 2, 0, 900, 10**9) == 900
    assert next_burn(1000, 6, 2, 2**63, 1, 10**9) == 1500  # half old, half new


def test_lowest_score_goes_unless_immune_or_owner() -> None:
    subnet = full_subnet([0, 5, 9, 7], [0, 95, 0, 0], owner_uid=0, immunity_period=10)
    assert prune_candidate(subnet, 100) == 3
    assert prune_candidate(subnet, 105) == 1


def test_replacement_keeps_what_the_rules_keep() -> None:
    subnet = full_subnet([9, 1], [0, 0], owner_uid=None, immunity_period=0)
    subnet.last_update[1], subnet.validator_permit[1], subnet.weights[1] = 3, True, ((0, 65535),)
    subnet.incentive[1], subnet.bonds[1], subnet.emission[1] = 7, ((0, 1),), 11
    subnet.axons[subnet.keys[1]] = {"block": 1}
    old = subnet.keys[1]
    assert give_uid(subnet, b"n" * 32, 50) == 1
    assert (subnet.last_update[1], subnet.validator_permit[1], subnet.weights[1]) == (3, True, ((0, 65535),))
    assert (subnet.incentive[1], subnet.bonds[1], subnet.emission[1]) == (0, (), 0)
    assert (subnet.pruning_scores[1], subnet.block_at_registration[1]) == (65535, 50)
    assert old not in subnet.uids and old not in subnet.axons


def test_full_subnet_of_only_the_owner_burns_but_gives_no_uid() -> None:
    driver = Driver(max_uids=1, max_validators=1)
    netuid = driver.subnet()
    before = driver.state.free(driver.alice.public_key)
    newcomer = key("//New").public_key
    assert driver.run(driver.alice, "SubtensorModule.burned_register", netuid=netuid, hotkey=newcomer) is None
    assert newcomer not in driver.state.subnets[netuid].uids
    assert driver.state.free(driver.alice.public_key) < before


def test_full_subnet_replaces_a_neuron_and_keeps_its_stake() -> None:
    driver = Driver(max_uids=2, max_validators=2, immunity_period=0)
    netuid = driver.subnet()
    old = driver.member("//Old", tao=10).public_key
    staked = driver.state.hotkey_stake(old, netuid)
    driver.member("//New")
    subnet = driver.state.subnets[netuid]
    assert subnet.size == 2 and old not in subnet.uids
    assert driver.state.hotkey_stake(old, netuid) == staked


def test_registration_errors() -> None:
    driver = Driver(max_registrations_per_block=1)
    netuid = driver.subnet()
    hotkey = driver.member("//Hot").public_key
    register = "SubtensorModule.burned_register"
    bob = key("//Bob")
    other = key("//Other").public_key
    assert driver.run(bob, register, netuid=netuid, hotkey=hotkey) == "SubtensorModule.HotKeyAlreadyRegisteredInSubNet"
    second = driver.subnet()
    assert driver.run(bob, register, netuid=second, hotkey=hotkey) == "SubtensorModule.NonAssociatedColdKey"
    assert driver.run(bob, register, netuid=99, hotkey=other) == "SubtensorModule.SubnetNotExists"
    assert driver.run(bob, register, netuid=0, hotkey=other) == "SubtensorModule.RegistrationNotPermittedOnRootSubnet"
    pauper = key("//Pauper")
    assert driver.run(pauper, register, netuid=netuid, hotkey=other) == "SubtensorModule.NotEnoughBalanceToStake"
    limited = driver.run(bob, "SubtensorModule.register_limit", netuid=netuid, hotkey=other, limit_price=1)
    assert limited == "SubtensorModule.RegistrationPriceLimitExceeded"


def test_genesis_hyperparameters_are_checked() -> None:
    with pytest.raises(ValueError, match="loopback"):
        ChainConfig(host="0.0.0.0")
    with pytest.raises(ValueError, match="burn"):
        ChainConfig(min_burn=10**12)
