"""A bundle holds all that an audit needs, and nothing that it is told opens another file."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace as edited

from benchmarks.audits.rehearsal import Miner
from iota_subnet.train import bundle
from iota_subnet.train.books import BadOrder
from iota_subnet.train.replay import replay
from tests.train.conftest import small_spec
from tests.train.test_replay import rehearsed


def miner() -> Miner:
    return rehearsed(small_spec(), batches=3)[1]


def test_the_finding_from_a_folder_is_the_one_from_memory(tmp_path: Path) -> None:
    made = miner()
    order = made.order()
    assert bundle.save(order, made.store.get, tmp_path / "a" / "b") == []
    read, blob = bundle.load(tmp_path / "a" / "b")
    assert read == order
    found, expected = replay(read, blob), replay(order, made.store.get)
    assert edited(found, seconds=0) == edited(expected, seconds=0)


def test_what_is_missing_is_told_and_the_rest_is_written(tmp_path: Path) -> None:
    made = miner()
    order = made.order()
    gone = made.passes[0].inputs[0]
    assert bundle.save(order, lambda digest: None if digest == gone else made.store.get(digest), tmp_path) == [gone]
    finding = replay(*bundle.load(tmp_path))
    assert finding.verdict == "withheld" and gone[:12] in finding.reason


def test_outputs_without_a_receipt_are_in_the_bundle(tmp_path: Path) -> None:
    made = miner()
    order = made.order(owed=tuple(edited(owed, output="", losses=(), done=False) for owed in made.owed))
    bundle.save(order, made.store.get, tmp_path)
    _, blob = bundle.load(tmp_path)
    assert all(blob(done.output) is not None for done in made.passes)


@pytest.mark.parametrize("name", ["../order.json", "/etc/passwd", "", "A" * 64, "é" * 64, "0" * 63, "0\0" * 32])
def test_a_name_that_is_no_digest_is_no_file(tmp_path: Path, name: str) -> None:
    made = miner()
    order = edited(made.order(), shards=(name,))
    bundle.save(order, lambda digest: b"x" if digest == name else made.store.get(digest), tmp_path)
    _, blob = bundle.load(tmp_path)
    assert blob(name) is None
    assert {path.name for path in tmp_path.iterdir()} == {"order.json", "blobs"}


@pytest.mark.parametrize("text", [None, b"", b"{}", b"[1", b'{"spec": "\xff"}'])
def test_a_folder_without_an_order_says_what_belongs_there(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "order.json").write_bytes(text)
    with pytest.raises(BadOrder, match=r"order\.json"):
        bundle.load(tmp_path)
