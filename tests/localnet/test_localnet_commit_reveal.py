"""Commit-reveal weights: encrypted in one epoch, revealed by the chain when it ends, with the development beacon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from localnet_kit import Driver
from localnet_process import running

from template.localnet.beacon import CannotReveal, commit_weights, install, open_weights
from template.localnet.client import LocalClient, keypair
from template.subtensor import SubtensorChain

TEMPO = 20
COMMIT = "SubtensorModule.commit_timelocked_mechanism_weights"


def test_weights_come_out_as_they_went_in() -> None:
    sealed, _ = commit_weights(b"h" * 32, [0, 5], [1, 65535], 7)
    assert open_weights(sealed) == (b"h" * 32, [0, 5], [1, 65535], 7)
    for broken in (b"", b"\x00" * 200, sealed[:-5], sealed[:60] + b"\xff" + sealed[61:]):
        with pytest.raises(CannotReveal):
            open_weights(broken)


def test_the_sdk_s_call_is_replaced_with_its_signature() -> None:
    class Module:
        get_encrypted_commit_v2: Any = None

    install(Module)
    schedule = {"tempo": 5, "current_block": 9, "block_time": 0.25, "last_epoch_block": 3}
    sealed, reveal_round = Module.get_encrypted_commit_v2(
        uids=[1], weights=[9], version_key=3, hotkey=b"h" * 32, **schedule
    )
    assert reveal_round == 1000
    assert open_weights(sealed)[1:] == ([1], [9], 3)


def ready(**settings: Any) -> tuple[Driver, Any]:
    driver = Driver(tempo=5, commit_reveal=True, **settings)
    driver.subnet()
    hotkey = driver.member("//Validator", tao=5000)
    driver.to_epoch()
    driver.to_epoch()
    return driver, hotkey


def committed(driver: Driver, hotkey: Any, weights: list[int], **changes: Any) -> str | None:
    sealed, reveal_round = commit_weights(bytes(hotkey.public_key), range(len(weights)), weights, 0)
    args = {"netuid": 1, "mecid": 0, "commit": sealed, "reveal_round": reveal_round, "commit_reveal_version": 4}
    return driver.run(hotkey, COMMIT, **{**args, **changes})


@pytest.mark.parametrize("period", [1, 2, 3])
def test_revealed_after_its_period_and_not_before(period: int) -> None:
    driver, hotkey = ready(reveal_period=period)
    assert committed(driver, hotkey, [7, 14]) is None
    assert "SubtensorModule.TimelockedWeightsCommitted" in driver.events()
    when = driver.state.subnets[1].last_update[1]
    for _ in range(period):
        assert driver.state.subnets[1].weights[1] == ()
        driver.to_epoch()
    subnet = driver.state.subnets[1]
    assert subnet.weights[1] == ((0, 32767), (1, 65535))
    assert subnet.last_update[1] == when, "the time is that of the commit"
    assert subnet.commits == {}
    assert "SubtensorModule.TimelockedWeightsRevealed" in driver.events()


def test_refused_commits() -> None:
    driver, hotkey = ready(weights_rate_limit=3)
    plain = {"netuid": 1, "dests": [0], "weights": [1], "version_key": 0}
    assert driver.run(hotkey, "SubtensorModule.set_weights", **plain) == "SubtensorModule.CommitRevealEnabled"
    assert committed(driver, hotkey, [1], netuid=9) == "SubtensorModule.SubnetNotExists"
    assert committed(driver, hotkey, [1], mecid=1) == "SubtensorModule.MechanismDoesNotExist"
    old = committed(driver, hotkey, [1], commit_reveal_version=3)
    assert old == "SubtensorModule.IncorrectCommitRevealVersion"
    assert committed(driver, driver.alice, [1]) == "SubtensorModule.HotKeyNotRegisteredInSubNet"
    assert committed(driver, hotkey, [1]) is None
    assert committed(driver, hotkey, [1]) == "SubtensorModule.CommittingWeightsTooFast"
    off = driver.run(driver.alice, "AdminUtils.sudo_set_commit_reveal_weights_enabled", netuid=1, enabled=False)
    assert off is None
    assert committed(driver, hotkey, [1]) == "SubtensorModule.CommitRevealDisabled"


def test_a_commit_that_cannot_be_revealed_is_dropped_alone() -> None:
    driver, hotkey = ready()
    assert committed(driver, hotkey, [9, 9], commit=b"nonsense") is None
    stolen, _ = commit_weights(bytes(driver.alice_hot.public_key), [0], [1], 0)
    assert committed(driver, hotkey, [9, 9], commit=stolen) is None
    assert committed(driver, hotkey, [3, 0]) is None
    assert committed(driver, hotkey, [1] * 9) is None, "too many uids shows only at the reveal"
    driver.to_epoch()
    assert driver.state.subnets[1].weights[1] == ((0, 65535), (1, 0))
    for _ in range(11):
        last = committed(driver, hotkey, [1])
        if last is not None:
            break
    driver.to_epoch()
    assert driver.state.subnets[1].commits == {}


@pytest.mark.e2e
def test_the_sdk_commits_to_the_embedded_chain(tmp_path: Path) -> None:
    """Timelocked as this project does it, then by hash as the SDK does it; blocks are made on demand."""
    import bittensor as bt

    wallet = bt.Wallet(name="alice", hotkey="default", path=str(tmp_path))
    wallet.create_coldkey_from_uri("//Alice", use_password=False, overwrite=True, suppress=True)
    wallet.create_hotkey_from_uri("//AliceHot", use_password=False, overwrite=True, suppress=True)
    hotkey = bytes(wallet.hotkey.public_key or b"")
    alice = keypair("//Alice")
    with (
        running("--on-demand", "--commit-reveal", "--tempo", str(TEMPO)) as process,
        LocalClient(process.endpoint) as client,
    ):
        client.submit(alice, "SubtensorModule", "register_network", {"hotkey": hotkey})
        client.submit(alice, "SubtensorModule", "start_call", {"netuid": 1})
        client.submit(alice, "SubtensorModule", "add_stake", {"hotkey": hotkey, "netuid": 1, "amount_staked": 10**12})
        client.advance(2 * (TEMPO + 1))  # two epochs: the second has the permit in force
        chain = SubtensorChain(wallet, process.endpoint)
        result = chain.set_weights(1, [0], [65535], version_key=0)
        chain.close()
        assert result.ok, result
        with bt.Subtensor(network=process.endpoint) as subtensor:
            assert dict(subtensor.weights(1))[0] == [], "not before its epoch"
            client.advance(TEMPO + 1)
            assert dict(subtensor.weights(1))[0] == [(0, 65535)]
            # the SDK scales to 65535 when it reveals and not when it commits
            by_hash: dict[str, Any] = {"wallet": wallet, "netuid": 1, "salt": [1, 2], "uids": [0], "weights": [65535]}
            assert subtensor.commit_weights(**by_hash, wait_for_inclusion=True).success
            early = subtensor.reveal_weights(**by_hash, wait_for_inclusion=True, raise_error=False, max_attempts=1)
            assert not early.success
            client.advance(TEMPO + 1)
            revealed = subtensor.reveal_weights(**by_hash, wait_for_inclusion=True)
            assert revealed.success, revealed.message
            child = keypair("//Child").ss58_address
            done = subtensor.set_children(wallet, 1, wallet.hotkey.ss58_address, [(0.25, child)])
            assert done.success, done.message
            client.advance(TEMPO + 1)
            _, children, _ = subtensor.get_children(wallet.hotkey.ss58_address, 1)
            assert [(round(share, 3), key) for share, key in children] == [(0.25, child)]
