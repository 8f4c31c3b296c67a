"""What the pool takes and refuses, and what a block does with it."""

from __future__ import annotations

import pytest
from localnet_kit import TAO, Driver, call, key, mortal_era, sign

from template.localnet.codec import Enum, load_codecs
from template.localnet.errors import InvalidExtrinsic

BOB = key("//Bob")
CAROL = key("//Carol")
TRANSFER = "Balances.transfer_keep_alive"


def payment(tao: int = 1, to: bytes | None = None) -> dict[str, object]:
    return {"dest": Enum("Id", to or CAROL.public_key), "value": tao * TAO}


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_transfer_moves_money_and_costs_a_fee(driver: Driver) -> None:
    before = driver.state.free(BOB.public_key)
    assert driver.run(BOB, TRANSFER, **payment(3)) is None
    assert driver.state.free(CAROL.public_key) == 3 * TAO
    assert driver.state.free(BOB.public_key) == before - 3 * TAO - driver.chain.config.transaction_fee
    assert "TransactionPayment.TransactionFeePaid" in driver.events()


def test_bad_signature(driver: Driver) -> None:
    raw = bytearray(sign(driver.chain, BOB, TRANSFER, payment()))
    raw[60] ^= 1  # inside of the signature
    with pytest.raises(InvalidExtrinsic, match="bad signature"):
        driver.chain.submit(bytes(raw))


def test_tampered_call(driver: Driver) -> None:
    other = load_codecs().encode("RuntimeCall", call(TRANSFER, payment(1000)))
    raw = sign(driver.chain, BOB, TRANSFER, payment(1), tamper=other)
    with pytest.raises(InvalidExtrinsic, match="bad signature"):
        driver.chain.submit(raw)


def test_signed_for_another_chain(driver: Driver) -> None:
    raw = sign(driver.chain, BOB, TRANSFER, payment(), genesis=b"\x11" * 32)
    with pytest.raises(InvalidExtrinsic, match="bad signature"):
        driver.chain.submit(raw)


def test_every_genesis_is_its_own_chain() -> None:
    first, second = Driver(), Driver()
    assert first.chain.genesis_hash == second.chain.genesis_hash, "same time, same chain"
    from template.localnet.chain import LocalChain

    assert LocalChain(first.chain.config, genesis_ms=1).genesis_hash != first.chain.genesis_hash


def test_stale_and_future_nonce(driver: Driver) -> None:
    raw = sign(driver.chain, BOB, TRANSFER, payment())
    driver.chain.submit(raw)
    with pytest.raises(InvalidExtrinsic) as twice:
        driver.chain.submit(raw)
    assert twice.value.code == 1013
    driver.block()
    with pytest.raises(InvalidExtrinsic, match="outdated") as stale:
        driver.chain.submit(raw)
    assert stale.value.code == 1010
    with pytest.raises(InvalidExtrinsic, match="future"):
        driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(), nonce=5000))


def test_a_taken_nonce_is_refused(driver: Driver) -> None:
    driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(1), nonce=0))
    with pytest.raises(InvalidExtrinsic) as taken:
        driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(2), nonce=0))
    assert taken.value.code == 1014


def test_a_gap_waits_and_order_is_by_nonce(driver: Driver) -> None:
    driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(), nonce=1))
    driver.block()
    assert len(driver.chain.head.extrinsics) == 1, "only the timestamp"
    assert driver.chain.next_nonce(BOB.public_key) == 0
    driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(), nonce=0))
    assert driver.chain.next_nonce(BOB.public_key) == 2
    driver.block()
    assert len(driver.chain.head.extrinsics) == 3
    assert driver.state.accounts[BOB.public_key].nonce == 2


def test_mortal_extrinsic_lives_and_dies(driver: Driver) -> None:
    driver.block(10)
    era = mortal_era(10, 8)
    driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(), era=era))
    driver.block()
    assert len(driver.chain.head.extrinsics) == 2
    old = sign(driver.chain, BOB, TRANSFER, payment(), era=mortal_era(11, 4))
    driver.block(8)
    with pytest.raises(InvalidExtrinsic, match="bad signature"):
        driver.chain.submit(old)  # the era now names another birth block


def test_waiting_extrinsic_is_dropped_when_its_era_ends(driver: Driver) -> None:
    driver.block(10)
    raw = sign(driver.chain, BOB, TRANSFER, payment(), nonce=1, era=mortal_era(10, 4))
    driver.chain.submit(raw)
    driver.block(5)
    assert len(driver.chain.pool) == 0
    driver.chain.submit(sign(driver.chain, BOB, TRANSFER, payment(), nonce=0))
    driver.block()
    assert len(driver.chain.head.extrinsics) == 2, "the expired one did not come back"


def test_who_cannot_pay_is_refused(driver: Driver) -> None:
    with pytest.raises(InvalidExtrinsic, match="pay some fees"):
        driver.chain.submit(sign(driver.chain, key("//Nobody"), TRANSFER, payment()))


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\xff" * 40, b"\x10\x84\x00\x00\x00"], ids=["none", "0", "ff", "short"])
def test_garbage_is_refused(driver: Driver, raw: bytes) -> None:
    with pytest.raises(InvalidExtrinsic) as refused:
        driver.chain.submit(raw)
    assert refused.value.code == 1002


def test_deep_nesting_is_refused_not_fatal(driver: Driver) -> None:
    body = b"\x0b\x02\x04" * 5000 + b"\x00\x00\x00"  # batch_all of batch_all of ...
    raw = sign(driver.chain, BOB, TRANSFER, payment(), tamper=body)
    with pytest.raises(InvalidExtrinsic):
        driver.chain.submit(raw)


def test_failed_call_keeps_fee_and_nonce_only(driver: Driver) -> None:
    before = driver.state.free(BOB.public_key)
    assert driver.run(BOB, TRANSFER, **payment(10**8)) == "Arithmetic.Underflow"
    assert driver.state.free(BOB.public_key) == before - driver.chain.config.transaction_fee
    assert driver.state.accounts[BOB.public_key].nonce == 1


def test_recent_blocks_stay_readable_and_old_ones_do_not() -> None:
    from template.localnet.errors import QueryError

    driver = Driver(history_blocks=8)
    driver.run(BOB, TRANSFER, **payment(5))
    there = driver.chain.head.hash
    driver.run(BOB, TRANSFER, **payment(5))
    assert driver.chain.state_at(there).free(CAROL.public_key) == 5 * TAO
    assert driver.state.free(CAROL.public_key) == 10 * TAO
    driver.block(10)
    with pytest.raises(QueryError, match="discarded"):
        driver.chain.state_at(there)
    assert driver.chain.state_at(driver.chain.genesis_hash).block == 0
