"""The status file: whole or absent, and an old one is not taken for a live one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.statusfile import STALE_S, StatusFile, ago, gone, read_status, write_status


def test_what_is_written_is_read_with_who_wrote_it_and_when(tmp_path: Path) -> None:
    path = tmp_path / "not yet there" / "status.json"
    write_status(path, {"kind": "miner", "idle_share": 0.25})
    document = read_status(path)
    assert (document["kind"], document["idle_share"], document["pid"]) == ("miner", 0.25, os.getpid())
    assert abs(document["written_at"] - time.time()) < 60 and gone(document, time.time()) == ""
    assert os.listdir(path.parent) == ["status.json"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "else"}', "null", '{"version": 1}'])
def test_what_is_no_status_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(text)
    with pytest.raises(ValueError):
        read_status(path)


def written(**changes: Any) -> dict[str, Any]:
    import platform

    return {
        "kind": "miner",
        "pid": os.getpid(),
        "host": platform.node(),
        "written_at": 1000.0,
        "ended": False,
    } | changes


def test_a_process_that_ended_that_died_and_that_hangs_are_told_apart() -> None:
    assert gone(written(), 1005.0) == ""
    assert gone(written(ended=True), 1090.0) == "it stopped 90 s ago"
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert gone(written(pid=int(child.stdout)), 1005.0) == "its process is gone; it last wrote 5 s ago"
    assert "it hangs" in gone(written(), 1001.0 + STALE_S)
    assert gone(written(pid=0), 1005.0) != "" and gone(written(pid=1 << 80), 1005.0) != ""


def test_of_another_machine_only_the_age_is_known() -> None:
    assert gone(written(host="another machine", pid=1 << 22), 1000.0 + STALE_S) == ""
    assert "gone" in gone(written(host="another machine"), 1001.0 + STALE_S)


def test_a_file_that_cannot_be_written_is_trouble_and_no_exception(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = StatusFile(tmp_path / "file" / "status.json", lambda: {"kind": "miner"})
    file.write()
    assert "cannot be written" in file.trouble
    (tmp_path / "file").unlink()
    file.write(ended=True)
    assert file.trouble == "" and json.loads(file.path.read_text())["ended"] is True


def test_ages_are_short_words() -> None:
    assert [ago(seconds) for seconds in (0, 119, 120, 7200, 172_800)] == ["0 s", "119 s", "2 min", "2 h", "2 days"]
