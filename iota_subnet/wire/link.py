"""One established connection, either side of it: a queue out, a loop in, and one end with one reason.

Reasons of an end: those of `frames.ChannelError`; overflow (the peer reads too slowly for the bounded queue),
heartbeat_lost, connection_lost, not_binary, bad_websocket, handler_failed (our callback raised), internal_error,
replaced, stopped, and "peer:<text>" when the other side closed and said why (its word, not a fact we checked).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from aiohttp import WSMsgType, web

from iota_subnet.wire.frames import ChannelError, FrameReader, FrameWriter

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse[bool]

#: Close code of the private range; the reason is in the text.
CLOSE_CODE = 4000
#: Seconds a polite close may take before the connection is cut.
CLOSE_S = 1.0
#: Frames handled before other connections get their turn.
_TURN = 16


class Link:
    """Sends and receives over `ws` until `end` is called by anyone or the peer goes away.

    `max_rate` is frames a second that are read from the peer (bursts of as many): the excess waits in the peer.
    """

    def __init__(
        self,
        ws: WebSocket,
        reader: FrameReader,
        writer: FrameWriter,
        max_queue: int,
        max_queue_bytes: int,
        max_rate: float,
    ) -> None:
        self._ws = ws
        self._reader = reader
        self._writer = writer
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        self._max_rate = max_rate
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        """Whether it ended."""
        return self._over.done()

    @property
    def reason(self) -> str:
        """Why it ended; "" while it lives."""
        return self._over.result() if self._over.done() else ""

    def end(self, reason: str) -> None:
        """End with `reason`; the first reason stays. Nothing is delivered afterwards. Never blocks."""
        if not self._over.done():
            self._over.set_result(reason)

    def send(self, msg: msgspec.Struct) -> bool:
        """Queue `msg`; False when the link is over, or ends now because the queue is full. TypeError, ChannelError
        ("oversize") for a message that must not be sent at all."""
        body = self._writer.encode(msg)
        if self.over:
            return False
        if len(self._queue) >= self._max_queue or self._queued_bytes + len(body) > self._max_queue_bytes:
            self.end("overflow")
            return False
        self._queue.append(body)
        self._queued_bytes += len(body)
        self._wake.set()
        return True

    async def run(self, deliver: Callable[[Any], object]) -> str:
        """Work until the end; the reason. `close` must follow."""
        tasks = [asyncio.create_task(self._guard(self._read(deliver))), asyncio.create_task(self._guard(self._write()))]
        try:
            await asyncio.wait({self._over})
        finally:
            self.end("stopped")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self.reason

    async def close(self) -> None:
        """Tell the peer the reason, politely for CLOSE_S seconds, then cut: it may not be reading."""
        self.end("stopped")
        await shut(self._ws, self.reason)

    async def _guard(self, work: Coroutine[Any, Any, str]) -> None:
        try:
            self.end(await work)
        except ChannelError as error:
            self.end(error.reason)
        except (OSError, aiohttp.ClientError):
            self.end("connection_lost")
        except Exception:
            log.exception("work channel: a fault of this side ended the connection")
            self.end("internal_error")

    async def _write(self) -> str:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                body = self._queue.popleft()
                # Counted as queued until the socket took it, so that one huge message in flight is not forgotten.
                await self._ws.send_bytes(self._writer.seal(body))
                self._queued_bytes -= len(body)

    async def _read(self, deliver: Callable[[Any], object]) -> str:
        clock = asyncio.get_running_loop().time
        credit, at, turn = self._max_rate, clock(), 0
        while True:
            frame = await self._ws.receive()
            if frame.type is not WSMsgType.BINARY:
                return ended_by(frame)
            if self.over:
                return self.reason
            msg = self._reader.open(frame.data)
            try:
                deliver(msg)
            except ChannelError:
                # The layer above found no sense in it and says why: a peer's fault, no traceback of ours.
                raise
            except Exception:
                log.exception("work channel: the handler of %s failed", type(msg).__name__)
                return "handler_failed"
            now = clock()
            credit, at, turn = min(self._max_rate, credit + (now - at) * self._max_rate) - 1.0, now, turn + 1
            if credit < 0:
                await asyncio.sleep(-credit / self._max_rate)
            elif turn % _TURN == 0:
                # Reading what is buffered already never yields; one busy peer must not keep the others waiting.
                await asyncio.sleep(0)


def ended_by(frame: Any) -> str:
    """The reason for an end, from what the websocket gave in place of a binary message."""
    if frame.type is WSMsgType.TEXT:
        return "not_binary"
    if frame.type is WSMsgType.CLOSE:
        text = "".join(char for char in str(frame.extra or "")[:120] if char.isprintable())
        return f"peer:{text or 'closed'}"
    if frame.type is WSMsgType.ERROR:
        if isinstance(frame.data, aiohttp.WebSocketError):
            return "oversize" if frame.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG else "bad_websocket"
        return "heartbeat_lost" if isinstance(frame.data, asyncio.TimeoutError) else "connection_lost"
    return "connection_lost"


async def shut(ws: WebSocket, reason: str) -> None:
    """Close `ws` with `reason` within CLOSE_S seconds, whatever the peer does."""
    wire = ws.get_extra_info("socket")
    # In a task of its own: when our writer was cancelled while it waited for the socket, aiohttp hands the cancelled
    # future to the next who waits, and `close` raises CancelledError although nobody cancelled it.
    closing = asyncio.ensure_future(ws.close(code=CLOSE_CODE, message=reason.encode()[:120]))
    try:
        await asyncio.wait({closing}, timeout=CLOSE_S)
    finally:
        closing.cancel()
        closing.add_done_callback(_forget)
        # A peer that does not read leaves unsent bytes in the buffer, and a graceful close would wait for ever.
        if wire is not None:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


def _forget(closing: asyncio.Future[bool]) -> None:
    """How a goodbye failed is of no interest: the connection is gone either way."""
    if not closing.cancelled():
        closing.exception()
