"""Failures of extrinsics: refused before inclusion, or dispatched and failed.

Names and module indices are those of subtensor spec 424; the descriptions are this project's own and reach clients as
the documentation of the error in the metadata.
"""

from __future__ import annotations

ERROR_DOCS: dict[str, str] = {
    "SubtensorModule.InvalidIpType": "the ip type is neither 4 nor 6",
    "SubtensorModule.InvalidIpAddress": "the address cannot be served",
    "SubtensorModule.InvalidPort": "port 0 cannot be served",
    "SubtensorModule.HotKeyNotRegisteredInSubNet": "the hotkey has no uid on this subnet",
    "SubtensorModule.HotKeyNotRegisteredInNetwork": "the hotkey has no uid on any subnet",
    "SubtensorModule.HotKeyAccountNotExists": "the hotkey is not associated with any coldkey",
    "SubtensorModule.NonAssociatedColdKey": "the hotkey belongs to another coldkey",
    "SubtensorModule.NotEnoughStakeToWithdraw": "less is staked than was asked for",
    "SubtensorModule.NotEnoughStakeToSetWeights": "the stake weight is below the threshold for setting weights",
    "SubtensorModule.NotEnoughBalanceToStake": "the free balance of the coldkey is too low",
    "SubtensorModule.NeuronNoValidatorPermit": "the neuron holds no validator permit",
    "SubtensorModule.WeightVecNotEqualSize": "uids and weights differ in length",
    "SubtensorModule.DuplicateUids": "a uid occurs twice",
    "SubtensorModule.UidVecContainInvalidOne": "a uid is not in use on this subnet",
    "SubtensorModule.WeightVecLengthIsLow": "fewer weights than the subnet asks for",
    "SubtensorModule.TooManyRegistrationsThisBlock": "the subnet takes no more registrations in this block",
    "SubtensorModule.TooManyRegistrationsThisInterval": "the subnet takes no more registrations in this interval",
    "SubtensorModule.HotKeyAlreadyRegisteredInSubNet": "the hotkey already has a uid on this subnet",
    "SubtensorModule.MaxWeightExceeded": "one weight exceeds the limit of the subnet",
    "SubtensorModule.SettingWeightsTooFast": "the weights rate limit has not passed yet",
    "SubtensorModule.IncorrectWeightVersionKey": "the version key is below the one the subnet asks for",
    "SubtensorModule.ServingRateLimitExceeded": "the serving rate limit has not passed yet",
    "SubtensorModule.UidsLengthExceedUidsInSubNet": "more weights than the subnet has neurons",
    "SubtensorModule.NetworkTxRateLimitExceeded": "the rate limit of subnet registration has not passed yet",
    "SubtensorModule.SubNetRegistrationDisabled": "registration is closed on this subnet",
    "SubtensorModule.NotSubnetOwner": "the signer does not own the subnet",
    "SubtensorModule.RegistrationNotPermittedOnRootSubnet": "use root_register for the root subnet",
    "SubtensorModule.StakeTooLowForRoot": "the root subnet is full and the stake does not beat its lowest member",
    "SubtensorModule.CanNotSetRootNetworkWeights": "weights on the root subnet are not supported",
    "SubtensorModule.NoNeuronIdAvailable": "no uid can be given on this subnet",
    "SubtensorModule.DelegateTakeTooLow": "the take would fall below its bounds",
    "SubtensorModule.DelegateTakeTooHigh": "the take would rise above its bounds",
    "SubtensorModule.CommitRevealEnabled": "the subnet takes commitments, not plain weights",
    "SubtensorModule.MechanismDoesNotExist": "the subnet has no such mechanism",
    "SubtensorModule.SubnetNotExists": "there is no such subnet",
    "SubtensorModule.AmountTooLow": "the amount is below the minimum",
    "SubtensorModule.InsufficientLiquidity": "the pool of the subnet cannot serve this amount",
    "SubtensorModule.SlippageTooHigh": "the price would move past the limit",
    "SubtensorModule.ActivityCutoffTooLow": "the activity cutoff is below its minimum",
    "SubtensorModule.TempoOutOfBounds": "the tempo must be at least one block",
    "SubtensorModule.ActivityCutoffFactorMilliOutOfBounds": "the activity cutoff would fall below one block",
    "SubtensorModule.EpochTriggerAlreadyPending": "an epoch is already due at the next block",
    "SubtensorModule.FirstEmissionBlockNumberAlreadySet": "the subnet has been started before",
    "SubtensorModule.NeedWaitingMoreBlocksToStarCall": "the subnet is too young to be started",
    "SubtensorModule.SubtokenDisabled": "the subnet has not been started, or does not exist",
    "SubtensorModule.SameNetuid": "origin and destination are the same",
    "SubtensorModule.SubnetLimitReached": "no more subnets can be registered",
    "SubtensorModule.CannotAffordLockCost": "the free balance is below the cost of a subnet",
    "SubtensorModule.InvalidIdentity": "a field of the identity is too long",
    "SubtensorModule.RegistrationPriceLimitExceeded": "registration costs more than the given limit",
    "AdminUtils.SubnetDoesNotExist": "there is no such subnet",
    "AdminUtils.MaxAllowedUIdsLessThanCurrentUIds": "the subnet has more neurons than that",
    "AdminUtils.MaxValidatorsLargerThanMaxUIds": "more validators than neurons are allowed",
    "AdminUtils.BondsMovingAverageMaxReached": "the owner may not set the moving average that high",
    "AdminUtils.ValueNotInBounds": "the value is out of bounds",
    "Sudo.RequireSudo": "the signer is not the sudo key",
    "Commitments.AccountNotAllowedCommit": "the hotkey has no uid on this subnet",
    "Commitments.TooManyFieldsInCommitmentInfo": "a commitment holds one field",
}


class LocalnetError(Exception):
    """Base of all errors of this package."""


class InvalidExtrinsic(LocalnetError):
    """An extrinsic that is not taken into the pool.

    ``code`` and ``data`` follow the JSON-RPC errors of Substrate nodes: 1002 undecodable, 1010 invalid transaction,
    1013 already imported, 1014 priority too low, 1016 pool full.
    """

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(f"{message}: {data}" if data else message)
        self.code = code
        self.message = message
        self.data = data


class DispatchFailure(LocalnetError):
    """A call that was included and failed.

    ``kind`` is "Module" (then ``name`` is ``Pallet.Error``), "BadOrigin", "Token" or "Arithmetic" (then ``name`` is
    the variant of that error).
    """

    def __init__(self, kind: str, name: str = "") -> None:
        super().__init__(name or kind)
        self.kind = kind
        self.name = name


def module_error(name: str) -> DispatchFailure:
    """Failure with an error of the SubtensorModule pallet."""
    return DispatchFailure("Module", f"SubtensorModule.{name}")


class QueryError(LocalnetError):
    """A query this chain cannot answer (unknown entry, unknown runtime API, discarded state)."""
