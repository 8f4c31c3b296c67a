"""Transactions that wait for a block, ordered by sender nonce."""

from __future__ import annotations

from template.localnet.errors import InvalidExtrinsic
from template.localnet.extrinsic import SignedExtrinsic
from template.localnet.state import AccountId, ChainState

MAX_FUTURE = 1024  # how far a nonce may run ahead of the account


class Pool:
    """Bounded set of checked extrinsics, at most one per sender and nonce."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_slot: dict[tuple[AccountId, int], SignedExtrinsic] = {}
        self._hashes: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._by_slot)

    def raw(self) -> list[bytes]:
        """Waiting extrinsics as submitted."""
        return [extrinsic.raw for extrinsic in self._by_slot.values()]

    def add(self, extrinsic: SignedExtrinsic, account_nonce: int) -> None:
        """Raises InvalidExtrinsic for a stale or far future nonce, a duplicate, a taken slot or a full pool."""
        slot = (extrinsic.signer, extrinsic.nonce)
        if extrinsic.hash in self._hashes:
            raise InvalidExtrinsic(1013, "Transaction Already Imported", "0x" + extrinsic.hash.hex())
        if extrinsic.nonce < account_nonce:
            raise InvalidExtrinsic(1010, "Invalid Transaction", "Transaction is outdated")
        if extrinsic.nonce > account_nonce + MAX_FUTURE:
            raise InvalidExtrinsic(1010, "Invalid Transaction", "Transaction will be valid in the future")
        if slot in self._by_slot:
            raise InvalidExtrinsic(1014, "Priority is too low", "another transaction of this sender has this nonce")
        if len(self._by_slot) >= self._limit:
            raise InvalidExtrinsic(1016, "Immediately Dropped", "The transaction pool is full")
        self._by_slot[slot] = extrinsic
        self._hashes.add(extrinsic.hash)

    def next_nonce(self, account: AccountId, account_nonce: int) -> int:
        """First nonce not taken by the account or by waiting extrinsics."""
        nonce = account_nonce
        while (account, nonce) in self._by_slot:
            nonce += 1
        return nonce

    def has_ready(self, state: ChainState) -> bool:
        """Whether :meth:`take_ready` would return anything."""
        return any(nonce == state.nonce(signer) for signer, nonce in self._by_slot)

    def take_ready(self, state: ChainState) -> list[SignedExtrinsic]:
        """Remove and return, in order of arrival and nonce, what can go into the next block."""
        ready: list[SignedExtrinsic] = []
        for signer in dict.fromkeys(signer for signer, _ in self._by_slot):
            nonce = state.nonce(signer)
            while (found := self._by_slot.get((signer, nonce))) is not None:
                ready.append(found)
                nonce += 1
        for extrinsic in ready:
            self._drop(extrinsic)
        return ready

    def drop_stale(self, state: ChainState) -> list[SignedExtrinsic]:
        """Remove and return extrinsics that can never be included any more (nonce used, era over)."""
        stale = []
        for (signer, nonce), extrinsic in self._by_slot.items():
            used = nonce < state.nonce(signer)
            era = extrinsic.era
            over = era.period > 0 and state.block_hashes.get(era.birth(state.block + 1)) is None
            if used or over:
                stale.append(extrinsic)
        for extrinsic in stale:
            self._drop(extrinsic)
        return stale

    def _drop(self, extrinsic: SignedExtrinsic) -> None:
        del self._by_slot[(extrinsic.signer, extrinsic.nonce)]
        self._hashes.discard(extrinsic.hash)
