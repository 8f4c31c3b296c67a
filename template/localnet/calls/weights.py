"""SubtensorModule: setting weights. Checks run in the order measured on subtensor spec 293."""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.economy import stake_weight
from template.localnet.errors import module_error
from template.localnet.state import MAX_U16, ROOT_NETUID, ChainState, Subnet

MECHANISMS = 1  # every subnet has the one mechanism 0


def upscale(weights: list[int]) -> list[int]:
    """Scale so that the largest is 65535; all-zero weights stay as they are."""
    peak = max(weights, default=0)
    if peak == 0:
        return list(weights)
    return [value * MAX_U16 // peak for value in weights]


def _check_caller(state: ChainState, subnet: Subnet, hotkey: bytes, dests: list[int], version_key: int) -> int:
    """Who may set weights now; returns the uid."""
    if len(dests) > subnet.size:
        raise module_error("UidsLengthExceedUidsInSubNet")
    uid = subnet.uids.get(hotkey)
    if uid is None:
        raise module_error("HotKeyNotRegisteredInSubNet")
    if stake_weight(state, hotkey, subnet.netuid) < state.config.stake_threshold:
        raise module_error("NotEnoughStakeToSetWeights")
    if version_key < subnet.params.weights_version:
        raise module_error("IncorrectWeightVersionKey")
    last, limit = subnet.last_update[uid], subnet.params.weights_rate_limit
    if last and state.block - last < limit:
        raise module_error("SettingWeightsTooFast")
    return uid


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


def _set_weights(context: Context, netuid: int, dests: list[int], weights: list[int], version_key: int) -> None:
    hotkey, state = context.signed(), context.state
    if len(dests) != len(weights):
        raise module_error("WeightVecNotEqualSize")
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    uid = _check_caller(state, subnet, hotkey, dests, version_key)
    _check_weights(subnet, uid, dests, weights)
    subnet.weights[uid] = tuple(zip(dests, upscale(weights), strict=True))
    subnet.last_update[uid] = state.block
    context.emit("SubtensorModule", "WeightsSet", (netuid, uid))


def _plain_weights_allowed(context: Context, netuid: int) -> None:
    if netuid == ROOT_NETUID:
        raise module_error("CanNotSetRootNetworkWeights")
    subnet = context.state.subnets.get(netuid)
    if subnet is not None and subnet.params.commit_reveal:
        raise module_error("CommitRevealEnabled")


@handles("SubtensorModule.set_weights")
def set_weights(context: Context, args: dict[str, Any]) -> None:
    _plain_weights_allowed(context, args["netuid"])
    _set_weights(context, args["netuid"], args["dests"], args["weights"], args["version_key"])


@handles("SubtensorModule.set_mechanism_weights")
def set_mechanism_weights(context: Context, args: dict[str, Any]) -> None:
    _plain_weights_allowed(context, args["netuid"])
    if args["netuid"] in context.state.subnets and args["mecid"] >= MECHANISMS:
        raise module_error("MechanismDoesNotExist")
    _set_weights(context, args["netuid"], args["dests"], args["weights"], args["version_key"])
