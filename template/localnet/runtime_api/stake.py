"""StakeInfoRuntimeApi, DelegateInfoRuntimeApi and SwapRuntimeApi."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from template.localnet.economy import alpha_price, quote_alpha_for_tao, quote_tao_for_alpha
from template.localnet.runtime_api.registry import Query, serves
from template.localnet.state import AccountId, ChainState

Position = tuple[AccountId, int]


def _stake_info(state: ChainState, hotkey: AccountId, coldkey: AccountId, netuid: int) -> dict[str, Any]:
    subnet = state.subnets.get(netuid)
    uid = None if subnet is None else subnet.uids.get(hotkey)
    return {
        "hotkey": hotkey,
        "coldkey": coldkey,
        "netuid": netuid,
        "stake": state.stake_of(hotkey, coldkey, netuid),
        "locked": 0,
        "emission": 0 if subnet is None or uid is None else subnet.emission[uid],
        "tao_emission": 0,
        "drain": 0,
        "is_registered": uid is not None,
    }


def _positions(state: ChainState, coldkey: AccountId) -> Iterator[tuple[AccountId, int]]:
    for (hotkey, netuid), held in state.stakes.items():
        if coldkey in held:
            yield hotkey, netuid


def _infos(state: ChainState, coldkey: AccountId) -> list[dict[str, Any]]:
    return [_stake_info(state, hotkey, coldkey, netuid) for hotkey, netuid in _positions(state, coldkey)]


@serves("StakeInfoRuntimeApi_get_stake_info_for_coldkey")
def get_stake_info_for_coldkey(query: Query, coldkey: AccountId) -> list[dict[str, Any]]:
    """Each position of a coldkey: hotkey, subnet, alpha."""
    return _infos(query.state, coldkey)


@serves("StakeInfoRuntimeApi_get_stake_info_for_coldkeys")
def get_stake_info_for_coldkeys(query: Query, coldkeys: list[AccountId]) -> list[tuple[AccountId, list[Any]]]:
    """The same for several."""
    return [(coldkey, _infos(query.state, coldkey)) for coldkey in coldkeys]


@serves("StakeInfoRuntimeApi_get_stake_info_for_hotkey_coldkey_netuid")
def get_stake_info(query: Query, hotkey: AccountId, coldkey: AccountId, netuid: int) -> dict[str, Any] | None:
    """One position of a coldkey; None if it is empty."""
    return _stake_info(query.state, hotkey, coldkey, netuid)


@serves("StakeInfoRuntimeApi_get_stake_availability_for_coldkeys")
def get_stake_availability(query: Query, coldkeys: list[AccountId], netuids: list[int] | None) -> dict[Any, Any]:
    """Per coldkey and subnet the staked alpha; nothing is ever locked on this chain."""
    result: dict[AccountId, dict[int, dict[str, int]]] = {}
    for coldkey in coldkeys:
        totals: dict[int, int] = {netuid: 0 for netuid in netuids or ()}
        for hotkey, netuid in _positions(query.state, coldkey):
            if netuids is None or netuid in netuids:
                totals[netuid] = totals.get(netuid, 0) + query.state.stake_of(hotkey, coldkey, netuid)
        result[coldkey] = {n: {"total": total, "locked": 0, "available": total} for n, total in totals.items()}
    return result


@serves("StakeInfoRuntimeApi_get_stake_fee")
def get_stake_fee(
    query: Query,
    origin: Position | None,
    origin_coldkey: AccountId,
    destination: Position | None,
    destination_coldkey: AccountId,
    amount: int,
) -> int:
    """What moving stake costs besides the transaction: nothing here."""
    return 0  # the pool takes no fee; the transaction fee is separate


@serves("StakeInfoRuntimeApi_get_coldkey_lock")
def get_coldkey_lock(query: Query, coldkey: AccountId, netuid: int) -> None:
    """Locked alpha: none, the calls that lock are not served."""
    return None  # the calls that lock stake are not served


@serves("StakeInfoRuntimeApi_get_hotkey_conviction")
def get_hotkey_conviction(query: Query, hotkey: AccountId, netuid: int) -> dict[str, int]:
    """How long stake on a hotkey is locked, fixed point: 0 here."""
    return {"bits": 0}


@serves("StakeInfoRuntimeApi_get_most_convicted_hotkey_on_subnet")
def get_most_convicted_hotkey(query: Query, netuid: int) -> None:
    """None: nothing is locked here."""
    return None


def _delegate(state: ChainState, hotkey: AccountId) -> dict[str, Any]:
    nominators: dict[AccountId, list[tuple[int, int]]] = {}
    for (key, netuid), held in state.stakes.items():
        if key == hotkey:
            for coldkey, amount in held.items():
                nominators.setdefault(coldkey, []).append((netuid, amount))
    member = [subnet for subnet in state.subnets.values() if hotkey in subnet.uids]
    return {
        "delegate_ss58": hotkey,
        "take": state.take_of(hotkey),
        "nominators": list(nominators.items()),
        "owner_ss58": state.owners[hotkey],
        "registrations": [subnet.netuid for subnet in member],
        "validator_permits": [s.netuid for s in member if s.validator_permit[s.uids[hotkey]]],
        "return_per_1000": 0,
        "total_daily_return": 0,
    }


@serves("DelegateInfoRuntimeApi_get_delegates")
def get_delegates(query: Query) -> list[dict[str, Any]]:
    """Every hotkey with an owner: take, stakers, subnets, returns."""
    return [_delegate(query.state, hotkey) for hotkey in query.state.owners]


@serves("DelegateInfoRuntimeApi_get_delegate")
def get_delegate(query: Query, hotkey: AccountId) -> dict[str, Any] | None:
    """One of them; None for a hotkey without an owner."""
    return _delegate(query.state, hotkey) if hotkey in query.state.owners else None


@serves("DelegateInfoRuntimeApi_get_delegated")
def get_delegated(query: Query, coldkey: AccountId) -> list[tuple[dict[str, Any], tuple[int, int]]]:
    """Where a coldkey has stake: the delegate, and (netuid, alpha in rao)."""
    state = query.state
    return [
        (_delegate(state, hotkey), (netuid, state.stake_of(hotkey, coldkey, netuid)))
        for hotkey, netuid in _positions(state, coldkey)
        if hotkey in state.owners
    ]


def _price(state: ChainState, netuid: int) -> int:
    """Rao of TAO for one alpha; 0 for an unknown subnet."""
    subnet = state.subnets.get(netuid)
    return 0 if subnet is None else int(alpha_price(subnet) * 10**9)


@serves("SwapRuntimeApi_current_alpha_price")
def current_alpha_price(query: Query, netuid: int) -> int:
    """Rao for 10^9 rao of alpha, as the pool stands."""
    return _price(query.state, netuid)


@serves("SwapRuntimeApi_current_alpha_price_all")
def current_alpha_price_all(query: Query) -> list[dict[str, int]]:
    """The same for every subnet."""
    return [{"netuid": netuid, "price": _price(query.state, netuid)} for netuid in sorted(query.state.subnets)]


def _simulated(tao: int, alpha: int, tao_slippage: int, alpha_slippage: int) -> dict[str, int]:
    return {
        "tao_amount": tao,
        "alpha_amount": alpha,
        "tao_fee": 0,
        "alpha_fee": 0,
        "tao_slippage": tao_slippage,
        "alpha_slippage": alpha_slippage,
    }


@serves("SwapRuntimeApi_sim_swap_tao_for_alpha")
def sim_swap_tao_for_alpha(query: Query, netuid: int, tao: int) -> dict[str, int]:
    """What `tao` rao would buy now, and the slippage; zeros for an unknown subnet."""
    subnet = query.state.subnets.get(netuid)
    if subnet is None:
        return _simulated(0, 0, 0, 0)
    quote = quote_tao_for_alpha(subnet, tao)
    return _simulated(tao, quote.out, 0, quote.slippage)


@serves("SwapRuntimeApi_sim_swap_alpha_for_tao")
def sim_swap_alpha_for_tao(query: Query, netuid: int, alpha: int) -> dict[str, int]:
    """What `alpha` rao would sell for now, and the slippage; zeros for an unknown subnet."""
    subnet = query.state.subnets.get(netuid)
    if subnet is None:
        return _simulated(0, 0, 0, 0)
    quote = quote_alpha_for_tao(subnet, alpha)
    return _simulated(quote.out, alpha, quote.slippage, 0)
