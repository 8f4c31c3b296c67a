"""The journal of events: append, then act. State, scores and disputes are a replay of it.

One SQLite file per run, written by one process, read by any. A commit per event with synchronous=NORMAL in WAL mode
survives kill -9 of the process; a power cut may lose the last moments, which costs miners a repeated lease and nothing
else. Bodies are msgpack: JSON has no way to write a loss that is not a number, and a ledger that cannot be read back is
none.

Snapshots bound the time of a start; deleting the oldest events bounds the file. Law: the state in a snapshot is the
replay of the events up to it, and whatever comes after the second newest snapshot is kept.
"""

from __future__ import annotations

import dataclasses
import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from iota_subnet import __version__
from iota_subnet.core.events import Event
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import RunState
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.validator import snapshots
from iota_subnet.validator.journal import COPY, RELEASE, SCHEMA, Journal, LedgerError, Mark, chained, decode, genesis

__all__ = ["KEEP_EVENTS", "Ledger", "LedgerError", "replay"]

#: Seconds that a validator which is just ending gets to let go of the file.
LOCK_S = 3.0

#: A snapshot is due after so many events.
SNAPSHOT_EVERY = 20_000

#: Events that a file keeps at least, unless told otherwise.
KEEP_EVENTS = 1_000_000

#: After so many events up to twice as many of the oldest are deleted: in small bites, so that no event waits for it.
BITE = 64

#: Pages of free space that are given back to the disk with one snapshot, while more than half of the file is free.
GIVE_BACK = 1024

ELSEWHERE = "choose another run directory, or move this file away to begin anew"


