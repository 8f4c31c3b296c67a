"""What an operator gets wrong ends with one line that says what to do, exit code 2, and no traceback."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from template.staging import Stage, wallet_from_uri

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Net:
    """A chain with one subnet and one registered hotkey."""

    endpoint: str
    wallets: Path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    argv = [sys.executable, "-m", "template.localnet", "--port", "0", "--block-time", "0.1"]
    chain = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert chain.stdout is not None
        found = re.search(r"ws://\S+", chain.stdout.readline())
        assert found is not None
        wallets = tmp_path_factory.mktemp("wallets")
        alice = wallet_from_uri(wallets, "alice", "known", "//Alice")
        wallet_from_uri(wallets, "alice", "stranger", "//Alice")
        stage = Stage(found[0])
        assert stage.create_subnet(wallet_from_uri(wallets, "bob", "owner", "//Bob")) == 1
        stage.register(alice, 1)
        stage.close()
        yield Net(found[0], wallets)
    finally:
        chain.terminate()
        chain.wait(10)


def neuron(net: Net, tmp_path: Path, script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    flags = {
        "netuid": "1", "wallet.name": "alice", "wallet.hotkey": "known", "wallet.path": str(net.wallets),
        "subtensor.chain_endpoint": net.endpoint, "axon.ip": "127.0.0.1", "axon.port": "0",
        "neuron.state_dir": str(tmp_path / "state"),
    } | ({"run.dir": str(tmp_path / "run")} if script == "validator" else {}) | {
        name.replace("__", "."): value for name, value in changes.items()
    }  # fmt: skip
    argv = [text for name, value in flags.items() for text in (f"--{name}", value)]
    return subprocess.run(
        [sys.executable, str(ROOT / "neurons" / f"{script}.py"), *argv], capture_output=True, text=True, timeout=60
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of the error."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.mark.parametrize("script", ["miner", "validator"])
def test_an_unregistered_hotkey_is_told_the_command_that_registers_it(net: Net, tmp_path: Path, script: str) -> None:
    line = said(neuron(net, tmp_path, script, wallet__hotkey="stranger"))
    assert "btcli subnets register --netuid 1 --wallet.name alice --wallet.hotkey stranger" in line


def test_a_wrong_netuid_is_named(net: Net, tmp_path: Path) -> None:
    assert "subnet 9" in said(neuron(net, tmp_path, "miner", netuid="9"))


def test_no_chain_at_the_endpoint(net: Net, tmp_path: Path) -> None:
    line = said(neuron(net, tmp_path, "miner", subtensor__chain_endpoint="ws://127.0.0.1:9"))
    assert "ws://127.0.0.1:9" in line


@pytest.mark.parametrize(
    ("script", "flag"), [("miner", "axon__port"), ("miner", "blobs__port"), ("validator", "axon__port")]
)
def test_a_port_in_use_is_named(net: Net, tmp_path: Path, script: str, flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in said(neuron(net, tmp_path, script, **{flag: port}))


def test_text_that_cannot_be_had_is_named(net: Net, tmp_path: Path) -> None:
    assert "/nowhere/*.txt" in said(neuron(net, tmp_path, "validator", run__data="text:/nowhere/*.txt"))
    (tmp_path / "empty.txt").write_text("")
    assert "--run.data" in said(neuron(net, tmp_path, "validator", run__data=f"text:{tmp_path}/empty.txt"))


def test_a_run_directory_of_another_run_is_refused(net: Net, tmp_path: Path) -> None:
    from iota_subnet.spec import RunSpec
    from iota_subnet.validator.ledger import Ledger

    (tmp_path / "run").mkdir()
    Ledger(tmp_path / "run" / "ledger.sqlite", RunSpec(name="another")).close()
    assert "belongs to another run" in said(neuron(net, tmp_path, "validator"))


def test_a_missing_wallet_is_told_the_command_that_creates_it(net: Net, tmp_path: Path) -> None:
    assert "btcli wallet create" in said(neuron(net, tmp_path, "miner", wallet__name="nobody"))


def test_a_miner_that_cheats_is_refused_on_a_chain_elsewhere(net: Net, tmp_path: Path) -> None:
    cheat = f"{ROOT / 'tests' / 'adversaries.py'}:FreeRider"
    line = said(neuron(net, tmp_path, "miner", work__conduct=cheat, subtensor__chain_endpoint="ws://203.0.113.7:9944"))
    assert "--work.conduct (WORK_CONDUCT): refused, ws://203.0.113.7:9944 is not on this machine" in line


def test_a_wrong_flag_is_named(net: Net, tmp_path: Path) -> None:
    assert "--axon.port" in said(neuron(net, tmp_path, "miner", axon__port="many"))
    assert "--run.preset" in said(neuron(net, tmp_path, "validator", run__preset="huge"))
