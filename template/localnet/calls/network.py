"""SubtensorModule: registration, start and identity of subnets; identities of coldkeys."""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.errors import DispatchFailure, module_error
from template.localnet.registration import create_subnet
from template.localnet.state import AccountId

_MAX_IDENTITY_FIELD = 1024  # bytes


def _checked_identity(identity: dict[str, bytes] | None) -> dict[str, bytes] | None:
    if identity is not None and any(len(value) > _MAX_IDENTITY_FIELD for value in identity.values()):
        raise module_error("InvalidIdentity")
    return identity


def _register(context: Context, hotkey: AccountId, identity: dict[str, bytes] | None) -> None:
    coldkey = context.signed()
    subnet = create_subnet(context.state, coldkey, hotkey, _checked_identity(identity))
    context.emit("Balances", "Withdraw", {"who": coldkey, "amount": context.state.config.subnet_lock_cost})
    context.emit("SubtensorModule", "NetworkAdded", (subnet.netuid, 1))


@handles("SubtensorModule.register_network")
def register_network(context: Context, args: dict[str, Any]) -> None:
    """A new subnet for the locked TAO; the signer owns it, `hotkey` is its first neuron."""
    _register(context, args["hotkey"], None)


@handles("SubtensorModule.register_network_with_identity")
def register_network_with_identity(context: Context, args: dict[str, Any]) -> None:
    """The same, with name, site and other public words at once."""
    _register(context, args["hotkey"], args["identity"])


@handles("SubtensorModule.start_call")
def start_call(context: Context, args: dict[str, Any]) -> None:
    """The owner lets emission begin, once the start delay has passed."""
    netuid, signer, state = args["netuid"], context.signed(), context.state
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    if signer != subnet.owner_coldkey:
        raise DispatchFailure("BadOrigin")
    if subnet.started_at is not None:
        raise module_error("FirstEmissionBlockNumberAlreadySet")
    if state.block < subnet.registered_at + state.config.start_call_delay:
        raise module_error("NeedWaitingMoreBlocksToStarCall")
    subnet.started_at = state.block + 1
    context.emit("SubtensorModule", "FirstEmissionBlockNumberSet", (netuid, subnet.started_at))


@handles("SubtensorModule.set_subnet_identity")
def set_subnet_identity(context: Context, args: dict[str, Any]) -> None:
    """The owner sets the subnet's public words; each has a greatest length."""
    netuid = args["netuid"]
    subnet = context.state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    if context.signed() != subnet.owner_coldkey:
        raise module_error("NotSubnetOwner")
    identity = {name: value for name, value in args.items() if name != "netuid"}
    subnet.identity = _checked_identity(identity)
    context.emit("SubtensorModule", "SubnetIdentitySet", netuid)


@handles("SubtensorModule.set_identity")
def set_identity(context: Context, args: dict[str, Any]) -> None:
    """A coldkey with a registered hotkey sets its own public words."""
    coldkey = context.signed()
    if not context.state.hotkeys_of(coldkey):
        raise module_error("HotKeyNotRegisteredInNetwork")
    _checked_identity(args)
    context.state.identities[coldkey] = dict(args)
    context.emit("SubtensorModule", "ChainIdentitySet", coldkey)
