"""AdminUtils: hyperparameters of a subnet, set by its owner or through Sudo.

On this chain the owner may set every served parameter; the real runtime keeps some of them (tempo, kappa, max uids ...)
for root.
"""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.errors import DispatchFailure, module_error
from template.localnet.state import Subnet

_MIN_ACTIVITY_CUTOFF = 1
_MAX_OWNER_BONDS_AVERAGE = 975_000
_MIN_ALPHA = 65535 // 40  # 0.025

# call -> (its argument, the hyperparameter it sets)
_PLAIN = {
    "sudo_set_weights_set_rate_limit": ("weights_set_rate_limit", "weights_rate_limit"),
    "sudo_set_commit_reveal_weights_enabled": ("enabled", "commit_reveal"),
    "sudo_set_immunity_period": ("immunity_period", "immunity_period"),
    "sudo_set_kappa": ("kappa", "kappa"),
    "sudo_set_rho": ("rho", "rho"),
    "sudo_set_serving_rate_limit": ("serving_rate_limit", "serving_rate_limit"),
    "sudo_set_min_allowed_weights": ("min_allowed_weights", "min_allowed_weights"),
    "sudo_set_weights_version_key": ("weights_version_key", "weights_version"),
    "sudo_set_max_registrations_per_block": ("max_registrations_per_block", "max_registrations_per_block"),
    "sudo_set_network_registration_allowed": ("registration_allowed", "registration_allowed"),
    "sudo_set_adjustment_alpha": ("adjustment_alpha", "adjustment_alpha"),
    "sudo_set_bonds_penalty": ("bonds_penalty", "bonds_penalty"),
    "sudo_set_bonds_reset_enabled": ("enabled", "bonds_reset"),
    "sudo_set_liquid_alpha_enabled": ("enabled", "liquid_alpha"),
    "sudo_set_yuma3_enabled": ("enabled", "yuma3"),
    "sudo_set_toggle_transfer": ("toggle", "transfers"),
    "sudo_set_owner_cut_enabled": ("enabled", "owner_cut"),
}
# as above, for values that must be at least one
_POSITIVE = {
    "sudo_set_tempo": ("tempo", "tempo"),
    "sudo_set_target_registrations_per_interval": ("target_registrations_per_interval", "target_registrations"),
    "sudo_set_adjustment_interval": ("adjustment_interval", "adjustment_interval"),
    "sudo_set_commit_reveal_weights_interval": ("interval", "reveal_period"),
}


def _authorised(context: Context, netuid: int) -> Subnet:
    subnet = context.state.subnets.get(netuid)
    if subnet is None:
        raise DispatchFailure("Module", "AdminUtils.SubnetDoesNotExist")
    if not context.is_root and context.signed() != subnet.owner_coldkey:
        raise DispatchFailure("BadOrigin")
    return subnet


def _set(context: Context, subnet: Subnet, name: str, value: Any) -> None:
    subnet.set(**{name: value})
    if name == "tempo":
        context.emit("SubtensorModule", "TempoSet", (subnet.netuid, value))
    elif name == "weights_rate_limit":
        context.emit("SubtensorModule", "WeightsSetRateLimitSet", (subnet.netuid, value))
    elif name == "transfers":
        context.emit("SubtensorModule", "TransferToggle", (subnet.netuid, value))


def _install(call: str, argument: str, name: str, low: int) -> None:
    @handles(f"AdminUtils.{call}")
    def handler(context: Context, args: dict[str, Any]) -> None:
        subnet = _authorised(context, args["netuid"])
        if args[argument] < low:
            raise DispatchFailure("Module", "AdminUtils.ValueNotInBounds")
        _set(context, subnet, name, args[argument])


for _call, (_argument, _name) in _PLAIN.items():
    _install(_call, _argument, _name, 0)
for _call, (_argument, _name) in _POSITIVE.items():
    _install(_call, _argument, _name, 1)


