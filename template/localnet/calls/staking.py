"""SubtensorModule: stake in, out and between hotkeys, coldkeys and subnets. Amounts are rao."""

from __future__ import annotations

from typing import Any

from template.localnet.dispatch import Context, handles
from template.localnet.economy import (
    alpha_within_limit,
    alpha_within_ratio,
    buy,
    quote_alpha_for_tao,
    sell,
    tao_within_limit,
)
from template.localnet.errors import module_error
from template.localnet.state import ROOT_NETUID, AccountId, ChainState, Subnet


def _open_subnet(state: ChainState, netuid: int) -> Subnet:
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    if subnet.started_at is None:
        raise module_error("SubtokenDisabled")
    return subnet


def _stake(context: Context, hotkey: AccountId, netuid: int, tao: int) -> None:
    coldkey, state = context.signed(), context.state
    subnet = _open_subnet(state, netuid)
    if tao < state.config.min_stake:
        raise module_error("AmountTooLow")
    if state.free(coldkey) < tao:
        raise module_error("NotEnoughBalanceToStake")
    if hotkey not in state.owners:
        raise module_error("HotKeyAccountNotExists")
    alpha = buy(subnet, tao)
    state.withdraw(coldkey, tao)
    state.change_stake(hotkey, coldkey, netuid, alpha)
    context.emit("SubtensorModule", "StakeAdded", (coldkey, hotkey, tao, alpha, netuid, 0))


def _held(context: Context, hotkey: AccountId, netuid: int, alpha: int) -> Subnet:
    """The subnet, after checking that the signer can take ``alpha`` out of it."""
    coldkey, state = context.signed(), context.state
    subnet = _open_subnet(state, netuid)
    if hotkey not in state.owners:
        raise module_error("HotKeyAccountNotExists")
    if state.stake_of(hotkey, coldkey, netuid) < alpha or alpha <= 0:
        raise module_error("NotEnoughStakeToWithdraw")
    if quote_alpha_for_tao(subnet, alpha).out < state.config.min_stake:
        raise module_error("AmountTooLow")
    return subnet


def _unstake(context: Context, hotkey: AccountId, netuid: int, alpha: int) -> int:
    subnet = _held(context, hotkey, netuid, alpha)
    coldkey, state = context.signed(), context.state
    tao = sell(subnet, alpha)
    state.change_stake(hotkey, coldkey, netuid, -alpha)
    state.deposit(coldkey, tao)
    context.emit("SubtensorModule", "StakeRemoved", (coldkey, hotkey, tao, alpha, netuid, 0))
    return tao


@handles("SubtensorModule.add_stake")
def add_stake(context: Context, args: dict[str, Any]) -> None:
    """Turn rao into a subnet's alpha on a hotkey, at the pool's price."""
    _stake(context, args["hotkey"], args["netuid"], args["amount_staked"])


@handles("SubtensorModule.add_stake_limit")
def add_stake_limit(context: Context, args: dict[str, Any]) -> None:
    """The same up to a price; without `allow_partial` all or nothing."""
    subnet = _open_subnet(context.state, args["netuid"])
    wanted = args["amount_staked"]
    possible = tao_within_limit(subnet, wanted, args["limit_price"])
    if possible < wanted and not args["allow_partial"]:
        raise module_error("SlippageTooHigh")
    _stake(context, args["hotkey"], args["netuid"], possible)


@handles("SubtensorModule.remove_stake")
def remove_stake(context: Context, args: dict[str, Any]) -> None:
    """Turn a subnet's alpha on a hotkey back into rao, at the pool's price."""
    _unstake(context, args["hotkey"], args["netuid"], args["amount_unstaked"])


@handles("SubtensorModule.remove_stake_limit")
def remove_stake_limit(context: Context, args: dict[str, Any]) -> None:
    """The same down to a price; without `allow_partial` all or nothing."""
    subnet = _open_subnet(context.state, args["netuid"])
    wanted = args["amount_unstaked"]
    possible = alpha_within_limit(subnet, wanted, args["limit_price"])
    if possible < wanted and not args["allow_partial"]:
        raise module_error("SlippageTooHigh")
    _unstake(context, args["hotkey"], args["netuid"], possible)


@handles("SubtensorModule.remove_stake_full_limit")
def remove_stake_full_limit(context: Context, args: dict[str, Any]) -> None:
    """All of the signer's alpha on a hotkey back into rao, unless that moves the price below the limit."""
    subnet = _open_subnet(context.state, args["netuid"])
    alpha = context.state.stake_of(args["hotkey"], context.signed(), args["netuid"])
    limit = args["limit_price"]
    if limit is not None and alpha_within_limit(subnet, alpha, limit) < alpha:
        raise module_error("SlippageTooHigh")
    _unstake(context, args["hotkey"], args["netuid"], alpha)


