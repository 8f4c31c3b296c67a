"""The worker process: it answers, it passes errors on, its death is survived, and it never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iota_subnet.train.codec import BadPayload
from iota_subnet.train.state import initial_state
from iota_subnet.validator import compute
from iota_subnet.validator.compute import Compute

from .kit import eventually, small_spec

SPEC = small_spec()


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_the_worker_answers_raises_and_is_replaced_when_it_is_killed_in_the_middle_of_a_call() -> None:
    pool = Compute()
    try:
        states = await pool.run(compute.initial_states, SPEC.to_json())
        assert [(weights, momentum) for _, weights, momentum in states] == [initial_state(SPEC, k) for k in range(2)]
        with pytest.raises(BadPayload, match="weights"):
            await pool.run(compute.reduce_shard, SPEC.to_json(), 0, 0, 4, [(0, 4, b"", b"")], [])
        worker = await pool.run(os.getpid)
        assert worker != os.getpid()
        waiting = [asyncio.create_task(pool.run(time.sleep, 0.5)), asyncio.create_task(pool.run(os.getpid))]
        await asyncio.sleep(0)
        os.kill(worker, signal.SIGKILL)
        assert await asyncio.wait_for(waiting[0], 30) is None
        assert await asyncio.wait_for(waiting[1], 30) not in (worker, os.getpid())
        assert gone(worker)
    finally:
        pool.close()


PARENT = """
import asyncio, os, time
from iota_subnet.validator.compute import Compute
async def main():
    pool = Compute()
    print(await pool.run(os.getpid), flush=True)
    await pool.run(time.sleep, 60)
if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_busy_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    worker = int(await asyncio.to_thread(parent.stdout.readline))
    assert not gone(worker)
    parent.kill()
    parent.wait()
    await eventually(lambda: gone(worker), 10.0, "the end of the worker")
