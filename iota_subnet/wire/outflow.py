"""The body of a response, from where it lies to the kernel, without a copy in between."""

from __future__ import annotations

import asyncio
import socket
from typing import BinaryIO

from aiohttp import web

from iota_subnet.wire.limits import within

#: Bytes of a body that go out with the head; a body of no more than that needs no handle of its own.
_FIRST_BYTES = 1 << 16


def read(file: BinaryIO, start: int, nbytes: int) -> bytes:
    """Bytes [start, start + nbytes) of a file; fewer where it is too short. Blocks."""
    file.seek(start)
    return file.read(nbytes)


class Outflow:
    """The body of one response, from where it lies to the kernel: the transport would copy what it cannot send at once.

    It has its own handle of the socket, because a loop lends out a transport's one to nobody.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse, stall_s: float) -> None:
        self._transport = request.transport
        self._response = response
        self._stall_s = stall_s
        self._socket: socket.socket | None = None

    async def send(self, chunk: memoryview) -> None:
        """TimeoutError when the reader does not take it within `stall_s`; ConnectionError when it has hung up."""
        async with within(self._stall_s):
            await self._send(chunk)

    def close(self) -> None:
        """Close its own handle of the socket; the connection stays the transport's."""
        if self._socket is not None:
            self._socket.close()

    async def _send(self, chunk: memoryview) -> None:
        if self._socket is None:
            # The head is still to go out, in one packet with the first bytes.
            await self._response.write(chunk[:_FIRST_BYTES])
            chunk = chunk[_FIRST_BYTES:]
            if not chunk:
                return
            if self._transport is None or self._transport.is_closing():
                raise ConnectionResetError
            if self._transport.get_write_buffer_size() or self._transport.get_extra_info("sslcontext"):
                return await self._response.write(chunk)
            self._socket = self._transport.get_extra_info("socket").dup()
        await asyncio.get_running_loop().sock_sendall(self._socket, chunk)
