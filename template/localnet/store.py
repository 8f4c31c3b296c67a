"""The chain in one SQLite file: every block in a transaction of its own, and now and then the whole state.

A block is written before anybody is told of it, so a process that is killed loses nothing that it reported. Opening
reads the last state and replays the blocks after it; a block that does not come out with its recorded hash is refused.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from template.localnet.chain import HASHES_KEPT, Block, LocalChain
from template.localnet.hashing import blake2_256
from template.localnet.scale import Reader, encode_compact
from template.localnet.snapshot import BadSnapshot, dump_state, load_state
from template.localnet.state import ChainState

STATE_EVERY = 100  # blocks between two whole states: bounds what opening replays
_APPLICATION = 0x746E6574  # marks the file as ours
_FORMAT = 1

_SCHEMA = """
CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, parent BLOB NOT NULL, state_root BLOB NOT NULL,
    extrinsics_root BLOB NOT NULL, now_ms INTEGER NOT NULL, extrinsics BLOB NOT NULL);
CREATE TABLE states (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
"""


class StateFileError(Exception):
    """The file cannot be used; one line for the user."""


class Store:
    """An open state file. Held by one process at a time; raises StateFileError for everything that goes wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error) -> StateFileError:
        hint = ": another chain uses it" if "locked" in str(error) else ""
        return StateFileError(f"state file {self.path}: {error}{hint}")

    def _prepare(self) -> None:
        self._db.execute("BEGIN EXCLUSIVE")
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables == 0:
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={_FORMAT}")
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
        elif (application, version) != (_APPLICATION, _FORMAT):
            self._db.execute("ROLLBACK")
            raise StateFileError(f"state file {self.path}: not a state of this chain; name another file")
        self._db.execute("COMMIT")

    def append(self, block: Block, state: ChainState) -> None:
        """Write a block, durable against the death of this process when this returns."""
        try:
            self._db.execute("BEGIN")
            self._db.execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)",
                (block.number, block.hash, block.parent_hash, block.state_root, block.extrinsics_root,
                 state.now_ms, b"".join(block.extrinsics)),
            )  # fmt: skip
            if block.number % STATE_EVERY == 0 or self._is_first():
                self._write_state(block.number, state)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _is_first(self) -> bool:
        return self._db.execute("SELECT 1 FROM states LIMIT 1").fetchone() is None

    def _write_state(self, number: int, state: ChainState) -> None:
        body = zlib.compress(dump_state(state).encode(), 1)
        self._db.execute("INSERT OR REPLACE INTO states VALUES (?, ?)", (number, body))
        self._db.execute("DELETE FROM states WHERE number < ?", (number,))
        self._db.execute("DELETE FROM blocks WHERE number > 0 AND number < ?", (number - HASHES_KEPT,))

    def adopt(self, chain: LocalChain) -> None:
        """Start the (empty) file with a chain as it is: its head, its state, and the hashes it remembers."""
        try:
            self._db.execute("BEGIN")
            for number, block_hash in chain.state.block_hashes.items():
                if number != chain.head.number:
                    row = (number, block_hash, b"", b"", b"", 0, b"")
                    self._db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failure(error) from error
        self.append(chain.head, chain.state)

    def open_chain(self) -> LocalChain | None:
        """The chain at the last written block; None for a new file."""
        try:
            found = self._db.execute("SELECT number, body FROM states ORDER BY number DESC LIMIT 1").fetchone()
            if found is None:
                return None
            number, body = found
            state = load_state(zlib.decompress(body).decode())
            hashes = dict(self._db.execute("SELECT number, hash FROM blocks WHERE number <= ?", (number,)))
            rows = list(self._db.execute("SELECT * FROM blocks WHERE number >= ? ORDER BY number", (number,)))
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except (BadSnapshot, zlib.error, UnicodeDecodeError) as error:
            raise StateFileError(f"state file {self.path}: {error}") from error
        chain = LocalChain.resume(state, _block(rows[0]), hashes)
        for row in rows[1:]:
            _, block_hash, _, _, _, now_ms, extrinsics = row
            if chain.replay(now_ms, list(_split(extrinsics))).hash != block_hash:
                raise StateFileError(
                    f"state file {self.path}: block {row[0]} comes out differently; "
                    "open it with the version that wrote it and stop that with SIGINT"
                )
        return chain

    def close(self, chain: LocalChain | None = None) -> None:
        """Close; with a chain, write its state first, so that the next start has nothing to replay."""
        try:
            if chain is not None:
                self._db.execute("BEGIN")
                self._write_state(chain.head.number, chain.state)
                self._db.execute("COMMIT")
            self._db.close()
        except sqlite3.Error as error:
            raise self._failure(error) from error


def _split(joined: bytes) -> Iterator[bytes]:
    """Raw extrinsics; each starts with its length."""
    reader = Reader(joined)
    while reader.remaining:
        body = reader.take(reader.compact())
        yield encode_compact(len(body)) + body


def _block(row: tuple[int, bytes, bytes, bytes, bytes, int, bytes]) -> Block:
    number, block_hash, parent, state_root, extrinsics_root, _, joined = row
    extrinsics = tuple(_split(joined))
    hashes = tuple(blake2_256(raw) for raw in extrinsics)
    return Block(number, block_hash, parent, state_root, extrinsics_root, extrinsics, hashes)


def export_chain(chain: LocalChain, path: Path) -> None:
    """Write a snapshot of the head to share; raises StateFileError."""
    try:
        path.write_bytes(zlib.compress(dump_state(chain.state).encode(), 6))
    except OSError as error:
        raise StateFileError(f"snapshot {path}: {error.strerror}") from error


def import_chain(path: Path, seed: bytes) -> LocalChain:
    """A new chain that starts with the state and at the block of a snapshot; raises StateFileError.

    Its genesis hash is new: what is signed for one copy is worth nothing on another.
    """
    try:
        text = _inflate(path.read_bytes())
        return LocalChain.resume(load_state(text), None, {}, seed)
    except OSError as error:
        raise StateFileError(f"snapshot {path}: {error.strerror}") from error
    except (BadSnapshot, zlib.error, ValueError) as error:
        raise StateFileError(f"snapshot {path}: {error}") from error


_MAX_SNAPSHOT = 512 << 20


def _inflate(data: bytes) -> str:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MAX_SNAPSHOT)
    if inflater.unconsumed_tail or not inflater.eof:
        raise BadSnapshot("cut short, or larger than 512 MiB")
    return text.decode()
