"""The journal: what was appended comes back to the bit, and what cannot be used says why and what to do."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from iota_subnet.core import events
from iota_subnet.core.events import ALL, Evaluated, Event, LeaseFinished, Manifest, ShardRef, Tick
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.validator.journal import SCHEMA
from iota_subnet.validator.ledger import Ledger, LedgerError, replay
from iota_subnet.validator.verify import verify

SPEC = RunSpec("ledger", 5)
REF = BlobRef("ab" * 32, 2**40, ("http://127.0.0.1:1/v1/blobs/x", "http://[::1]:2/ü"))
SHARD = ShardRef(0, 7, REF, BlobRef("cd" * 32, 1))
SAMPLES: dict[Any, Any] = {
    float: 1234567.000000001,
    int: -(2**62),
    str: 'a "text"\nwith \\ ünd 漢',
    bool: True,
    BlobRef: REF,
}


def sample(kind: Any) -> Any:
    """A value of a field's type that a careless encoding would damage."""
    if kind in SAMPLES:
        return SAMPLES[kind]
    if kind == tuple[Manifest, ...]:
        return (Manifest(1, 2, (SHARD, SHARD)),)
    if getattr(kind, "__origin__", None) is tuple and Ellipsis not in get_args(kind):
        return tuple(sample(part) for part in get_args(kind))
    if getattr(kind, "__origin__", None) is tuple:
        return (sample(get_args(kind)[0]),) * 3
    return sample(get_args(kind)[0]) if BlobRef in get_args(kind) else get_args(kind)[0]


def filled(cls: type[Event]) -> Event:
    hints = get_type_hints(cls, vars(events))
    return cls(**{field.name: sample(hints[field.name]) for field in dataclasses.fields(cls)})


@pytest.fixture(scope="module")
def world() -> World:
    """A run in which miners crash, lie, blink and leave, and the validator restarts."""
    story = [(3.0, "blink", 0), (6.0, "crash", 1), (9.0, "restart_validator", 0), (14.0, "restart_miner", 2)]
    story += [(20.0, "leave", 3), (22.0, "join", 0), (25.0, "deregister", 4)]
    return World(Plan(4, stages=2, miners=6, epochs=2, incidents=tuple(story), token_loss=0.03)).run()


def test_a_replay_of_the_file_is_the_state_that_was(world: World, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", world.spec)
    for event in world.journal:
        ledger.append(event)
    assert len(ledger) == len(world.journal) > 100
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite", world.spec)
    assert list(again.events()) == world.journal
    assert replay(world.spec, again).state == world.orchestrator.state


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_kind_of_event_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", SPEC)
    event = filled(ALL[name])
    ledger.append(event)
    assert list(ledger.events()) == [event]


def test_numbers_that_json_does_not_know_come_back(tmp_path: Path) -> None:
    """A miner's receipt, or a model that diverged, must not make the run unreadable."""
    ledger = Ledger(tmp_path / "ledger.sqlite", SPEC)
    losses = (math.nan, math.inf, -math.inf, -0.0)
    receipt = LeaseFinished(at=1.0, hotkey="h", lease=1, output=None, losses=losses, seconds=math.nan, inner_step=0)
    ledger.append(receipt)
    ledger.append(Evaluated(at=2.0, epoch=1, loss=math.nan, manifests=("a",)))
    first, second = ledger.events()
    assert isinstance(first, LeaseFinished) and isinstance(second, Evaluated)
    assert [value.hex() for value in first.losses] == [value.hex() for value in losses]
    assert math.isnan(first.seconds) and math.isnan(second.loss)


def written(path: Path) -> Path:
    """A closed ledger with a few events."""
    ledger = Ledger(path, SPEC)
    for at in range(200):
        ledger.append(Tick(at=float(at)))
    ledger.close()
    return path


def edit(path: Path, statement: str, *values: Any) -> None:
    db = sqlite3.connect(path)
    db.execute(statement, values)
    db.commit()
    db.close()


def test_another_specification_is_refused_and_the_first_difference_named(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.sqlite")
    other = dataclasses.replace(SPEC, swarm=dataclasses.replace(SPEC.swarm, epochs=9))
    with pytest.raises(LedgerError, match=r"swarm\.epochs is 0 there, 9 here.*another run directory"):
        Ledger(path, other)
    assert len(Ledger(path, SPEC)) == 200


def test_the_schema_before_this_one_is_refused_with_advice_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    edit(path, "CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    edit(path, "CREATE TABLE events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL)")
    edit(path, "INSERT INTO run VALUES ('schema', '2'), ('spec', ?)", SPEC.to_json())
    with pytest.raises(LedgerError, match=rf"schema 2, this release reads {SCHEMA}; replay it with the release"):
        Ledger(path, SPEC)
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall() == [
        ("events",),
        ("run",),
    ]
    db.close()


def test_one_digest_names_a_history(tmp_path: Path) -> None:
    """The same events of the same run give the same digest, however they were committed; anything else another."""

    def head(name: str, spec: RunSpec, *groups: list[Event]) -> tuple[int, bytes]:
        ledger = Ledger(tmp_path / name, spec)
        for group in groups:
            ledger.append(*group)
        found = ledger.head()
        ledger.close()
        return found

    one, two, three = Tick(at=1.0), Tick(at=2.0), Evaluated(at=2.0, epoch=0, loss=1.0, manifests=())
    digests = [
        head("together", SPEC, [one, two, three]),
        head("alone", SPEC, [one], [two], [three]),
        head("reordered", SPEC, [two, one, three]),
        head("shorter", SPEC, [one, two]),
        head("another run", RunSpec("ledger", 6), [one, two, three]),
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_the_chain_goes_on_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.sqlite")
    again = Ledger(path, SPEC)
    again.append(Tick(at=200.0))
    whole = Ledger(tmp_path / "whole.sqlite", SPEC)
    whole.append(*(Tick(at=float(at)) for at in range(201)))
    assert again.head() == whole.head() and len(again) == 201


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("Levitated", b"\x80", "event 201 is of the unknown kind 'Levitated'; replay it with the release"),
        ("Tick", b"\x81\xa2at\xa3now", r"event 201 \(Tick\) does not parse.*replay it with the release"),
        ("Tick", b"\x81\xa2at", r"event 201 \(Tick\) does not parse"),
        ("Tick", b"", r"event 201 \(Tick\) does not parse"),
    ],
)
def test_an_event_that_cannot_be_read_is_named(tmp_path: Path, kind: str, body: bytes, words: str) -> None:
    path = written(tmp_path / "ledger.sqlite")
    edit(path, "INSERT INTO events VALUES (201, ?, ?, x'00')", kind, body)
    with pytest.raises(LedgerError, match=words):
        list(Ledger(path, SPEC).events())


@pytest.mark.parametrize("damage", ["text", "short", "holes"])
def test_a_damaged_file_is_refused_with_advice(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "ledger.sqlite")
    data = path.read_bytes()
    damaged = {"text": b"not a database, " * 600, "short": data[:5000], "holes": data[:4096] + bytes(len(data) - 4096)}
    path.write_bytes(damaged[damage])
    with pytest.raises(LedgerError, match="another run directory"):
        list(Ledger(path, SPEC).events())


def test_a_folder_that_is_not_there_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="another run directory"):
        Ledger(tmp_path / "no" / "ledger.sqlite", SPEC)


