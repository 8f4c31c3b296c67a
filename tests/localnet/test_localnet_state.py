"""The state file: resuming, snapshots, and what a killed process leaves behind."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from localnet_kit import Driver, key, sign
from localnet_process import running

from template.localnet import ChainConfig, LocalChain, main
from template.localnet.client import ClientError, LocalClient, keypair
from template.localnet.codec import Enum
from template.localnet.journal import extrinsic_lines
from template.localnet.snapshot import BadSnapshot, dump_state, load_state
from template.localnet.store import STATE_EVERY, StateFileError, Store, export_chain, import_chain

BOB = bytes(key("//Bob").public_key)


def busy() -> Driver:
    """A chain with a bit of everything in its state."""
    driver = Driver(tempo=5)
    netuid = driver.subnet()
    hotkey = driver.member("//Hot", tao=100)
    info = {"fields": [Enum("Raw3", b"abc")]}
    assert driver.run(hotkey, "Commitments.set_commitment", netuid=netuid, info=info) is None
    axon = {
        "version": 1,
        "ip": 0x01020304,
        "port": 8091,
        "ip_type": 4,
        "protocol": 4,
        "placeholder1": 0,
        "placeholder2": 0,
    }
    assert driver.run(hotkey, "SubtensorModule.serve_axon", netuid=netuid, **axon) is None
    driver.to_epoch()
    weights = {"dests": [0], "weights": [9], "version_key": 0}
    assert driver.run(hotkey, "SubtensorModule.set_weights", netuid=netuid, **weights) is None
    driver.to_epoch()
    return driver


def pay(chain: LocalChain, amount: int) -> None:
    chain.submit(
        sign(chain, key("//Alice"), "Balances.transfer_keep_alive", {"dest": Enum("Id", BOB), "value": amount})
    )


def test_a_state_survives_its_text() -> None:
    state = busy().state
    again = load_state(dump_state(state))
    again.block_hashes = state.block_hashes
    assert again == state


@pytest.mark.parametrize(
    "text", ["", "7", "[]", '["c","ChainState",{}]', '["c","Popen",{}]', '["r",1]', '["l",' * 5000]
)
def test_other_texts_are_no_state(text: str) -> None:
    with pytest.raises(BadSnapshot):
        load_state(text)


@pytest.mark.parametrize("blocks", [0, 3, STATE_EVERY - 1, STATE_EVERY, STATE_EVERY + 5])
@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
def test_a_chain_goes_on_where_it_was(tmp_path: Path, blocks: int, clean: bool) -> None:
    store, chain = Store(tmp_path / "s"), LocalChain(ChainConfig(tempo=7), seed=b"one")
    store.adopt(chain)
    for number in range(blocks):
        pay(chain, 1000 + number)
        store.append(chain.produce_block(number * 1000), chain.state)
    store.close(chain if clean else None)
    again = Store(tmp_path / "s").open_chain()
    assert again is not None
    assert again.head == chain.head
    assert again.genesis_hash == chain.genesis_hash
    assert again.state == chain.state
    # and both go on alike
    payment = sign(chain, key("//Alice"), "Balances.transfer_keep_alive", {"dest": Enum("Id", BOB), "value": 5})
    for one in (chain, again):
        one.submit(payment)
        one.produce_block(10**9)
    assert again.head.hash == chain.head.hash


def test_every_genesis_has_a_hash_of_its_own() -> None:
    assert len({LocalChain(ChainConfig(), 5, bytes((seed,))).genesis_hash for seed in range(9)}) == 9


def test_a_block_that_was_changed_is_refused(tmp_path: Path) -> None:
    store, chain = Store(tmp_path / "s"), LocalChain(ChainConfig())
    store.adopt(chain)
    for number in range(5):
        store.append(chain.produce_block(number * 1000), chain.state)
    store._db.execute("UPDATE blocks SET now_ms = now_ms + 1 WHERE number = 3")
    store.close()
    with pytest.raises(StateFileError, match="block 3 comes out differently"):
        Store(tmp_path / "s").open_chain()


def test_a_file_is_held_by_one_chain(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    with pytest.raises(StateFileError, match="another chain uses it"):
        Store(tmp_path / "s")
    store.close()
    (tmp_path / "other").write_text("not a database, but text that is long enough")
    with pytest.raises(StateFileError, match="not a database"):
        Store(tmp_path / "other")


def test_a_snapshot_is_the_same_state_under_a_new_genesis(tmp_path: Path) -> None:
    driver = busy()
    export_chain(driver.chain, tmp_path / "snap")
    copies = [import_chain(tmp_path / "snap", seed) for seed in (b"1", b"2")]
    assert {copy.head.number for copy in copies} == {driver.chain.head.number}
    assert copies[0].state.subnets == driver.state.subnets
    assert copies[0].state.accounts == driver.state.accounts
    assert len({copies[0].genesis_hash, copies[1].genesis_hash, driver.chain.genesis_hash}) == 3
    pay(copies[0], 7)
    assert copies[0].produce_block(10**9).number == driver.chain.head.number + 1
    (tmp_path / "cut").write_bytes((tmp_path / "snap").read_bytes()[:-20])
    with pytest.raises(StateFileError, match="cut short"):
        import_chain(tmp_path / "cut", b"")


def test_each_extrinsic_is_one_line() -> None:
    driver = Driver()
    driver.run(driver.alice, "Balances.transfer_keep_alive", dest=Enum("Id", BOB), value=5)
    (line,) = extrinsic_lines(driver.chain.head, driver.state)
    assert (
        line.startswith("#1 5Grwva") and "Balances.transfer_keep_alive(dest=5FHneW" in line and line.endswith("-> ok")
    )
    driver.run(driver.alice, "SubtensorModule.start_call", netuid=9)
    (line,) = extrinsic_lines(driver.chain.head, driver.state)
    assert line.endswith("SubtensorModule.start_call(netuid=9) -> SubtensorModule.SubnetNotExists")


@pytest.mark.e2e
def test_operator_s_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, snapshot = str(tmp_path / "s"), str(tmp_path / "snap")
    address = keypair("//Nobody").ss58_address
    with running("--on-demand", "--state", state) as chain:
        assert main(["faucet", address, "1.5", "--endpoint", chain.endpoint]) == 0
        assert "balance 1.500000000 TAO" in capsys.readouterr().out
        assert main(["advance", "120", "--endpoint", chain.endpoint]) == 0
        assert capsys.readouterr().out == "block 121\n", "one for the transfer, and none by themselves"
        assert main(["faucet", address, "5000000", "--network", chain.endpoint]) == 1
        chain.process.send_signal(signal.SIGTERM)
        assert chain.process.wait(30) == 0
    assert main(["--state", state, "--export", snapshot]) == 0
    assert main(["--state", state, "--import", snapshot]) == 2
    with running("--on-demand", "--import", snapshot) as copy, LocalClient(copy.endpoint) as client:
        assert client.head() == 122
        assert client.free_balance(bytes(keypair("//Nobody").public_key)) == 1_500_000_000
        assert copy.genesis != chain.genesis
    assert main(["advance", "1", "--endpoint", copy.endpoint]) == 1
    assert "start one with" in capsys.readouterr().err


def killed_and_resumed(path: Path, kills: int) -> None:
    """Kill a chain that is being paid through, at random moments; what it called final must be there afterwards."""
    chance = random.Random(kills)
    finals: list[str] = []  # hashes of the blocks that payments were reported final in
    geneses: set[str] = set()
    last = 0
    for _ in range(kills):
        with running("--block-time", "0.02", "--state", str(path)) as chain:
            geneses.add(chain.genesis)
            with LocalClient(chain.endpoint) as client:
                assert client.head() >= last, "a block that was told of is gone"
                assert client.free_balance(BOB) >= 1_000_000 * 10**9 + 1000 * len(finals), "a final payment is gone"
                deadline = time.monotonic() + 60
                stopper = subprocess.Popen(
                    [sys.executable, "-S", "-c", f"import time,os; time.sleep({chance.uniform(0.02, 0.4)}); "
                     f"os.kill({chain.process.pid}, 9)"]
                )  # fmt: skip
                try:
                    while True:
                        finals.append(
                            client.submit(
                                keypair("//Alice"),
                                "Balances",
                                "transfer_keep_alive",
                                {"dest": Enum("Id", BOB), "value": 1000},
                            )
                        )
                        last = max(last, client.head())
                        assert time.monotonic() < deadline
                except ClientError:
                    pass
                stopper.wait(30)
    assert len(geneses) == 1
    with running("--on-demand", "--state", str(path)) as chain, LocalClient(chain.endpoint) as client:
        paid = client.free_balance(BOB) - 1_000_000 * 10**9
        assert len(finals) <= paid // 1000 <= len(finals) + kills, "at most the payment under way is in doubt"
    assert finals


@pytest.mark.e2e
def test_killed_chain_loses_nothing_it_called_final(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path / "s", 4)


@pytest.mark.soak
def test_fifty_kills(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path / "s", 50)
