"""SubtensorModule: child keys and where a coldkey wants its miners' pay to be staked."""

from __future__ import annotations

from typing import Any

from template.localnet.children import MAX_CHILDREN, WHOLE, parents_of
from template.localnet.dispatch import Context, handles
from template.localnet.economy import stake_weight
from template.localnet.errors import DispatchFailure, module_error
from template.localnet.state import DEFAULT_TAKE, ROOT_NETUID, AccountId, Subnet


def _owned(context: Context, netuid: int, hotkey: AccountId) -> Subnet:
    if netuid == ROOT_NETUID:
        raise module_error("RegistrationNotPermittedOnRootSubnet")
    subnet = context.state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    if context.state.owners.get(hotkey) != context.signed():
        raise module_error("NonAssociatedColdKey")
    return subnet


@handles("SubtensorModule.set_children")
def set_children(context: Context, args: dict[str, Any]) -> None:
    """They count from the first epoch after the waiting time; an empty list revokes them."""
    hotkey, state = args["hotkey"], context.state
    subnet = _owned(context, args["netuid"], hotkey)
    children = tuple((share, child) for share, child in args["children"])
    keys = [child for _, child in children]
    if len(children) > MAX_CHILDREN:
        raise module_error("TooManyChildren")
    if hotkey in keys:
        raise module_error("InvalidChild")
    if sum(share for share, _ in children) > WHOLE:
        raise module_error("ProportionOverflow")
    if len(set(keys)) != len(keys):
        raise module_error("DuplicateChild")
    if {parent for _, parent in parents_of(subnet, hotkey)} & set(keys):
        raise module_error("ChildParentInconsistency")
    if hotkey != subnet.owner_hotkey and stake_weight(state, hotkey, subnet.netuid) < state.config.stake_threshold:
        raise module_error("NotEnoughStakeToSetChildkeys")
    block = state.block + state.child_cooldown
    subnet.pending_children[hotkey] = (children, block)
    context.emit("SubtensorModule", "SetChildrenScheduled", (hotkey, subnet.netuid, block, list(children)))


@handles("SubtensorModule.set_childkey_take")
def set_childkey_take(context: Context, args: dict[str, Any]) -> None:
    """A hotkey's owner sets its share (of 65535) of what it earns as a child; 18 % at most."""
    subnet = _owned(context, args["netuid"], args["hotkey"])
    if args["take"] > DEFAULT_TAKE:
        raise module_error("InvalidChildkeyTake")
    subnet.childkey_takes[args["hotkey"]] = args["take"]
    context.emit("SubtensorModule", "ChildKeyTakeSet", (context.signed(), args["take"]))


@handles("SubtensorModule.set_pending_childkey_cooldown")
def set_pending_childkey_cooldown(context: Context, args: dict[str, Any]) -> None:
    """Root sets after how many blocks new children count."""
    if not context.is_root:
        raise DispatchFailure("BadOrigin")
    context.state.child_cooldown = args["cooldown"]


@handles("SubtensorModule.set_coldkey_auto_stake_hotkey")
def set_coldkey_auto_stake_hotkey(context: Context, args: dict[str, Any]) -> None:
    """From now on, what the coldkey's miners earn on the subnet is staked to this hotkey."""
    coldkey, state, netuid, hotkey = context.signed(), context.state, args["netuid"], args["hotkey"]
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    if hotkey not in subnet.uids:
        raise module_error("HotKeyNotRegisteredInSubNet")
    if state.auto_stake.get((coldkey, netuid)) == hotkey:
        raise module_error("SameAutoStakeHotkeyAlreadySet")
    state.auto_stake[(coldkey, netuid)] = hotkey
    event = {"coldkey": coldkey, "netuid": netuid, "hotkey": hotkey}
    context.emit("SubtensorModule", "AutoStakeDestinationSet", event)
