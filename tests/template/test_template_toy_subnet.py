"""The proof that `template` is enough: `toy_subnet.py` runs, on loopback sockets and the in-memory chain."""

from __future__ import annotations

import asyncio
import time

from toy_subnet import Miner, Validator


async def test_a_complete_subnet_in_forty_lines(settings, chain_of, wallets, ledger, address):
    announced = ("--axon.ip", "127.0.0.1", "--neuron.epoch_length", "2")
    miner = Miner(settings("--wallet.hotkey", "m", *announced), chain_of("Charlie"), wallets["Charlie"])
    validator = Validator(settings("--wallet.hotkey", "v", *announced), chain_of("Bob"), wallets["Bob"])
    running = [asyncio.create_task(miner.run()), asyncio.create_task(validator.run())]
    deadline = time.monotonic() + 20
    while not ledger.weights_of(1, address["Bob"]):
        ledger.advance()
        await asyncio.sleep(0.002)
        assert time.monotonic() < deadline and not any(task.done() for task in running)
    miner.stop()
    validator.stop()
    await asyncio.gather(*running)
    assert ledger.weights_of(1, address["Bob"]) == {2: 65535}
    assert validator.scores[address["Charlie"]] > 0
