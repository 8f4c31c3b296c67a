"""Who may set which weights, in the order of checks measured on subtensor spec 293; plain and committed weights."""

from __future__ import annotations

import logging

from template.localnet.beacon import CannotReveal, open_weights
from template.localnet.codec import Enum
from template.localnet.economy import stake_weight
from template.localnet.errors import DispatchFailure, module_error
from template.localnet.state import MAX_U16, AccountId, ChainState, Subnet

logger = logging.getLogger(__name__)

COMMIT_REVEAL_VERSION = 4
MAX_COMMITS = 10  # of a hotkey in one epoch
_MAX_COMMIT_BYTES = 5000


def upscale(weights: list[int]) -> list[int]:
    """Scale so that the largest is 65535; all-zero weights stay as they are."""
    peak = max(weights, default=0)
    if peak == 0:
        return list(weights)
    return [value * MAX_U16 // peak for value in weights]


def _check_caller(state: ChainState, subnet: Subnet, hotkey: AccountId, dests: list[int], version_key: int) -> int:
    if len(dests) > subnet.size:
        raise module_error("UidsLengthExceedUidsInSubNet")
    uid = subnet.uids.get(hotkey)
    if uid is None:
        raise module_error("HotKeyNotRegisteredInSubNet")
    if stake_weight(state, hotkey, subnet.netuid) < state.config.stake_threshold:
        raise module_error("NotEnoughStakeToSetWeights")
    if version_key < subnet.params.weights_version:
        raise module_error("IncorrectWeightVersionKey")
    return uid


def _too_fast(state: ChainState, subnet: Subnet, uid: int) -> bool:
    last = subnet.last_update[uid]
    return bool(last) and state.block - last < subnet.params.weights_rate_limit


def _check_weights(subnet: Subnet, uid: int, dests: list[int], weights: list[int]) -> None:
    only_self = dests == [uid]
    if not only_self and not subnet.validator_permit[uid]:
        raise module_error("NeuronNoValidatorPermit")
    if len(set(dests)) != len(dests):
        raise module_error("DuplicateUids")
    if any(dest >= subnet.size for dest in dests):
        raise module_error("UidVecContainInvalidOne")
    if not only_self and len(dests) < subnet.params.min_allowed_weights:
        raise module_error("WeightVecLengthIsLow")
    limit = subnet.params.max_weights_limit
    if limit < MAX_U16 and not only_self:
        total = sum(weights)
        if total and max(weights) * MAX_U16 > limit * total:
            raise module_error("MaxWeightExceeded")


def set_weights(
    state: ChainState,
    netuid: int,
    hotkey: AccountId,
    dests: list[int],
    weights: list[int],
    version_key: int,
    *,
    revealed: bool = False,
) -> int:
    """Check and store the weights of a hotkey, return its uid; revealed ones were timed when they were committed.

    Raises DispatchFailure with the pallet error.
    """
    if len(dests) != len(weights):
        raise module_error("WeightVecNotEqualSize")
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    uid = _check_caller(state, subnet, hotkey, dests, version_key)
    if not revealed and _too_fast(state, subnet, uid):
        raise module_error("SettingWeightsTooFast")
    _check_weights(subnet, uid, dests, weights)
    subnet.weights[uid] = tuple(zip(dests, upscale(weights), strict=True))
    if not revealed:
        subnet.last_update[uid] = state.block
    return uid


def check_commit(state: ChainState, subnet: Subnet, hotkey: AccountId) -> int:
    """Uid of a hotkey that may commit weights now; raises DispatchFailure with the pallet error."""
    if not subnet.params.commit_reveal:
        raise module_error("CommitRevealDisabled")
    uid = subnet.uids.get(hotkey)
    if uid is None:
        raise module_error("HotKeyNotRegisteredInSubNet")
    if _too_fast(state, subnet, uid):
        raise module_error("CommittingWeightsTooFast")
    return uid


def commit(
    state: ChainState, subnet: Subnet, hotkey: AccountId, sealed: bytes, reveal_round: int, version: int
) -> None:
    """Keep encrypted weights of a hotkey until their epoch; raises DispatchFailure with the pallet error."""
    if subnet.params.commit_reveal and version != COMMIT_REVEAL_VERSION:
        raise module_error("IncorrectCommitRevealVersion")
    uid = check_commit(state, subnet, hotkey)
    waiting = subnet.commits.get(subnet.epoch_index, ())
    if len(sealed) > _MAX_COMMIT_BYTES or sum(item[0] == hotkey for item in waiting) >= MAX_COMMITS:
        raise module_error("TooManyUnrevealedCommits")
    subnet.commits[subnet.epoch_index] = (*waiting, (hotkey, state.block, sealed, reveal_round))
    subnet.last_update[uid] = state.block


def reveal_due(state: ChainState, subnet: Subnet) -> None:
    """At an epoch, before it runs: set the weights that were committed a reveal period ago; bad ones are dropped."""
    last = subnet.epoch_index + 1 - subnet.params.reveal_period
    for epoch in sorted(number for number in subnet.commits if number <= last):
        for hotkey, _, sealed, _ in subnet.commits.pop(epoch):
            try:
                sender, uids, weights, version_key = open_weights(sealed)
                if sender != hotkey:
                    raise CannotReveal("committed by another hotkey")
                set_weights(state, subnet.netuid, hotkey, uids, weights, version_key, revealed=True)
            except (CannotReveal, DispatchFailure) as error:
                logger.warning("committed weights in subnet %d were dropped: %s", subnet.netuid, error)
                continue
            event = Enum("TimelockedWeightsRevealed", (subnet.netuid, hotkey))
            state.events.append((None, Enum("SubtensorModule", event)))
