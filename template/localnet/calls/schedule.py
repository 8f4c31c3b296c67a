"""SubtensorModule: what a subnet owner may change about its schedule.

The real runtime bounds the tempo to 360..50400 blocks and limits how often these calls run; staging needs neither.
"""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.errors import module_error
from template.localnet.state import MAX_U16, Subnet


def _owned(context: Context, netuid: int) -> Subnet:
    subnet = context.state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    if context.signed() != subnet.owner_coldkey:
        raise module_error("NotSubnetOwner")
    return subnet


@handles("SubtensorModule.set_tempo")
def set_tempo(context: Context, args: dict[str, Any]) -> None:
    """The owner or root sets how many blocks an epoch of the subnet has, at least 1."""
    subnet, tempo = _owned(context, args["netuid"]), args["tempo"]
    if tempo < 1:
        raise module_error("TempoOutOfBounds")
    subnet.set(tempo=tempo)
    context.emit("SubtensorModule", "TempoSet", (subnet.netuid, tempo))


@handles("SubtensorModule.set_activity_cutoff_factor")
def set_activity_cutoff_factor(context: Context, args: dict[str, Any]) -> None:
    """Set the activity cutoff as thousandths of the tempo."""
    subnet, factor = _owned(context, args["netuid"]), args["factor_milli"]
    cutoff = factor * subnet.params.tempo // 1000
    if not 1 <= cutoff <= MAX_U16:
        raise module_error("ActivityCutoffFactorMilliOutOfBounds")
    subnet.set(activity_cutoff=cutoff)
    context.emit("SubtensorModule", "ActivityCutoffFactorMilliSet", {"netuid": subnet.netuid, "factor_milli": factor})


@handles("SubtensorModule.trigger_epoch")
def trigger_epoch(context: Context, args: dict[str, Any]) -> None:
    """Run an extra epoch at the start of the next block."""
    subnet, fires_at = _owned(context, args["netuid"]), context.state.block + 1
    if subnet.pending_epoch_at:
        raise module_error("EpochTriggerAlreadyPending")
    subnet.pending_epoch_at = fires_at
    event = {"netuid": subnet.netuid, "by": context.signed(), "fires_at": fires_at}
    context.emit("SubtensorModule", "EpochTriggered", event)
