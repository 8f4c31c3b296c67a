"""Applies decoded calls to the state: origin, events, fees, roll-back of failed calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from template.localnet.codec import Enum
from template.localnet.errors import DispatchFailure
from template.localnet.spec import load_spec
from template.localnet.state import AccountId, ChainState

logger = logging.getLogger(__name__)

MODULE_INDEX = {name: pallet.index for name, pallet in load_spec().pallets.items()}
_PAYING_PALLETS = frozenset({"Balances", "Utility", "System"})
_PAYING_CALLS = frozenset(
    f"SubtensorModule.{name}"
    for name in (
        "add_stake",
        "remove_stake",
        "add_stake_limit",
        "remove_stake_limit",
        "remove_stake_full_limit",
        "unstake_all",
        "move_stake",
        "swap_stake",
        "transfer_stake",
    )
)


@dataclass
class Context:
    """Origin and effects of one call. ``signer`` is None for inherents; ``is_root`` is set inside Sudo.sudo."""

    state: ChainState
    signer: AccountId | None
    index: int | None
    is_root: bool = False

    def signed(self) -> AccountId:
        """The signer; raises BadOrigin when there is none."""
        if self.signer is None or self.is_root:
            raise DispatchFailure("BadOrigin")
        return self.signer

    def emit(self, pallet: str, event: str, value: Any = None) -> None:
        """Add an event of this extrinsic (or of the block, without an index) to the block's."""
        self.state.events.append((self.index, Enum(pallet, Enum(event, value))))


Handler = Callable[[Context, dict[str, Any]], None]
HANDLERS: dict[str, Handler] = {}


def handles(name: str) -> Callable[[Handler], Handler]:
    """Register the handler of ``Pallet.call``; the call must be in the interface tables."""
    pallet, call = name.split(".")
    assert any(item.name == call for item in load_spec().pallets[pallet].calls), name

    def register(handler: Handler) -> Handler:
        HANDLERS[name] = handler
        return handler

    return register


def call_name(call: Enum) -> str:
    """`Pallet.call` of a decoded call."""
    return f"{call.name}.{call.value.name}"


def run_call(context: Context, call: Enum) -> None:
    """Run one call in the given context; raises DispatchFailure and may then have changed the state."""
    HANDLERS[call_name(call)](context, call.value.value or {})


def pays_fee(call: Enum) -> bool:
    """Whether the signer pays the transaction fee: hotkey calls and registrations are free, as on the real chain."""
    return call.name in _PAYING_PALLETS or call_name(call) in _PAYING_CALLS


def fee_of(state: ChainState, call: Enum, tip: int) -> int:
    """Fee in rao, tip included."""
    return tip + (state.config.transaction_fee if pays_fee(call) else 0)


def encode_failure(failure: DispatchFailure) -> Enum:
    """Native value of sp_runtime::DispatchError."""
    if failure.kind == "Module":
        pallet, error = failure.name.split(".")
        number = load_spec().pallets[pallet].errors.index(error)
        return Enum("Module", {"index": MODULE_INDEX[pallet], "error": bytes((number, 0, 0, 0))})
    if failure.name:
        return Enum(failure.kind, Enum(failure.name))
    return Enum(failure.kind)


def dispatch_info(paid: bool, mandatory: bool = False) -> dict[str, Any]:
    """Weights are not metered here, so they are zero."""
    return {
        "weight": {"ref_time": 0, "proof_size": 0},
        "class": Enum("Mandatory" if mandatory else "Normal"),
        "pays_fee": Enum("Yes" if paid else "No"),
    }


def _run_guarded(context: Context, call: Enum) -> None:
    """A bug in a handler must fail its own extrinsic, not the whole block."""
    try:
        run_call(context, call)
    except DispatchFailure:
        raise
    except Exception as error:
        logger.exception("%s failed", call_name(call))
        raise DispatchFailure("Other") from error


def apply_signed(state: ChainState, signer: AccountId, call: Enum, tip: int, index: int) -> ChainState:
    """Apply one signed extrinsic whose validity was checked: nonce and fee stay, a failed call is rolled back.

    Returns the state to go on with, which is ``state`` or, after a failure, a clone taken before the call.
    """
    fee = fee_of(state, call, tip)
    state.bump_nonce(signer)
    if fee:
        state.withdraw(signer, fee)
        state.total_issuance -= fee
    before = state.clone()
    context = Context(state, signer, index)
    if fee:
        context.emit("Balances", "Withdraw", {"who": signer, "amount": fee})
    info = dispatch_info(paid=fee > 0)
    try:
        _run_guarded(context, call)
        outcome: tuple[str, dict[str, Any]] = ("ExtrinsicSuccess", {"dispatch_info": info})
    except DispatchFailure as failure:
        context = Context(before, signer, index)
        if fee:
            context.emit("Balances", "Withdraw", {"who": signer, "amount": fee})
        outcome = ("ExtrinsicFailed", {"dispatch_error": encode_failure(failure), "dispatch_info": info})
    if fee:
        context.emit("TransactionPayment", "TransactionFeePaid", {"who": signer, "actual_fee": fee - tip, "tip": tip})
    context.emit("System", *outcome)
    return context.state