@handles("SubtensorModule.unstake_all")
def unstake_all(context: Context, args: dict[str, Any]) -> None:
    """Sell everything the signer holds with one hotkey; positions too small to sell stay."""
    context.signed()
    state, hotkey = context.state, args["hotkey"]
    if hotkey not in state.owners:
        raise module_error("HotKeyAccountNotExists")
    for netuid in list(state.subnets):
        _unstake_whole(context, hotkey, netuid)


@handles("SubtensorModule.unstake_all_alpha")
def unstake_all_alpha(context: Context, args: dict[str, Any]) -> None:
    """Move everything the signer holds with one hotkey on subnets to root; positions too small to sell stay."""
    coldkey, state, hotkey = context.signed(), context.state, args["hotkey"]
    if hotkey not in state.owners:
        raise module_error("HotKeyAccountNotExists")
    before = state.free(coldkey)
    for netuid in list(state.subnets):
        if netuid != ROOT_NETUID:
            _unstake_whole(context, hotkey, netuid)
    _stake(context, hotkey, ROOT_NETUID, state.free(coldkey) - before)


def _unstake_whole(context: Context, hotkey: AccountId, netuid: int) -> None:
    """Sell a whole position if it is large enough to be sold."""
    state, subnet = context.state, context.state.subnets[netuid]
    alpha = state.stake_of(hotkey, context.signed(), netuid)
    sellable = alpha and quote_alpha_for_tao(subnet, alpha).out >= state.config.min_stake
    if sellable and subnet.started_at is not None:
        _unstake(context, hotkey, netuid, alpha)


def _relocate(
    context: Context, hotkey: AccountId, target: tuple[AccountId, AccountId], netuids: tuple[int, int], alpha: int
) -> int:
    """Take alpha from the signer's position and give it to (hotkey, coldkey) ``target``; returns its TAO value."""
    coldkey, state = context.signed(), context.state
    origin = _held(context, hotkey, netuids[0], alpha)
    destination = _open_subnet(state, netuids[1])
    if target[0] not in state.owners:
        raise module_error("HotKeyAccountNotExists")
    if target[1] != coldkey and not (origin.params.transfers and destination.params.transfers):
        raise module_error("TransferDisallowed")
    state.change_stake(hotkey, coldkey, netuids[0], -alpha)
    if netuids[0] == netuids[1]:
        tao, received = quote_alpha_for_tao(origin, alpha).out, alpha
    else:
        tao = sell(origin, alpha)
        received = buy(destination, tao)
    state.change_stake(target[0], target[1], netuids[1], received)
    return tao


@handles("SubtensorModule.move_stake")
def move_stake(context: Context, args: dict[str, Any]) -> None:
    """The signer's alpha from one hotkey, and maybe subnet, to another."""
    coldkey, origin, target = context.signed(), args["origin_hotkey"], args["destination_hotkey"]
    netuids = (args["origin_netuid"], args["destination_netuid"])
    tao = _relocate(context, origin, (target, coldkey), netuids, args["alpha_amount"])
    context.emit("SubtensorModule", "StakeMoved", (coldkey, origin, netuids[0], target, netuids[1], tao))


@handles("SubtensorModule.transfer_stake")
def transfer_stake(context: Context, args: dict[str, Any]) -> None:
    """The signer's alpha on a hotkey becomes another coldkey's."""
    coldkey, receiver, hotkey = context.signed(), args["destination_coldkey"], args["hotkey"]
    netuids = (args["origin_netuid"], args["destination_netuid"])
    tao = _relocate(context, hotkey, (hotkey, receiver), netuids, args["alpha_amount"])
    context.emit("SubtensorModule", "StakeTransferred", (coldkey, receiver, hotkey, *netuids, tao))


@handles("SubtensorModule.swap_stake")
def swap_stake(context: Context, args: dict[str, Any]) -> None:
    """The signer's alpha on a hotkey from one subnet to another."""
    coldkey, hotkey = context.signed(), args["hotkey"]
    netuids = (args["origin_netuid"], args["destination_netuid"])
    if netuids[0] == netuids[1]:
        raise module_error("SameNetuid")
    tao = _relocate(context, hotkey, (hotkey, coldkey), netuids, args["alpha_amount"])
    context.emit("SubtensorModule", "StakeSwapped", (coldkey, hotkey, *netuids, tao))


@handles("SubtensorModule.swap_stake_limit")
def swap_stake_limit(context: Context, args: dict[str, Any]) -> None:
    """The limit is the price of the origin over that of the destination, in rao."""
    netuids = (args["origin_netuid"], args["destination_netuid"])
    origin, destination = (_open_subnet(context.state, netuid) for netuid in netuids)
    if netuids[0] == netuids[1]:
        raise module_error("SameNetuid")
    wanted = args["alpha_amount"]
    possible = alpha_within_ratio(origin, destination, wanted, args["limit_price"])
    if possible < wanted and not args["allow_partial"]:
        raise module_error("SlippageTooHigh")
    swap_stake(context, {**args, "alpha_amount": possible})
