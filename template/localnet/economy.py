"""The alpha pool of a subnet: a constant-product market without fee, and stake moves through it.

Simplified against the real runtime, whose swap pallet has weights, fees and user liquidity. On root, TAO and stake are
exchanged one to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from template.localnet.children import counted_stake
from template.localnet.errors import module_error
from template.localnet.state import ROOT_NETUID, AccountId, ChainState, Subnet

_MIN_POOL = 1_000_000  # rao that always stay in each side of a pool, so that the price stays defined


@dataclass(frozen=True)
class Quote:
    """Result of a simulated swap: what comes out and what an ideal swap at the current price would have given more."""

    out: int
    slippage: int


def alpha_price(subnet: Subnet) -> float:
    """Current price in TAO per alpha; 1 on root, 0 for a subnet without pool."""
    if subnet.is_root:
        return 1.0
    return subnet.tao_in / subnet.alpha_in if subnet.alpha_in else 0.0


def quote_tao_for_alpha(subnet: Subnet, tao: int) -> Quote:
    """Alpha (rao) that ``tao`` rao would buy now."""
    if subnet.is_root:
        return Quote(tao, 0)
    if subnet.alpha_in <= _MIN_POOL or subnet.tao_in <= 0:
        return Quote(0, 0)
    out = subnet.alpha_in - -(-subnet.tao_in * subnet.alpha_in // (subnet.tao_in + tao))
    ideal = tao * subnet.alpha_in // subnet.tao_in
    return Quote(out, max(ideal - out, 0))


def quote_alpha_for_tao(subnet: Subnet, alpha: int) -> Quote:
    """TAO (rao) that ``alpha`` rao would sell for now."""
    if subnet.is_root:
        return Quote(alpha, 0)
    if subnet.tao_in <= _MIN_POOL or subnet.alpha_in <= 0:
        return Quote(0, 0)
    out = subnet.tao_in - -(-subnet.tao_in * subnet.alpha_in // (subnet.alpha_in + alpha))
    ideal = alpha * subnet.tao_in // subnet.alpha_in
    return Quote(out, max(ideal - out, 0))


def buy(subnet: Subnet, tao: int) -> int:
    """Swap TAO for alpha and return the alpha; raises InsufficientLiquidity for an empty result."""
    out = quote_tao_for_alpha(subnet, tao).out
    if out <= 0 or (not subnet.is_root and subnet.alpha_in - out < _MIN_POOL):
        raise module_error("InsufficientLiquidity")
    subnet.tao_in += tao
    subnet.alpha_out += out
    subnet.alpha_in -= 0 if subnet.is_root else out
    subnet.volume += tao
    return out


def sell(subnet: Subnet, alpha: int) -> int:
    """Swap alpha for TAO and return the TAO; raises InsufficientLiquidity for an empty result."""
    out = quote_alpha_for_tao(subnet, alpha).out
    if out <= 0 or (not subnet.is_root and subnet.tao_in - out < _MIN_POOL):
        raise module_error("InsufficientLiquidity")
    subnet.tao_in -= out
    subnet.alpha_out -= alpha
    subnet.alpha_in += 0 if subnet.is_root else alpha
    subnet.volume += out
    return out


def tao_within_limit(subnet: Subnet, tao: int, limit_price: int) -> int:
    """Largest part of ``tao`` whose purchase leaves the price at or below ``limit_price`` (rao of TAO per alpha)."""
    if subnet.is_root:
        return tao if limit_price >= 10**9 else 0
    product = subnet.tao_in * subnet.alpha_in
    # price after buying t is (tao_in + t)^2 / product
    bound = isqrt(product * limit_price // 10**9) - subnet.tao_in
    return max(min(tao, bound), 0)


def alpha_within_limit(subnet: Subnet, alpha: int, limit_price: int) -> int:
    """Largest part of ``alpha`` whose sale leaves the price at or above ``limit_price`` (rao of TAO per alpha)."""
    if subnet.is_root:
        return alpha if limit_price <= 10**9 else 0
    if limit_price == 0:
        return alpha
    product = subnet.tao_in * subnet.alpha_in
    bound = isqrt(product * 10**9 // limit_price) - subnet.alpha_in
    return max(min(alpha, bound), 0)


def alpha_within_ratio(origin: Subnet, destination: Subnet, alpha: int, limit: int) -> int:
    """Largest part of ``alpha`` whose swap leaves the ratio of the two prices at or above ``limit`` (1e-9)."""

    def allowed(part: int) -> bool:
        tao = quote_alpha_for_tao(origin, part).out
        bought = quote_tao_for_alpha(destination, tao).out
        sold = (1, 1) if origin.is_root else (origin.tao_in - tao, origin.alpha_in + part)
        paid = (1, 1) if destination.is_root else (destination.tao_in + tao, destination.alpha_in - bought)
        return sold[0] * paid[1] * 10**9 >= limit * sold[1] * paid[0]

    if allowed(alpha):
        return alpha
    low, high = 0, alpha  # the ratio only falls as more is swapped
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low if low and allowed(low) else 0


def stake_weight(state: ChainState, hotkey: AccountId, netuid: int) -> int:
    """Total stake of a hotkey on a subnet in rao: alpha plus weighted root TAO, child keys counted."""
    if netuid == ROOT_NETUID:
        return state.hotkey_stake(hotkey, netuid)
    subnet = state.subnets[netuid]
    root = counted_stake(state, subnet, hotkey, ROOT_NETUID)
    return counted_stake(state, subnet, hotkey, netuid) + (root * state.config.tao_weight >> 64)
