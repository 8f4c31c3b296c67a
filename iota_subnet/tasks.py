"""How a neuron ends what it has under way."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

#: Seconds after which a task that has not ended is cancelled again.
AGAIN_S = 0.5


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until they have ended; how they ended is of no interest.

    Once is not enough: before Python 3.12, `asyncio.wait_for` returns normally when it is cancelled in the moment in
    which what it waits for is done, and whoever loops around it goes on for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
