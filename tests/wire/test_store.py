"""One contract, both stores."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobStore, DirStore, MemoryStore, NotStored, StoreFull, digest_of, is_digest

Make = Callable[..., BlobStore]


@pytest.fixture(params=["memory", "dir"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda max_bytes=100, max_blobs=10: MemoryStore(max_bytes, max_blobs)
    return lambda max_bytes=100, max_blobs=10: DirStore(tmp_path / "blobs", max_bytes, max_blobs)


def test_put_get_forget(make: Make) -> None:
    store = make()
    ref = store.put(b"hello")
    assert ref == BlobRef(digest_of(b"hello"), 5)
    assert store.get(ref.digest) == b"hello" and store.has(ref.digest) and store.size(ref.digest) == 5
    assert store.used == 5 and store.digests() == [ref.digest]
    assert store.forget([ref.digest, "0" * 64]) == 1
    assert store.get(ref.digest) is None and not store.has(ref.digest) and store.size(ref.digest) is None
    assert store.open(ref.digest) is None and store.used == 0


def test_empty_blob_and_views(make: Make) -> None:
    store = make()
    assert store.get(store.put(b"").digest) == b""
    data = bytearray(b"changing")
    ref = store.put(memoryview(data))  # type: ignore[arg-type]
    data[0] = 0
    assert store.get(ref.digest) == b"changing"


def test_a_name_that_is_known_is_taken(make: Make) -> None:
    store = make()
    known = digest_of(b"hello")
    assert store.put(b"hello", digest=known) == BlobRef(known, 5)
    assert store.get(known) == b"hello" and store.put(b"hello").digest == known and store.used == 5


def test_the_oldest_goes_first_and_a_second_put_makes_new(make: Make) -> None:
    store = make(max_bytes=30)
    a, b, c = (store.put(bytes([i]) * 10).digest for i in range(3))
    store.put(bytes([0]) * 10)
    d = store.put(b"d" * 10).digest
    assert store.digests() == [c, a, d] and not store.has(b) and store.used == 30


def test_a_number_of_blobs_is_a_limit_too(make: Make) -> None:
    store = make(max_blobs=2)
    digests = [store.put(bytes([i])).digest for i in range(3)]
    assert store.digests() == digests[1:]


def test_pinned_blobs_stay(make: Make) -> None:
    store = make(max_bytes=30)
    a, b = store.put(b"a" * 10, pin=True).digest, store.put(b"b" * 10).digest
    store.put(b"c" * 20)
    assert store.has(a) and not store.has(b)
    with pytest.raises(StoreFull, match="max_bytes"):
        store.put(b"e" * 21)
    assert store.used == 30, "a blob that never fits must not evict others"
    store.unpin([a])
    store.put(b"e" * 21)
    assert not store.has(a)


def test_forget_takes_pinned_ones_and_their_pins(make: Make) -> None:
    store = make(max_bytes=10)
    digest = store.put(b"a" * 10, pin=True).digest
    assert store.forget([digest]) == 1
    store.put(b"a" * 10)
    store.put(b"b" * 10)
    assert not store.has(digest)


def test_pin_names_what_is_missing_and_pins_nothing(make: Make) -> None:
    store = make(max_bytes=10)
    digest = store.put(b"a" * 10).digest
    with pytest.raises(NotStored) as caught:
        store.pin([digest, "0" * 64])
    assert caught.value.digest == "0" * 64
    store.put(b"b" * 10)
    assert not store.has(digest)


def test_all_places_pinned(make: Make) -> None:
    store = make(max_blobs=1)
    store.put(b"a", pin=True)
    with pytest.raises(StoreFull, match="max_blobs"):
        store.put(b"b")


def test_an_open_blob_outlives_its_eviction(make: Make) -> None:
    store = make(max_bytes=10)
    digest = store.put(b"0123456789").digest
    file = store.open(digest)
    assert file is not None
    with file:
        assert file.read(3) == b"012"
        store.put(b"x" * 10)
        file.seek(5)
        assert file.read() == b"56789"


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "/", "\x00", "0" * 64 + "\n"]
)
def test_strange_names_hold_nothing(make: Make, name: str) -> None:
    store = make()
    assert not is_digest(name)
    assert store.get(name) is None and store.open(name) is None and not store.has(name) and store.forget([name]) == 0


def test_limits_must_make_sense(make: Make) -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        make(max_bytes=0)


def test_many_threads(make: Make) -> None:
    store = make(max_bytes=2000, max_blobs=100)
    blobs = [bytes([i % 250]) * (i % 90 + 1) for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(store.put, blobs))
        found = list(pool.map(lambda ref: store.get(ref.digest), refs))
    assert all(data is None or digest_of(data) == ref.digest for data, ref in zip(found, refs, strict=True))
    sizes = [store.size(digest) or 0 for digest in store.digests()]
    assert store.used == sum(sizes) <= 2000


def test_dir_survives_a_restart_with_order_and_pins(tmp_path: Path) -> None:
    store = DirStore(tmp_path, 100)
    digests = [store.put(bytes([i]) * 10).digest for i in range(8)]
    store.pin(digests[:1])
    store.put(bytes([1]) * 10)
    again = DirStore(tmp_path, 100)
    order = [digests[0], *digests[2:], digests[1]]
    assert again.digests() == order and again.used == 80
    smaller = DirStore(tmp_path, 20)
    assert smaller.digests() == [digests[0], digests[1]]
    with pytest.raises(StoreFull):
        smaller.put(b"x" * 11)
    smaller.unpin(digests[:1])
    assert not list(tmp_path.glob("*.pin"))


def test_dir_ignores_strangers_and_drops_leftovers(tmp_path: Path) -> None:
    digest = DirStore(tmp_path, 100).put(b"good").digest
    (tmp_path / f".tmp-{'0' * 64}").write_bytes(b"half")
    (tmp_path / f"{'1' * 64}.pin").touch()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ("2" * 64)).mkdir()
    (tmp_path / ("3" * 64)).symlink_to("/etc/passwd")
    store = DirStore(tmp_path, 100)
    assert store.digests() == [digest]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([digest, "notes.txt", "2" * 64, "3" * 64])


@pytest.mark.parametrize("damage", [b"", b"goo", b"evil"])
def test_dir_never_gives_damaged_bytes(tmp_path: Path, damage: bytes) -> None:
    store = DirStore(tmp_path, 100)
    digest = store.put(b"good").digest
    (tmp_path / digest).write_bytes(damage)
    assert store.get(digest) is None and not store.has(digest) and store.used == 0
    assert store.put(b"good").digest == digest and store.get(digest) == b"good"


def test_dir_heals_a_lost_file(tmp_path: Path) -> None:
    store = DirStore(tmp_path, 100)
    digest = store.put(b"good", pin=True).digest
    os.unlink(tmp_path / digest)
    store.put(b"good")
    assert store.get(digest) == b"good" and store.used == 4
    os.unlink(tmp_path / digest)
    assert store.open(digest) is None and store.used == 0


def test_dir_cleans_up_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirStore(tmp_path, 100)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.put(b"good")
    assert store.used == 0 and not store.digests() and not list(tmp_path.iterdir())


class StoreMachine(RuleBasedStateMachine):
    """Both stores do what a plain dictionary with an order and pins does."""

    MAX_BYTES, MAX_BLOBS = 12, 4

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stores: list[BlobStore] = [MemoryStore(self.MAX_BYTES, self.MAX_BLOBS), self.reopened()]
        self.model: OrderedDict[str, bytes] = OrderedDict()
        self.pinned: set[str] = set()

    def reopened(self) -> DirStore:
        return DirStore(self.folder.name, self.MAX_BYTES, self.MAX_BLOBS)

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(data=st.binary(max_size=6))
    def put(self, data: bytes) -> None:
        digest = digest_of(data)
        fixed = sum(len(self.model[name]) for name in self.pinned)
        fits = digest in self.model or (fixed + len(data) <= self.MAX_BYTES and len(self.pinned) < self.MAX_BLOBS)
        for store in self.stores:
            if fits:
                assert store.put(data).digest == digest
            else:
                with pytest.raises(StoreFull):
                    store.put(data)
        if not fits:
            return
        if digest in self.model:
            self.model.move_to_end(digest)
            return
        for name in [name for name in self.model if name not in self.pinned]:
            used = sum(map(len, self.model.values()))
            if used + len(data) > self.MAX_BYTES or len(self.model) >= self.MAX_BLOBS:
                del self.model[name]
        self.model[digest] = data

    @precondition(lambda self: self.model)
    @rule(data=st.data(), what=st.sampled_from(["pin", "unpin", "forget"]))
    def handle(self, data: st.DataObject, what: str) -> None:
        digest = data.draw(st.sampled_from(sorted(self.model)))
        for store in self.stores:
            getattr(store, what)([digest])
        if what == "pin":
            self.pinned.add(digest)
        else:
            self.pinned.discard(digest)
        if what == "forget":
            del self.model[digest]

    @rule()
    def restart(self) -> None:
        self.stores[1] = self.reopened()

    @invariant()
    def same(self) -> None:
        for store in self.stores:
            assert store.digests() == list(self.model)
            assert store.used == sum(map(len, self.model.values())) <= self.MAX_BYTES
            assert all(store.get(digest) == data for digest, data in self.model.items())


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
