"""MEV shield: what clients encrypt is opened and run; what is broken is dropped."""

from __future__ import annotations

import pytest
from bittensor_drand import encrypt_mlkem768  # type: ignore[import-untyped]
from localnet_kit import Driver, key, sign

from template.localnet.codec import Enum
from template.localnet.shield import CannotOpen, open_shielded, public_key

BOB = bytes(key("//Bob").public_key)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 300, 4000])
def test_what_the_client_encrypts_is_opened(size: int) -> None:
    text = bytes(i % 251 for i in range(size))
    assert open_shielded(b"seed", encrypt_mlkem768(public_key(b"seed"), text, include_key_hash=True)) == text


@pytest.mark.parametrize("place", [0, 16, 17, 1106, 1115, 1135, -1])
def test_a_changed_ciphertext_is_refused(place: int) -> None:
    sealed = bytearray(encrypt_mlkem768(public_key(b"seed"), b"text" * 9, include_key_hash=True))
    sealed[place] ^= 1
    with pytest.raises(CannotOpen):
        open_shielded(b"seed", bytes(sealed))
    with pytest.raises(CannotOpen):
        open_shielded(b"other", bytes(sealed))
    with pytest.raises(CannotOpen):
        open_shielded(b"seed", bytes(sealed[:1000]))


def shielded(driver: Driver, inner: bytes) -> bytes:
    sealed: bytes = encrypt_mlkem768(public_key(driver.state.seed), inner, include_key_hash=True)
    return sealed


def test_a_shielded_call_runs_in_the_next_block() -> None:
    driver = Driver()
    nonce = driver.chain.next_nonce(bytes(driver.alice.public_key))
    transfer = {"dest": Enum("Id", BOB), "value": 7}
    inner = sign(driver.chain, driver.alice, "Balances.transfer_keep_alive", transfer, nonce=nonce + 1)
    before = driver.state.free(BOB)
    assert driver.run(driver.alice, "MevShield.submit_encrypted", ciphertext=shielded(driver, inner)) is None
    assert "MevShield.EncryptedSubmitted" in driver.events()
    assert driver.state.free(BOB) == before
    driver.block()
    assert inner in driver.chain.head.extrinsics
    assert driver.state.free(BOB) == before + 7


@pytest.mark.parametrize("inner", [b"", b"\x00" * 40, b"\xff" * 40])
def test_nonsense_under_the_shield_is_dropped(inner: bytes) -> None:
    driver = Driver()
    assert driver.run(driver.alice, "MevShield.submit_encrypted", ciphertext=shielded(driver, inner)) is None
    assert driver.run(driver.alice, "MevShield.submit_encrypted", ciphertext=b"short") is None
    driver.block()
    assert len(driver.chain.head.extrinsics) == 1
