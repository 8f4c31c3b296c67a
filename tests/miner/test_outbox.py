"""What a miner made stays until the thing it was made for is over, and not longer."""

from __future__ import annotations

import pytest

from iota_subnet.messages import Made
from iota_subnet.miner.outbox import Outbox
from iota_subnet.wire.blobs import MemoryStore, StoreFull, digest_of


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(100)


@pytest.fixture
def outbox(store: MemoryStore) -> Outbox:
    return Outbox(store)


def test_what_is_put_is_named_and_kept(outbox: Outbox, store: MemoryStore) -> None:
    assert outbox.put("a", b"data") == Made(digest_of(b"data"), 4)
    assert store.get(digest_of(b"data")) == b"data" and outbox.topics() == ["a"]


def test_a_dropped_topic_frees_all_of_its_bytes(outbox: Outbox, store: MemoryStore) -> None:
    outbox.put("a", b"one")
    outbox.put("a", b"two")
    outbox.put("b", b"three")
    outbox.drop("a")
    assert (store.used, outbox.topics()) == (5, ["b"])


def test_bytes_that_another_topic_needs_stay(outbox: Outbox, store: MemoryStore) -> None:
    outbox.put("a", b"same")
    outbox.put("b", b"same")
    outbox.drop("a")
    assert store.has(digest_of(b"same"))
    outbox.drop("b")
    assert store.used == 0


def test_dropping_what_is_not_there_is_harmless(outbox: Outbox) -> None:
    outbox.drop("never")
    assert outbox.topics() == []


def test_what_is_still_needed_is_not_pushed_out_by_what_is_new(outbox: Outbox, store: MemoryStore) -> None:
    made = outbox.put("a", b"x" * 60)
    with pytest.raises(StoreFull):
        outbox.put("b", b"y" * 60)
    assert store.has(made.digest) and outbox.topics() == ["a"]
