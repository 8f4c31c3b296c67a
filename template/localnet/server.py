"""Websocket server around a :class:`LocalChain`: one asyncio loop that serves clients and makes blocks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from template.localnet.chain import Block, LocalChain
from template.localnet.config import ChainConfig
from template.localnet.journal import extrinsic_lines
from template.localnet.session import Session
from template.localnet.store import StateFileError, Store

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 << 20
MAX_CLIENTS = 256
_OUTBOX = 4096  # texts that may wait for a slow client before it is disconnected
_POLICY_VIOLATION = 1008
_CLOSE_TIMEOUT = 1.0  # seconds for a client to answer the closing handshake


class _Client:
    """A connection with its own writer task, so that a slow reader never delays a block."""

    def __init__(self, connection: ServerConnection, session: Session) -> None:
        self.connection = connection
        self.session = session
        self._queue: asyncio.Queue[str] = asyncio.Queue(_OUTBOX)

    def post(self, texts: list[str]) -> bool:
        """Queue texts; False when the client is too slow to keep."""
        try:
            for text in texts:
                self._queue.put_nowait(text)
        except asyncio.QueueFull:
            return False
        return True

    async def write(self) -> None:
        while True:
            await self.connection.send(await self._queue.get())


class ChainServer:
    """Serves one chain on a loopback port.

    ``start`` binds (port 0 picks a free one; OSError when it is taken) and starts block production; ``stop`` ends both
    and may be called more than once.
    """

    def __init__(
        self,
        config: ChainConfig | None = None,
        chain: LocalChain | None = None,
        store: Store | None = None,
        on_demand: bool = False,
    ) -> None:
        self.config = config or ChainConfig()
        self.chain = chain or LocalChain(self.config, genesis_ms=_now_ms(), seed=os.urandom(16))
        self.ended = asyncio.Event()  # set by whoever wants it to stop, and by a failure
        self.failure = ""  # why it ended by itself, one line
        self._store = store
        self._on_demand = on_demand
        self._server: Server | None = None
        self._producer: asyncio.Task[None] | None = None
        self._clients: set[_Client] = set()
        self._port = 0

    @property
    def endpoint(self) -> str:
        """``ws://host:port`` of the running server."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"ws://{host}:{self._port}"

    async def start(self) -> None:
        self.chain.metadata()  # built now, so that the first client does not wait for it
        await self.show()
        if not self._on_demand:
            self._producer = asyncio.create_task(self._produce())

    async def show(self) -> None:
        """Listen, at the same port as before."""
        if self._server is not None:
            return
        self._server = await serve(
            self._serve_client,
            self.config.host,
            self._port or self.config.port,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT,
            process_request=self._admit,
            origins=[None],  # browsers send an origin: no web page may drive this chain
        )
        self._port = int(next(iter(self._server.sockets)).getsockname()[1])

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse one connection too many, before its handshake."""
        if len(self._clients) < MAX_CLIENTS:
            return None
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"at most {MAX_CLIENTS} connections\n")

    async def hide(self) -> None:
        """Cut every connection and refuse new ones, until `show`; blocks are made all the while."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def stop(self) -> None:
        if self._producer is not None:
            self._producer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._producer
            self._producer = None
        await self.hide()

    async def _produce(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.config.block_time
        while True:
            await asyncio.sleep(max(due - loop.time(), 0))
            # blocks that could not be made in time are skipped, not made up for
            due = max(due + self.config.block_time, loop.time())
            await self.make_block()

    async def make_block(self) -> None:
        """Make one block, write it down, and only then tell the clients; does nothing after a failure."""
        if self.failure:
            return
        try:
            block = self.chain.produce_block(_now_ms())
        except Exception:
            logger.exception("block production failed; retrying with the next block")
            return
        if self._store is not None:
            try:
                self._store.append(block, self.chain.state)
            except StateFileError as error:
                # what is not written must not be reported, so the chain ends here
                self.failure = str(error)
                await self.hide()
                self.ended.set()
                return
        if len(block.extrinsics) > 1 and logger.isEnabledFor(logging.INFO):
            for line in extrinsic_lines(block, self.chain.state):
                logger.info("%s", line)
        for client in list(self._clients):
            await self._deliver(client, self._notify(client, block))

    @staticmethod
    def _notify(client: _Client, block: Block) -> list[str]:
        try:
            return client.session.on_block(block)
        except Exception:
            logger.exception("a client could not be told about block %d", block.number)
            return []

    async def _deliver(self, client: _Client, texts: list[str]) -> None:
        if not client.post(texts):
            self._clients.discard(client)
            task = asyncio.create_task(client.connection.close(_POLICY_VIOLATION, "too slow"))
            task.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)

    async def _serve_client(self, connection: ServerConnection) -> None:
        client = _Client(connection, Session(self.chain))
        self._clients.add(client)
        writer = asyncio.create_task(client.write())
        try:
            async for message in connection:
                await self._deliver(client, client.session.handle(message))
                wanted = client.session.take_wanted()
                if self._on_demand and len(self.chain.pool):
                    wanted = max(wanted, 1)
                for _ in range(wanted):
                    await self.make_block()
                    await asyncio.sleep(0)
        except ConnectionClosed:
            pass  # the client went away in the middle of a message
        finally:
            self._clients.discard(client)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await writer


def _now_ms() -> int:
    return int(time.time() * 1000)
