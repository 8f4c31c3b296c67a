"""Child keys, and the calls around stake that only some operators use."""

from __future__ import annotations

from typing import Any

import pytest
from localnet_kit import TAO, Driver, key

from template.localnet.children import WHOLE, counted_stake

PALLET = "SubtensorModule"
HALF = WHOLE // 2


def public(signer: Any) -> bytes:
    return bytes(signer.public_key or b"")


@pytest.fixture
def staged() -> tuple[Driver, Any, Any]:
    """Subnet 1 with a staked parent (uid 1) and a child without stake (uid 2)."""
    driver = Driver(tempo=5)
    driver.subnet()
    return driver, driver.member("//Parent", tao=1000), driver.member("//Child")


def set_children(driver: Driver, hotkey: bytes, *children: tuple[int, bytes], netuid: int = 1, by: Any = None) -> Any:
    args = {"hotkey": hotkey, "netuid": netuid, "children": list(children)}
    return driver.run(by or driver.alice, f"{PALLET}.set_children", **args)


def test_a_child_votes_with_lent_stake_and_the_parent_earns(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, child = staged
    assert set_children(driver, public(parent), (HALF, public(child))) is None
    assert f"{PALLET}.SetChildrenScheduled" in driver.events()
    subnet = driver.state.subnets[1]
    assert not subnet.children, "from the next epoch on"
    driver.to_epoch()
    assert f"{PALLET}.SetChildren" in driver.events()
    subnet, state = driver.state.subnets[1], driver.state
    own = state.hotkey_stake(public(parent), 1)
    for hotkey in (parent, child):
        assert counted_stake(state, subnet, public(hotkey), 1) == pytest.approx(own / 2, rel=0.01)
    assert subnet.validator_permit[2], "a permit without stake of its own"
    weights = {"netuid": 1, "dests": [0], "weights": [1], "version_key": 0}
    assert driver.run(child, f"{PALLET}.set_weights", **weights) is None
    before = {hotkey: driver.state.hotkey_stake(public(hotkey), 1) for hotkey in (parent, child)}
    driver.to_epoch()
    earned = {hotkey: driver.state.hotkey_stake(public(hotkey), 1) - before[hotkey] for hotkey in (parent, child)}
    assert earned[parent] > 0 and earned[child] < earned[parent] // 50, "all the child votes with is the parent's"
    assert set_children(driver, public(parent)) is None
    driver.to_epoch()
    assert not driver.state.subnets[1].children, "revoked"


def test_the_take_of_a_child_of_another_owner() -> None:
    driver = Driver(tempo=5)
    driver.subnet()
    parent, bob, child = driver.member("//Parent", tao=1000), key("//Bob"), key("//BobHot")
    assert driver.run(bob, f"{PALLET}.burned_register", netuid=1, hotkey=public(child)) is None
    take = {"hotkey": public(child), "netuid": 1}
    assert driver.run(bob, f"{PALLET}.set_childkey_take", **take, take=65535) == f"{PALLET}.InvalidChildkeyTake"
    assert driver.run(driver.alice, f"{PALLET}.set_childkey_take", **take, take=1) == f"{PALLET}.NonAssociatedColdKey"
    assert driver.run(bob, f"{PALLET}.set_childkey_take", **take, take=6553) is None
    assert set_children(driver, public(parent), (WHOLE, public(child))) is None
    driver.to_epoch()
    assert driver.run(child, f"{PALLET}.set_weights", netuid=1, dests=[0], weights=[1], version_key=0) is None
    before = [driver.state.hotkey_stake(public(hotkey), 1) for hotkey in (parent, child)]
    driver.to_epoch()
    paid = [
        driver.state.hotkey_stake(public(hotkey), 1) - was for hotkey, was in zip((parent, child), before, strict=True)
    ]
    assert paid[1] / sum(paid) == pytest.approx(0.1, abs=0.005)


def test_children_that_are_refused(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, child = staged
    hot, kid = public(parent), public(child)
    assert set_children(driver, hot, (1, kid), netuid=0) == f"{PALLET}.RegistrationNotPermittedOnRootSubnet"
    assert set_children(driver, hot, (1, kid), netuid=9) == f"{PALLET}.SubnetNotExists"
    assert set_children(driver, hot, (1, kid), by=key("//Bob")) == f"{PALLET}.NonAssociatedColdKey"
    assert set_children(driver, hot, *((1, bytes([i]) * 32) for i in range(6))) == f"{PALLET}.TooManyChildren"
    assert set_children(driver, hot, (1, hot)) == f"{PALLET}.InvalidChild"
    assert set_children(driver, hot, (WHOLE, kid), (1, b"x" * 32)) == f"{PALLET}.ProportionOverflow"
    assert set_children(driver, hot, (1, kid), (1, kid)) == f"{PALLET}.DuplicateChild"
    assert set_children(driver, hot, (HALF, kid)) is None
    driver.to_epoch()
    assert set_children(driver, kid, (HALF, hot)) == f"{PALLET}.ChildParentInconsistency"


def test_pay_goes_where_the_coldkey_wants_it(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, miner = staged
    target = {"netuid": 1, "hotkey": public(parent)}
    call = f"{PALLET}.set_coldkey_auto_stake_hotkey"
    assert driver.run(driver.alice, call, **target) is None
    assert driver.run(driver.alice, call, **target) == f"{PALLET}.SameAutoStakeHotkeyAlreadySet"
    stranger = driver.run(driver.alice, call, netuid=1, hotkey=b"x" * 32)
    assert stranger == f"{PALLET}.HotKeyNotRegisteredInSubNet"
    driver.to_epoch()
    assert driver.run(parent, f"{PALLET}.set_weights", netuid=1, dests=[2], weights=[1], version_key=0) is None
    driver.to_epoch()
    assert driver.state.subnets[1].incentive[2] == 65535
    assert driver.state.hotkey_stake(public(miner), 1) == 0


def test_stake_of_all_subnets_goes_to_root(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, _ = staged
    alice, hot = public(driver.alice), public(parent)
    free = driver.state.free(alice)
    assert driver.run(driver.alice, f"{PALLET}.unstake_all_alpha", hotkey=hot) is None
    assert driver.state.stake_of(hot, alice, 1) == 0
    assert driver.state.stake_of(hot, alice, 0) == pytest.approx(1000 * TAO, rel=0.02)
    assert free - driver.state.free(alice) < TAO, "no more than the fee"


def test_a_swap_keeps_its_limit(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, _ = staged
    driver.subnet()
    args = {"hotkey": public(parent), "origin_netuid": 1, "destination_netuid": 2, "alpha_amount": 900 * TAO}
    call, limit = f"{PALLET}.swap_stake_limit", 1_018_000_000
    refused = driver.run(driver.alice, call, **args, limit_price=limit, allow_partial=False)
    assert refused == f"{PALLET}.SlippageTooHigh"
    assert driver.run(driver.alice, call, **args, limit_price=limit, allow_partial=True) is None
    one, two = (driver.state.subnets[netuid] for netuid in (1, 2))
    ratio = (one.tao_in / one.alpha_in) / (two.tao_in / two.alpha_in)
    assert ratio == pytest.approx(limit / 1e9, rel=1e-3)
    assert 0 < driver.state.stake_of(public(parent), public(driver.alice), 2) < 900 * TAO


def test_transfers_of_stake_can_be_switched_off(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, _ = staged
    assert driver.run(driver.alice, "AdminUtils.sudo_set_toggle_transfer", netuid=1, toggle=False) is None
    args = {"hotkey": public(parent), "origin_netuid": 1, "destination_netuid": 1, "alpha_amount": TAO}
    to_bob = {"destination_coldkey": public(key("//Bob")), **args}
    assert driver.run(driver.alice, f"{PALLET}.transfer_stake", **to_bob) == f"{PALLET}.TransferDisallowed"


def test_owner_takes_no_cut_or_another_hotkey(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, _ = staged
    stranger = driver.run(driver.alice, "AdminUtils.sudo_set_sn_owner_hotkey", netuid=1, hotkey=b"x" * 32)
    assert stranger == f"{PALLET}.NonAssociatedColdKey"
    assert driver.run(driver.alice, "AdminUtils.sudo_set_sn_owner_hotkey", netuid=1, hotkey=public(parent)) is None
    assert driver.state.subnets[1].owner_hotkey == public(parent)
    assert driver.run(driver.alice, "AdminUtils.sudo_set_owner_cut_enabled", netuid=1, enabled=False) is None
    driver.to_epoch()
    driver.block()
    subnet = driver.state.subnets[1]
    assert (subnet.pending_owner_cut, subnet.pending_emission) == (0, TAO)


def test_the_certificate_of_an_axon(staged: tuple[Driver, Any, Any]) -> None:
    driver, parent, _ = staged
    axon = {"version": 1, "ip": 1, "port": 9, "ip_type": 4, "protocol": 4, "placeholder1": 0, "placeholder2": 0}
    for certificate in (b"", b"\x01" + b"k" * 65, b"\x01" + b"k" * 64):
        args = {"netuid": 1, **axon, "certificate": certificate}
        assert driver.run(parent, f"{PALLET}.serve_axon_tls", **args) is None
    assert driver.state.subnets[1].axons[public(parent)]["port"] == 9
    assert driver.state.subnets[1].certificates == {public(parent): {"public_key": b"k" * 64, "algorithm": 1}}


def test_proof_of_work_is_off() -> None:
    driver = Driver()
    driver.subnet()
    work = {"block_number": 1, "nonce": 1, "work": b"w" * 32, "hotkey": b"h" * 32, "coldkey": b"c" * 32}
    assert driver.run(driver.alice, f"{PALLET}.register", netuid=1, **work) == f"{PALLET}.SubNetRegistrationDisabled"