class Ledger(Journal):
    """Events in order, the specification of the run they belong to, and snapshots of its state.

    The newest `keep` events are kept, and as many before them as the last two snapshots need; 0 keeps all for ever.
    `written_by` is the release that had it open before.

    Raises:
        LedgerError: the file is not a ledger of this version, belongs to another run, or another process has it open.
    """

    def __init__(self, path: Path | str, spec: RunSpec, keep: int = KEEP_EVENTS) -> None:
        self.path = str(path)
        self._keep = keep
        self._lock: Any = None
        try:
            super().__init__(self.path, sqlite3.connect(self.path, isolation_level=None, timeout=LOCK_S))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            if self.path != ":memory:":
                self._lock = _locked(self.path)
            self._begin(spec)
            self._base, self._head = self.base(), self.head()
            self._saved = self.snapshot_seqs()
            self._tried = max(self._saved, default=0)
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from None
        except LedgerError:
            self.close()
            raise

    def _begin(self, spec: RunSpec) -> None:
        execute = self._db.execute
        execute("PRAGMA auto_vacuum=INCREMENTAL")
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        execute("PRAGMA journal_size_limit=16777216")
        with self._transaction():
            execute("CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            execute("INSERT OR IGNORE INTO run VALUES ('schema', ?), ('spec', ?)", (str(SCHEMA), spec.to_json()))
            self._check(spec)
            execute("INSERT OR IGNORE INTO run VALUES ('base', ?)", (_written(genesis(spec.to_json())),))
            found = execute("SELECT value FROM run WHERE key = 'release'").fetchone()
            self.written_by = found[0] if found else __version__
            execute("INSERT OR REPLACE INTO run VALUES ('release', ?)", (__version__,))
            execute(
                "CREATE TABLE IF NOT EXISTS events "
                "(seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL)"
            )
            execute(
                "CREATE TABLE IF NOT EXISTS snapshots "
                "(seq INTEGER PRIMARY KEY, digest BLOB NOT NULL, state BLOB NOT NULL, body BLOB NOT NULL)"
            )

    def _check(self, spec: RunSpec) -> None:
        found = dict(self._db.execute("SELECT key, value FROM run"))
        if found["schema"] != str(SCHEMA):
            raise LedgerError(f"{self.path} has schema {found['schema']}, this release reads {SCHEMA}; {RELEASE}")
        if found["spec"] != spec.to_json():
            raise LedgerError(f"{self.path} belongs to another run ({_difference(found['spec'], spec)}); {ELSEWHERE}")

    def __len__(self) -> int:
        """How many events have happened, with those that were deleted."""
        return self._head.seq

    @property
    def due(self) -> bool:
        """Whether so much has happened since the last `save` that another snapshot should be saved."""
        return self._head.seq - self._tried >= SNAPSHOT_EVERY

    def append(self, *events: Event) -> None:
        """Keep events, in one commit; they are on disk (in the page cache at least) when this returns.

        Raises:
            LedgerError: they cannot be written, because the disk is full for example; then none of them was.
        """
        head, rows = self._head, []
        for event in events:
            kind, body = type(event).__name__, msgspec.msgpack.encode(event)
            head = Mark(head.seq + 1, chained(head.digest, kind, body))
            rows.append((head.seq, kind, body, head.digest))
        try:
            if len(rows) == 1:
                self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", rows[0])
            else:
                with self._transaction():
                    self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path} cannot be written: {error}; make room on its disk, then start the validator again"
            ) from None
        bites = head.seq // BITE - self._head.seq // BITE
        self._head = head
        if bites and self._keep:
            self._trim(2 * BITE * bites)

    def save(self, state: RunState) -> None:
        """Write a snapshot of the state after the newest event. One that cannot be written is done without."""
        body = snapshots.encode(state)
        keep = _worth_keeping([*self._saved, self._head.seq], self._base.seq, (self._keep or KEEP_EVENTS) // 8)
        row = (*self._head, snapshots.digest(body), body)
        self._tried = self._head.seq
        try:
            with self._transaction():
                self._db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", row)
                gone = [(seq,) for seq in self._saved if seq not in keep]
                self._db.executemany("DELETE FROM snapshots WHERE seq = ?", gone)
            self._saved = keep
            pages, free = (
                self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
            )
            if free > max(GIVE_BACK, pages // 2):
                # It frees a page per step, and `execute` makes only one.
                self._db.executescript(f"PRAGMA incremental_vacuum({GIVE_BACK})")
        except sqlite3.Error as error:
            logger.warning("no snapshot of the state after event {} was written: {}", self._head.seq, error)

    def discard(self, seq: int) -> None:
        """Delete a snapshot that cannot be used: no event may be deleted because of it."""
        try:
            self._db.execute("DELETE FROM snapshots WHERE seq = ?", (seq,))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._saved.remove(seq)
        self._tried = max(self._saved, default=0)

    def _trim(self, most: int) -> None:
        """Delete up to `most` of the oldest events, if there are more than are to be kept."""
        if len(self._saved) < 2:
            return
        last = min(self._head.seq - self._keep, self._saved[-2], self._base.seq + most)
        if last <= self._base.seq:
            return
        try:
            base = self.mark(last)
            if base is None:
                raise LedgerError(f"event {last} is missing")
            with self._transaction():
                self._db.execute("DELETE FROM events WHERE seq <= ?", (last,))
                self._db.execute("UPDATE run SET value = ? WHERE key = 'base'", (_written(base),))
        except (sqlite3.Error, LedgerError) as error:
            logger.warning("the oldest events of {} could not be deleted: {}", self.path, error)
        else:
            self._base = base

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        super().close()
        if self._lock is not None:
            self._lock.close()

    def _unusable(self, error: sqlite3.Error) -> LedgerError:
        if "locked" in str(error):
            return _taken(self.path)
        return LedgerError(f"{self.path} cannot be used as a ledger: {error}; {ELSEWHERE}")


def _taken(path: str) -> LedgerError:
    return LedgerError(f"{path} is in use by another validator; stop it, or choose another run directory")


def _locked(path: str) -> Any:
    """The lock file, held: two validators that write one history would make it nobody's. Readers need no lock."""
    try:
        file = open(f"{path}.lock", "ab")
    except OSError as error:
        raise LedgerError(f"{path}.lock cannot be opened: {error.strerror}; {ELSEWHERE}") from None
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() >= deadline:
                file.close()
                raise _taken(path) from None
            time.sleep(0.02)


@contextmanager
def alone(path: Path | str) -> Iterator[None]:
    """Nobody writes the ledger at `path` meanwhile. Raises LedgerError: somebody does."""
    lock = _locked(str(path))
    try:
        yield
    finally:
        lock.close()


def _written(mark: Mark) -> str:
    return f"{mark.seq} {mark.digest.hex()}"


def _worth_keeping(seqs: list[int], base: int, apart: int) -> list[int]:
    """Of snapshots in order: the newest two, and of the others those that still have events, about `apart` of them
    between two, so that what is kept can be replayed from near its beginning."""
    distinct = list(dict.fromkeys(seqs))
    kept: list[int] = []
    for seq in distinct[:-2]:
        if seq >= base and (not kept or seq >= kept[-1] + apart):
            kept.append(seq)
    return [*kept, *distinct[-2:]]


def _difference(found: str, wanted: RunSpec) -> str:
    """The first field in which two specifications differ, for a person."""
    try:
        other = RunSpec.from_json(found)
    except SpecError as error:
        return str(error)
    pairs: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(RunSpec):
        there, here = getattr(other, field.name), getattr(wanted, field.name)
        if dataclasses.is_dataclass(there):
            parts = dataclasses.fields(there)
            pairs += [(f"{field.name}.{p.name}", getattr(there, p.name), getattr(here, p.name)) for p in parts]
        else:
            pairs.append((field.name, there, here))
    return next((f"{name} is {there!r} there, {here!r} here" for name, there, here in pairs if there != here), "")


def replay(spec: RunSpec, ledger: Ledger) -> Orchestrator:
    """The orchestrator as it was after the last event; what it asked for on the way is dropped.

    Begins at the newest snapshot that can be used, at the first event if there is none.

    Raises:
        LedgerError: damage, or no snapshot can be used and the first events were deleted.
    """
    orchestrator = Orchestrator(spec)
    after = 0
    for seq in reversed(ledger.snapshot_seqs()):
        try:
            orchestrator.state = ledger.load(seq, spec)
        except LedgerError as error:
            logger.warning("the snapshot after event {} cannot be used: {}; going back to an older one", seq, error)
            ledger.discard(seq)
        else:
            after = seq
            break
    if ledger.written_by != __version__ and len(ledger) > after:
        logger.warning(
            "release {} replays the last {} events, which release {} has handled and did not end in good order: what "
            "its rules decide otherwise counts from here on",
            __version__,
            len(ledger) - after,
            ledger.written_by,
        )
    mark = ledger.mark(after)
    if mark is None:
        raise LedgerError(
            f"{ledger.path} begins after event {ledger.base().seq} and no snapshot in it can be used; {COPY}"
        )
    for row in ledger.rows(after):
        mark = Mark(mark.seq + 1, chained(mark.digest, row.kind, row.body))
        if mark != (row.seq, row.digest):
            raise LedgerError(f"event {mark.seq} of {ledger.path} is missing or was changed; {COPY}")
        orchestrator.handle(decode(row))
    return orchestrator
