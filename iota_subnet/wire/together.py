"""Blobs that are asked for at once and lie at one place come in one answer: a request costs more than a small blob.

Law: this is a way that may be shorter, and no other. Who gets nothing here asks for its blob alone, and only then is
anybody to blame; nothing is returned but the bytes with their digest, and no more is kept than was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult

from iota_subnet.spec import BlobRef
from iota_subnet.tasks import cancel
from iota_subnet.wire.limits import within
from iota_subnet.wire.places import BLOBS
from iota_subnet.wire.plain import Head, NotPlain, Plain, Silent
from iota_subnet.wire.source import Fault, Source
from iota_subnet.wire.tickets import MAX_TICKET_CHARS, MAX_TOGETHER

#: Bytes of one answer, unless a single blob may have fewer.
MAX_BYTES = 64 << 20


@dataclass(slots=True)
class _Wish:
    """One blob; `found` gives it, or None: ask for it alone."""

    ref: BlobRef
    ticket: str
    count: Callable[[int], object]
    found: asyncio.Future[bytes | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Answer:
    """Takes several blobs, one behind the other."""

    def __init__(self, wishes: list[_Wish]) -> None:
        self._wishes = wishes
        self._at = 0
        self._source = Source("", wishes[0].ref.nbytes)

    def room(self, head: Head) -> memoryview:
        if head.status != 200 or head.content_length != sum(wish.ref.nbytes for wish in self._wishes):
            raise Fault("refused", f"it gave no such blobs together ({head.status})")
        return self._source.room()

    def took(self, nbytes: int) -> None:
        self._source.took(nbytes)
        self._wishes[self._at].count(nbytes)

    def more(self) -> memoryview:
        wish = self._wishes[self._at]
        blob = self._source.finish(wish.ref.digest)
        if not wish.found.done():
            wish.found.set_result(blob)
        self._at += 1
        if all(left.found.done() for left in self._wishes[self._at :]):
            if self._at < len(self._wishes):
                raise Fault("refused", "nobody waits for the rest any more")
            return memoryview(b"")
        self._source = Source("", self._wishes[self._at].ref.nbytes)
        return self._source.room()

    def spilt(self, nbytes: int) -> None:
        raise self._source.spilt()


class Together:
    """Puts together what is asked for in one turn of the loop. `turn` is held during an answer, `seconds(nbytes)` says
    how long that may take, `most` how many bytes it may have."""

    def __init__(
        self, plain: Plain, turn: asyncio.Semaphore, seconds: Callable[[int], float], most: int = MAX_BYTES
    ) -> None:
        self._plain = plain
        self._turn = turn
        self._seconds = seconds
        self._most = min(most, MAX_BYTES)
        self._waiting: dict[str, list[_Wish]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def fits(self, parts: SplitResult, ref: BlobRef, ticket: str) -> bool:
        """Whether a blob may come with others."""
        # What a relay gives comes from the miner at its own pace, one by one; a bucket knows no such request.
        whole = parts.path == f"{BLOBS}/{ref.digest}" and not parts.query and 0 < len(ticket) <= MAX_TICKET_CHARS
        return whole and "," not in ticket and 0 < 2 * ref.nbytes <= self._most

    async def ask(self, parts: SplitResult, ref: BlobRef, ticket: str, count: Callable[[int], object]) -> bytes | None:
        """The blob, or None: it has to be asked for alone. `count` hears of bytes that came."""
        at = parts._replace(path=parts.path.removesuffix(f"/{ref.digest}"))
        place, wish = at.geturl(), _Wish(ref, ticket, count)
        if place in self._waiting:
            self._waiting[place].append(wish)
        else:
            self._waiting[place] = [wish]
            self._start(self._gather(place, at))
        return await wish.found

    async def close(self) -> None:
        """End what is under way."""
        await cancel(list(self._tasks))

    async def _gather(self, place: str, parts: SplitResult) -> None:
        # Whoever asks in this turn of the loop goes along.
        await asyncio.sleep(0)
        wishes = [wish for wish in self._waiting.pop(place) if not wish.found.done()]
        while wishes:
            count, nbytes = 0, 0
            while count < min(len(wishes), MAX_TOGETHER) and nbytes + wishes[count].ref.nbytes <= self._most:
                nbytes += wishes[count].ref.nbytes
                count += 1
            self._start(self._get(parts, wishes[:count]))
            wishes = wishes[count:]

    async def _get(self, parts: SplitResult, wishes: list[_Wish]) -> None:
        try:
            if len(wishes) > 1:
                nbytes = sum(wish.ref.nbytes for wish in wishes)
                headers = {
                    "Accept-Encoding": "identity",
                    "Authorization": "Ticket " + ",".join(wish.ticket for wish in wishes),
                }
                async with self._turn, within(self._seconds(nbytes)):
                    await self._plain.get(parts, headers, _Answer(wishes))
        except (Fault, NotPlain, Silent, OSError, ValueError, asyncio.TimeoutError):
            # Whoever asks alone will hear why.
            pass
        finally:
            for wish in wishes:
                if not wish.found.done():
                    wish.found.set_result(None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
