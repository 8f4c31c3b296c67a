"""Weights committed by hash: hash, window and errors as measured on a real runtime."""

from __future__ import annotations

from typing import Any

from localnet_kit import Driver, key

from template.localnet.hash_commits import Reveal, reveal_window
from template.localnet.state import Subnet
from template.localnet.weighing import MAX_COMMITS

PALLET = "SubtensorModule"


class Stage(Driver):
    """A subnet with commit-reveal: uid 1 is a validator with a permit, uids 2 and 3 are miners."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"tempo": 5, "commit_reveal": True, **settings})
        self.netuid = self.subnet()
        self.validator = self.member("//Val", tao=1000)
        for uri in ("//M1", "//M2"):
            self.member(uri)
        self.to_epoch()
        assert self.record.validator_permit[1]

    @property
    def record(self) -> Subnet:
        subnet: Subnet = self.state.subnets[self.netuid]
        return subnet

    def hash(self, salt: list[int]) -> bytes:
        return Reveal([2, 3], [1, 3], salt, 0).hash(bytes(self.validator.public_key or b""), self.netuid)

    def commit(self, *salt: int) -> str | None:
        digest = self.hash(list(salt))
        return self.run(self.validator, f"{PALLET}.commit_weights", netuid=self.netuid, commit_hash=digest)

    def reveal(self, *salt: int, values: tuple[int, int] = (1, 3)) -> str | None:
        args = {"netuid": self.netuid, "mecid": 0, "uids": [2, 3], "values": list(values), "salt": list(salt)}
        return self.run(self.validator, f"{PALLET}.reveal_mechanism_weights", **args, version_key=0)

    def to_window(self, committed_at: int) -> None:
        while self.state.block + 1 < reveal_window(self.record, committed_at)[0]:
            self.block()


def test_hash_and_window_are_the_measured_ones() -> None:
    hotkey = bytes.fromhex("40a5d16251e074c9dffc144655ae05442f8c56d655bd1f35f5f6325abe29a74a")
    digest = Reveal([2, 3], [1, 3], [7, 8, 9], 0).hash(hotkey, 2)
    assert digest.hex() == "7c21f28d642a9795e410a77cbdc29cef2c1c02b7522c96b9a26dec5e002d6c90"
    stage = Driver(tempo=2)
    stage.subnet()
    assert stage.subnet() == 2
    assert reveal_window(stage.state.subnets[2], 129) == (132, 134)


def test_revealed_in_its_epoch_only() -> None:
    stage = Stage()
    assert stage.commit(7) is None
    assert stage.events()[-2:] == [f"{PALLET}.WeightsCommitted", "System.ExtrinsicSuccess"]
    committed_at = stage.state.block
    assert stage.record.last_update[1] == committed_at
    assert stage.reveal(7) == f"{PALLET}.RevealTooEarly"
    stage.to_window(committed_at)
    assert stage.reveal(8) == f"{PALLET}.InvalidRevealCommitHashNotMatch"
    assert stage.record.weights[1] == ()
    assert stage.reveal(7) is None
    assert stage.record.weights[1] == ((2, 21845), (3, 65535))
    assert stage.record.last_update[1] == committed_at, "the commit was the update"
    assert stage.reveal(7) == f"{PALLET}.NoWeightsCommitFound"


def test_expires() -> None:
    stage = Stage()
    assert stage.commit(7) is None
    while stage.state.block < reveal_window(stage.record, stage.record.last_update[1])[1]:
        stage.block()
    assert stage.reveal(7) == f"{PALLET}.ExpiredWeightCommit"
    assert stage.reveal(8) == f"{PALLET}.NoWeightsCommitFound"


def test_who_may_commit_and_how_often() -> None:
    stage = Stage(tempo=40)
    commit, digest = f"{PALLET}.commit_weights", bytes(32)
    unknown = stage.run(key("//Stranger"), commit, netuid=stage.netuid, commit_hash=digest)
    assert unknown == f"{PALLET}.HotKeyNotRegisteredInSubNet"
    assert stage.run(stage.validator, commit, netuid=9, commit_hash=digest) == f"{PALLET}.SubnetNotExists"
    for salt in range(MAX_COMMITS):
        assert stage.commit(salt) is None
    assert stage.commit(99) == f"{PALLET}.TooManyUnrevealedCommits"
    limit = "AdminUtils.sudo_set_weights_set_rate_limit"
    assert stage.run(stage.alice, limit, netuid=stage.netuid, weights_set_rate_limit=30) is None
    assert stage.commit(0) == f"{PALLET}.CommittingWeightsTooFast"
    switch = "AdminUtils.sudo_set_commit_reveal_weights_enabled"
    assert stage.run(stage.alice, switch, netuid=stage.netuid, enabled=False) is None
    assert stage.commit(0) == f"{PALLET}.CommitRevealDisabled"
    assert stage.reveal(0) == f"{PALLET}.CommitRevealDisabled"


def test_several_at_once() -> None:
    stage = Stage(tempo=20)
    call = f"{PALLET}.batch_commit_weights"
    hashes = [stage.hash([1]), stage.hash([2]), stage.hash([3])]
    assert stage.run(stage.validator, call, netuids=[1, 9, 1], commit_hashes=hashes) is None
    failed = [f"{PALLET}.BatchWeightItemFailed", f"{PALLET}.BatchCompletedWithErrors"]
    assert [name for name in stage.events() if name in failed] == failed
    assert [commit[0] for commit in stage.record.hash_commits[bytes(stage.validator.public_key or b"")]] == [
        hashes[0],
        hashes[2],
    ]
    assert stage.run(stage.validator, call, netuids=[1], commit_hashes=[]) == f"{PALLET}.InputLengthsUnequal"
    stage.to_window(stage.state.block)
    both = {"uids_list": [[2, 3]] * 2, "values_list": [[1, 3]] * 2, "version_keys": [0, 0]}
    reveal = f"{PALLET}.batch_reveal_weights"
    wrong = stage.run(stage.validator, reveal, netuid=1, salts_list=[[1], [4]], **both)
    assert wrong == f"{PALLET}.InvalidRevealCommitHashNotMatch"
    assert stage.record.weights[1] == (), "all or none"
    assert stage.run(stage.validator, reveal, netuid=1, salts_list=[[1], [3]], **both) is None
    assert stage.record.weights[1] == ((2, 21845), (3, 65535)) and not stage.record.hash_commits


def test_plain_weights_on_several_subnets() -> None:
    stage = Stage(commit_reveal=False)
    rows = {"netuids": [1, 9], "weights": [[(2, 1), (3, 2)], [(0, 1)]], "version_keys": [0, 0]}
    assert stage.run(stage.validator, f"{PALLET}.batch_set_weights", **rows) is None
    assert stage.record.weights[1] == ((2, 32767), (3, 65535))
    assert f"{PALLET}.BatchWeightItemFailed" in stage.events()
