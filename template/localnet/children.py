"""Child keys: a validator lends shares of its stake on a subnet to other hotkeys and gets their part of the dividends.

The rules are those of the pallet as its interface shows them; no numbers of a real runtime were at hand for them.
"""

from __future__ import annotations

from template.localnet.codec import Enum
from template.localnet.state import MAX_U16, ROOT_NETUID, AccountId, ChainState, Children, Subnet

MAX_CHILDREN = 5
WHOLE = 2**64 - 1  # the share that is everything


def parents_of(subnet: Subnet, hotkey: AccountId) -> Children:
    """Shares that ``hotkey`` has of its parents, with the parents."""
    return tuple(
        (share, parent) for parent, children in subnet.children.items() for share, child in children if child == hotkey
    )


def apply_pending(state: ChainState, subnet: Subnet) -> None:
    """Let child keys count whose waiting time is over."""
    for parent, (children, block) in list(subnet.pending_children.items()):
        if block <= state.block:
            set_children(state, subnet, parent, children)
            del subnet.pending_children[parent]


def set_children(state: ChainState, subnet: Subnet, parent: AccountId, children: Children) -> None:
    """Replace the children of ``parent`` now."""
    if children:
        subnet.children[parent] = children
    else:
        subnet.children.pop(parent, None)
    event = Enum("SetChildren", (parent, subnet.netuid, list(children)))
    state.events.append((None, Enum("SubtensorModule", event)))


def counted_stake(state: ChainState, subnet: Subnet, hotkey: AccountId, source: int) -> int:
    """Stake (rao) of a hotkey on subnet ``source`` (this one or root) as it counts here: lent away and borrowed."""
    own = state.hotkey_stake(hotkey, source)
    if not subnet.children:
        return own
    lent = sum(own * share // WHOLE for share, _ in subnet.children.get(hotkey, ()))
    borrowed = (state.hotkey_stake(parent, source) * share // WHOLE for share, parent in parents_of(subnet, hotkey))
    return max(own - lent, 0) + sum(borrowed)


def _weight(state: ChainState, subnet: Subnet, hotkey: AccountId) -> int:
    root = state.hotkey_stake(hotkey, ROOT_NETUID)
    return state.hotkey_stake(hotkey, subnet.netuid) + (root * state.config.tao_weight >> 64)


def split_dividend(state: ChainState, subnet: Subnet, hotkey: AccountId, amount: int) -> list[tuple[AccountId, int]]:
    """Who gets a dividend of ``hotkey``: its parents by what they lent, less its take from other owners' keys."""
    parents = parents_of(subnet, hotkey)
    if not parents:
        return [(hotkey, amount)]
    kept = WHOLE - sum(share for share, _ in subnet.children.get(hotkey, ()))
    lent = [_weight(state, subnet, parent) * share // WHOLE for share, parent in parents]
    total = _weight(state, subnet, hotkey) * kept // WHOLE + sum(lent)
    take = subnet.childkey_takes.get(hotkey, 0)
    parts: list[tuple[AccountId, int]] = []
    for (_, parent), part in zip(parents, lent, strict=True):
        share = amount * part // total if total else 0
        if state.owners.get(parent) != state.owners.get(hotkey):
            share -= share * take // MAX_U16
        parts.append((parent, share))
    return [*parts, (hotkey, amount - sum(share for _, share in parts))]
