"""A miner without an open port: what others would fetch from it, it gives to the validator when somebody waits for it.

Law: what is asked for in a `Wanted` is uploaded once, with its token; what is not held is said to be missing. Uploads
are few at a time and questions bounded: one too many is dropped, and its reader asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import aiohttp
from loguru import logger

from iota_subnet.messages import Wanted
from iota_subnet.tasks import cancel
from iota_subnet.wire.blobs import BlobStore
from iota_subnet.wire.relay import PREFIX
from iota_subnet.wire.stats import ByteCounter

#: Uploads at a time, and questions that may wait for their turn.
MAX_UPLOADS = 4
MAX_WAITING = 1024

#: Bytes that are handed to the connection at once.
CHUNK_BYTES = 1 << 18

#: Seconds without progress after which an upload is given up.
STALL_S = 20.0


class Uplink:
    """Uploads from `shelves`, looked through in their order. `url` is the validator's, without a path."""

    def __init__(self, shelves: Sequence[BlobStore], bytes_out: ByteCounter) -> None:
        self.url = ""
        self._shelves = shelves
        self._bytes_out = bytes_out
        self._turn = asyncio.Semaphore(MAX_UPLOADS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def want(self, message: Wanted) -> None:
        """Begin one upload."""
        if len(self._tasks) >= MAX_WAITING:
            logger.warning("{} uploads wait; dropped one more", MAX_WAITING)
            return
        task = asyncio.get_running_loop().create_task(self._give(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        await cancel(list(self._tasks))
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _give(self, wanted: Wanted) -> None:
        async with self._turn:
            try:
                status = await self._upload(wanted)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                logger.warning("upload of {} to the validator: {}", wanted.digest[:12], error or type(error).__name__)
                return
        if status != 204:
            logger.warning("upload of {}: the validator answered {}", wanted.digest[:12], status)

    async def _upload(self, wanted: Wanted) -> int:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=STALL_S)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        url, data = f"{self.url}{PREFIX}/{wanted.token}", await self._find(wanted.digest)
        if data is None:
            async with self._session.delete(url) as response:
                return response.status
        headers = {"Content-Length": str(len(data)), "Content-Type": "application/octet-stream"}
        async with self._session.put(url, data=self._parts(data), headers=headers) as response:
            return response.status

    async def _parts(self, data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), CHUNK_BYTES):
            part = data[at : at + CHUNK_BYTES]
            self._bytes_out.add("relay", len(part))
            yield part

    async def _find(self, digest: str) -> bytes | None:
        for shelf in self._shelves:
            if shelf.has(digest):
                return await asyncio.to_thread(shelf.get, digest) if shelf.on_disk else shelf.get(digest)
        return None
