"""`iota ledger` as an operator meets it: on a whole ledger, on a broken one, on one that is being written."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.cli import main
from iota_subnet.core.events import ALL, LeaseFailed, LeaseFinished
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.sim.storms import FAULTS, draw
from iota_subnet.sim.world import World
from iota_subnet.validator.journal import FILE, chained
from iota_subnet.validator.ledger import Ledger
from iota_subnet.validator.snapshots import state_hash

ROOT = Path(__file__).resolve().parents[2]
Said = pytest.CaptureFixture[str]


@cache
def story() -> World:
    return World(draw(5, miners=6, stages=2, epochs=2, batches=8, faults=tuple(FAULTS)), check=0).run()


def written(path: Path, saves: tuple[int, ...] = (100, 250), keep: int = 0) -> Path:
    """A closed ledger of the story."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger, core = Ledger(path, story().spec, keep), Orchestrator(story().spec)
    for number, event in enumerate(story().journal, 1):
        ledger.append(event)
        core.handle(event)
        if number in saves:
            ledger.save(core.state)
    ledger.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "run" / FILE)


def edit(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def lines(said: Said) -> list[str]:
    return said.readouterr().out.splitlines()


# -- verify ---------------------------------------------------------------------------------------------------------


def test_a_sound_ledger_is_named_by_its_digest_and_its_state(path: Path, capsys: Said) -> None:
    assert main(["ledger", "verify", str(path)]) == 0
    count, words, history, state = lines(capsys)
    size = len(story().journal)
    assert count == f"ok: {size} events; {size} played again, 2 snapshots are right"
    assert words.startswith("epoch 1, done, ") and history.startswith(f"history {size} ")
    assert state == f"state   {state_hash(story().orchestrator.state)}"


@pytest.mark.parametrize("place", ["", "validator"])
def test_a_run_directory_will_do(tmp_path: Path, capsys: Said, place: str) -> None:
    written(tmp_path / "run" / place / FILE)
    assert main(["ledger", "verify", str(tmp_path / "run")]) == 0


#: What is done to the file, and the first event at which it shows.
TAMPERED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "edited": (("UPDATE events SET body = body || x'00' WHERE seq = 40",), 40, "digest does not follow"),
    "renamed": (("UPDATE events SET kind = 'Tick' WHERE seq = 1",), 1, "digest does not follow"),
    "removed": (("DELETE FROM events WHERE seq = 40",), 40, "missing"),
    "beginning removed": (("DELETE FROM events WHERE seq < 40",), 1, "missing"),
    "closed up": (
        ("DELETE FROM events WHERE seq = 40", "UPDATE events SET seq = seq - 1 WHERE seq > 40"),
        40,
        "digest does not follow",
    ),
    "swapped": (
        (
            "UPDATE events SET seq = -1 WHERE seq = 40",
            "UPDATE events SET seq = 40 WHERE seq = 41",
            "UPDATE events SET seq = 41 WHERE seq = -1",
        ),
        40,
        "digest does not follow",
    ),
    "shortened": (("DELETE FROM events WHERE seq > 240",), 241, "missing, and there is a snapshot"),
    "of another run": (("UPDATE run SET value = replace(value, '0 ', '0 ff') WHERE key = 'base'",), 0, "specification"),
    "snapshot torn": (("UPDATE snapshots SET body = substr(body, 1, 99) WHERE seq = 250",), 250, "is damaged"),
    "snapshot moved": (("UPDATE snapshots SET seq = 251 WHERE seq = 250",), 251, "another history"),
    "snapshot of another place": (
        ("UPDATE snapshots SET (state, body) = (SELECT state, body FROM snapshots WHERE seq = 100) WHERE seq = 250",),
        250,
        "not what a replay by this release comes to",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_found_where_it_begins(path: Path, capsys: Said, name: str) -> None:
    statements, seq, words = TAMPERED[name]
    edit(path, *statements)
    assert main(["ledger", "verify", str(path)]) == 1
    (line,) = lines(capsys)
    assert line.startswith(f"BROKEN at event {seq}: ") and words in line


def test_a_chain_that_was_written_anew_is_found_by_the_snapshots(path: Path, capsys: Said) -> None:
    """A forger who knows how digests are made must make the states too; and then the newest digest is another."""
    db = sqlite3.connect(path)
    rows = db.execute("SELECT seq, kind, body, digest FROM events ORDER BY seq").fetchall()
    digest = rows[48][3]
    for seq, kind, body, _ in rows[50:]:
        digest = chained(digest, kind, body)
        db.execute("UPDATE events SET digest = ? WHERE seq = ?", (digest, seq))
    db.execute("DELETE FROM events WHERE seq = 50")
    db.execute("UPDATE events SET seq = seq - 1 WHERE seq > 50")
    db.commit()
    db.close()
    assert main(["ledger", "verify", str(path)]) == 1
    assert (
        "BROKEN at event 100: the snapshot after it cannot be used: it belongs to another history" in lines(capsys)[0]
    )


def test_an_event_that_does_not_parse_is_found(path: Path, capsys: Said) -> None:
    last = len(story().journal)
    db = sqlite3.connect(path)
    ((digest,),) = db.execute("SELECT digest FROM events WHERE seq = ?", (last,))
    db.execute("INSERT INTO events VALUES (?, 'Tick', x'00', ?)", (last + 1, chained(digest, "Tick", b"\0")))
    db.commit()
    db.close()
    assert main(["ledger", "verify", str(path)]) == 1
    assert lines(capsys)[0].startswith(f"BROKEN at event {last + 1}: event {last + 1} (Tick) does not parse")


def test_a_ledger_whose_beginning_was_deleted_is_verified_from_there(tmp_path: Path, capsys: Said) -> None:
    path = written(tmp_path / FILE, saves=(100, 101), keep=64)
    size = len(story().journal)
    assert main(["ledger", "verify", str(path)]) == 0
    assert lines(capsys)[0].startswith(f"ok: {size - 100} events, of {size}: the others were deleted; {size - 100} ")
    edit(path, "UPDATE events SET body = body || x'00' WHERE seq = 102")
    assert main(["ledger", "verify", str(path)]) == 1
    assert lines(capsys)[0].startswith("BROKEN at event 102: ")


# -- replay ---------------------------------------------------------------------------------------------------------


def test_a_replay_tells_the_state(path: Path, capsys: Said) -> None:
    assert main(["ledger", "replay", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    state = story().orchestrator.state
    assert (result["phase"], result["epoch"], result["miners"]) == ("done", 1, len(state.miners))
    assert result["microbatches"] == sum(report.microbatches for report in state.reports)
    assert result["state"] == state_hash(state) and result["seq"] == len(story().journal)
    assert main(["ledger", "replay", str(path)]) == 0
    assert lines(capsys)[-1] == f"state   {result['state']}"


def test_a_replay_up_to_an_event_tells_the_state_that_was(path: Path, capsys: Said) -> None:
    core = Orchestrator(story().spec)
    for event in story().journal[:120]:
        core.handle(event)
    assert main(["ledger", "replay", str(path), "--to", "120", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["seq"], result["state"], result["phase"]) == (120, state_hash(core.state), core.state.phase.value)


def test_a_ledger_without_its_beginning_is_replayed_from_its_oldest_snapshot(tmp_path: Path, capsys: Said) -> None:
    path = written(tmp_path / FILE, saves=(100, 250), keep=64)
    assert main(["ledger", "replay", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["from"] == 100 and result["state"] == state_hash(story().orchestrator.state)
    assert main(["ledger", "replay", str(path), "--to", "99"]) == 2
    assert "--to 99: the events before it were deleted" in capsys.readouterr().err


# -- show -----------------------------------------------------------------------------------------------------------


def test_events_are_shown_one_a_line(path: Path, capsys: Said) -> None:
    assert main(["ledger", "show", str(path)]) == 0
    shown = lines(capsys)
    assert len(shown) == len(story().journal)
    assert shown[0].split()[:3] == ["1", "1970-01-01T00:00:00.000Z", "RunStarted"]


def test_the_secret_of_the_run_is_not_shown(path: Path, capsys: Said) -> None:
    """Who knows it knows who will be drawn; and what is shown is pasted into chats."""
    secret = story().orchestrator.state.secret
    for flags in ([], ["--json"]):
        assert main(["ledger", "show", str(path), "--kind", "RunStarted", *flags]) == 0
        text = capsys.readouterr().out
        assert secret and "sizes" in text and "secret" not in text and f'"{secret}"' not in text


def test_no_field_of_an_event_is_hidden_by_another_of_its_name(path: Path, capsys: Said) -> None:
    assert main(["ledger", "show", str(path), "--json"]) == 0
    for event, line in zip(story().journal, lines(capsys), strict=True):
        shown = json.loads(line)
        names = {name for name in type(event).__dataclass_fields__ if name != "secret"}
        assert shown.keys() == names | {"seq", "event", "history"}, shown["event"]
        assert shown["event"] == type(event).__name__ and shown["at"] == event.at
        if isinstance(event, LeaseFailed):
            assert shown["kind"] == event.kind
    assert not any(cls.__dataclass_fields__.keys() & {"seq", "event", "history"} for cls in ALL.values())


def test_what_is_shown_can_be_chosen(path: Path, capsys: Said) -> None:
    hotkey = next(iter(story().miners))
    flags = ["--kind", "LeaseFinished", "--hotkey", hotkey, "--from", "50", "--to", "300", "--json"]
    assert main(["ledger", "show", str(path), *flags]) == 0
    shown = [json.loads(line) for line in lines(capsys)]
    wanted = [
        (seq, event.lease)
        for seq, event in enumerate(story().journal, 1)
        if isinstance(event, LeaseFinished) and event.hotkey == hotkey and 50 <= seq <= 300
    ]
    assert [(one["seq"], one["lease"]) for one in shown] == wanted and len(wanted) > 3
    assert main(["ledger", "show", str(path), *flags, "--limit", "2"]) == 0
    assert [json.loads(line) for line in lines(capsys)] == shown[:2]


def test_an_event_that_cannot_be_shown_ends_it_with_1(path: Path, capsys: Said) -> None:
    edit(path, "UPDATE events SET kind = 'Levitated' WHERE seq = 3")
    assert main(["ledger", "show", str(path)]) == 1
    shown = lines(capsys)
    assert len(shown) == 3 and shown[2].startswith("BROKEN: event 3 is of the unknown kind 'Levitated'")


def test_a_reader_that_has_seen_enough_is_no_error(path: Path) -> None:
    command = f"{sys.executable} -m iota_subnet.cli ledger show {path} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 1


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_ledger_that_is_being_written_can_be_read(tmp_path: Path, capsys: Said) -> None:
    """And goes on being written: the reader is another process, as an operator's is."""
    path = tmp_path / FILE
    ledger = Ledger(path, story().spec)
    ledger.append(*story().journal[:300])
    command = [sys.executable, "-m", "iota_subnet.cli", "ledger", "verify", str(path)]
    reader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for event in story().journal[300:]:
        ledger.append(event)
    out, err = reader.communicate(timeout=60)
    assert (reader.returncode, err) == (0, "") and out.startswith("ok: ")
    assert main(["ledger", "verify", str(path)]) == 0
    assert lines(capsys)[0].startswith(f"ok: {len(story().journal)} events")
    ledger.append(story().journal[-1])


def test_what_a_killed_validator_left_can_be_read_where_it_is_and_as_a_copy(tmp_path: Path, capsys: Said) -> None:
    writer = """
import os, sys
from iota_subnet.core.events import Tick
from iota_subnet.spec import RunSpec
from iota_subnet.validator.ledger import Ledger
ledger = Ledger(sys.argv[1], RunSpec("killed", 5))
ledger.append(*(Tick(at=float(at)) for at in range(500)))
os.kill(os.getpid(), 9)
"""
    (tmp_path / "run").mkdir()
    subprocess.run([sys.executable, "-c", writer, str(tmp_path / "run" / FILE)], cwd=ROOT, check=False)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    assert before[f"{FILE}-wal"]
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (tmp_path / "copy" / f"{FILE}-shm").unlink()
    for place in ("copy", "run"):
        assert main(["ledger", "verify", str(tmp_path / place)]) == 0
        assert lines(capsys)[0].startswith("ok: 500 events")
    assert (tmp_path / "run" / FILE).read_bytes() == before[FILE]
    assert (tmp_path / "run" / f"{FILE}-wal").read_bytes() == before[f"{FILE}-wal"]


def test_a_closed_ledger_is_not_changed_by_reading_it(path: Path, capsys: Said) -> None:
    before = path.read_bytes()
    for action in ("verify", "replay", "show"):
        assert main(["ledger", action, str(path)]) == 0
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_ledger_in_a_folder_that_nobody_may_write_can_be_read(path: Path, capsys: Said) -> None:
    path.parent.chmod(0o500)
    try:
        assert main(["ledger", "verify", str(path)]) == 0
    finally:
        path.parent.chmod(0o700)


def wrong(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    path = written(tmp_path / "good" / FILE)
    old, text = tmp_path / "old" / FILE, tmp_path / "text"
    old.parent.mkdir()
    shutil.copy(path, old)
    edit(old, "UPDATE run SET value = '2' WHERE key = 'schema'")
    text.write_text("not a ledger at all, " * 300)
    return {
        "nothing there": ([str(tmp_path / "nowhere")], "there is no file or folder"),
        "an empty folder": ([str(tmp_path)], f"has no {FILE} in it"),
        "not a ledger": ([str(text)], "is not a ledger that can be read"),
        "an older schema": ([str(old)], "has schema 2, this release reads 3; replay it with the release that wrote it"),
        "beyond the end": ([str(path), "--to", "100000"], "--to 100000: the newest event is"),
        "before the beginning": ([str(path), "--to", "-1"], "--to -1: the newest event is"),
    }


@pytest.mark.parametrize(
    "name",
    ["nothing there", "an empty folder", "not a ledger", "an older schema", "beyond the end", "before the beginning"],
)
def test_what_cannot_be_read_is_one_line_and_exit_code_2(tmp_path: Path, capsys: Said, name: str) -> None:
    arguments, words = wrong(tmp_path)[name]
    assert main(["ledger", "replay", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: ") and words in err


@pytest.mark.parametrize("arguments", [[], ["mend", "x"], ["show", "x", "--kind", "Levitated"], ["verify"]])
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: Said) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["ledger", *arguments])
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments", [[], ["show"]])
def test_the_help_has_examples(arguments: list[Any], capsys: Said) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["ledger", *arguments, "--help"])
    assert caught.value.code == 0 and "iota ledger show runs/main --kind EffectFailed" in capsys.readouterr().out
