"""The file stays as large as what is to be kept, and what was kept can be checked and replayed."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest

from iota_subnet.core.events import Event, LeaseFinished, Tick
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.validator import snapshots
from iota_subnet.validator.ledger import BITE, Ledger, replay
from iota_subnet.validator.verify import verify

SPEC = RunSpec("ledger", 5)
OUTPUT = BlobRef("ab" * 32, 1 << 20, ("http://127.0.0.1:8093/v1/blobs/" + "ab" * 32,))


def receipts(first: int, count: int) -> list[Event]:
    """Events as large as a run's."""
    return [
        LeaseFinished(
            at=float(n), hotkey="5" * 48, lease=n, output=OUTPUT, losses=(3.0,) * 8, seconds=1.0, inner_step=n
        )
        for n in range(first, first + count)
    ]


def fill(ledger: Ledger, core: Orchestrator, count: int, every: int) -> None:
    """Append and handle so many events, with a snapshot after each `every`."""
    for _ in range(count // every):
        events = receipts(len(ledger), every)
        ledger.append(*events)
        for event in events:
            core.handle(event)
        ledger.save(core.state)


def disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


def rows(path: Path) -> tuple[int, int]:
    db = sqlite3.connect(path)
    count, first = db.execute("SELECT COUNT(*), MIN(seq) FROM events").fetchone()
    db.close()
    return count, first


def test_far_more_events_than_are_kept_do_not_make_the_file_larger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, core = Ledger(path, SPEC, keep=1_000), Orchestrator(SPEC)
    fill(ledger, core, 4_000, 250)
    bound = disk(path)
    fill(ledger, core, 36_000, 250)
    assert disk(path) < 1.25 * bound
    count, first = rows(path)
    assert 1_000 <= count <= 1_000 + 2 * 250 + 2 * BITE and first == 40_000 - count + 1
    assert len(ledger) == 40_000 and ledger.base().seq == first - 1
    found = verify(ledger)
    assert found.head == ledger.head() and found.events == count and found.snapshots >= 2
    ledger.close()
    again = Ledger(path, SPEC, keep=1_000)
    assert snapshots.encode(replay(SPEC, again).state) == snapshots.encode(core.state)
    again.append(Tick(at=1e6))
    assert again.head().seq == 40_001


def test_the_digest_does_not_depend_on_what_was_deleted(tmp_path: Path) -> None:
    heads = []
    for keep in (0, 128):
        ledger, core = Ledger(tmp_path / f"{keep}.sqlite", SPEC, keep), Orchestrator(SPEC)
        fill(ledger, core, 2_000, 100)
        heads.append(ledger.head())
    assert heads[0] == heads[1] and rows(tmp_path / "0.sqlite") == (2_000, 1)


def test_what_follows_the_second_newest_snapshot_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, core = Ledger(path, SPEC, keep=64), Orchestrator(SPEC)
    fill(ledger, core, 500, 250)
    ledger.append(*receipts(500, 5_000))
    assert ledger.snapshot_seqs() == [250, 500] and ledger.base().seq == 250
    assert verify(ledger).events == 5_250


@pytest.mark.parametrize("count", [0, 1])
def test_without_two_snapshots_nothing_is_deleted(tmp_path: Path, count: int) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, core = Ledger(path, SPEC, keep=64), Orchestrator(SPEC)
    fill(ledger, core, 100 * count, 100)
    ledger.append(*receipts(100 * count, 1_000))
    assert rows(path) == (1_000 + 100 * count, 1)


def test_snapshots_are_few_and_the_oldest_is_near_the_first_event(tmp_path: Path) -> None:
    """Else what was kept could not be played again."""
    ledger, core = Ledger(tmp_path / "ledger.sqlite", SPEC, keep=8_000), Orchestrator(SPEC)
    fill(ledger, core, 40_000, 100)
    seqs = ledger.snapshot_seqs()
    assert len(seqs) <= 12 and seqs[-2:] == [39_900, 40_000]
    assert 0 <= seqs[0] - ledger.base().seq <= 1_000 + 100
    assert all(later - sooner >= 1_000 for sooner, later in itertools.pairwise(seqs[:-2]))


def test_a_smaller_bound_shrinks_the_file_little_by_little(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger, core = Ledger(path, SPEC, keep=0), Orchestrator(SPEC)
    fill(ledger, core, 40_000, 10_000)
    ledger.close()
    before = path.stat().st_size
    small = Ledger(path, SPEC, keep=500)
    fill(small, replay(SPEC, small), 45_000, 500)
    small.close()
    assert path.stat().st_size < before / 2 and rows(path)[0] <= 500 + 2 * 500 + 2 * BITE
    assert verify(Ledger(path, SPEC)).head.seq == 85_000


def test_a_disk_that_is_full_deletes_nothing_it_cannot_account_for(tmp_path: Path) -> None:
    """The mark of the last deleted event and the deletion are one commit."""
    path = tmp_path / "ledger.sqlite"
    ledger, core = Ledger(path, SPEC, keep=64), Orchestrator(SPEC)
    fill(ledger, core, 500, 250)
    ledger._db.execute("CREATE TRIGGER full BEFORE UPDATE ON run BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    base = ledger.base()
    ledger.append(*receipts(500, 1_000))
    assert ledger.base() == base and len(ledger) == 1_500 and verify(ledger).events == 1_500 - base.seq
