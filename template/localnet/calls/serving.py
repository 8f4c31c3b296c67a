"""SubtensorModule: serving of axons and prometheus endpoints; commitments of hotkeys.

Loopback addresses are accepted here: staging runs all neurons on one machine. The real runtime refuses them.
"""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.errors import DispatchFailure, module_error
from template.localnet.state import AccountId, ChainState

_MAX_COMMITMENT_FIELDS = 1
_MAX_PUBLIC_KEY = 64


def _check_address(ip: int, ip_type: int, port: int) -> None:
    if ip_type not in (4, 6):
        raise module_error("InvalidIpType")
    if (ip_type == 4 and ip >= 2**32 - 1) or (ip_type == 6 and ip == 2**128 - 1):
        raise module_error("InvalidIpAddress")
    if port == 0:
        raise module_error("InvalidPort")


def _check_registered(state: ChainState, hotkey: AccountId) -> None:
    if not any(hotkey in subnet.uids for subnet in state.subnets.values()):
        raise module_error("HotKeyNotRegisteredInNetwork")


def _check_rate(state: ChainState, netuid: int, known: dict[str, int] | None) -> None:
    limit = state.subnets[netuid].params.serving_rate_limit
    if known is not None and limit and state.block - known["block"] < limit:
        raise module_error("ServingRateLimitExceeded")


@handles("SubtensorModule.serve_axon")
@handles("SubtensorModule.serve_axon_tls")
def serve_axon(context: Context, args: dict[str, Any]) -> None:
    """The certificate of a TLS axon is its algorithm, one byte, and its public key; another one is ignored."""
    hotkey, state, netuid = context.signed(), context.state, args["netuid"]
    _check_address(args["ip"], args["ip_type"], args["port"])
    _check_registered(state, hotkey)
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    _check_rate(state, netuid, subnet.axons.get(hotkey))
    names = ("version", "ip", "port", "ip_type", "protocol", "placeholder1", "placeholder2")
    subnet.axons[hotkey] = {"block": state.block, **{name: args[name] for name in names}}
    certificate = args.get("certificate", b"")
    if 1 < len(certificate) <= 1 + _MAX_PUBLIC_KEY:
        subnet.certificates[hotkey] = {"public_key": certificate[1:], "algorithm": certificate[0]}
    context.emit("SubtensorModule", "AxonServed", (netuid, hotkey))


@handles("SubtensorModule.serve_prometheus")
def serve_prometheus(context: Context, args: dict[str, Any]) -> None:
    """A registered hotkey announces where its metrics are; as often as its axon may be."""
    hotkey, state, netuid = context.signed(), context.state, args["netuid"]
    _check_address(args["ip"], args["ip_type"], args["port"])
    _check_registered(state, hotkey)
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    _check_rate(state, netuid, subnet.prometheus.get(hotkey))
    names = ("version", "ip", "port", "ip_type")
    subnet.prometheus[hotkey] = {"block": state.block, **{name: args[name] for name in names}}
    context.emit("SubtensorModule", "PrometheusServed", (netuid, hotkey))


@handles("Commitments.set_commitment")
def set_commitment(context: Context, args: dict[str, Any]) -> None:
    """Store the latest commitment of a hotkey; nothing is reserved for it, and timelocked data is kept encrypted."""
    hotkey, state, netuid = context.signed(), context.state, args["netuid"]
    subnet = state.subnets.get(netuid)
    if subnet is None or hotkey not in subnet.uids:
        raise DispatchFailure("Module", "Commitments.AccountNotAllowedCommit")
    if len(args["info"]["fields"]) > _MAX_COMMITMENT_FIELDS:
        raise DispatchFailure("Module", "Commitments.TooManyFieldsInCommitmentInfo")
    state.commitments[(netuid, hotkey)] = {"deposit": 0, "block": state.block, "info": args["info"]}
    context.emit("Commitments", "Commitment", {"netuid": netuid, "who": hotkey})
