"""The miner's end of the work channel: connects, proves who it is, and connects again when the line is lost.

Delivery is at most once within a connection, see `channel_server`: after on_connect ask again for what is still open.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp import WSMsgType

from iota_subnet.wire import handshake
from iota_subnet.wire.backoff import Backoff, Jitter
from iota_subnet.wire.channel_server import require_sync
from iota_subnet.wire.frames import ChannelError, FrameReader, FrameWriter
from iota_subnet.wire.link import CLOSE_S, Link, ended_by, shut
from iota_subnet.wire.signing import Signer, Verifier

log = logging.getLogger(__name__)


class ChannelClient:
    """Keeps one connection to the validator `server_hotkey` at `url` (http, https, ws or wss; path /v1/channel).

    Callbacks are plain functions called on the loop: on_connect() and on_disconnect(reason) alternate;
    on_failure(reason) is called for an attempt that never became a connection (unreachable: why, timeout,
    wrong_server: who, wrong_spec: which, refused: why, peer:<text>, ...). `spec_digest` None accepts any spec.
    """

    def __init__(
        self,
        url: str,
        *,
        hotkey: str,
        server_hotkey: str,
        sign: Signer,
        verify: Verifier,
        inbound: Any,
        outbound: Any,
        on_message: Callable[[Any], object],
        on_connect: Callable[[], object] = lambda: None,
        on_disconnect: Callable[[str], object] = lambda reason: None,
        on_failure: Callable[[str], object] = lambda reason: None,
        spec_digest: str | None = None,
        max_frame_bytes: int = 1 << 20,
        max_queue: int = 256,
        max_queue_bytes: int = 8 << 20,
        max_rate: float = 2000.0,
        heartbeat_s: float = 10.0,
        handshake_s: float = 10.0,
        backoff: Backoff | None = None,
        jitter: Jitter = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        require_sync(on_message=on_message, on_connect=on_connect, on_disconnect=on_disconnect, on_failure=on_failure)
        self.url = url
        self._hotkey = hotkey
        self._server = server_hotkey
        self._sign = sign
        self._verify = verify
        self._inbound = inbound
        self._outbound = outbound
        self._on_message = on_message
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._on_failure = on_failure
        self._spec = spec_digest
        self._max_frame_bytes = max_frame_bytes
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        self._max_rate = max_rate
        self._heartbeat_s = heartbeat_s
        self._handshake_s = handshake_s
        self._backoff = backoff or Backoff()
        self._jitter = jitter
        self._sleep = sleep
        self._nonce = nonce
        self._link: Link | None = None
        self._stop = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._link is not None and not self._link.over

    def send(self, msg: msgspec.Struct) -> bool:
        """Queue `msg`; False when not connected (ask or tell again after on_connect). Never blocks. TypeError for a
        message outside the outbound union, ChannelError("oversize") for one above max_frame_bytes."""
        return self._link is not None and self._link.send(msg)

    def stop(self) -> None:
        """Let `run` return."""
        self._stop.set()
        if self._link is not None:
            self._link.end("stopped")

    async def run(self) -> None:
        """Stay connected until `stop` or cancellation; between attempts waits grow, with chance in them."""
        failures = 0
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while not self._stop.is_set():
                began = loop.time()
                reason = await self._once(session)
                # A connection that lasted was a success; one that ended at once must not be retried without a pause.
                failures = 1 if loop.time() - began > 2 * self._heartbeat_s else failures + 1
                if reason == "peer:replaced":
                    # Another process uses this hotkey; taking turns in replacing each other would help neither.
                    failures = max(failures, 16)
                if not self._stop.is_set():
                    await self._pause(self._backoff.delay_s(failures, self._jitter))

    async def _pause(self, seconds: float) -> None:
        """Sleep, but wake for `stop`."""
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
            await asyncio.gather(sleeping, stopping, return_exceptions=True)

    async def _once(self, session: aiohttp.ClientSession) -> str:
        """One attempt and, when it works, one connection up to its end; the reason of that end."""
        try:
            ws, transcript = await asyncio.wait_for(self._open(session), self._handshake_s)
        except ChannelError as error:
            return self._failed(str(error) if error.detail else error.reason)
        except asyncio.TimeoutError:
            return self._failed("timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failed(f"unreachable: {error}"[:300])
        link = self._link = self._make_link(ws, transcript)
        try:
            if self._stop.is_set():
                link.end("stopped")
            self._tell(link, self._on_connect)
            await link.run(self._on_message)
        finally:
            link.end("stopped")
            self._link = None
            self._tell(link, self._on_disconnect, link.reason)
            await link.close()
        return link.reason

    def _failed(self, reason: str) -> str:
        log.info("work channel: no connection to %s: %s", self.url, reason)
        self._on_failure(reason)
        return reason

    @staticmethod
    def _tell(link: Link, callback: Callable[..., object], *args: str) -> None:
        try:
            callback(*args)
        except Exception:
            log.exception("work channel: a callback failed")
            link.end("handler_failed")

    async def _open(
        self, session: aiohttp.ClientSession
    ) -> tuple[aiohttp.ClientWebSocketResponse[bool], handshake.Transcript]:
        ws = await session.ws_connect(
            self.url,
            heartbeat=self._heartbeat_s,
            max_msg_size=self._max_frame_bytes + 1,
            compress=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
        )
        try:
            raw = await self._receive(ws)
            nonce = self._nonce(handshake.NONCE_BYTES)
            reply, transcript = handshake.answer(raw, nonce, self._hotkey, self._server, self._spec, self._sign)
            await ws.send_bytes(handshake.dump(reply))
            handshake.conclude(await self._receive(ws), transcript, self._verify)
        except BaseException as error:
            await shut(ws, error.reason if isinstance(error, ChannelError) else "handshake_failed")
            raise
        return ws, transcript

    @staticmethod
    async def _receive(ws: aiohttp.ClientWebSocketResponse[bool]) -> bytes:
        frame = await ws.receive()
        if frame.type is not WSMsgType.BINARY:
            raise ChannelError(ended_by(frame))
        return bytes(frame.data)

    def _make_link(self, ws: aiohttp.ClientWebSocketResponse[bool], transcript: handshake.Transcript) -> Link:
        session, limit = transcript.session, self._max_frame_bytes
        reader = FrameReader(session, "down", self._server, self._verify, self._inbound, limit)
        writer = FrameWriter(session, "up", self._sign, self._outbound, limit)
        return Link(ws, reader, writer, self._max_queue, self._max_queue_bytes, self._max_rate)
