"""Eight processes with the SDK at once: all of them read and write, and the chain misses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from localnet_process import running

from template.localnet.client import LocalClient, keypair
from template.localnet.codec import Enum

CLIENTS, ROUNDS = 8, 5

CLIENT = """
import sys
import bittensor as bt
endpoint, path, number = sys.argv[1:]
wallet = bt.Wallet(name="client" + number, path=path)
wallet.create_coldkey_from_uri("//Client" + number, use_password=False, overwrite=True, suppress=True)
with bt.Subtensor(network=endpoint) as subtensor:
    for _ in range(ROUNDS):
        sent = subtensor.transfer(wallet, DEST, bt.Balance.from_tao(1))
        assert sent.success, sent.message
        assert len(subtensor.metagraph(1, lite=True).hotkeys) == 1
        subtensor.wait_for_block()
"""


@pytest.mark.soak
def test_eight_clients_at_once(tmp_path: Path) -> None:
    dest = keypair("//Nobody")
    code = CLIENT.replace("ROUNDS", str(ROUNDS)).replace("DEST", repr(dest.ss58_address))
    with running("--block-time", "0.25") as chain:
        endpoint = chain.endpoint
        alice = keypair("//Alice")
        with LocalClient(endpoint) as client:
            client.submit(alice, "SubtensorModule", "register_network", {"hotkey": bytes(alice.public_key)})
            for number in range(CLIENTS):
                account = Enum("Id", bytes(keypair(f"//Client{number}").public_key))
                client.submit(alice, "Balances", "transfer_keep_alive", {"dest": account, "value": 100 * 10**9})
        clients = [
            subprocess.Popen([sys.executable, "-c", code, endpoint, str(tmp_path), str(number)])
            for number in range(CLIENTS)
        ]
        assert [client.wait(300) for client in clients] == [0] * CLIENTS
        with LocalClient(endpoint) as client:
            assert client.free_balance(bytes(dest.public_key)) == CLIENTS * ROUNDS * 10**9
