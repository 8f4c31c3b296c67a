"""A neuron ends what it has under way, also what does not hear the first time."""

from __future__ import annotations

import asyncio

import pytest

from iota_subnet.tasks import cancel


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iota_subnet.tasks.AGAIN_S", 0.01)
    swallowed: list[int] = []

    async def deaf() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if len(swallowed) == 3:
                    raise
                swallowed.append(len(swallowed))

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel(tasks), 5)
    assert swallowed == [0, 1, 2] and all(task.cancelled() for task in tasks)


async def test_what_has_ended_or_failed_is_no_hindrance() -> None:
    async def fails() -> None:
        raise RuntimeError("before")

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    await cancel([task])
    await cancel([])
    assert task.done()
