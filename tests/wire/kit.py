"""Cheap keys, ports and servers for the tests of the wire. Loopback only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from iota_subnet.spec import BlobRef
from iota_subnet.wire.digests import digest_of
from iota_subnet.wire.tickets import Ticket, encode

ISSUER = "5Validator"
READER = "5Miner"
NOW = 1_000_000.0


def signer(hotkey: str) -> Callable[[bytes], bytes]:
    """Signs for `hotkey`. Anyone can, which is fine here: what is tested is what is signed and when it is checked."""
    return lambda data: hmac.new(hotkey.encode(), data, hashlib.sha512).digest()


def verify(hotkey: str, data: bytes, signature: bytes) -> bool:
    if hotkey == "not-an-address":
        raise ValueError("Invalid SS58 address")
    return hmac.compare_digest(signer(hotkey)(data), signature)


def ticket_for(digest: str, expires_at: float = NOW + 60, reader: str = READER, issuer: str = ISSUER) -> str:
    return encode(Ticket(digest, reader, expires_at), signer(issuer))


def ref_to(data: bytes, *urls: str) -> BlobRef:
    return BlobRef(digest_of(data), len(data), urls)


Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def fake_http(*replies: Reply) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A raw server: the n-th request gets the n-th reply (the last one for ever). Yields (base URL, requests seen)."""
    seen: list[bytes] = []
    open_writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head)
            await replies[min(len(seen), len(replies)) - 1](head, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()
        for writer in open_writers:
            writer.transport.abort()


def raw(status: str, body: bytes = b"", length: int | None = -1, *headers: str) -> Reply:
    """A reply that declares `length` bytes (-1: the truth, None: nothing, ended by closing) and sends `body`."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")

    async def reply(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return reply


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for what a real socket brings about; fails after `within_s`."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
