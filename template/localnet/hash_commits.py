"""Weights committed by their hash and revealed by the hotkey itself, in the epoch a reveal period later.

Hash and window are those measured on subtensor spec 293: epochs are counted by block number and tempo, so a change of
the tempo between commit and reveal moves the window.
"""

from __future__ import annotations

from dataclasses import dataclass

from template.localnet.codec import load_codecs
from template.localnet.errors import module_error
from template.localnet.hashing import blake2_256
from template.localnet.state import AccountId, ChainState, HashCommit, Subnet
from template.localnet.weighing import MAX_COMMITS, check_commit, set_weights

_HASHED = "(AccountId32, u16, Vec<u16>, Vec<u16>, Vec<u16>, u64)"


@dataclass(frozen=True)
class Reveal:
    """What a hash was made of; ``uids`` and ``values`` are u16 lists."""

    uids: list[int]
    values: list[int]
    salt: list[int]
    version_key: int

    def hash(self, hotkey: AccountId, netuid: int) -> bytes:
        """Blake2b-256 as clients compute it."""
        parts = (hotkey, netuid, self.uids, self.values, self.salt, self.version_key)
        return blake2_256(load_codecs().encode(_HASHED, parts))


def _epoch_of(subnet: Subnet, block: int) -> int:
    return (block + subnet.netuid + 1) // (subnet.params.tempo + 1)


def reveal_window(subnet: Subnet, block: int) -> tuple[int, int]:
    """First and last block in which a commit of ``block`` can be revealed."""
    length = subnet.params.tempo + 1
    first = (_epoch_of(subnet, block) + subnet.params.reveal_period) * length - subnet.netuid - 1
    return first, first + length - 1


def _waiting(state: ChainState, subnet: Subnet, hotkey: AccountId) -> tuple[list[HashCommit], set[bytes]]:
    """Commits that can still be revealed, and the hashes of those that ran out."""
    commits = list(subnet.hash_commits.get(hotkey, ()))
    over = [commit for commit in commits if state.block > reveal_window(subnet, commit[1])[1]]
    return commits[len(over) :], {commit[0] for commit in over}


def _keep(subnet: Subnet, hotkey: AccountId, commits: list[HashCommit]) -> None:
    if commits:
        subnet.hash_commits[hotkey] = tuple(commits)
    else:
        subnet.hash_commits.pop(hotkey, None)


def commit_hash(state: ChainState, subnet: Subnet, hotkey: AccountId, digest: bytes) -> None:
    """Keep a hash; raises DispatchFailure with the pallet error."""
    uid = check_commit(state, subnet, hotkey)
    commits, _ = _waiting(state, subnet, hotkey)
    if len(commits) >= MAX_COMMITS:
        raise module_error("TooManyUnrevealedCommits")
    _keep(subnet, hotkey, [*commits, (digest, state.block, *reveal_window(subnet, state.block))])
    subnet.last_update[uid] = state.block


def reveal_hash(state: ChainState, subnet: Subnet, hotkey: AccountId, reveal: Reveal) -> bytes:
    """Set committed weights and return their hash; commits before that one are forgotten.

    Raises DispatchFailure with the pallet error.
    """
    if not subnet.params.commit_reveal:
        raise module_error("CommitRevealDisabled")
    if hotkey not in subnet.hash_commits:
        raise module_error("NoWeightsCommitFound")
    commits, over = _waiting(state, subnet, hotkey)
    digest = reveal.hash(hotkey, subnet.netuid)
    place = next((i for i, commit in enumerate(commits) if commit[0] == digest), None)
    if place is None:
        if digest in over:
            raise module_error("ExpiredWeightCommit")
        raise module_error("InvalidRevealCommitHashNotMatch" if commits else "NoWeightsCommitFound")
    if state.block < reveal_window(subnet, commits[place][1])[0]:
        raise module_error("RevealTooEarly")
    _keep(subnet, hotkey, commits[place + 1 :])
    set_weights(state, subnet.netuid, hotkey, reveal.uids, reveal.values, reveal.version_key, revealed=True)
    return digest
