"""Shared by the tests of `template`: wallets from well-known test keys, settings in a temporary folder, toy chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bittensor_wallet import Wallet

from template.memory import MemoryChain, MemoryLedger
from template.settings import NeuronSettings, parse


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No .env and no variable of the developer's machine reaches a test."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "NETUID",
        "WALLET_NAME",
        "WALLET_HOTKEY",
        "SUBTENSOR_NETWORK",
        "AXON_PORT",
        "AXON_IP",
        "LOGGING_LEVEL",
    ):
        monkeypatch.delenv(name, raising=False)


def make_wallet(folder: Path, uri: str) -> Wallet:
    """A wallet whose cold- and hotkey are both `uri`, e.g. "//Alice"; the files lie in `folder`."""
    wallet = Wallet(name=uri.strip("/").lower(), hotkey="default", path=str(folder))
    wallet.create_coldkey_from_uri(uri, use_password=False, overwrite=True, suppress=True)
    wallet.create_hotkey_from_uri(uri, use_password=False, overwrite=True, suppress=True)
    return wallet


@pytest.fixture(scope="session")
def wallet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wallets")


@pytest.fixture(scope="session")
def wallets(wallet_folder: Path) -> dict[str, Wallet]:
    return {name: make_wallet(wallet_folder, f"//{name}") for name in ("Alice", "Bob", "Charlie", "Dave")}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., NeuronSettings]:
    def make(*flags: str) -> NeuronSettings:
        base = ["--netuid", "1", "--neuron.state_dir", str(tmp_path / "state"), "--neuron.step_s", "0"]
        return parse(NeuronSettings, [*base, *flags])

    return make


@pytest.fixture
def ledger(wallets: dict[str, Wallet]) -> MemoryLedger:
    """Subnet 1: Alice owns it (uid 0), Bob validates (uid 1), Charlie mines (uid 2); Dave is a stranger."""
    ledger = MemoryLedger(block=100)
    ledger.add_subnet(1, wallets["Alice"].hotkey.ss58_address, tempo=20, weights_rate_limit=5)
    ledger.register(1, wallets["Bob"].hotkey.ss58_address, stake=1000.0, validator_permit=True)
    ledger.register(1, wallets["Charlie"].hotkey.ss58_address)
    return ledger


@pytest.fixture
def chain_of(ledger: MemoryLedger, wallets: dict[str, Wallet]) -> Callable[[str], MemoryChain]:
    return lambda name: MemoryChain(wallets[name].hotkey.ss58_address, ledger)


@pytest.fixture
def address(wallets: dict[str, Wallet]) -> dict[str, Any]:
    return {name: wallet.hotkey.ss58_address for name, wallet in wallets.items()}
