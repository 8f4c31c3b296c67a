"""Audits take turns: one at a time, the shortest first, and a turn that is given up passes on."""

from __future__ import annotations

import asyncio

from iota_subnet.validator.inspector import Turns


async def taking(turns: Turns, length: int, done: list[int], go: asyncio.Event) -> None:
    async with turns.of(length):
        await go.wait()
        done.append(length)


async def test_the_shortest_goes_first_and_nobody_twice_at_once() -> None:
    turns, done, go = Turns(), list[int](), asyncio.Event()
    tasks = [asyncio.ensure_future(taking(turns, length, done, go)) for length in (9, 5, 1, 3)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert done == [9, 1, 3, 5]


async def test_who_gives_up_while_it_waits_holds_up_nobody() -> None:
    turns, done, go = Turns(), list[int](), asyncio.Event()
    tasks = [asyncio.ensure_future(taking(turns, length, done, go)) for length in (9, 1, 3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [9, 3]


async def test_who_gives_up_as_its_turn_comes_passes_it_on() -> None:
    turns, done, go = Turns(), list[int](), asyncio.Event()
    go.set()
    async with turns.of(9):
        tasks = [asyncio.ensure_future(taking(turns, length, done, go)) for length in (1, 3)]
        await asyncio.sleep(0)
    # Its turn has come, and it has not heard of it yet.
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [3]
