"""The chain state: plain dataclasses, cloned once per block so that recent blocks stay readable.

Sharing rule: :meth:`ChainState.clone` copies lists and dicts one level deep. Whatever lies deeper (weight rows, the
stakes of one hotkey, accounts, hyperparameters) is immutable or replaced as a whole, never changed in place.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any

from template.localnet.codec import Enum
from template.localnet.config import ChainConfig

AccountId = bytes
Row = tuple[tuple[int, int], ...]  # ((uid, u16 value), ...)
HashCommit = tuple[bytes, int, int, int]  # hash, block, first and last block of its reveal
Children = tuple[tuple[int, AccountId], ...]  # ((share of 2^64 - 1, hotkey), ...)

ZERO_ACCOUNT: AccountId = bytes(32)
ROOT_NETUID = 0
MAX_U16 = 65535
DEFAULT_TAKE = 11796


@dataclass(frozen=True)
class Account:
    """Balance (rao) and next nonce of one account."""

    free: int = 0
    nonce: int = 0


@dataclass(frozen=True)
class Hyperparameters:
    """Per-subnet settings, units as in :class:`ChainConfig`."""

    tempo: int
    kappa: int
    rho: int
    immunity_period: int
    activity_cutoff: int
    max_uids: int
    max_validators: int
    min_allowed_weights: int
    max_weights_limit: int
    weights_version: int
    weights_rate_limit: int
    serving_rate_limit: int
    commit_reveal: bool
    reveal_period: int  # epochs between a commit and its reveal
    yuma3: bool
    liquid_alpha: bool
    alpha_low: int
    alpha_high: int
    alpha_sigmoid_steepness: int  # hundredths
    bonds_reset: bool
    bonds_moving_avg: int
    bonds_penalty: int
    min_burn: int
    max_burn: int
    adjustment_interval: int
    adjustment_alpha: int
    target_registrations: int
    max_registrations_per_block: int
    registration_allowed: bool
    transfers: bool = True  # of stake between coldkeys
    owner_cut: bool = True

    @staticmethod
    def genesis(config: ChainConfig) -> Hyperparameters:
        """What a freshly registered subnet starts with."""
        return Hyperparameters(
            tempo=config.tempo,
            kappa=config.kappa,
            rho=config.rho,
            immunity_period=config.immunity_period,
            activity_cutoff=config.activity_cutoff,
            max_uids=config.max_uids,
            max_validators=config.max_validators,
            min_allowed_weights=config.min_allowed_weights,
            max_weights_limit=MAX_U16,
            weights_version=0,
            weights_rate_limit=config.weights_rate_limit,
            serving_rate_limit=config.serving_rate_limit,
            commit_reveal=config.commit_reveal,
            reveal_period=config.reveal_period,
            yuma3=config.yuma3,
            liquid_alpha=False,
            alpha_low=45875,
            alpha_high=58982,
            alpha_sigmoid_steepness=1000,
            bonds_reset=False,
            bonds_moving_avg=config.bonds_moving_avg,
            bonds_penalty=config.bonds_penalty,
            min_burn=config.min_burn,
            max_burn=config.max_burn,
            adjustment_interval=config.adjustment_interval,
            adjustment_alpha=config.adjustment_alpha,
            target_registrations=config.target_registrations_per_interval,
            max_registrations_per_block=config.max_registrations_per_block,
            registration_allowed=True,
        )


def _shallow(record: Any) -> Any:
    twin = copy.copy(record)
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, list | dict):
            setattr(twin, item.name, value.copy())
    return twin


@dataclass
class Subnet:
    """One subnet. Lists are indexed by uid and all have the same length; u16 lists use 65535 = 1.0."""

    netuid: int
    owner_coldkey: AccountId
    owner_hotkey: AccountId
    registered_at: int
    params: Hyperparameters
    burn: int  # rao of TAO
    symbol: bytes
    tao_in: int = 0  # rao in the pool
    alpha_in: int = 0
    alpha_out: int = 0  # alpha outside of the pool
    tao_in_emission: int = 0  # injected in the last block
    alpha_in_emission: int = 0
    alpha_out_emission: int = 0
    volume: int = 0
    moving_price: float = 0.0  # TAO per alpha
    started_at: int | None = None
    pending_emission: int = 0
    pending_owner_cut: int = 0
    last_step_block: int = 0
    epoch_index: int = 0
    pending_epoch_at: int = 0  # block of a triggered epoch, 0 when there is none
    registrations_this_block: int = 0
    registrations_this_interval: int = 0
    burn_registrations_this_interval: int = 0
    last_adjustment_block: int = 0
    recycled: int = 0
    identity: dict[str, bytes] | None = None
    keys: list[AccountId] = field(default_factory=list)
    uids: dict[AccountId, int] = field(default_factory=dict)
    block_at_registration: list[int] = field(default_factory=list)
    last_update: list[int] = field(default_factory=list)
    active: list[bool] = field(default_factory=list)
    validator_permit: list[bool] = field(default_factory=list)
    consensus: list[int] = field(default_factory=list)
    incentive: list[int] = field(default_factory=list)
    dividends: list[int] = field(default_factory=list)
    emission: list[int] = field(default_factory=list)  # rao of alpha in the last epoch
    rank: list[int] = field(default_factory=list)
    trust: list[int] = field(default_factory=list)
    validator_trust: list[int] = field(default_factory=list)
    pruning_scores: list[int] = field(default_factory=list)
    stake_weight: list[int] = field(default_factory=list)
    weights: list[Row] = field(default_factory=list)
    bonds: list[Row] = field(default_factory=list)
    axons: dict[AccountId, dict[str, int]] = field(default_factory=dict)
    prometheus: dict[AccountId, dict[str, int]] = field(default_factory=dict)
    # epoch -> ((hotkey, block, encrypted weights, round that opens them), ...)
    commits: dict[int, tuple[tuple[AccountId, int, bytes, int], ...]] = field(default_factory=dict)
    hash_commits: dict[AccountId, tuple[HashCommit, ...]] = field(default_factory=dict)
    alpha_dividends: dict[AccountId, int] = field(default_factory=dict)
    children: dict[AccountId, Children] = field(default_factory=dict)  # by their parent
    pending_children: dict[AccountId, tuple[Children, int]] = field(default_factory=dict)  # and the block they wait for
    childkey_takes: dict[AccountId, int] = field(default_factory=dict)  # u16, where it was set
    certificates: dict[AccountId, dict[str, Any]] = field(default_factory=dict)

    def set(self, **changes: Any) -> None:
        """Replace hyperparameters; the record is shared with older states and is not changed in place."""
        self.params = replace(self.params, **changes)

    @property
    def size(self) -> int:
        """Number of uids in use."""
        return len(self.keys)

    @property
    def is_root(self) -> bool:
        """Whether it is subnet 0, which has no pool and no miners."""
        return self.netuid == ROOT_NETUID

    def clone(self) -> Subnet:
        """A copy that can be changed without this one; what is never changed in place is shared."""
        twin: Subnet = _shallow(self)
        return twin


@dataclass
class ChainState:
    """Everything a block can change. Account ids are 32 raw bytes, amounts are rao."""

    config: ChainConfig
    seed: bytes = b""  # makes the genesis hash one of its own, and derives what a real node would draw
    block: int = 0
    now_ms: int = 0
    sudo_key: AccountId = ZERO_ACCOUNT
    total_issuance: int = 0
    last_network_registration: int = 0
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    subnets: dict[int, Subnet] = field(default_factory=dict)
    owners: dict[AccountId, AccountId] = field(default_factory=dict)  # hotkey -> coldkey
    takes: dict[AccountId, int] = field(default_factory=dict)  # hotkey -> u16, where it was set
    auto_stake: dict[tuple[AccountId, int], AccountId] = field(default_factory=dict)  # (coldkey, netuid) -> hotkey
    child_cooldown: int = 0  # blocks until new child keys may count
    stakes: dict[tuple[AccountId, int], dict[AccountId, int]] = field(default_factory=dict)
    commitments: dict[tuple[int, AccountId], dict[str, Any]] = field(default_factory=dict)
    identities: dict[AccountId, dict[str, bytes]] = field(default_factory=dict)
    block_hashes: dict[int, bytes] = field(default_factory=dict)
    events: list[tuple[int | None, Enum]] = field(default_factory=list)  # (extrinsic index, event) of this block

    def clone(self) -> ChainState:
        """A copy of the whole state, for a block or a call that may fail."""
        twin: ChainState = _shallow(self)
        twin.subnets = {netuid: subnet.clone() for netuid, subnet in self.subnets.items()}
        twin.block_hashes = self.block_hashes  # shared by all states: only ever appended to
        return twin

    def free(self, account: AccountId) -> int:
        """Free balance in rao."""
        return self.accounts.get(account, Account()).free

    def nonce(self, account: AccountId) -> int:
        """Nonce that the next extrinsic of an account has in a block."""
        return self.accounts.get(account, Account()).nonce

    def deposit(self, account: AccountId, amount: int) -> None:
        """Add so many rao to an account's free balance."""
        known = self.accounts.get(account, Account())
        self.accounts[account] = Account(known.free + amount, known.nonce)

    def withdraw(self, account: AccountId, amount: int) -> None:
        """Take ``amount`` that the caller has checked to be there."""
        known = self.accounts[account]
        assert known.free >= amount
        self.accounts[account] = Account(known.free - amount, known.nonce)

    def bump_nonce(self, account: AccountId) -> None:
        """One more extrinsic of this account is in a block."""
        known = self.accounts.get(account, Account())
        self.accounts[account] = Account(known.free, known.nonce + 1)

    def stake_of(self, hotkey: AccountId, coldkey: AccountId, netuid: int) -> int:
        """Alpha (TAO on root) that ``coldkey`` has staked to ``hotkey``, in rao."""
        return self.stakes.get((hotkey, netuid), {}).get(coldkey, 0)

    def hotkey_stake(self, hotkey: AccountId, netuid: int) -> int:
        """All alpha staked to ``hotkey`` on a subnet by anyone, in rao."""
        return sum(self.stakes.get((hotkey, netuid), {}).values())

    def change_stake(self, hotkey: AccountId, coldkey: AccountId, netuid: int, delta: int) -> None:
        """Add (or with a negative delta remove) stake; an emptied position disappears."""
        holders = dict(self.stakes.get((hotkey, netuid), {}))
        left = holders.get(coldkey, 0) + delta
        assert left >= 0
        if left:
            holders[coldkey] = left
        else:
            holders.pop(coldkey, None)
        if holders:
            self.stakes[(hotkey, netuid)] = holders
        else:
            self.stakes.pop((hotkey, netuid), None)

    def take_of(self, hotkey: AccountId) -> int:
        """Delegate take as u16."""
        return self.takes.get(hotkey, DEFAULT_TAKE)

    def associate(self, hotkey: AccountId, coldkey: AccountId) -> None:
        """Make ``coldkey`` the owner of ``hotkey`` unless it has one."""
        self.owners.setdefault(hotkey, coldkey)

    def hotkeys_of(self, coldkey: AccountId) -> list[AccountId]:
        """The hotkeys that a coldkey owns."""
        return [hotkey for hotkey, owner in self.owners.items() if owner == coldkey]
