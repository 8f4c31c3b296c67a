"""Emission per block and its payout. Measured numbers: test_localnet_vectors.py."""

from __future__ import annotations

from localnet_kit import TAO, Driver

from template.localnet.config import ChainConfig
from template.localnet.epoch import pay_dividend
from template.localnet.state import ChainState


def account(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")[:32]


def test_take_comes_first_and_earns_too() -> None:
    state = ChainState(ChainConfig())
    hot, owner, nominator = account("hot"), account("owner"), account("nominator")
    state.owners[hot] = owner
    state.takes[hot] = 65535 // 5
    state.change_stake(hot, owner, 1, 100)
    state.change_stake(hot, nominator, 1, 100)
    assert pay_dividend(state, 1, hot, 100) == 80
    assert state.stake_of(hot, owner, 1) == 100 + 20 + 80 * 120 // 220
    assert state.stake_of(hot, nominator, 1) == 100 + 80 * 100 // 220


def test_nothing_is_minted_before_start_and_epochs_still_give_permits() -> None:
    driver = Driver(tempo=5)
    netuid = driver.subnet(start=False)
    driver.block(12)
    subnet = driver.state.subnets[netuid]
    assert subnet.epoch_index >= 1
    assert (subnet.alpha_out, subnet.pending_emission) == (0, 0)
    assert driver.run(driver.alice, "SubtensorModule.start_call", netuid=netuid) is None
    driver.block()
    subnet = driver.state.subnets[netuid]
    assert subnet.alpha_out == TAO
    assert subnet.pending_owner_cut + subnet.pending_emission in (0, TAO - 1)
