"""One contract for both chains: MemoryChain, and SubtensorChain against the embedded node in its own process."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from template.chain import Chain
from template.errors import ChainUnreachable, NeuronError, NoSuchSubnet
from template.memory import MemoryChain, MemoryLedger
from template.subtensor import SubtensorChain, in_time

RATE_LIMIT = 60  # blocks; 3 s on the node of these tests, time enough for a second attempt


@dataclass
class World:
    """A chain with a subnet, seen by a registered wallet (`member`) and one that is not (`stranger`)."""

    netuid: int
    member: Chain
    stranger: Chain
    member_hotkey: str
    stranger_hotkey: str
    advance: Callable[[int], Any]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def localnet() -> Iterator[str]:
    """The endpoint of a fresh embedded node."""
    if importlib.util.find_spec("template.localnet.__main__") is None:
        pytest.skip("template.localnet is not there yet")
    port = free_port()
    command = [sys.executable, "-m", "template.localnet", "--port", str(port), "--block-time", "0.05", "--tempo", "20"]
    command += ["--weights-rate-limit", str(RATE_LIMIT)]
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=root, text=True)

    def listening() -> bool:
        if node.poll() is not None:
            raise AssertionError(f"the node ended: {node.communicate()[0][-2000:]}")
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listening)
        yield f"ws://127.0.0.1:{port}"
    finally:
        node.terminate()
        node.communicate(timeout=10)


@pytest.fixture(scope="module")
def real_world(localnet: str, wallets: dict[str, Any]) -> Iterator[World]:
    import bittensor as bt

    setup = bt.Subtensor(network=localnet)
    alice, bob = wallets["Alice"], wallets["Bob"]
    netuid = max(setup.get_all_subnets_netuid()) + 1
    assert setup.register_subnet(wallet=alice).success
    assert setup.burned_register(wallet=bob, netuid=netuid).success
    assert setup.start_call(wallet=alice, netuid=netuid).success
    # Only a validator may set weights; the permit is given at the next epoch to who has stake.
    stake = bt.Balance.from_tao(1000)
    assert setup.add_stake(wallet=bob, netuid=netuid, hotkey_ss58=bob.hotkey.ss58_address, amount=stake).success
    until(lambda: bool(setup.query_subtensor("ValidatorPermit", params=[netuid]).value[1]))
    setup.close()
    member = SubtensorChain(bob, localnet, timeout_s=20.0)
    stranger = SubtensorChain(wallets["Dave"], localnet, timeout_s=20.0)

    def advance(blocks: int) -> None:
        target = member.block() + blocks
        until(lambda: member.block() >= target)

    yield World(netuid, member, stranger, bob.hotkey.ss58_address, wallets["Dave"].hotkey.ss58_address, advance)
    member.close()
    stranger.close()


@pytest.fixture(params=["memory", "subtensor"])
def world(request: pytest.FixtureRequest, address: dict[str, str], ledger: MemoryLedger) -> World:
    if request.param == "memory":
        bob, dave = address["Bob"], address["Dave"]
        return World(1, MemoryChain(bob, ledger), MemoryChain(dave, ledger), bob, dave, ledger.advance)
    real: World = request.getfixturevalue("real_world")
    return real


def test_blocks_only_grow(world: World):
    before = world.member.block()
    world.advance(2)
    assert world.member.block() >= before + 2


def test_subnets(world: World):
    assert world.member.subnet_exists(world.netuid) and not world.member.subnet_exists(4321)
    assert world.member.tempo(world.netuid) == 20
    assert world.member.weights_rate_limit(world.netuid) >= 0
    for ask in (world.member.tempo, world.member.weights_rate_limit, world.member.metagraph):
        with pytest.raises(NoSuchSubnet, match="4321"):
            ask(4321)


def test_metagraph(world: World):
    view = world.member.metagraph(world.netuid)
    assert view.netuid == world.netuid and abs(view.block - world.member.block()) < 50
    assert world.member_hotkey in view and world.stranger_hotkey not in view and None not in view
    assert [neuron.uid for neuron in view.neurons] == list(range(len(view)))
    own = view.by_hotkey(world.member_hotkey)
    assert own is not None and view.uid_of(world.member_hotkey) == own.uid == 1
    assert view.uid_of(view.owner_hotkey) == 0 and view.uid_of("nobody") is None
    assert own.coldkey and own.stake >= 0 and own.last_update >= 0


def test_serve_axon(world: World):
    world.member.serve_axon(world.netuid, "127.0.0.1", 8123)
    own = world.member.metagraph(world.netuid).by_hotkey(world.member_hotkey)
    assert own is not None and (own.ip, own.port) == ("127.0.0.1", 8123) and own.is_serving
    with pytest.raises(NeuronError, match="refused the axon"):
        world.stranger.serve_axon(world.netuid, "127.0.0.1", 8124)


def test_set_weights_then_too_soon(world: World):
    limit = world.member.weights_rate_limit(world.netuid)
    own = world.member.metagraph(world.netuid).by_hotkey(world.member_hotkey)
    assert own is not None
    world.advance(max(0, own.last_update + limit + 1 - world.member.block()))
    result = world.member.set_weights(world.netuid, [0, 1], [65535, 32768], version_key=0)
    assert result.ok and result.block is not None, result.message
    again = world.member.set_weights(world.netuid, [0], [65535], version_key=0)
    if again.ok:  # on a starved machine a second attempt may come so late that it is not too soon
        assert again.block is not None and again.block - result.block > limit
    else:
        assert again.message.startswith("too soon") and again.block is None
    own = world.member.metagraph(world.netuid).by_hotkey(world.member_hotkey)
    assert own is not None and own.last_update >= result.block - 3


def test_trap_the_real_sdk_says_nothing_when_it_is_too_soon(real_world: World, localnet: str, wallets: dict[str, Any]):
    """bittensor 10.5 returns (False, None) without sending. If this fails, SubtensorChain may be simplified."""
    import bittensor as bt

    with bt.Subtensor(network=localnet) as subtensor:
        chain, netuid = real_world.member, real_world.netuid
        until(lambda: (passed := subtensor.blocks_since_last_update(netuid, 1)) is not None and passed > RATE_LIMIT)
        assert chain.set_weights(netuid, [0], [65535], version_key=0).ok
        silent = subtensor.set_weights(wallets["Bob"], netuid, [0], [1.0], mev_protection=False)
        if subtensor.blocks_since_last_update(netuid, 1) > RATE_LIMIT:
            pytest.skip("this machine is too slow just now")
        assert (silent.success, silent.message) == (False, None)


def test_set_weights_of_a_stranger(world: World):
    result = world.stranger.set_weights(world.netuid, [0], [65535], version_key=0)
    assert not result.ok and "not registered" in result.message


def test_closing_is_not_final(world: World):
    world.member.close()
    assert world.member.block() > 0


def test_memory_too_soon(chain_of, ledger):
    chain = chain_of("Bob")
    ledger.advance(5)
    assert "too soon: 5 blocks" in chain.set_weights(1, [0], [1], 0).message
    ledger.advance(1)
    assert chain.set_weights(1, [0], [1], 0).ok


@pytest.mark.parametrize(("uids", "weights"), [([0], [70000]), ([0, 0], [1, 1]), ([9], [1]), ([0, 1], [1]), ([], [])])
def test_memory_refuses_what_the_chain_refuses(chain_of, ledger, uids, weights):
    ledger.advance(50)
    assert not chain_of("Bob").set_weights(1, uids, weights, 0).ok


def test_no_chain_at_the_endpoint_is_known_within_five_seconds(wallets):
    endpoint = f"ws://127.0.0.1:{free_port()}"
    chain = SubtensorChain(wallets["Bob"], endpoint)
    began = time.monotonic()
    with pytest.raises(ChainUnreachable) as caught:
        chain.block()
    assert time.monotonic() - began < 5
    assert endpoint in str(caught.value) and "\n" not in str(caught.value)


def test_a_port_that_is_no_chain_ends_in_time(wallets):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        chain = SubtensorChain(wallets["Bob"], f"ws://127.0.0.1:{silent.getsockname()[1]}", timeout_s=1.0)
        began = time.monotonic()
        with pytest.raises(ChainUnreachable, match="no answer within 1 s"):
            chain.block()
        assert time.monotonic() - began < 10


class FakeSubtensor:
    """Stands in for the SDK's object where its behaviour must be provoked."""

    def __init__(self, log: list[str], fail: int = 0) -> None:
        self.log, self.fail, self.users = log, fail, 0

    def get_current_block(self) -> int:
        self.users += 1
        assert self.users == 1, "two threads in one Subtensor"
        time.sleep(0.005)
        self.users -= 1
        if self.fail:
            self.fail -= 1
            raise ConnectionResetError("gone")
        return 7

    def close(self) -> None:
        self.log.append("close")


