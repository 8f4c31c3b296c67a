"""The journal of events: append, then act. State, scores and disputes are a replay of it.

One SQLite file per run, owned by one process. A commit per event with synchronous=NORMAL in WAL mode survives kill -9
of the process; a power cut may lose the last moments, which costs miners a repeated lease and nothing else. Bodies are
msgpack: JSON has no way to write a loss that is not a number, and a ledger that cannot be read back is none.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from iota_subnet.core.events import ALL, Event
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.spec import RunSpec, SpecError

SCHEMA = 2

#: Seconds that a validator which is just ending gets to let go of the file.
LOCK_S = 3.0

ELSEWHERE = "choose another run directory, or move this file away to begin anew"
RELEASE = "replay it with the release that wrote it, or move it away to begin anew"


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class Ledger:
    """Events in order, and the specification of the run they belong to.

    Raises:
        LedgerError: the file is not a ledger of this version, belongs to another run, or another process has it open.
    """

    def __init__(self, path: Path | str, spec: RunSpec) -> None:
        self._path = str(path)
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_S)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            # Two validators that write one history would make it nobody's.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL)"
            )
            self._check(spec)
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from None
        except LedgerError:
            self._db.close()
            raise

    def _check(self, spec: RunSpec) -> None:
        self._db.execute("INSERT OR IGNORE INTO run VALUES ('schema', ?), ('spec', ?)", (str(SCHEMA), spec.to_json()))
        found = dict(self._db.execute("SELECT key, value FROM run"))
        if found["schema"] != str(SCHEMA):
            raise LedgerError(f"{self._path} has schema {found['schema']}, this release reads {SCHEMA}; {RELEASE}")
        if found["spec"] != spec.to_json():
            raise LedgerError(f"{self._path} belongs to another run ({_difference(found['spec'], spec)}); {ELSEWHERE}")

    def append(self, event: Event) -> None:
        """Keep one event; it is on disk (in the page cache at least) when this returns.

        Raises:
            LedgerError: it cannot be written, because the disk is full for example.
        """
        row = (type(event).__name__, msgspec.msgpack.encode(event))
        try:
            self._db.execute("INSERT INTO events (kind, body) VALUES (?, ?)", row)
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self._path} cannot be written: {error}; make room on its disk, then start the validator again"
            ) from None

    def events(self) -> Iterator[Event]:
        """All events in order.

        Raises:
            LedgerError: damage, an event of a kind that this release does not know, or one that does not parse.
        """
        try:
            for seq, kind, body in self._db.execute("SELECT seq, kind, body FROM events ORDER BY seq"):
                yield _decode(seq, kind, body)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def __len__(self) -> int:
        try:
            count: int = self._db.execute("SELECT COUNT(*) FROM events").fetchone()[0]
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return count

    def close(self) -> None:
        self._db.close()

    def _unusable(self, error: sqlite3.Error) -> LedgerError:
        if "locked" in str(error):
            return LedgerError(f"{self._path} is in use by another validator; stop it, or choose another run directory")
        return LedgerError(f"{self._path} cannot be used as a ledger: {error}; {ELSEWHERE}")


def _decode(seq: int, kind: str, body: bytes) -> Event:
    cls: Any = ALL.get(kind)
    if cls is None:
        raise LedgerError(f"event {seq} is of the unknown kind {kind!r}; {RELEASE}")
    try:
        event: Event = msgspec.msgpack.decode(body, type=cls)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise LedgerError(f"event {seq} ({kind}) does not parse: {error}; {RELEASE}") from None
    return event


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
    """The orchestrator as it was after the last event; what it asked for on the way is dropped."""
    orchestrator = Orchestrator(spec)
    for event in ledger.events():
        orchestrator.handle(event)
    return orchestrator
