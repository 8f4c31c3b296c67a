"""The validator's end of the work channel: one live connection per hotkey, each in its own tasks.

Delivery is at most once within a connection, in order, and nothing is replayed after a reconnect: what was queued is
gone. The layers above are idempotent (a lease asked for twice is the same lease, a receipt sent twice closes it once),
so whoever reconnects simply asks again.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from iota_subnet.wire import handshake
from iota_subnet.wire.frames import ChannelError, FrameReader, FrameWriter
from iota_subnet.wire.link import CLOSE_S, Link, ended_by, shut
from iota_subnet.wire.signing import Signer, Verifier

log = logging.getLogger(__name__)

PATH = "/v1/channel"


def require_sync(**callbacks: Any) -> None:
    """TypeError for a coroutine function: it would be called and never awaited."""
    for name, callback in callbacks.items():
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"{name} must be a plain function (it runs on the loop); let it put the work into a queue")


class ChannelServer:
    """Accepts miners that `who` admits and that prove their hotkey; passes messages both ways.

    `who(hotkey)` gives the reason of a refusal or None. Callbacks are plain functions called on the loop; they must
    not block. For each hotkey on_connect and on_disconnect alternate, also when a connection is replaced, and
    on_message comes only in between. A callback that raises ends that one connection (handler_failed).
    """

    def __init__(
        self,
        *,
        hotkey: str,
        sign: Signer,
        verify: Verifier,
        who: Callable[[str], str | None],
        inbound: Any,
        outbound: Any,
        on_message: Callable[[str, Any], object],
        on_connect: Callable[[str], object] = lambda hotkey: None,
        on_disconnect: Callable[[str, str], object] = lambda hotkey, reason: None,
        spec_digest: str = "",
        max_frame_bytes: int = 1 << 20,
        max_queue: int = 256,
        max_queue_bytes: int = 8 << 20,
        max_rate: float = 500.0,
        max_greetings: int = 128,
        max_greetings_per_address: int = 8,
        heartbeat_s: float = 10.0,
        handshake_s: float = 5.0,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        require_sync(who=who, on_message=on_message, on_connect=on_connect, on_disconnect=on_disconnect)
        self.hotkey = hotkey
        self.spec_digest = spec_digest
        self._sign = sign
        self._verify = verify
        self._who = who
        self._inbound = inbound
        self._outbound = outbound
        self._on_message = on_message
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._max_frame_bytes = max_frame_bytes
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        self._max_rate = max_rate
        self._max_greetings = max_greetings
        self._max_greetings_per_address = max_greetings_per_address
        self._heartbeat_s = heartbeat_s
        self._handshake_s = handshake_s
        self._nonce = nonce
        self._links: dict[str, Link] = {}
        self._handlers: set[asyncio.Task[Any]] = set()
        self._greetings: Counter[str] = Counter()
        self._stopping = False

    def routes(self) -> list[web.AbstractRouteDef]:
        """To be given to `BlobServer(extra_routes=...)` or any aiohttp application."""
        return [web.get(PATH, self.handler, allow_head=False)]

    def connected(self) -> set[str]:
        """Hotkeys with a live connection."""
        return {hotkey for hotkey, link in self._links.items() if not link.over}

    def send(self, hotkey: str, msg: msgspec.Struct) -> bool:
        """Queue `msg` for `hotkey`; False when it is not connected, or is being cut because it reads too slowly
        (on_disconnect with "overflow" follows). Never blocks, calls no callback. TypeError for a message outside the
        outbound union, ChannelError("oversize") for one above max_frame_bytes."""
        link = self._links.get(hotkey)
        return link is not None and link.send(msg)

    def disconnect(self, hotkey: str, reason: str) -> bool:
        """Cut `hotkey`, telling it `reason`; whether it was connected."""
        link = self._links.get(hotkey)
        if link is None or link.over:
            return False
        link.end(reason)
        return True

    async def close(self) -> None:
        """Close every connection with the reason "stopped" and accept no more. Call it before stopping the server."""
        self._stopping = True
        for link in self._links.values():
            link.end("stopped")
        if self._handlers:
            await asyncio.wait(set(self._handlers), timeout=2 * CLOSE_S)

    async def handler(self, request: web.Request) -> web.StreamResponse:
        """The work channel: a websocket for a miner that is let in and proves its hotkey; 503 without a place."""
        address = request.remote or ""
        # Who was admitted is bounded by `who`; strangers are bounded here, so that they cannot take all places.
        crowded = self._greetings.total() >= self._max_greetings
        if self._stopping or crowded or self._greetings[address] >= self._max_greetings_per_address:
            return web.json_response({"error": "no_place"}, status=503, headers={"Retry-After": "5"})
        # Compression is off: it would let a small frame unpack into a large one.
        ws = web.WebSocketResponse(
            heartbeat=self._heartbeat_s, max_msg_size=self._max_frame_bytes + 1, timeout=CLOSE_S, compress=False
        )
        if not ws.can_prepare(request).ok:
            return web.json_response({"error": "websocket_needed"}, status=426, headers={"Upgrade": "websocket"})
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._converse(ws, request)
        finally:
            self._handlers.discard(task)
        return ws

    async def _converse(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        address = request.remote or ""
        self._greetings[address] += 1
        try:
            transcript = await asyncio.wait_for(self._greet(ws, request), self._handshake_s)
        except asyncio.TimeoutError:
            return await shut(ws, "handshake_timeout")
        except ChannelError as error:
            log.info("work channel: handshake failed: %s", error)
            return await shut(ws, error.reason)
        except OSError:
            return await shut(ws, "connection_lost")
        except Exception:
            log.exception("work channel: a fault of this side ended a handshake")
            return await shut(ws, "internal_error")
        finally:
            self._greetings[address] -= 1
            self._greetings += Counter()  # forgets the addresses that are at zero
        await self._serve(transcript.client, self._link(ws, transcript))

    async def _greet(self, ws: web.WebSocketResponse, request: web.Request) -> handshake.Transcript:
        """The handshake; ChannelError when it fails, after the client was told."""
        await ws.prepare(request)
        hello = handshake.Hello(self.hotkey, self._nonce(handshake.NONCE_BYTES), self.spec_digest)
        await ws.send_bytes(handshake.dump(hello))
        frame = await ws.receive()
        if frame.type is not WSMsgType.BINARY:
            raise ChannelError(ended_by(frame))
        transcript = handshake.accept(hello, frame.data, self._verify)
        refusal = "the server is stopping" if self._stopping else self._who(transcript.client)
        await ws.send_bytes(handshake.dump(handshake.welcome(transcript, refusal, self._sign)))
        if refusal is not None:
            raise ChannelError("refused", f"{transcript.client}: {refusal}")
        return transcript

    def _link(self, ws: web.WebSocketResponse, transcript: handshake.Transcript) -> Link:
        session, client, limit = transcript.session, transcript.client, self._max_frame_bytes
        reader = FrameReader(session, "up", client, self._verify, self._inbound, limit)
        writer = FrameWriter(session, "down", self._sign, self._outbound, limit)
        return Link(ws, reader, writer, self._max_queue, self._max_queue_bytes, self._max_rate)

    async def _serve(self, hotkey: str, link: Link) -> None:
        if self._stopping:
            link.end("stopped")
            return await link.close()
        old = self._links.get(hotkey)
        if old is not None:
            self._drop(hotkey, old, "replaced")
        self._links[hotkey] = link
        try:
            if self._tell(link, self._on_connect, hotkey):
                await link.run(lambda msg: self._on_message(hotkey, msg))
        finally:
            # First the layers above hear of it, then the peer is given its second to say goodbye.
            self._drop(hotkey, link, "stopped")
            await link.close()

    def _drop(self, hotkey: str, link: Link, reason: str) -> None:
        """End `link` and report it, once."""
        link.end(reason)
        if self._links.get(hotkey) is link:
            del self._links[hotkey]
            self._tell(link, self._on_disconnect, hotkey, link.reason)

    @staticmethod
    def _tell(link: Link, callback: Callable[..., object], *args: str) -> bool:
        try:
            callback(*args)
        except Exception:
            log.exception("work channel: a callback failed")
            link.end("handler_failed")
        return not link.over