def test_trap_one_subtensor_is_used_by_one_thread_at_a_time(wallets, monkeypatch):
    chain = SubtensorChain(wallets["Bob"], "local")
    fake = FakeSubtensor([])
    monkeypatch.setattr(chain, "_connect", lambda: fake)
    blocks: list[int] = []
    threads = [threading.Thread(target=lambda: blocks.append(chain.block())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocks == [7] * 8


def test_a_read_reconnects_once_after_a_failure(wallets, monkeypatch):
    log: list[str] = []
    fakes = [FakeSubtensor(log, fail=1), FakeSubtensor(log)]
    chain = SubtensorChain(wallets["Bob"], "local")
    monkeypatch.setattr(chain, "_connect", lambda: fakes.pop(0))
    assert chain.block() == 7 and log == ["close"] and fakes == []


def test_writes_use_fresh_connections_and_retry_with_backoff(wallets, monkeypatch):
    log: list[str] = []
    chain = SubtensorChain(wallets["Bob"], "local", backoff_s=0.001)
    made: list[FakeSubtensor] = []

    def connect() -> FakeSubtensor:
        made.append(FakeSubtensor(log, fail=1 if len(made) < 2 else 0))
        return made[-1]

    monkeypatch.setattr(chain, "_connect", connect)
    assert chain._write(lambda subtensor: subtensor.get_current_block()) == 7
    assert len(made) == 3 and log == ["close"] * 3


def test_trap_the_sdk_s_silent_false_none_becomes_a_message(wallets, monkeypatch):
    """bittensor 10.5 `set_weights` returns (False, None), having sent nothing, when it thinks that it is too soon."""
    from bittensor.core.types import ExtrinsicResponse

    class Quiet(FakeSubtensor):
        def get_uid_for_hotkey_on_subnet(self, *_: Any) -> int:
            return 1

        def blocks_since_last_update(self, *_: Any) -> int:
            return self.passed

        def commit_reveal_enabled(self, *_: Any) -> bool:
            return False

        def set_weights(self, **_: Any) -> ExtrinsicResponse:
            return ExtrinsicResponse(False, None)

    quiet = Quiet([])
    chain = SubtensorChain(wallets["Bob"], "local")
    monkeypatch.setattr(chain, "_connect", lambda: quiet)
    monkeypatch.setattr(chain, "weights_rate_limit", lambda netuid: 100)
    quiet.passed = 40
    assert chain.set_weights(1, [0], [65535], 0).message.startswith("too soon: 40 blocks")
    quiet.passed = 400
    result = chain.set_weights(1, [0], [65535], 0)
    assert not result.ok and "too soon" in result.message


def test_a_hung_call_is_left_behind():
    release = threading.Event()
    with pytest.raises(TimeoutError):
        in_time(release.wait, 0.01)
    release.set()
    assert in_time(lambda: 3, 1.0) == 3
