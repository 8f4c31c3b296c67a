"""Balances: transfers. Accounts left below the existential deposit disappear, as on the real chain."""

from __future__ import annotations

from typing import Any

from template.localnet.codec import Enum
from template.localnet.dispatch import Context, handles
from template.localnet.errors import DispatchFailure
from template.localnet.state import Account, AccountId, ChainState


def address(value: Enum) -> AccountId:
    """Account id of a MultiAddress; only plain ids can be looked up here."""
    if value.name != "Id":
        raise DispatchFailure("CannotLookup")
    account: AccountId = value.value
    return account


def _reap(context: Context, account: AccountId) -> None:
    state: ChainState = context.state
    known = state.accounts[account]
    if known.free >= state.config.existential_deposit:
        return
    state.total_issuance -= known.free
    # the nonce outlives the balance, so that old extrinsics cannot be replayed
    state.accounts[account] = Account(0, known.nonce)
    context.emit("System", "KilledAccount", {"account": account})


def move_balance(context: Context, source: AccountId, dest: AccountId, amount: int, keep_alive: bool) -> None:
    """Move free balance; raises Arithmetic.Underflow, Token.BelowMinimum or Token.NotExpendable."""
    state, minimum = context.state, context.state.config.existential_deposit
    free = state.free(source)
    if amount > free:
        raise DispatchFailure("Arithmetic", "Underflow")
    if state.free(dest) + amount < minimum:
        raise DispatchFailure("Token", "BelowMinimum")
    if keep_alive and free - amount < minimum:
        raise DispatchFailure("Token", "NotExpendable")
    is_new = state.free(dest) == 0
    if source != dest:
        state.withdraw(source, amount)
        state.deposit(dest, amount)
    if is_new:
        context.emit("System", "NewAccount", {"account": dest})
        context.emit("Balances", "Endowed", {"account": dest, "free_balance": amount})
    context.emit("Balances", "Transfer", {"from": source, "to": dest, "amount": amount})
    _reap(context, source)


@handles("Balances.transfer_allow_death")
def transfer_allow_death(context: Context, args: dict[str, Any]) -> None:
    """Send rao, be it all that the signer has."""
    move_balance(context, context.signed(), address(args["dest"]), args["value"], keep_alive=False)


@handles("Balances.transfer_keep_alive")
def transfer_keep_alive(context: Context, args: dict[str, Any]) -> None:
    """Send rao, and keep the existential deposit."""
    move_balance(context, context.signed(), address(args["dest"]), args["value"], keep_alive=True)


@handles("Balances.transfer_all")
def transfer_all(context: Context, args: dict[str, Any]) -> None:
    """Send all that is free, but for the existential deposit with `keep_alive`."""
    signer, keep = context.signed(), bool(args["keep_alive"])
    reserve = context.state.config.existential_deposit if keep else 0
    amount = max(context.state.free(signer) - reserve, 0)
    move_balance(context, signer, address(args["dest"]), amount, keep_alive=keep)


@handles("Balances.force_transfer")
def force_transfer(context: Context, args: dict[str, Any]) -> None:
    """Root sends somebody else's rao."""
    if not context.is_root:
        raise DispatchFailure("BadOrigin")
    move_balance(context, address(args["source"]), address(args["dest"]), args["value"], keep_alive=False)
