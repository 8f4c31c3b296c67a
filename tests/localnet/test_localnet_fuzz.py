"""Whatever arrives, the chain answers with an error or hangs up, goes on making blocks, and stays small."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from localnet_fuzz import arbitrary_call, bombard, damaged
from localnet_kit import Driver, key, sign
from localnet_process import ROOT

from template.localnet.client import signed_extrinsic
from template.localnet.codec import Enum
from template.localnet.errors import InvalidExtrinsic

MAX_GROWTH_MB = 100
# how the websockets library reports that a client broke off in the middle of its handshake
WRONG_HANDSHAKE = {"websockets.server unexpected internal error", "websockets.server opening handshake failed"}


def survive(messages: int, frames: int) -> Counter[str]:
    command = [sys.executable, "-m", "template.localnet", "--port", "0", "--block-time", "0.2", "--log-level", "ERROR"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            endpoint = process.stdout.readline().split()[3]
            seen = asyncio.run(bombard(endpoint, process.pid, 7, messages, frames))
            assert process.poll() is None
        finally:
            process.terminate()
        said = re.findall(r"^\S+ \S+ ERROR (.*)$", process.stderr.read(), re.MULTILINE)
        assert set(said) <= WRONG_HANDSHAKE, "a bug was hit, though it was answered"
        assert process.wait(60) == 0
    return seen


def test_two_thousand_wrong_messages_change_nothing() -> None:
    seen = survive(messages=1600, frames=400)
    assert seen["answered"] >= 1200 and seen["ended"] == 400
    assert seen["grown"] <= MAX_GROWTH_MB


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_wrong_messages_change_nothing() -> None:
    seen = survive(messages=80_000, frames=20_000)
    print(dict(seen))
    assert seen["answered"] >= 60_000 and seen["ended"] == 20_000
    assert seen["grown"] <= MAX_GROWTH_MB


@pytest.mark.parametrize("seed", range(4))
def test_any_arguments_fail_as_the_pallet_says(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Rightly signed calls with any values of the right types; a handler that trips over them logs its bug."""
    driver, chance = Driver(tempo=5), Random(seed)
    driver.subnet()
    driver.member("//Hot", tao=100)
    signer = driver.alice if seed % 2 else key("//Bob")
    account = bytes(signer.public_key or b"")
    with caplog.at_level(logging.ERROR, logger="template.localnet"):
        for _ in range(20):
            driver.state.deposit(account, 10**14)  # it may have given everything away
            for nonce in range(driver.state.nonce(account), driver.state.nonce(account) + 20):
                call = arbitrary_call(chance)
                named = (call.name, call.value.name, call.value.value)
                try:
                    driver.chain.submit(signed_extrinsic(signer, *named, nonce, driver.chain.genesis_hash))
                except InvalidExtrinsic as error:
                    assert error.code in (1002, 1010), error
            driver.block()
        driver.block(12)
    assert [record.getMessage() for record in caplog.records] == []
    assert driver.state.nonce(account) > 100


def test_damaged_extrinsics_are_refused_and_never_included() -> None:
    driver, chance = Driver(), Random(5)
    transfer = {"dest": Enum("Id", b"x" * 32), "value": 10**9}
    good = sign(driver.chain, driver.alice, "Balances.transfer_keep_alive", transfer)
    for _ in range(1500):
        bad = damaged(good, chance)
        if bad != good:
            with pytest.raises(InvalidExtrinsic):
                driver.chain.submit(bad)
    assert len(driver.chain.pool) == 0
    driver.chain.submit(good)
    driver.block()
    assert good in driver.chain.head.extrinsics
