"""Contract with the unmodified bittensor SDK: a server process and real wallets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from localnet_process import running

bt = pytest.importorskip("bittensor")

NETUID = 1
DEADLINE = 120.0  # seconds for anything that is polled


@dataclass
class Stage:
    """A running chain with subnet 1, a staked validator and two miners, and what it took to get there."""

    endpoint: str
    subtensor: Any
    owner: Any
    validator: Any
    miners: list[Any]
    steps: dict[str, Any]

    @property
    def hotkeys(self) -> list[str]:
        return [wallet.hotkey.ss58_address for wallet in (self.owner, self.validator, *self.miners)]


def wallet(folder: Path, name: str, uri: str) -> Any:
    made = bt.Wallet(name=name, hotkey="default", path=str(folder))
    made.create_coldkey_from_uri(uri, use_password=False, overwrite=True, suppress=True)
    made.create_hotkey_from_uri(uri + "/hot", use_password=False, overwrite=True, suppress=True)
    return made


def until(check: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {DEADLINE} s")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running("--block-time", "0.1", "--tempo", "10") as chain:
        yield chain.endpoint


@pytest.fixture(scope="module")
def stage(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("wallets")
    subtensor = bt.Subtensor(network=endpoint)
    owner, validator, *miners = (
        wallet(folder, name, uri)
        for name, uri in (("alice", "//Alice"), ("val", "//Val"), ("m1", "//M1"), ("m2", "//M2"))
    )
    steps: dict[str, Any] = {}
    steps["register_subnet"] = subtensor.register_subnet(owner)
    steps["start_call"] = subtensor.start_call(owner, NETUID)
    for member in (validator, *miners):
        receiver = member.coldkeypub.ss58_address
        steps[f"transfer {member.name}"] = subtensor.transfer(owner, receiver, bt.Balance.from_tao(10_000))
    steps["burned_register val"] = subtensor.burned_register(validator, NETUID)
    steps["burned_register m1"] = subtensor.burned_register(miners[0], NETUID)
    steps["register m2"] = subtensor.register(miners[1], NETUID)
    steps["add_stake"] = subtensor.add_stake(
        wallet=validator,
        netuid=NETUID,
        hotkey_ss58=validator.hotkey.ss58_address,
        amount=bt.Balance.from_tao(5_000),
    )
    yield Stage(endpoint, subtensor, owner, validator, miners, steps)
    subtensor.close()


@pytest.fixture(scope="module")
def graph(stage: Stage) -> Any:
    """The metagraph after weights were set and an epoch paid out."""
    subtensor = stage.subtensor
    axon = bt.Axon(wallet=stage.miners[0], port=8123, external_ip="127.0.0.1", external_port=8123)
    stage.steps["serve_axon"] = subtensor.serve_axon(NETUID, axon)
    until(lambda: subtensor.metagraph(NETUID).validator_permit[1], "the validator permit")
    stage.steps["set_weights"] = subtensor.set_weights(
        wallet=stage.validator, netuid=NETUID, uids=[2, 3], weights=[0.75, 0.25]
    )
    until(lambda: subtensor.metagraph(NETUID).I[2] > 0, "an epoch with incentive")
    return subtensor.metagraph(NETUID, lite=False)


def test_every_write_succeeds(stage: Stage, graph: Any) -> None:
    failed = {name: step.message for name, step in stage.steps.items() if not step.success}
    assert not failed


def test_metagraph_shows_the_epoch(stage: Stage, graph: Any) -> None:
    assert list(graph.hotkeys) == stage.hotkeys
    assert graph.I[2] == pytest.approx(0.75, abs=1e-3) and graph.I[3] == pytest.approx(0.25, abs=1e-3)
    assert graph.D[1] == pytest.approx(1.0)
    assert graph.S[1] > 4_000
    assert graph.W[1][2] == pytest.approx(0.75, abs=1e-3)
    assert graph.B[1][2] > 0
    assert graph.E[2] > graph.E[3] > 0
    assert graph.axons[2].ip == "127.0.0.1" and graph.axons[2].port == 8123
    before = graph.block.item()
    until(lambda: stage.subtensor.get_current_block() > before, "another block")
    graph.sync(subtensor=stage.subtensor)
    assert graph.block.item() > before


def test_neuron_reads(stage: Stage, graph: Any) -> None:
    subtensor, miner = stage.subtensor, stage.miners[0].hotkey.ss58_address
    assert [neuron.hotkey for neuron in subtensor.neurons(NETUID)] == stage.hotkeys
    assert [neuron.uid for neuron in subtensor.neurons_lite(NETUID)] == [0, 1, 2, 3]
    assert subtensor.get_uid_for_hotkey_on_subnet(miner, NETUID) == 2
    assert subtensor.is_hotkey_registered(miner, NETUID)
    assert not subtensor.is_hotkey_registered(stage.owner.coldkeypub.ss58_address, NETUID)
    assert subtensor.blocks_since_last_update(NETUID, 1) >= 0
    assert dict(subtensor.weights(NETUID))[1] == [(2, 65535), (3, 21845)]
    assert dict(subtensor.bonds(NETUID))[1]
    assert subtensor.neuron_for_uid(2, NETUID).axon_info.port == 8123
    delegates = {delegate.hotkey_ss58 for delegate in subtensor.get_delegates()}
    assert stage.validator.hotkey.ss58_address in delegates


def test_subnet_reads(stage: Stage) -> None:
    subtensor = stage.subtensor
    assert subtensor.tempo(NETUID) == 10
    assert subtensor.weights_rate_limit(NETUID) == 0
    assert subtensor.commit_reveal_enabled(NETUID) is False
    assert subtensor.get_subnet_hyperparameters(NETUID).tempo == 10
    assert [info.netuid for info in subtensor.get_all_subnets_info()] == [0, 1]
    assert subtensor.subnet_exists(NETUID) and not subtensor.subnet_exists(7)
    assert subtensor.get_subnet_owner_hotkey(NETUID) == stage.owner.hotkey.ss58_address
    assert subtensor.get_subnet_burn_cost().tao == 100
    assert 0 < subtensor.recycle(NETUID).tao <= 0.1
    assert subtensor.is_subnet_active(NETUID)
    assert subtensor.subnet(NETUID).price.tao == pytest.approx(1.1, abs=0.05)
    block = subtensor.get_current_block()
    assert block < subtensor.get_next_epoch_start_block(NETUID) <= subtensor.get_current_block() + 11
    assert subtensor.wait_for_block(block + 2)


def test_stake_and_balance(stage: Stage) -> None:
    subtensor, validator = stage.subtensor, stage.validator
    cold, hot = validator.coldkeypub.ss58_address, validator.hotkey.ss58_address
    staked, free = subtensor.get_stake(cold, hot, NETUID), subtensor.get_balance(cold)
    assert staked.tao > 4_000
    done = subtensor.unstake(
        wallet=validator, netuid=NETUID, hotkey_ss58=hot, amount=bt.Balance.from_tao(100, netuid=NETUID)
    )
    assert done.success, done.message
    assert subtensor.get_balance(cold) > free
    guarded = subtensor.add_stake(
        wallet=validator,
        netuid=NETUID,
        hotkey_ss58=hot,
        amount=bt.Balance.from_tao(10),
        safe_staking=True,
        rate_tolerance=0.05,
    )
    assert guarded.success, guarded.message


def test_failures_carry_the_pallet_error(stage: Stage, tmp_path: Path) -> None:
    subtensor = stage.subtensor
    stranger = wallet(tmp_path, "stranger", "//Stranger")
    axon = bt.Axon(wallet=stranger, port=8124, external_ip="127.0.0.1", external_port=8124)
    assert subtensor.serve_axon(NETUID, axon).error["name"] == "HotKeyNotRegisteredInNetwork"
    weights = {"netuid": NETUID, "mecid": 0, "dests": [2], "weights": [65535], "version_key": 10_005_000}
    call = subtensor.compose_call("SubtensorModule", "set_mechanism_weights", weights)
    sent = subtensor.sign_and_send_extrinsic(call=call, wallet=stranger, sign_with="hotkey", use_nonce=True)
    assert not sent.success
    assert sent.error["name"] == "HotKeyNotRegisteredInSubNet"
    poor = subtensor.burned_register(stranger, NETUID)
    assert not poor.success and "balance" in poor.message.lower()


def test_owner_sets_hyperparameters(stage: Stage) -> None:
    subtensor = stage.subtensor
    args = {"netuid": NETUID, "immunity_period": 77}
    call = subtensor.compose_call("AdminUtils", "sudo_set_immunity_period", args)
    sent = subtensor.sign_and_send_extrinsic(call=call, wallet=stage.owner)
    assert sent.success, sent.message
    assert subtensor.immunity_period(NETUID) == 77


def test_async_client(stage: Stage, graph: Any) -> None:
    async def scenario() -> None:
        async with bt.AsyncSubtensor(network=stage.endpoint) as subtensor:
            metagraph = await subtensor.metagraph(NETUID, lite=False)
            assert list(metagraph.hotkeys) == stage.hotkeys
            receiver = stage.miners[1].coldkeypub.ss58_address
            before = await subtensor.get_balance(receiver)
            sent = await subtensor.transfer(stage.miners[0], receiver, bt.Balance.from_tao(1))
            assert sent.success, sent.message
            assert (await subtensor.get_balance(receiver)).tao == pytest.approx(before.tao + 1)
            sent = await subtensor.set_weights(stage.validator, NETUID, uids=[2, 3], weights=[0.75, 0.25])
            assert sent.success, sent.message

    asyncio.run(scenario())
