"""SubtensorModule: setting weights, plainly or committed and revealed later."""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.errors import module_error
from template.localnet.hashing import blake2_256
from template.localnet.state import ROOT_NETUID, ChainState, Subnet
from template.localnet.weighing import commit, set_weights

MECHANISMS = 1  # every subnet has the one mechanism 0


@handles("SubtensorModule.set_weights")
@handles("SubtensorModule.set_mechanism_weights")
def set_plain_weights(context: Context, args: dict[str, Any]) -> None:
    """Set weights at once, where commit-reveal is off."""
    netuid, state = args["netuid"], context.state
    if netuid == ROOT_NETUID:
        raise module_error("CanNotSetRootNetworkWeights")
    subnet = state.subnets.get(netuid)
    if subnet is not None and subnet.params.commit_reveal:
        raise module_error("CommitRevealEnabled")
    _check_mechanism(state, args)
    uid = set_weights(state, netuid, context.signed(), args["dests"], args["weights"], args["version_key"])
    context.emit("SubtensorModule", "WeightsSet", (netuid, uid))


def _check_mechanism(state: ChainState, args: dict[str, Any]) -> None:
    if args["netuid"] in state.subnets and args.get("mecid", 0) >= MECHANISMS:
        raise module_error("MechanismDoesNotExist")


def existing_subnet(state: ChainState, args: dict[str, Any]) -> Subnet:
    """The subnet that a call names, with the mechanism it names; raises DispatchFailure."""
    subnet = state.subnets.get(args["netuid"])
    if subnet is None:
        raise module_error("SubnetNotExists")
    _check_mechanism(state, args)
    return subnet


@handles("SubtensorModule.commit_timelocked_weights")
@handles("SubtensorModule.commit_timelocked_mechanism_weights")
def commit_timelocked_weights(context: Context, args: dict[str, Any]) -> None:
    """Take weights that are sealed until a round of drand; the chain itself reveals them."""
    hotkey, state, sealed, reveal_round = context.signed(), context.state, args["commit"], args["reveal_round"]
    subnet = existing_subnet(state, args)
    commit(state, subnet, hotkey, sealed, reveal_round, args["commit_reveal_version"])
    event = (hotkey, subnet.netuid, blake2_256(sealed), reveal_round)
    context.emit("SubtensorModule", "TimelockedWeightsCommitted", event)
