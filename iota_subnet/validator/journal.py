"""What a ledger file holds, and how to read one, also while its validator writes it.

Law: each event carries the digest of the one before it, its kind and its body, so that one digest names the run and
all that has happened in it up to there. A file whose oldest events were deleted begins at `base`: the number and the
digest of the last one that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from iota_subnet.core.events import ALL, Event
from iota_subnet.core.state import RunState
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.validator import snapshots

SCHEMA = 3

FILE = "ledger.sqlite"

#: Where a run directory may hold it: a validator's own, and that of `iota localnet`.
PLACES = (FILE, f"validator/{FILE}")

#: Seconds that a reader waits for somebody who recovers the file after a crash.
PATIENCE_S = 3.0

RELEASE = "replay it with the release that wrote it, or move it away to begin anew"
COPY = "use another copy of it"


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class Mark(NamedTuple):
    """A place in a history: the number of an event, from 1, and the digest that names all up to it."""

    seq: int
    digest: bytes


class Row(NamedTuple):
    """One event as it is on disk."""

    seq: int
    kind: str
    body: bytes
    digest: bytes


class Snapshot(NamedTuple):
    """The state after event `seq`: its `snapshots.digest`, and its encoding."""

    seq: int
    digest: bytes
    state: bytes
    body: bytes


def genesis(spec: str) -> Mark:
    """The mark before the first event of the run with this specification (canonical JSON)."""
    return Mark(0, hashlib.blake2b(spec.encode(), digest_size=32).digest())


def chained(before: bytes, kind: str, body: bytes) -> bytes:
    """The digest of an event: blake2b-256 over the digest before it, its kind, a zero byte, and its body."""
    return hashlib.blake2b(before + kind.encode() + b"\0" + body, digest_size=32).digest()


def decode(row: Row) -> Event:
    """The event in a row.

    Raises:
        LedgerError: a kind that this release does not know, or a body that does not parse.
    """
    cls: Any = ALL.get(row.kind)
    if cls is None:
        raise LedgerError(f"event {row.seq} is of the unknown kind {row.kind!r}; {RELEASE}")
    try:
        event: Event = msgspec.msgpack.decode(row.body, type=cls)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise LedgerError(f"event {row.seq} ({row.kind}) does not parse: {error}; {RELEASE}") from None
    return event


class Journal:
    """One ledger file, for reading. All methods raise LedgerError where the file is damaged."""

    def __init__(self, path: str, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        # What is damaged must still be readable enough to be told.
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")

    def setting(self, key: str) -> str:
        """A value of the table `run`. Raises LedgerError when there is none."""
        for (value,) in self._select("SELECT value FROM run WHERE key = ?", key):
            return str(value)
        raise LedgerError(f"{self.path} does not say its {key}; {COPY}")

    def base(self) -> Mark:
        """Where the kept part begins; `genesis` if nothing was deleted."""
        seq, _, digest = self.setting("base").partition(" ")
        try:
            return Mark(int(seq), bytes.fromhex(digest))
        except ValueError:
            raise LedgerError(f"{self.path} does not say where it begins; {COPY}") from None

    def head(self) -> Mark:
        """The newest event."""
        for seq, digest in self._select("SELECT seq, digest FROM events ORDER BY seq DESC LIMIT 1"):
            return Mark(seq, digest)
        return self.base()

    def mark(self, seq: int) -> Mark | None:
        """The mark of one event, if the file still has it."""
        for (digest,) in self._select("SELECT digest FROM events WHERE seq = ?", seq):
            return Mark(seq, digest)
        base = self.base()
        return base if base.seq == seq else None

    def rows(self, after: int = 0, to: int | None = None) -> Iterator[Row]:
        """Events `after` < seq <= `to` in order, not decoded."""
        last = (1 << 63) - 1 if to is None else to
        blobs = "CAST(body AS BLOB), CAST(digest AS BLOB)"
        statement = f"SELECT seq, kind, {blobs} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq"
        return map(Row._make, self._select(statement, after, last))

    def events(self, after: int = 0, to: int | None = None) -> Iterator[Event]:
        """Events `after` < seq <= `to` in order. Raises LedgerError for one that cannot be decoded."""
        return map(decode, self.rows(after, to))

    def snapshot_seqs(self) -> list[int]:
        """Which snapshots there are, the oldest first."""
        return [seq for (seq,) in self._select("SELECT seq FROM snapshots ORDER BY seq")]

    def snapshot(self, seq: int) -> Snapshot:
        """The snapshot after event `seq`, not decoded. Raises LedgerError when there is none."""
        blobs = "CAST(digest AS BLOB), CAST(state AS BLOB), CAST(body AS BLOB)"
        for row in self._select(f"SELECT seq, {blobs} FROM snapshots WHERE seq = ?", seq):
            return Snapshot._make(row)
        raise LedgerError(f"{self.path} has no snapshot {seq}")

    def load(self, seq: int, spec: RunSpec) -> RunState:
        """The state in the snapshot after event `seq`.

        Raises:
            LedgerError: it is torn, damaged, of another history, or of a release whose state looked otherwise.
        """
        found = self.snapshot(seq)
        mark = self.mark(seq)
        if mark is None or mark.digest != found.digest:
            raise LedgerError("it belongs to another history")
        if snapshots.digest(found.body) != found.state:
            raise LedgerError("it is damaged")
        try:
            state = snapshots.decode(found.body)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise LedgerError(f"it does not parse: {error}") from None
        if state.spec != spec:
            raise LedgerError("it is of another run")
        return state

    def spec(self) -> RunSpec:
        """The specification of the run."""
        try:
            return RunSpec.from_json(self.setting("spec"))
        except SpecError as error:
            raise LedgerError(f"{self.path}: {error}") from None

    def close(self) -> None:
        """Close the file; readers take no lock, so nothing else is let go of."""
        self._db.close()

    def _select(self, statement: str, *values: object) -> Iterator[Any]:
        try:
            yield from self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: sqlite3.Error) -> LedgerError:
        return LedgerError(f"{self.path} cannot be read: {error}; {COPY}")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Journal]:
    """Open a ledger, or that of a run directory, for reading: what is seen is what there was at the first look.

    Nothing in the file is changed; its validator may be writing it.

    Raises:
        LedgerError: there is none, it is no ledger, or one of another schema.
    """
    file = _find(path)
    db = _open(file)
    try:
        journal = Journal(str(file), db)
        schema = journal.setting("schema")
        if schema != str(SCHEMA):
            raise LedgerError(f"{file} has schema {schema}, this release reads {SCHEMA}; {RELEASE}")
        journal.spec()
        yield journal
    finally:
        db.close()


def _find(path: Path) -> Path:
    if not path.is_dir():
        if path.is_file():
            return path
        raise LedgerError(f"there is no file or folder {path}; give a {FILE} or the --run.dir of a validator")
    for place in PLACES:
        if (path / place).is_file():
            return path / place
    raise LedgerError(f"{path} has no {FILE} in it; give the --run.dir of a validator")


def _open(file: Path) -> sqlite3.Connection:
    """A connection with one view of the file. In a folder where SQLite may write nothing it needs no -shm file."""
    modes = ["mode=ro"]
    wal = Path(f"{file}-wal")
    if not (wal.exists() and wal.stat().st_size):
        modes.append("mode=ro&immutable=1")
    problem = ""
    for mode in modes:
        db = sqlite3.connect(f"file:{quote(str(file))}?{mode}", uri=True, isolation_level=None, timeout=PATIENCE_S)
        try:
            db.execute("BEGIN")
            db.execute("SELECT key FROM run").fetchall()
        except sqlite3.Error as error:
            db.close()
            problem = problem or str(error)
        else:
            return db
    raise LedgerError(f"{file} is not a ledger that can be read: {problem}")
