"""SubtensorModule: registration of neurons and takes of delegates."""

from __future__ import annotations

from typing import Any

from template.localnet import registration
from template.localnet.dispatch import Context, handles
from template.localnet.errors import module_error
from template.localnet.state import DEFAULT_TAKE, ROOT_NETUID, AccountId


def _register(context: Context, netuid: int, hotkey: AccountId) -> None:
    coldkey = context.signed()
    burn = context.state.subnets[netuid].burn if netuid in context.state.subnets else 0
    uid = registration.register_neuron(context.state, coldkey, netuid, hotkey)
    context.emit("Balances", "Withdraw", {"who": coldkey, "amount": burn})
    context.emit("SubtensorModule", "NeuronRegistered", (netuid, 0 if uid is None else uid, hotkey))


@handles("SubtensorModule.burned_register")
def burned_register(context: Context, args: dict[str, Any]) -> None:
    """A hotkey becomes a neuron of a subnet for the present price, which is burnt."""
    _register(context, args["netuid"], args["hotkey"])


@handles("SubtensorModule.register_limit")
def register_limit(context: Context, args: dict[str, Any]) -> None:
    """As burned_register, unless the burn is above ``limit_price`` (rao)."""
    subnet = context.state.subnets.get(args["netuid"])
    if subnet is not None and not subnet.is_root and subnet.burn > args["limit_price"]:
        raise module_error("RegistrationPriceLimitExceeded")
    _register(context, args["netuid"], args["hotkey"])


@handles("SubtensorModule.register")
def register(context: Context, args: dict[str, Any]) -> None:
    """Registration by proof of work is off on every subnet here."""
    context.signed()
    if args["netuid"] not in context.state.subnets:
        raise module_error("SubnetNotExists")
    raise module_error("SubNetRegistrationDisabled")


@handles("SubtensorModule.root_register")
def root_register(context: Context, args: dict[str, Any]) -> None:
    """A hotkey gets a seat in the root subnet; the one with the least stake gives way."""
    uid = registration.register_root(context.state, context.signed(), args["hotkey"])
    context.emit("SubtensorModule", "NeuronRegistered", (ROOT_NETUID, uid, args["hotkey"]))


@handles("SubtensorModule.try_associate_hotkey")
def try_associate_hotkey(context: Context, args: dict[str, Any]) -> None:
    """Note that a hotkey is the signer's, if it is nobody's yet."""
    context.state.associate(args["hotkey"], context.signed())


def _owned(context: Context, hotkey: AccountId) -> AccountId:
    coldkey = context.signed()
    owner = context.state.owners.get(hotkey)
    if owner is None:
        raise module_error("HotKeyAccountNotExists")
    if owner != coldkey:
        raise module_error("NonAssociatedColdKey")
    return coldkey


@handles("SubtensorModule.decrease_take")
def decrease_take(context: Context, args: dict[str, Any]) -> None:
    """A hotkey's owner asks for a smaller share of what its stakers earn; must be smaller."""
    hotkey, take = args["hotkey"], args["take"]
    coldkey = _owned(context, hotkey)
    if take >= context.state.take_of(hotkey):
        raise module_error("DelegateTakeTooLow")
    context.state.takes[hotkey] = take
    context.emit("SubtensorModule", "TakeDecreased", (coldkey, hotkey, take))


@handles("SubtensorModule.increase_take")
def increase_take(context: Context, args: dict[str, Any]) -> None:
    """A hotkey's owner asks for a larger share of what its stakers earn; 18 % at most."""
    hotkey, take = args["hotkey"], args["take"]
    coldkey = _owned(context, hotkey)
    if take <= context.state.take_of(hotkey):
        raise module_error("DelegateTakeTooLow")
    if take > DEFAULT_TAKE:
        raise module_error("DelegateTakeTooHigh")
    context.state.takes[hotkey] = take
    context.emit("SubtensorModule", "TakeIncreased", (coldkey, hotkey, take))