@handles("AdminUtils.sudo_set_activity_cutoff")
def set_activity_cutoff(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets after how many blocks without weights a validator counts no more."""
    subnet = _authorised(context, args["netuid"])
    if args["activity_cutoff"] < _MIN_ACTIVITY_CUTOFF:
        raise module_error("ActivityCutoffTooLow")
    _set(context, subnet, "activity_cutoff", args["activity_cutoff"])


@handles("AdminUtils.sudo_set_max_allowed_uids")
def set_max_allowed_uids(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets how many neurons there may be, never fewer than there are."""
    subnet, limit = _authorised(context, args["netuid"]), args["max_allowed_uids"]
    if limit < subnet.size:
        raise DispatchFailure("Module", "AdminUtils.MaxAllowedUIdsLessThanCurrentUIds")
    _set(context, subnet, "max_uids", limit)


@handles("AdminUtils.sudo_set_max_allowed_validators")
def set_max_allowed_validators(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets how many permits there are, at most one for each uid."""
    subnet, limit = _authorised(context, args["netuid"]), args["max_allowed_validators"]
    if limit > subnet.params.max_uids:
        raise DispatchFailure("Module", "AdminUtils.MaxValidatorsLargerThanMaxUIds")
    _set(context, subnet, "max_validators", limit)


@handles("AdminUtils.sudo_set_bonds_moving_average")
def set_bonds_moving_average(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets the pace of bonds, in millionths; the owner's bound is lower."""
    subnet, value = _authorised(context, args["netuid"]), args["bonds_moving_average"]
    if value > 1_000_000 or (not context.is_root and value > _MAX_OWNER_BONDS_AVERAGE):
        raise DispatchFailure("Module", "AdminUtils.BondsMovingAverageMaxReached")
    _set(context, subnet, "bonds_moving_avg", value)


def _set_burn_bounds(context: Context, netuid: int, low: int | None, high: int | None) -> None:
    subnet = _authorised(context, netuid)
    low = subnet.params.min_burn if low is None else low
    high = subnet.params.max_burn if high is None else high
    if not 0 < low <= high:
        raise DispatchFailure("Module", "AdminUtils.ValueNotInBounds")
    subnet.set(min_burn=low, max_burn=high)
    subnet.burn = max(low, min(high, subnet.burn))


@handles("AdminUtils.sudo_set_alpha_values")
def set_alpha_values(context: Context, args: dict[str, Any]) -> None:
    """Only while liquid alpha is on; low and high within the real runtime's bounds."""
    subnet, low, high = _authorised(context, args["netuid"]), args["alpha_low"], args["alpha_high"]
    if not subnet.params.liquid_alpha:
        raise module_error("LiquidAlphaDisabled")
    if high < _MIN_ALPHA:
        raise module_error("AlphaHighTooLow")
    if not _MIN_ALPHA <= low <= high:
        raise module_error("AlphaLowOutOfRange")
    subnet.set(alpha_low=low, alpha_high=high)


@handles("AdminUtils.sudo_set_alpha_sigmoid_steepness")
def set_alpha_sigmoid_steepness(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets the steepness of liquid alpha; below 0 only root may."""
    subnet, steepness = _authorised(context, args["netuid"]), args["steepness"]
    if steepness < 0 and not context.is_root:
        raise DispatchFailure("Module", "AdminUtils.NegativeSigmoidSteepness")
    subnet.set(alpha_sigmoid_steepness=steepness)


@handles("AdminUtils.sudo_set_sn_owner_hotkey")
def set_owner_hotkey(context: Context, args: dict[str, Any]) -> None:
    """The owner or root names another hotkey of the owner as the subnet's."""
    subnet, hotkey = _authorised(context, args["netuid"]), args["hotkey"]
    if context.state.owners.get(hotkey) != subnet.owner_coldkey:
        raise module_error("NonAssociatedColdKey")
    subnet.owner_hotkey = hotkey
    context.emit("SubtensorModule", "SubnetOwnerHotkeySet", (subnet.netuid, hotkey))


@handles("AdminUtils.sudo_set_min_burn")
def set_min_burn(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets the least price of a registration, in rao."""
    _set_burn_bounds(context, args["netuid"], args["min_burn"], None)


@handles("AdminUtils.sudo_set_max_burn")
def set_max_burn(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets the highest price of a registration, in rao."""
    _set_burn_bounds(context, args["netuid"], None, args["max_burn"])
