"""A state that was saved is the state that was, to the bit, and behaves as if it had never been saved."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.core.events import (
    BatchPublished,
    Event,
    Manifest,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    RunStarted,
    ShardRef,
    StageInstalled,
    Tick,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase, RunState
from iota_subnet.sim.canonical import state_hash
from iota_subnet.sim.storms import FAULTS, draw
from iota_subnet.sim.world import World
from iota_subnet.spec import BlobRef, ModelSpec, RunSpec, SwarmSpec
from iota_subnet.validator import snapshots
from iota_subnet.validator.ledger import Ledger, LedgerError, replay
from iota_subnet.validator.service import Service
from iota_subnet.validator.verify import verify

SPEC = RunSpec("snapshots", 5)


@cache
def world(seed: int, faults: tuple[str, ...] = tuple(FAULTS)) -> World:
    return World(draw(seed, miners=8, stages=2, epochs=2, batches=10, faults=faults), check=0).run()


def places(journal: list[Event], spec: RunSpec) -> Iterator[int]:
    """Where to cut: the first event, the middle of each phase of each epoch, and some anywhere."""
    core, phases = Orchestrator(spec), []
    for event in journal:
        core.handle(event)
        phases.append((core.state.phase, core.state.epoch))
    for phase in dict.fromkeys(phases):
        inside = [number for number, found in enumerate(phases, 1) if found == phase]
        yield from {inside[0], inside[len(inside) // 2], inside[-1]}
    yield from range(1, len(journal), 131)


@pytest.mark.parametrize("seed", range(8))
def test_a_state_that_was_saved_goes_on_as_if_it_had_not_been(seed: int) -> None:
    """Cut a stormy run in the middle of everything: equal, equal as a hash, and every later action is the same."""
    story = world(seed)
    cuts = {cut: Orchestrator(story.spec) for cut in places(story.journal, story.spec)}
    core, phases, actions = Orchestrator(story.spec), set(), []
    for number, event in enumerate(story.journal, 1):
        actions.append(core.handle(event))
        if number in cuts:
            phases.add(core.state.phase)
            body = snapshots.encode(core.state)
            state = cuts[number].state = snapshots.decode(body)
            assert state == core.state and state_hash(state) == state_hash(core.state)
            assert snapshots.encode(state) == body
    assert {Phase.TRAIN, Phase.COMMIT, Phase.REDUCE, Phase.INSTALL} <= phases
    for cut, other in cuts.items():
        for number, event in enumerate(story.journal[cut:], cut):
            assert other.handle(event) == actions[number], f"event {number + 1} after a cut at {cut}"
        assert state_hash(other.state) == state_hash(core.state)


def test_what_is_derived_is_not_saved_and_dicts_keep_their_order() -> None:
    state = RunState(SPEC, line={"b": 1.0, "a": 2.0})
    other = RunState(SPEC, line={"a": 2.0, "b": 1.0})
    assert state == other and snapshots.state_hash(state) != snapshots.state_hash(other)
    state.index.ready = 7
    assert list(snapshots.decode(snapshots.encode(state)).line) == ["b", "a"]
    assert snapshots.decode(snapshots.encode(state)).index.ready == 0


def played(path: Path, story: World, saves: tuple[int, ...], upto: int | None = None, keep: int = 0) -> Ledger:
    """A ledger of a story, with snapshots after these events."""
    ledger, core = Ledger(path, story.spec, keep), Orchestrator(story.spec)
    for number, event in enumerate(story.journal[:upto], 1):
        ledger.append(event)
        core.handle(event)
        if number in saves:
            ledger.save(core.state)
    return ledger


def counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> tuple[Orchestrator, int]:
    """Replay; and how many events that took."""
    handled: list[Event] = []
    right = Orchestrator.handle
    with monkeypatch.context() as patch:
        patch.setattr(Orchestrator, "handle", lambda core, event: (handled.append(event), right(core, event))[1])
        return replay(ledger.spec(), ledger), len(handled)


def edit(path: Path, statement: str, *values: Any) -> None:
    db = sqlite3.connect(path)
    db.execute(statement, values)
    db.commit()
    db.close()


def test_a_replay_begins_at_the_newest_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = world(1)
    played(tmp_path / "ledger.sqlite", story, (100, 300)).close()
    ledger = Ledger(tmp_path / "ledger.sqlite", story.spec)
    core, handled = counted(ledger, monkeypatch)
    assert handled == len(story.journal) - 300
    assert core.state == story.orchestrator.state and state_hash(core.state) == state_hash(story.orchestrator.state)
    assert verify(ledger).snapshots == 2


DAMAGE = {
    "torn": "UPDATE snapshots SET body = substr(body, 1, length(body) / 2) WHERE seq = 300",
    "edited": "UPDATE snapshots SET body = replace(body, CAST('miner-0' AS BLOB), CAST('miner-1' AS BLOB)) "
    "WHERE seq = 300",
    "empty": "UPDATE snapshots SET body = x'', state = x'' WHERE seq = 300",
    "of another history": "UPDATE snapshots SET digest = zeroblob(32) WHERE seq = 300",
    "later than the last event": "UPDATE snapshots SET seq = 1000000 WHERE seq = 300",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_snapshot_gives_way_to_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    story, path = world(1), tmp_path / "ledger.sqlite"
    played(path, story, (100, 300)).close()
    edit(path, DAMAGE[damage])
    ledger = Ledger(path, story.spec)
    core, handled = counted(ledger, monkeypatch)
    assert handled == len(story.journal) - 100
    assert state_hash(core.state) == state_hash(story.orchestrator.state)
    assert ledger.snapshot_seqs() == [100], "no event may be deleted because of a snapshot that is of no use"


def test_a_snapshot_that_parses_and_is_of_another_run_is_not_taken(tmp_path: Path) -> None:
    story, path = world(1), tmp_path / "ledger.sqlite"
    played(path, story, (100,)).close()
    other = snapshots.encode(dataclasses.replace(story.orchestrator.state, spec=SPEC))
    edit(path, "UPDATE snapshots SET body = ?, state = ?", other, snapshots.digest(other))
    ledger = Ledger(path, story.spec)
    assert replay(story.spec, ledger).state == story.orchestrator.state and ledger.snapshot_seqs() == []


def test_without_any_snapshot_the_events_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story, path = world(1), tmp_path / "ledger.sqlite"
    played(path, story, (100, 300)).close()
    edit(path, "UPDATE snapshots SET body = x'00'")
    core, handled = counted(Ledger(path, story.spec), monkeypatch)
    assert handled == len(story.journal) and core.state == story.orchestrator.state


def test_events_that_were_written_and_not_handled_are_handled_by_the_next_process(tmp_path: Path) -> None:
    """A kill between the commit of several events and the handling of the first."""
    story, path = world(2), tmp_path / "ledger.sqlite"
    ledger = played(path, story, (200,), upto=400)
    ledger.append(*story.journal[400:])
    ledger.close()
    again = Ledger(path, story.spec)
    assert state_hash(replay(story.spec, again).state) == state_hash(story.orchestrator.state)


def test_a_snapshot_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    story = world(1)
    ledger = played(tmp_path / "ledger.sqlite", story, (100,), upto=200)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    ledger.save(story.orchestrator.state)
    assert ledger.snapshot_seqs() == [100]
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    ledger.append(*story.journal[200:])
    assert replay(story.spec, ledger).state == story.orchestrator.state


def test_a_full_disk_is_not_tried_again_with_every_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iota_subnet.validator.ledger.SNAPSHOT_EVERY", 50)
    story = world(3)
    ledger = Ledger(tmp_path / "ledger.sqlite", story.spec)
    ledger._db.execute("CREATE TRIGGER full BEFORE INSERT ON snapshots BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    ledger.append(*story.journal[:60])
    assert ledger.due
    ledger.save(RunState(story.spec))
    assert not ledger.due and ledger.snapshot_seqs() == []
    ledger.append(*story.journal[60:120])
    assert ledger.due


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET body = x'80' WHERE seq = 321",
        "DELETE FROM events WHERE seq = 321",
    ],
)
def test_a_history_that_was_changed_is_not_gone_on_with(tmp_path: Path, statement: str) -> None:
    story, path = world(1), tmp_path / "ledger.sqlite"
    played(path, story, (100, 300)).close()
    edit(path, statement)
    with pytest.raises(LedgerError, match=r"event 321 of .* is missing or was changed; use another copy of it"):
        replay(story.spec, Ledger(path, story.spec))


def served(path: Path, story: World, events: list[Event]) -> Ledger:
    ledger = Ledger(path, story.spec)
    service = Service(replay(story.spec, ledger), ledger, lambda action: None)
    for event in events:
        service.post(event)
    return ledger


def test_the_service_saves_when_an_epoch_begins(tmp_path: Path) -> None:
    story = world(3)
    begins, core = [], Orchestrator(story.spec)
    for number, event in enumerate(story.journal, 1):
        before = core.state.phase
        core.handle(event)
        if core.state.phase is Phase.TRAIN and before is not Phase.TRAIN:
            begins.append(number)
    ledger = served(tmp_path / "ledger.sqlite", story, story.journal)
    assert len(begins) == 2 and ledger.snapshot_seqs() == begins
    assert verify(ledger).snapshots == 2


def test_the_service_saves_after_many_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iota_subnet.validator.ledger.SNAPSHOT_EVERY", 100)
    story = world(3)
    ledger = served(tmp_path / "ledger.sqlite", story, story.journal)
    assert len(ledger) - ledger.snapshot_seqs()[-1] < 100
    ledger.close()
    again = served(tmp_path / "ledger.sqlite", story, [])
    assert verify(again).head.seq == len(story.journal)


def test_a_validator_that_is_killed_again_and_again_comes_to_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iota_subnet.validator.ledger.SNAPSHOT_EVERY", 40)
    story = world(4)
    for first in range(0, len(story.journal), 57):
        served(tmp_path / "ledger.sqlite", story, story.journal[first : first + 57]).close()
    ledger = Ledger(tmp_path / "ledger.sqlite", story.spec)
    assert state_hash(replay(story.spec, ledger).state) == state_hash(story.orchestrator.state)
    assert verify(ledger).snapshots > 1


def test_a_core_that_has_raised_saves_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a change is not what a replay comes to."""
    monkeypatch.setattr("iota_subnet.validator.ledger.SNAPSHOT_EVERY", 10)
    story = world(3)
    ledger = Ledger(tmp_path / "ledger.sqlite", story.spec)
    core = Orchestrator(story.spec)
    service = Service(core, ledger, lambda action: None)
    for event in story.journal[:20]:
        service.post(event)
    before = ledger.snapshot_seqs()
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(core, "handle", lambda event: 1 / 0)
        service.post(story.journal[20])
    for event in story.journal[21:60]:
        service.post(event)
    assert before and ledger.snapshot_seqs() == before


