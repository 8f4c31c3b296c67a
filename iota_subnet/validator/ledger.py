"""The journal of events: append, then act. State, scores and disputes are a replay of it.

One SQLite file per run. A commit per event with synchronous=NORMAL in WAL mode survives kill -9 of the process; a power
cut may lose the last moments, which costs miners a repeated lease and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from iota_subnet.core.events import ALL, Event
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.spec import RunSpec

SCHEMA = 1


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class Ledger:
    """Events in order, and the specification of the run they belong to.

    Raises:
        LedgerError: the file is not a ledger of this version, or belongs to another run.
    """

    def __init__(self, path: Path | str, spec: RunSpec) -> None:
        self._path = str(path)
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL)"
            )
            self._check(spec)
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self._path} cannot be used as a ledger: {error}; choose another run directory"
            ) from None

    def _check(self, spec: RunSpec) -> None:
        self._db.execute("INSERT OR IGNORE INTO run VALUES ('schema', ?), ('spec', ?)", (str(SCHEMA), spec.to_json()))
        found = dict(self._db.execute("SELECT key, value FROM run"))
        if found["schema"] != str(SCHEMA):
            raise LedgerError(f"{self._path} has schema {found['schema']}, this release reads {SCHEMA}")
        if found["spec"] != spec.to_json():
            raise LedgerError(f"{self._path} belongs to another run specification; choose another run directory")

    def append(self, event: Event) -> None:
        """Keep one event; it is on disk (in the page cache at least) when this returns."""
        self._db.execute(
            "INSERT INTO events (kind, body) VALUES (?, ?)", (type(event).__name__, msgspec.json.encode(event))
        )

    def events(self) -> Iterator[Event]:
        """All events in order.

        Raises:
            LedgerError: an event of a kind that this release does not know, or one that does not parse.
        """
        for seq, kind, body in self._db.execute("SELECT seq, kind, body FROM events ORDER BY seq"):
            yield _decode(seq, kind, body)

    def __len__(self) -> int:
        count: int = self._db.execute("SELECT COUNT(*) FROM events").fetchone()[0]
        return count

    def close(self) -> None:
        self._db.close()


def _decode(seq: int, kind: str, body: bytes) -> Event:
    cls: Any = ALL.get(kind)
    if cls is None:
        raise LedgerError(f"event {seq} is of the unknown kind {kind!r}; replay it with the release that wrote it")
    try:
        event: Event = msgspec.json.decode(body, type=cls)
    except msgspec.ValidationError as error:
        raise LedgerError(f"event {seq} ({kind}) does not parse: {error}") from None
    return event


def replay(spec: RunSpec, ledger: Ledger) -> Orchestrator:
    """The orchestrator as it was after the last event; what it asked for on the way is dropped."""
    orchestrator = Orchestrator(spec)
    for event in ledger.events():
        orchestrator.handle(event)
    return orchestrator
