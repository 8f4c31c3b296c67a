"""Both ends of a work channel, recording what happens to them, and a client by hand which can send anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import WSMsgType

from iota_subnet.wire import handshake
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import BlobServer, MemoryStore
from iota_subnet.wire.channel import PATH, ChannelClient, ChannelServer
from iota_subnet.wire.frames import FrameReader, FrameWriter

from .kit import eventually, signer, verify


class Lease(msgspec.Struct, frozen=True, tag="lease"):
    id: int
    note: str = ""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    why: str


class Receipt(msgspec.Struct, frozen=True, tag="receipt"):
    id: int


Down = Lease | Stop
Up = Receipt


class Validator:
    """A channel server that records what happens to it."""

    def __init__(self, **options: Any) -> None:
        self.events: list[tuple[str, ...]] = []
        self.got: list[tuple[str, Any]] = []
        self.refusals: dict[str, str] = {}
        settings: dict[str, Any] = {
            "hotkey": "V", "sign": signer("V"), "verify": verify, "who": self.refusals.get,
            "inbound": Up, "outbound": Down,
            "on_message": lambda hotkey, msg: self.got.append((hotkey, msg)),
            "on_connect": lambda hotkey: self.events.append(("on", hotkey)),
            "on_disconnect": lambda hotkey, reason: self.events.append(("off", hotkey, reason)),
            "spec_digest": "spec",
        }  # fmt: skip
        self.channel = ChannelServer(**{**settings, **options})
        self.http = BlobServer(MemoryStore(100), "127.0.0.1", 0, "V", verify, extra_routes=self.channel.routes())

    @property
    def url(self) -> str:
        return self.http.url + PATH

    async def __aenter__(self) -> Validator:
        await self.http.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.http.stop()

    def off(self, hotkey: str) -> list[str]:
        return [event[2] for event in self.events if event[:2] == ("off", hotkey)]


class Miner:
    """A channel client that records what happens to it."""

    def __init__(self, url: str, hotkey: str = "A", **options: Any) -> None:
        self.events: list[tuple[str, ...]] = []
        self.got: list[Any] = []
        settings: dict[str, Any] = {
            "hotkey": hotkey, "server_hotkey": "V", "sign": signer(hotkey), "verify": verify,
            "inbound": Down, "outbound": Up,
            "on_message": self.got.append,
            "on_connect": lambda: self.events.append(("on",)),
            "on_disconnect": lambda reason: self.events.append(("off", reason)),
            "on_failure": lambda reason: self.events.append(("failed", reason)),
            "backoff": Backoff(0.01, 0.05), "jitter": lambda: 0.0,
        }  # fmt: skip
        self.channel = ChannelClient(url, **{**settings, **options})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Miner]:
        task = asyncio.create_task(self.channel.run())
        try:
            yield self
        finally:
            self.channel.stop()
            await asyncio.wait_for(task, 5)

    async def until(self, *event: str) -> None:
        await eventually(lambda: event in self.events)


class Raw:
    """A client by hand, which can send anything. Usable after `raw_client` did an honest handshake."""

    def __init__(
        self, ws: aiohttp.ClientWebSocketResponse[bool], transcript: handshake.Transcript, hotkey: str
    ) -> None:
        self.ws = ws
        self.writer = FrameWriter(transcript.session, "up", signer(hotkey), Receipt | Odd, 1 << 30)
        self.reader = FrameReader(transcript.session, "down", "V", verify, Down, 1 << 20)

    def frame(self, msg: msgspec.Struct) -> bytes:
        return self.writer.seal(self.writer.encode(msg))

    async def closing(self) -> tuple[int | None, str | None]:
        """How the server ended it."""
        while True:
            msg = await self.ws.receive(timeout=5)
            if msg.type is not WSMsgType.BINARY:
                return self.ws.close_code, msg.extra if msg.type is WSMsgType.CLOSE else None


class Odd(msgspec.Struct, frozen=True, tag="odd"):
    pad: str = ""


@asynccontextmanager
async def raw_client(url: str, hotkey: str = "A") -> AsyncIterator[Raw]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=0) as ws:
        reply, transcript = handshake.answer((await ws.receive()).data, b"c" * 32, hotkey, "V", None, signer(hotkey))
        await ws.send_bytes(handshake.dump(reply))
        handshake.conclude((await ws.receive()).data, transcript, verify)
        yield Raw(ws, transcript, hotkey)
