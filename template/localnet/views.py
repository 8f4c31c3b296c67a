"""Which part of the state each storage entry shows.

A view maps decoded key values to the native value of the entry (None: nothing stored) and lists the existing keys.
Declared entries without a view are never set on this chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from template.localnet.children import parents_of
from template.localnet.codec import Enum
from template.localnet.shield import public_key
from template.localnet.state import Account, ChainState, Subnet
from template.localnet.subnet_entries import SUBNET_ENTRIES

Keys = tuple[Any, ...]


class View(NamedTuple):
    """``get(state, keys) -> native value or None`` and ``keys(state) -> existing keys``."""

    get: Callable[[ChainState, Keys], Any]
    keys: Callable[[ChainState], Iterable[Keys]]


def _plain(read: Callable[[ChainState], Any]) -> View:
    return View(lambda state, keys: read(state), lambda state: [()])


def _per_subnet(read: Callable[[Subnet], Any]) -> View:
    def get(state: ChainState, keys: Keys) -> Any:
        subnet = state.subnets.get(keys[0])
        return None if subnet is None else read(subnet)

    def existing(state: ChainState) -> list[Keys]:
        return [(netuid,) for netuid, subnet in state.subnets.items() if read(subnet) is not None]

    return View(get, existing)


def _per_uid(read: Callable[[Subnet, int], Any]) -> View:
    def get(state: ChainState, keys: Keys) -> Any:
        subnet = state.subnets.get(keys[0])
        return read(subnet, keys[1]) if subnet is not None and keys[1] < subnet.size else None

    def existing(state: ChainState) -> list[Keys]:
        return [(netuid, uid) for netuid, subnet in state.subnets.items() for uid in range(subnet.size)]

    return View(get, existing)


def _per_hotkey(table: Callable[[Subnet], dict[bytes, Any]]) -> View:
    def get(state: ChainState, keys: Keys) -> Any:
        subnet = state.subnets.get(keys[0])
        return None if subnet is None else table(subnet).get(keys[1])

    def existing(state: ChainState) -> list[Keys]:
        return [(netuid, hotkey) for netuid, subnet in state.subnets.items() for hotkey in table(subnet)]

    return View(get, existing)


def _by_hotkey(table: Callable[[Subnet], dict[bytes, Any]]) -> View:
    """As :func:`_per_hotkey`, with the hotkey before the subnet."""
    view = _per_hotkey(table)
    return View(lambda state, keys: view.get(state, keys[::-1]), lambda state: [key[::-1] for key in view.keys(state)])


def _parents(subnet: Subnet) -> dict[bytes, Any]:
    children = {child for kin in subnet.children.values() for _, child in kin}
    return {child: parents_of(subnet, child) for child in sorted(children)}


def _table(table: Callable[[ChainState], dict[Any, Any]]) -> View:
    """A state dict whose keys are the storage keys (a single key is stored bare)."""

    def get(state: ChainState, keys: Keys) -> Any:
        return table(state).get(keys[0] if len(keys) == 1 else keys)

    def existing(state: ChainState) -> list[Keys]:
        return [key if isinstance(key, tuple) else (key,) for key in table(state)]

    return View(get, existing)


def account_info(account: Account) -> dict[str, Any]:
    """Native value of System.Account."""
    data = {"free": account.free, "reserved": 0, "frozen": 0, "flags": 1 << 127}
    return {"nonce": account.nonce, "consumers": 0, "providers": 1, "sufficients": 0, "data": data}


def _account(state: ChainState, keys: Keys) -> Any:
    account = state.accounts.get(keys[0])
    return None if account is None else account_info(account)


def _events(state: ChainState) -> list[dict[str, Any]]:
    records = []
    for index, event in state.events:
        phase = Enum("Initialization") if index is None else Enum("ApplyExtrinsic", index)
        records.append({"phase": phase, "event": event, "topics": []})
    return records


def _alpha(state: ChainState, keys: Keys) -> Any:
    amount = state.stake_of(keys[0], keys[1], keys[2])
    return {"bits": amount << 64} if amount else None


def _alpha_v2(state: ChainState, keys: Keys) -> Any:
    amount = state.stake_of(keys[0], keys[1], keys[2])
    return {"mantissa": amount, "exponent": 0} if amount else None


def _alpha_keys(state: ChainState) -> list[Keys]:
    return [(hotkey, coldkey, netuid) for (hotkey, netuid), held in state.stakes.items() for coldkey in held]


def _hotkey_total(shape: Callable[[int], Any]) -> View:
    def get(state: ChainState, keys: Keys) -> Any:
        total = state.hotkey_stake(keys[0], keys[1])
        return shape(total) if total else None

    return View(get, lambda state: list(state.stakes))


def _staking_hotkeys(state: ChainState, coldkey: bytes) -> list[bytes]:
    staked = [hotkey for (hotkey, _), held in state.stakes.items() if coldkey in held]
    return list(dict.fromkeys([*state.hotkeys_of(coldkey), *staked]))


def _membership(state: ChainState, keys: Keys) -> Any:
    subnet = state.subnets.get(keys[1])
    return True if subnet is not None and keys[0] in subnet.uids else None


def _coldkeys(state: ChainState) -> list[Keys]:
    holders = {coldkey for held in state.stakes.values() for coldkey in held}
    return [(coldkey,) for coldkey in sorted(holders | set(state.owners.values()))]


def _block_hash(state: ChainState, keys: Keys) -> Any:
    return state.block_hashes.get(keys[0]) if keys[0] < state.block else None


def _commits(state: ChainState, keys: Keys) -> Any:
    subnet = state.subnets.get(keys[0])
    return None if subnet is None else subnet.commits.get(keys[1])


_SETTINGS: dict[str, Callable[[ChainState], Any]] = {
    "TaoWeight": lambda state: state.config.tao_weight,
    "StakeThreshold": lambda state: state.config.stake_threshold,
    "StartCallDelay": lambda state: state.config.start_call_delay,
    "NetworkRateLimit": lambda state: state.config.network_rate_limit,
    "SubnetLimit": lambda state: state.config.subnet_limit,
    "NetworkMinLockCost": lambda state: state.config.subnet_lock_cost,
    "NetworkLastLockCost": lambda state: state.config.subnet_lock_cost,
    "TxRateLimit": lambda state: 0,
    "AdminFreezeWindow": lambda state: 0,
    "OwnerHyperparamRateLimit": lambda state: 0,
    "PendingChildKeyCooldown": lambda state: state.child_cooldown,
}


def _total_stake(state: ChainState) -> int:
    return sum(subnet.tao_in for subnet in state.subnets.values())


_SYSTEM: dict[str, View] = {
    "System.Account": View(_account, lambda state: [(account,) for account in state.accounts]),
    "System.Number": _plain(lambda state: state.block),
    "System.ParentHash": _plain(lambda state: state.block_hashes.get(state.block - 1, bytes(32))),
    "System.BlockHash": View(_block_hash, lambda state: [(n,) for n in state.block_hashes if n < state.block]),
    "System.Events": _plain(_events),
    "Timestamp.Now": _plain(lambda state: state.now_ms),
    "Balances.TotalIssuance": _plain(lambda state: state.total_issuance),
    "MevShield.CurrentKey": _plain(lambda state: public_key(state.seed)),
    "MevShield.NextKey": _plain(lambda state: public_key(state.seed)),  # never rotates here
    "Sudo.Key": _plain(lambda state: state.sudo_key),
    "Commitments.CommitmentOf": _table(lambda state: state.commitments),
}

_ACCOUNTS: dict[str, View] = {
    "Owner": _table(lambda state: state.owners),
    "Delegates": _table(lambda state: {hotkey: state.take_of(hotkey) for hotkey in state.owners}),
    "OwnedHotkeys": View(
        lambda state, keys: state.hotkeys_of(keys[0]) or None,
        lambda state: [(coldkey,) for coldkey in dict.fromkeys(state.owners.values())],
    ),
    "StakingHotkeys": View(lambda state, keys: _staking_hotkeys(state, keys[0]) or None, _coldkeys),
    "IdentitiesV2": _table(lambda state: state.identities),
    "Alpha": View(_alpha, _alpha_keys),
    "AlphaV2": View(_alpha_v2, _alpha_keys),
    "TotalHotkeyAlpha": _hotkey_total(lambda total: total),
    "TotalHotkeyShares": _hotkey_total(lambda total: {"bits": total << 64}),
    "TotalHotkeySharesV2": _hotkey_total(lambda total: {"mantissa": total, "exponent": 0}),
    "IsNetworkMember": View(
        _membership, lambda state: [(key, netuid) for netuid, subnet in state.subnets.items() for key in subnet.keys]
    ),
    "TotalIssuance": _plain(lambda state: state.total_issuance),
    "TotalStake": _plain(_total_stake),
    "TotalNetworks": _plain(lambda state: len(state.subnets)),
}


def _blocks_since_last_step(state: ChainState, keys: Keys) -> Any:
    subnet = state.subnets.get(keys[0])
    return None if subnet is None else state.block - max(subnet.last_step_block, subnet.registered_at)


VIEWS: dict[str, View] = {
    **_SYSTEM,
    **{f"SubtensorModule.{name}": view for name, view in _ACCOUNTS.items()},
    **{f"SubtensorModule.{name}": _plain(read) for name, read in _SETTINGS.items()},
    **{f"SubtensorModule.{name}": _per_subnet(read) for name, read in SUBNET_ENTRIES.items()},
    "SubtensorModule.BlocksSinceLastStep": View(
        _blocks_since_last_step, lambda state: [(netuid,) for netuid in state.subnets]
    ),
    "SubtensorModule.TimelockedWeightCommits": View(
        lambda state, keys: _commits(state, keys) or None,
        lambda state: [(netuid, epoch) for netuid, subnet in state.subnets.items() for epoch in subnet.commits],
    ),
    "SubtensorModule.AutoStakeDestination": _table(lambda state: state.auto_stake),
    "SubtensorModule.WeightCommits": _per_hotkey(lambda s: s.hash_commits),
    "SubtensorModule.NeuronCertificates": _per_hotkey(lambda s: s.certificates),
    "SubtensorModule.PendingChildKeys": _per_hotkey(lambda s: s.pending_children),
    "SubtensorModule.ChildKeys": _by_hotkey(lambda s: s.children),
    "SubtensorModule.ParentKeys": _by_hotkey(_parents),
    "SubtensorModule.ChildkeyTake": _by_hotkey(lambda s: s.childkey_takes),
    "SubtensorModule.Uids": _per_hotkey(lambda s: s.uids),
    "SubtensorModule.Axons": _per_hotkey(lambda s: s.axons),
    "SubtensorModule.Prometheus": _per_hotkey(lambda s: s.prometheus),
    "SubtensorModule.Keys": _per_uid(lambda s, uid: s.keys[uid]),
    "SubtensorModule.Weights": _per_uid(lambda s, uid: s.weights[uid]),
    "SubtensorModule.Bonds": _per_uid(lambda s, uid: s.bonds[uid]),
    "SubtensorModule.BlockAtRegistration": _per_uid(lambda s, uid: s.block_at_registration[uid]),
}
