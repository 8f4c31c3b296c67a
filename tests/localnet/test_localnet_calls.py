"""Calls: effects and the error names of refused ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from localnet_kit import TAO, Driver, call, key

from template.localnet.codec import Enum
from template.localnet.dispatch import HANDLERS, Context
from template.localnet.epoch import is_epoch_block, next_epoch_block
from template.localnet.state import Account

BOB = key("//Bob")
SET_WEIGHTS = "SubtensorModule.set_weights"


@pytest.fixture
def staged() -> tuple[Driver, Any, Any]:
    """Subnet 1 with a staked validator (uid 1, permitted) and a miner (uid 2)."""
    driver = Driver(tempo=5)
    driver.subnet()
    validator = driver.member("//Validator", tao=1000)
    miner = driver.member("//Miner")
    driver.to_epoch()
    driver.block()
    return driver, validator, miner


def set_weights(driver: Driver, signer: Any, **changes: Any) -> str | None:
    args = {"netuid": 1, "dests": [2], "weights": [7], "version_key": 0, **changes}
    return driver.run(signer, SET_WEIGHTS, **args)


def test_weights_are_scaled_and_stored(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, _ = staged
    assert set_weights(driver, validator, dests=[2, 0], weights=[1, 3]) is None
    subnet = driver.state.subnets[1]
    assert subnet.weights[1] == ((2, 21845), (0, 65535))
    assert subnet.last_update[1] == driver.state.block
    assert set_weights(driver, validator, dests=[2, 0], weights=[0, 0]) is None
    assert driver.state.subnets[1].weights[1] == ((2, 0), (0, 0))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"netuid": 0}, "CanNotSetRootNetworkWeights"),
        ({"netuid": 9, "weights": [1, 2]}, "WeightVecNotEqualSize"),
        ({"netuid": 9}, "SubnetNotExists"),
        ({"dests": [0, 1, 2, 3], "weights": [1] * 4}, "UidsLengthExceedUidsInSubNet"),
        ({"dests": [2, 2], "weights": [1, 1]}, "DuplicateUids"),
        ({"dests": [9], "weights": [1]}, "UidVecContainInvalidOne"),
        ({"dests": [], "weights": []}, "WeightVecLengthIsLow"),
    ],
)
def test_weight_errors(staged: tuple[Driver, Any, Any], changes: dict[str, Any], error: str) -> None:
    driver, validator, _ = staged
    assert set_weights(driver, validator, **changes) == f"SubtensorModule.{error}"


def test_who_may_set_weights(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, miner = staged
    assert set_weights(driver, key("//Stranger")) == "SubtensorModule.HotKeyNotRegisteredInSubNet"
    assert set_weights(driver, miner, dests=[1]) == "SubtensorModule.NeuronNoValidatorPermit"
    assert set_weights(driver, miner, dests=[2]) is None, "its own weight needs no permit"
    for name, value, error in (
        ("sudo_set_weights_version_key", {"weights_version_key": 5}, "IncorrectWeightVersionKey"),
        ("sudo_set_commit_reveal_weights_enabled", {"enabled": True}, "CommitRevealEnabled"),
    ):
        assert driver.run(driver.alice, f"AdminUtils.{name}", netuid=1, **value) is None
        assert set_weights(driver, validator) == f"SubtensorModule.{error}"


def test_weights_rate_limit(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, _ = staged
    limit = {"netuid": 1, "weights_set_rate_limit": 3}
    assert driver.run(driver.alice, "AdminUtils.sudo_set_weights_set_rate_limit", **limit) is None
    assert set_weights(driver, validator) is None
    assert set_weights(driver, validator) == "SubtensorModule.SettingWeightsTooFast"
    driver.block()
    assert set_weights(driver, validator) is None, "an age equal to the limit is allowed"


def test_epoch_pays_the_miner_the_validator_and_the_owner(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, miner = staged
    assert set_weights(driver, validator) is None
    state = driver.state
    before = [state.hotkey_stake(k.public_key, 1) for k in (driver.alice_hot, validator, miner)]
    driver.to_epoch()
    subnet = driver.state.subnets[1]
    assert subnet.incentive == [0, 0, 65535]
    assert subnet.dividends == [0, 65535, 0]
    after = [driver.state.hotkey_stake(k.public_key, 1) for k in (driver.alice_hot, validator, miner)]
    assert all(now > then for now, then in zip(after, before, strict=True))
    assert subnet.emission[2] == pytest.approx(subnet.emission[1], abs=2)


def test_epoch_schedule() -> None:
    blocks = [block for block in range(100) if is_epoch_block(block, 3, 10)]
    assert all(later - earlier == 11 for earlier, later in pairwise(blocks))
    for block in range(50):
        assert next_epoch_block(block, 3, 10) == next(b for b in blocks if b > block)


def test_stake_goes_in_and_out(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, _ = staged
    hotkey, free = validator.public_key, driver.state.free(driver.alice.public_key)
    held = driver.state.stake_of(hotkey, driver.alice.public_key, 1)
    args = {"hotkey": hotkey, "netuid": 1}
    assert driver.run(driver.alice, "SubtensorModule.add_stake", **args, amount_staked=10 * TAO) is None
    gained = driver.state.stake_of(hotkey, driver.alice.public_key, 1) - held
    assert 0 < gained < 10 * TAO
    assert driver.run(driver.alice, "SubtensorModule.remove_stake", **args, amount_unstaked=gained) is None
    lost = free - driver.state.free(driver.alice.public_key)
    # fees, rounding, and the little the pool grew by meanwhile
    assert abs(lost) < TAO // 100


def test_stake_errors(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, _ = staged
    pauper = key("//Pauper")
    assert driver.run(BOB, "Balances.transfer_keep_alive", dest=Enum("Id", pauper.public_key), value=TAO) is None

    def stake(signer: Any, hotkey: bytes, netuid: int, amount: int) -> str | None:
        args = {"hotkey": hotkey, "netuid": netuid, "amount_staked": amount}
        return driver.run(signer, "SubtensorModule.add_stake", **args)

    known = validator.public_key
    assert stake(pauper, known, 1, 2 * TAO) == "SubtensorModule.NotEnoughBalanceToStake"
    assert stake(BOB, known, 1, 1) == "SubtensorModule.AmountTooLow"
    assert stake(BOB, b"\x07" * 32, 1, TAO) == "SubtensorModule.HotKeyAccountNotExists"
    assert stake(BOB, known, 99, TAO) == "SubtensorModule.SubnetNotExists"
    netuid = driver.subnet(start=False)
    assert stake(BOB, known, netuid, TAO) == "SubtensorModule.SubtokenDisabled"
    args = {"hotkey": known, "netuid": 1, "amount_unstaked": TAO}
    assert driver.run(BOB, "SubtensorModule.remove_stake", **args) == "SubtensorModule.NotEnoughStakeToWithdraw"
    limited = {"hotkey": known, "netuid": 1, "amount_staked": 10**6 * TAO // 2, "limit_price": 10**9}
    tight = driver.run(BOB, "SubtensorModule.add_stake_limit", **limited, allow_partial=False)
    assert tight == "SubtensorModule.SlippageTooHigh"


def test_stake_moves_between_hotkeys_coldkeys_and_subnets(staged: tuple[Driver, Any, Any]) -> None:
    driver, validator, miner = staged
    alice, origin, target = driver.alice.public_key, validator.public_key, miner.public_key
    move = {"origin_hotkey": origin, "destination_hotkey": target, "origin_netuid": 1, "destination_netuid": 1}
    assert driver.run(driver.alice, "SubtensorModule.move_stake", **move, alpha_amount=TAO) is None
    assert driver.state.stake_of(target, alice, 1) >= TAO
    second = driver.subnet()
    between = {"hotkey": origin, "origin_netuid": 1, "destination_netuid": second, "alpha_amount": TAO}
    assert driver.run(driver.alice, "SubtensorModule.swap_stake", **between) is None
    assert driver.state.stake_of(origin, alice, second) > 0
    give = {"destination_coldkey": BOB.public_key, "hotkey": origin, "origin_netuid": 1, "destination_netuid": 1}
    assert driver.run(driver.alice, "SubtensorModule.transfer_stake", **give, alpha_amount=TAO) is None
    assert driver.state.stake_of(origin, BOB.public_key, 1) == TAO


def serve(driver: Driver, signer: Any, **changes: Any) -> str | None:
    args = {
        "netuid": 1,
        "version": 1,
        "ip": 0x7F000001,
        "port": 8091,
        "ip_type": 4,
        "protocol": 4,
        "placeholder1": 0,
        "placeholder2": 0,
        **changes,
    }
    return driver.run(signer, "SubtensorModule.serve_axon", **args)


def test_serving(staged: tuple[Driver, Any, Any]) -> None:
    driver, _, miner = staged
    assert serve(driver, miner) is None, "loopback is accepted here"
    assert driver.state.subnets[1].axons[miner.public_key]["port"] == 8091
    assert serve(driver, miner, port=0) == "SubtensorModule.InvalidPort"
    assert serve(driver, miner, ip_type=5) == "SubtensorModule.InvalidIpType"
    assert serve(driver, miner, ip=2**32) == "SubtensorModule.InvalidIpAddress"
    assert serve(driver, key("//Stranger")) == "SubtensorModule.HotKeyNotRegisteredInNetwork"
    assert driver.run(driver.alice, "AdminUtils.sudo_set_serving_rate_limit", netuid=1, serving_rate_limit=9) is None
    assert serve(driver, miner) == "SubtensorModule.ServingRateLimitExceeded"


def test_commitment(staged: tuple[Driver, Any, Any]) -> None:
    driver, _, miner = staged
    info = {"fields": [Enum("Raw5", b"hello")]}
    assert driver.run(miner, "Commitments.set_commitment", netuid=1, info=info) is None
    stranger = driver.run(key("//Stranger"), "Commitments.set_commitment", netuid=1, info=info)
    assert stranger == "Commitments.AccountNotAllowedCommit"


def test_owner_and_sudo_set_hyperparameters(staged: tuple[Driver, Any, Any]) -> None:
    driver, _, _ = staged
    tempo = {"netuid": 1, "tempo": 7}
    assert driver.run(BOB, "AdminUtils.sudo_set_tempo", **tempo) == "BadOrigin"
    assert driver.run(driver.alice, "AdminUtils.sudo_set_tempo", **tempo) is None
    assert driver.state.subnets[1].params.tempo == 7
    root_call = call("AdminUtils.sudo_set_kappa", {"netuid": 1, "kappa": 1234})
    assert driver.run(BOB, "Sudo.sudo", call=root_call) == "Sudo.RequireSudo"
    assert driver.run(driver.alice, "Sudo.sudo", call=root_call) is None
    assert driver.state.subnets[1].params.kappa == 1234
    few = driver.run(driver.alice, "AdminUtils.sudo_set_max_allowed_uids", netuid=1, max_allowed_uids=1)
    assert few == "AdminUtils.MaxAllowedUIdsLessThanCurrentUIds"
    assert driver.run(driver.alice, "AdminUtils.sudo_set_tempo", netuid=1, tempo=0) == "AdminUtils.ValueNotInBounds"
    assert driver.run(driver.alice, "AdminUtils.sudo_set_tempo", netuid=9, tempo=1) == "AdminUtils.SubnetDoesNotExist"


def test_start_call_errors() -> None:
    driver = Driver(start_call_delay=3)
    netuid = driver.subnet(start=False)
    start = "SubtensorModule.start_call"
    assert driver.run(driver.alice, start, netuid=netuid) == "SubtensorModule.NeedWaitingMoreBlocksToStarCall"
    driver.block(3)
    assert driver.run(BOB, start, netuid=netuid) == "BadOrigin"
    assert driver.run(driver.alice, start, netuid=netuid) is None
    assert driver.run(driver.alice, start, netuid=netuid) == "SubtensorModule.FirstEmissionBlockNumberAlreadySet"
    assert driver.run(driver.alice, start, netuid=99) == "SubtensorModule.SubnetNotExists"


def test_network_registration_errors() -> None:
    driver = Driver(network_rate_limit=5, endowment=150 * TAO)
    driver.subnet()
    hotkey = driver.alice_hot.public_key
    register = "SubtensorModule.register_network"
    assert driver.run(driver.alice, register, hotkey=hotkey) == "SubtensorModule.NetworkTxRateLimitExceeded"
    assert driver.run(BOB, register, hotkey=hotkey) == "SubtensorModule.NonAssociatedColdKey"
    driver.block(5)
    assert driver.run(driver.alice, register, hotkey=hotkey) == "SubtensorModule.CannotAffordLockCost"


def remarks(*names: str) -> list[Enum]:
    return [call("System.remark", {"remark": name.encode()}) for name in names]


def test_batch_all_rolls_back_and_batch_stops() -> None:
    driver = Driver()
    carol = key("//Carol").public_key
    good = call("Balances.transfer_keep_alive", {"dest": Enum("Id", carol), "value": TAO})
    bad = call("Balances.transfer_keep_alive", {"dest": Enum("Id", carol), "value": 10**9 * TAO})
    driver.state.accounts[carol] = Account()
    assert driver.run(BOB, "Utility.batch_all", calls=[good, bad]) == "Arithmetic.Underflow"
    assert driver.state.free(carol) == 0
    assert "Balances.Transfer" not in driver.events()
    assert driver.run(BOB, "Utility.batch", calls=[good, bad, good]) is None
    assert driver.state.free(carol) == TAO
    assert "Utility.BatchInterrupted" in driver.events()
    assert driver.run(BOB, "Utility.batch_all", calls=remarks("a", "b")) is None


def test_transfer_rules() -> None:
    driver = Driver()
    dave, eve = key("//D1"), key("//E1").public_key
    fee = driver.chain.config.transaction_fee
    assert driver.run(BOB, "Balances.transfer_keep_alive", dest=Enum("Id", dave.public_key), value=TAO) is None
    tiny = driver.run(BOB, "Balances.transfer_allow_death", dest=Enum("Id", eve), value=1)
    assert tiny == "Token.BelowMinimum"
    emptying = {"dest": Enum("Id", eve), "value": TAO - fee - 100}
    assert driver.run(dave, "Balances.transfer_keep_alive", **emptying) == "Token.NotExpendable"
    assert driver.run(dave, "Balances.transfer_all", dest=Enum("Id", eve), keep_alive=False) is None
    assert driver.state.free(dave.public_key) == 0
    assert "System.KilledAccount" in driver.events()
    strange = driver.run(BOB, "Balances.transfer_keep_alive", dest=Enum("Address20", bytes(20)), value=TAO)
    assert strange == "CannotLookup"


def test_issuance_is_conserved_by_calls(staged: tuple[Driver, Any, Any]) -> None:
    """TAO is either free or in a pool; burns, fees and emission are accounted for."""
    driver, validator, _ = staged
    driver.run(BOB, "SubtensorModule.add_stake", hotkey=validator.public_key, netuid=1, amount_staked=50 * TAO)
    driver.run(BOB, "SubtensorModule.unstake_all", hotkey=validator.public_key)
    state = driver.state
    free = sum(account.free for account in state.accounts.values())
    pools = sum(subnet.tao_in for subnet in state.subnets.values())
    assert free + pools == state.total_issuance


def test_a_bug_in_a_handler_fails_its_extrinsic_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(context: Context, args: dict[str, Any]) -> None:
        context.state.deposit(BOB.public_key, TAO)
        raise ZeroDivisionError

    driver = Driver()
    monkeypatch.setitem(HANDLERS, "System.remark", broken)
    before = driver.state.free(BOB.public_key)
    assert driver.run(BOB, "System.remark", remark=b"x") == "Other"
    assert driver.state.free(BOB.public_key) == before - driver.chain.config.transaction_fee


def test_owner_changes_the_schedule() -> None:
    driver = Driver(tempo=50)
    driver.subnet()
    trigger = "SubtensorModule.trigger_epoch"
    assert driver.run(BOB, trigger, netuid=1) == "SubtensorModule.NotSubnetOwner"
    index = driver.state.subnets[1].epoch_index
    assert driver.run(driver.alice, trigger, netuid=1) is None
    driver.block()
    assert driver.state.subnets[1].epoch_index == index + 1
    assert driver.state.subnets[1].pending_epoch_at == 0
    assert driver.run(driver.alice, "SubtensorModule.set_tempo", netuid=1, tempo=9) is None
    factor = {"netuid": 1, "factor_milli": 3000}
    assert driver.run(driver.alice, "SubtensorModule.set_activity_cutoff_factor", **factor) is None
    assert driver.state.subnets[1].params.tempo == 9
    assert driver.state.subnets[1].params.activity_cutoff == 27
    none = driver.run(driver.alice, "SubtensorModule.set_tempo", netuid=1, tempo=0)
    assert none == "SubtensorModule.TempoOutOfBounds"