def test_a_lock_that_a_killed_validator_left_behind_stops_nobody(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.sqlite")
    assert Path(f"{path}.lock").exists()
    assert len(Ledger(path, SPEC)) == 200


def test_two_validators_cannot_write_one_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iota_subnet.validator.ledger.LOCK_S", 0.1)
    first = Ledger(tmp_path / "ledger.sqlite", SPEC)
    first.append(Tick(at=1.0))
    with pytest.raises(LedgerError, match="in use by another validator; stop it"):
        Ledger(tmp_path / "ledger.sqlite", SPEC)
    first.close()
    assert len(Ledger(tmp_path / "ledger.sqlite", SPEC)) == 1


def test_a_full_disk_is_an_error_that_says_so_and_the_ledger_stays_usable(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", SPEC)
    ledger._db.execute(f"PRAGMA max_page_count = {ledger._db.execute('PRAGMA page_count').fetchone()[0]}")
    big = LeaseFinished(at=1.0, hotkey="h" * 90_000, lease=1, output=None, losses=(), seconds=0.0, inner_step=0)
    with pytest.raises(LedgerError, match="make room"):
        ledger.append(big)
    with pytest.raises(LedgerError, match="make room"):
        ledger.append(Tick(at=1.0), big)
    ledger._db.execute("PRAGMA max_page_count = 100000")
    ledger.append(Tick(at=2.0))
    assert list(ledger.events()) == [Tick(at=2.0)]


WRITER = """
import sys
from pathlib import Path
from iota_subnet.core.events import Tick
from iota_subnet.spec import RunSpec
from iota_subnet.validator.ledger import Ledger
ledger, group = Ledger(Path(sys.argv[1]), RunSpec("ledger", 5)), int(sys.argv[2])
for at in range(0, 10**9, group):
    ledger.append(*(Tick(at=float(at + k)) for k in range(group)))
    print(at, flush=True)
"""


@pytest.mark.parametrize("group", [1, 8])
def test_what_was_appended_survives_kill_9_and_a_commit_is_whole_or_not_there(tmp_path: Path, group: int) -> None:
    path = tmp_path / "ledger.sqlite"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", WRITER, str(path), str(group)]
    writer = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(300)]
    writer.send_signal(signal.SIGKILL)
    said += [int(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    ledger = Ledger(path, SPEC)
    found = list(ledger.events())
    # One commit may have been made that nobody was told of.
    assert len(found) // group - len(said) in (0, 1) and len(found) % group == 0
    assert found == [Tick(at=float(at)) for at in range(len(found))]
    assert verify(ledger).head == ledger.head()
