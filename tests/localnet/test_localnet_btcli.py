"""The real btcli, in subprocesses and from an empty home directory, as an operator of a subnet would use it.

MEV protection and safe staking are left at btcli's defaults where they exist.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from template.localnet.client import LocalClient

BTCLI = Path(sys.executable).with_name("btcli")
VERSION = "9.23"
EVE = "5HGjWAeFDfFCWPsjFQdVV2Msvz2XtMktvgocEZcCj68kUMaw"
# periods of shielded extrinsics are a few blocks: long enough blocks for a slow machine
BLOCK_S = "0.5"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not BTCLI.exists(), reason=f"btcli is not installed beside {sys.executable}"),
]


class Shell:
    """Runs btcli against one chain with a home directory of its own."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.wallets, self.endpoint = home / "wallets", endpoint
        self._environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "COLUMNS": "4000",  # else JSON would be wrapped within words
            "PYTHONPATH": "",
        }

    def text(self, *words: str) -> str:
        """Output of a command that must succeed; empty answers to whatever it still asks."""
        done = subprocess.run(
            [str(BTCLI), *words], input="\n" * 20, env=self._environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert "❌" not in done.stdout, (words, done.stdout)
        return done.stdout

    def json(self, *words: str) -> Any:
        output = self.text(*words, "--json-output")
        return json.loads(output[min(output.find(mark) % len(output) for mark in "{[") :])

    @property
    def network(self) -> tuple[str, ...]:
        return ("--network", self.endpoint)

    @property
    def alice(self) -> tuple[str, ...]:
        return ("--wallet-name", "alice", "--wallet-path", str(self.wallets))

    @property
    def sender(self) -> tuple[str, ...]:
        return (*self.alice, "--hotkey", "default", *self.network, "--no-prompt")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    command = [sys.executable, "-m", "template.localnet", "--port", "0", "--block-time", BLOCK_S, "--tempo", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Shell(tmp_path, process.stdout.readline().split()[3])
        finally:
            process.kill()


def free(shell: Shell) -> float:
    return float(shell.json("wallet", "balance", *shell.alice, *shell.network)["balances"]["alice"]["free"])


def staked(shell: Shell, hotkey: str) -> float:
    stakes = shell.json("stake", "list", *shell.alice, *shell.network, "--no-prompt")["stake_info"]
    return sum(float(item["stake_value"]) for item in stakes.get(hotkey, ()) if item["netuid"] == 1)


def create_wallets(shell: Shell) -> None:
    path, plain = ("--wallet-path", str(shell.wallets)), ("--no-use-password", "--n-words", "12")
    shell.text("wallet", "create", "--wallet-name", "alice", "--hotkey", "default", *path, *plain, "--uri", "//Alice")
    shell.text("wallet", "new-hotkey", "--wallet-name", "alice", "--hotkey", "second", *path, *plain)
    listed = shell.text("wallet", "list", *path)
    assert "alice" in listed and "default" in listed and "second" in listed
    assert free(shell) == 1_000_000
    shell.text("wallet", "transfer", *shell.sender, "--dest", EVE, "--amount", "10")
    assert free(shell) == pytest.approx(999_990, abs=0.001)
    overview = shell.json("wallet", "overview", *shell.alice, *shell.network)
    assert overview["total_balance"] == pytest.approx(999_990, abs=0.001)


def create_subnet(shell: Shell) -> None:
    assert shell.json("subnets", "burn-cost", *shell.network)["burn_cost"]["tao"] == 100
    before = free(shell)
    assert "netuid: 1" in shell.text("subnets", "create", *shell.sender, "--subnet-name", "one")
    assert free(shell) == pytest.approx(before - 100, abs=0.001)
    subnets = shell.json("subnets", "list", *shell.network)["subnets"]
    assert subnets["1"]["subnet_name"] == "one"
    assert subnets["1"]["tempo"]["sn_tempo"] == 10
    shell.text("subnets", "start", *shell.sender, "--netuid", "1")


def register(shell: Shell) -> str:
    before = free(shell)
    sender = (*shell.alice, "--hotkey", "second", *shell.network, "--no-prompt")
    assert "UID 1" in shell.text("subnets", "register", *sender, "--netuid", "1")
    assert free(shell) == pytest.approx(before - 0.1, abs=0.001), "the burn, and no fee"
    shown = shell.json("subnets", "show", "--netuid", "1", *shell.network, "--no-prompt")
    assert [neuron["uid"] for neuron in shown["uids"]] == [0, 1]
    assert shown["registration_cost"] == pytest.approx(0.1)
    assert "Subnet 1: one" in shell.text("subnets", "metagraph", "--netuid", "1", *shell.network)
    return str(shown["uids"][1]["hotkey"])


def stake(shell: Shell, hotkey: str) -> None:
    before = free(shell)
    sender = (*shell.alice, "--hotkey", "second", *shell.network, "--no-prompt")
    shell.text("stake", "add", *sender, "--netuid", "1", "--amount", "200")
    assert free(shell) == pytest.approx(before - 200, abs=0.01)
    held = staked(shell, hotkey)
    assert 190 < held < 205, "alpha at a price near 1"
    shell.text("stake", "remove", *sender, "--netuid", "1", "--amount", "80")
    assert free(shell) == pytest.approx(before - 120, abs=2)
    assert held - 80 <= staked(shell, hotkey) < held, "less, but for what it earned in the meantime"


def set_hyperparameters(shell: Shell) -> None:
    def parameters() -> dict[str, Any]:
        found = shell.json("subnets", "hyperparameters", "--netuid", "1", *shell.network)
        return {item["hyperparameter"]: item["value"] for item in found}

    assert parameters()["immunity_period"] == 200
    for name, value in (("immunity_period", "77"), ("weights_version", "3"), ("yuma3_enabled", "true")):
        shell.text("sudo", "set", *shell.sender, "--netuid", "1", "--param", name, "--value", value)
    now = parameters()
    assert (now["immunity_period"], now["weights_version"], now["yuma_version"]) == (77, 3, 3)


def serve(shell: Shell) -> None:
    sender = (*shell.alice, "--hotkey", "second", *shell.network, "--no-prompt")
    shell.text("axon", "set", *sender, "--netuid", "1", "--ip", "1.2.3.4", "--port", "8091")


def set_and_read_weights(shell: Shell) -> None:
    """btcli has no command for plain weights, so the SDK sets them with btcli's wallet."""
    import bittensor as bt

    wallet = bt.Wallet(name="alice", hotkey="second", path=str(shell.wallets))
    with bt.Subtensor(network=shell.endpoint) as subtensor:
        metagraph = subtensor.metagraph(1)
        assert (metagraph.axons[1].ip, metagraph.axons[1].port) == ("1.2.3.4", 8091)
        deadline = time.monotonic() + 120
        while not subtensor.metagraph(1).validator_permit[1]:
            assert time.monotonic() < deadline, "no permit"
            with LocalClient(shell.endpoint) as client:
                client.advance(5)
        answer = subtensor.set_weights(wallet, 1, [0, 1], [0.5, 1.0], version_key=3, wait_for_inclusion=True)
        assert answer.success, answer.message
        assert dict(subtensor.weights(1))[1] == [(0, 32768), (1, 65535)]


def test_a_subnet_from_an_empty_home(shell: Shell) -> None:
    create_wallets(shell)
    create_subnet(shell)
    hotkey = register(shell)
    stake(shell, hotkey)
    set_hyperparameters(shell)
    serve(shell)
    set_and_read_weights(shell)
