"""A limit of time around what a task awaits, without a task of its own for it as `asyncio.wait_for` makes one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

if sys.version_info < (3, 11):
    # aiohttp needs it there, and brings it along.
    import async_timeout


def within(seconds: float) -> AbstractAsyncContextManager[Any]:
    """What is awaited inside is cancelled after `seconds`; the block then ends with asyncio.TimeoutError."""
    if sys.version_info < (3, 11):
        return async_timeout.timeout(seconds)
    return asyncio.timeout(seconds)
