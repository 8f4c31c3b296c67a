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
from template.localnet.rpc import RpcError
from template.localnet.session import Session, error_text
from template.localnet.store import StateFileError, Store

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 << 20
MAX_CLIENTS = 256
_CUT_OFF_BYTES = 2 * MAX_MESSAGE_BYTES  # up to here a message is read and refused, beyond it ends its connection
_READ_AHEAD = 4  # messages of a client that wait to be handled
_OUTBOX = 4096  # texts that may wait for a slow client before it is disconnected,
_OUTBOX_BYTES = 64 << 20  # and how long they may be together
# codes and wording of Substrate nodes
_TOO_BIG = RpcError(-32007, "Request is too big", f"the limit is {MAX_MESSAGE_BYTES} bytes")
_TOO_MANY = RpcError(-32009, "Server is busy, try again later", f"the limit is {MAX_CLIENTS} connections")
_POLICY_VIOLATION = 1008
_CLOSE_TIMEOUT = 1.0  # seconds for a client to answer the closing handshake


class _Client:
    """A connection with its own writer task, so that a slow reader never delays a block."""

    def __init__(self, connection: ServerConnection, session: Session) -> None:
        self.connection = connection
        self.session = session
        self._queue: asyncio.Queue[str] = asyncio.Queue(_OUTBOX)
        self._waiting = 0  # characters; JSON texts are ASCII

    def post(self, texts: list[str]) -> bool:
        """Queue texts; False when the client is too slow to keep."""
        try:
            for text in texts:
                self._queue.put_nowait(text)
                self._waiting += len(text)
        except asyncio.QueueFull:
            return False
        return self._waiting <= _OUTBOX_BYTES

    async def write(self) -> None:
        while True:
            text = await self._queue.get()
            await self.connection.send(text)
            self._waiting -= len(text)


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
        """Listen, and make blocks unless they are made on demand. Raises OSError."""
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
            max_size=_CUT_OFF_BYTES,
            max_queue=_READ_AHEAD,
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
        return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, error_text(None, _TOO_MANY) + "\n")

    async def hide(self) -> None:
        """Cut every connection and refuse new ones, until `show`; blocks are made all the while."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def stop(self) -> None:
        """Make no more blocks, and close all connections. Safe to call twice."""
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

    async def make_block(self) -> bool:
        """Make one block, write it down, and only then tell the clients; False when none was made."""
        if self.failure:
            return False
        try:
            block = self.chain.produce_block(_now_ms())
        except Exception:
            logger.exception("block production failed; retrying with the next block")
            return False
        if self._store is not None:
            try:
                self._store.append(block, self.chain.state)
            except StateFileError as error:
                # what is not written must not be reported, so the chain ends here
                self.failure = str(error)
                await self.hide()
                self.ended.set()
                return False
        if len(block.extrinsics) > 1 and logger.isEnabledFor(logging.INFO):
            for line in extrinsic_lines(block, self.chain.state):
                logger.info("%s", line)
        for client in list(self._clients):
            await self._deliver(client, self._notify(client, block))
        return True

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
                too_big = len(message) > MAX_MESSAGE_BYTES
                texts = [error_text(None, _TOO_BIG)] if too_big else client.session.handle(message)
                await self._deliver(client, texts)
                wanted = client.session.take_wanted()
                for _ in range(wanted):
                    await self.make_block()
                    await asyncio.sleep(0)
                # more than once: a block may open a shielded call for the next one
                while self._on_demand and self.chain.has_ready and await self.make_block():
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
