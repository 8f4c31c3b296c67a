"""Microbatches are published once each; a stream goes on where it was, also in a new process."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.core.events import BatchPublished, Event
from iota_subnet.train.data import DataError
from iota_subnet.validator.feed import Publisher
from iota_subnet.wire.blobs import DirStore

from .kit import NOW, eventually


class Stream:
    """As a feed over a stream: can only be read on, and says where it stands. Batches 5 and 6 have the same text."""

    def __init__(self) -> None:
        self.next = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def batch(self, n: int) -> bytes:
        self.may_go.wait(10)
        if n != self.next:
            raise DataError(f"microbatch {n} asked, but the stream stands at {self.next}")
        self.next += 1
        return f"tokens {5 if n == 6 else n}".encode()

    def state(self) -> dict[str, Any]:
        return {"next": self.next}

    def restore(self, state: dict[str, Any]) -> None:
        self.next = state["next"]


class Life:
    """One process's publisher on a folder that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.stream = Stream()
        self.events: list[Event] = []
        self.store = DirStore(folder / "blobs", 1 << 20)
        feed: Any = self.stream
        self.publisher = Publisher(feed, self.store, folder / "feed.json", self.events.append, lambda: NOW)

    async def publish(self, *batches: int) -> list[bytes | None]:
        await asyncio.gather(*(self.publisher.publish(batch) for batch in batches))
        events = [event for event in self.events if isinstance(event, BatchPublished)][-len(batches) :]
        assert [event.batch for event in events] == list(batches)
        assert all(event.tokens.urls == () for event in events)
        return [self.store.get(event.tokens.digest) for event in events]


async def test_a_new_process_gives_out_the_same_tokens_and_reads_on(tmp_path: Path) -> None:
    first = Life(tmp_path)
    given = await first.publish(0, 1, 2)
    first.publisher.forget(0)
    second = Life(tmp_path)
    assert await second.publish(1, 2) == given[1:]
    assert await second.publish(3) == [b"tokens 3"]


async def test_a_microbatch_asked_for_again_is_the_same_one(tmp_path: Path) -> None:
    life = Life(tmp_path)
    assert await life.publish(0) == await life.publish(0) == [b"tokens 0"]
    assert life.stream.next == 1


async def test_forgotten_tokens_are_let_go_unless_another_microbatch_has_the_same(tmp_path: Path) -> None:
    life = Life(tmp_path)
    await life.publish(*range(7))
    life.publisher.forget(0)
    life.publisher.forget(5)
    assert sorted(str(life.store.get(name)) for name in life.store.digests()) == [
        f"b'tokens {n}'" for n in (1, 2, 3, 4, 5)
    ]
    life.publisher.forget(6)
    assert len(life.store.digests()) == 4


async def test_a_microbatch_given_up_while_it_is_read_leaves_nothing_behind(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.stream.may_go.clear()
    reading = asyncio.create_task(life.publisher.publish(0))
    await eventually(lambda: life.publisher._lock.locked())
    life.publisher.forget(0)
    life.stream.may_go.set()
    await reading
    assert life.events == [] and life.store.digests() == []
    assert await life.publish(1) == [b"tokens 1"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"digests": 3, "feed": {}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "feed.json").write_text(text)
    with pytest.raises(DataError, match=r"feed\.json cannot be read.*another run directory"):
        Life(tmp_path)
