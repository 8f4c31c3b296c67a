"""A validator whose disk is full: it says so in one line, loses nothing, and goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.localnet.processes import Child
from tests.e2e.drills import Drilled, assert_whole

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux, to mount a tmpfs"),
]

#: Bytes of the validator's disk; a run of this size needs about 30 MB.
DISK = 96 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The run's folder, with a small disk of its own where the validator writes."""
    mount = tmp_path / "run" / "validator"
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(mount)], check=True)
    try:
        yield tmp_path / "run"
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


class FullDisk(Drilled):
    """Fills the validator's disk in the first epoch. Room is made after `room_s` seconds, or when the validator has
    ended, which is then started again, as pm2 would."""

    def __init__(self, folder: Path, *argv: str, room_s: float) -> None:
        super().__init__(folder, *argv)
        self.ends: list[str] = []
        self._ballast = folder / "validator" / "ballast"
        self._room_s = room_s
        self._filled_at = 0.0

    def _look(self) -> None:
        super()._look()
        status = self.picture.status
        if not self._filled_at and status is not None and status["microbatches"]["retired"] >= 10:
            self._filled_at = time.monotonic()
            fill(self._ballast)
            self.say("the validator's disk is full")
        elif self._filled_at and time.monotonic() > self._filled_at + self._room_s and self._ballast.exists():
            self._make_room()

    def _make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)
        self.say("there is room on the validator's disk again")

    def ended(self, name: str, child: Child) -> None:
        if name != "validator" or not self._ballast.exists():
            super().ended(name, child)
        self.ends.append(child.tail(1))
        self._make_room()
        self.restart(name)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


SIZE = ["--miners", "4", "--stages", "2", "--epochs", "2", "--batches", "60"]


def whole(run: FullDisk, folder: Path) -> dict[str, Any]:
    summary = run.run()
    assert_whole(summary, folder, epochs=2, stages=2, batches=60)
    return summary


def test_room_made_within_seconds_is_all_it_takes(disk: Path) -> None:
    run = FullDisk(disk, *SIZE, room_s=4.0)
    whole(run, disk)
    assert run.ends == []
    assert "make room on its disk" in run.log("validator")


def test_a_disk_that_stays_full_ends_the_validator_with_the_remedy_and_a_restart_goes_on(disk: Path) -> None:
    run = FullDisk(disk, *SIZE, room_s=120.0)
    whole(run, disk)
    (end,) = run.ends
    assert end.startswith("error: ") and "make room on its disk, then start the validator again" in end