def test_a_history_without_a_beginning_and_without_a_snapshot_says_so(tmp_path: Path) -> None:
    story, path = world(1), tmp_path / "ledger.sqlite"
    ledger = played(path, story, (300, 400), keep=64)
    ledger.append(*(Tick(at=1e4) for _ in range(400)))
    assert ledger.base().seq == 300
    ledger.close()
    edit(path, "UPDATE snapshots SET body = x'00'")
    with pytest.raises(LedgerError, match="begins after event 300 and no snapshot in it can be used; use another copy"):
        replay(story.spec, Ledger(path, story.spec))


def test_reminders_that_are_too_old_change_nothing() -> None:
    """The one who went away last is dropped last, also when the clock jumps over an earlier absence of it."""
    swarm = SwarmSpec(start_miners=2, epoch_batches=4, min_batches=1, reconnect_s=5.0, lease_s=100.0)
    spec = RunSpec(model=ModelSpec(stages=1), swarm=swarm)
    blob = BlobRef("aa", 64, ("u",))
    manifest = Manifest(0, 0, (ShardRef(0, 64, blob, blob),))
    core = Orchestrator(spec)
    core.handle(RunStarted(at=0.0, spec_digest=spec.digest(), secret="s", sizes=(64,), manifests=(manifest,)))
    for hotkey in ("a", "b"):
        core.handle(MinerJoined(at=0.0, hotkey=hotkey, boot="0"))
        core.handle(MinerConnected(at=0.0, hotkey=hotkey))
        core.handle(StageInstalled(at=0.5, hotkey=hotkey, stage=0, epoch=0, digest="d", manifest=manifest.name))
    for batch in list(core.state.batches):
        core.handle(BatchPublished(at=0.5, batch=batch, tokens=blob))
    assert {lease.hotkey for lease in core.state.leases.values()} == {"a", "b"}
    core.handle(MinerDisconnected(at=1.0, hotkey="a", reason=""))
    core.handle(MinerDisconnected(at=2.0, hotkey="b", reason=""))
    core.handle(MinerConnected(at=3.0, hotkey="a"))
    core.handle(MinerDisconnected(at=4.0, hotkey="a", reason=""))
    other = Orchestrator(spec)
    other.state = snapshots.decode(snapshots.encode(core.state))
    assert core.handle(Tick(at=30.0)) == other.handle(Tick(at=30.0))
    assert next(iter(core.state.expired.values())).hotkey == "b"
    assert state_hash(core.state) == state_hash(other.state)
