"""The blob server, asked by honest readers, strangers and sleepers. Loopback only."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import (
    BlobServer,
    CannotListen,
    DirStore,
    MemoryStore,
    PortInUse,
    digest_of,
)  # fmt: skip
from iota_subnet.wire.server import BadRange, parse_range

from .blobkit import BLOB, DATA, LIMIT, get, make_server
from .kit import ISSUER, NOW, eventually, ticket_for, verify


async def test_serves_the_blob_and_counts(server: BlobServer) -> None:
    status, headers, body = await get(server.url_of(BLOB), ticket_for(BLOB))
    assert (status, body) == (200, DATA)
    assert headers["Accept-Ranges"] == "bytes" and headers["Content-Type"] == "application/octet-stream"
    assert server.bytes_out.by_label() == {"blob": len(DATA)}
    await eventually(lambda: server.active == 0)
    assert (await get(f"{server.url_of(BLOB)}?ticket={ticket_for(BLOB)}"))[2] == DATA


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=2999990-", 2999990, 3000000), ("bytes=-7", 2999993, 3000000),
     ("bytes=5-9999999", 5, 3000000), ("bytes=-9999999", 0, 3000000)],
)  # fmt: skip
async def test_ranges(server: BlobServer, asked: str, start: int, stop: int) -> None:
    status, headers, body = await get(server.url_of(BLOB), ticket_for(BLOB), Range=asked)
    assert (status, body) == (206, DATA[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=3000000-", "bytes=9-5", "bytes=-0", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b",
     f"bytes={'9' * 5000}-"],
)  # fmt: skip
async def test_ranges_that_cannot_be(server: BlobServer, asked: str) -> None:
    status, headers, body = await get(server.url_of(BLOB), ticket_for(BLOB), Range=asked)
    assert (status, body) == (416, b'{"error": "bad_range"}')
    assert headers["Content-Range"] == f"bytes */{len(DATA)}"


@given(st.text(max_size=40), st.integers(0, 100))
def test_range_parser_never_leaves_the_blob(text: str, nbytes: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            start, stop = parse_range(header, nbytes)
        except BadRange:
            continue
        assert 0 <= start < stop <= nbytes


async def test_refusals_have_names() -> None:
    other = digest_of(b"other")
    async with make_server() as server:
        cases = [
            (server.url_of("..%2Fetc"), "x", 404, "not_a_digest"),
            (server.url_of(BLOB), None, 401, "ticket_needed"),
            (server.url_of(BLOB), "rubbish!", 403, "bad_encoding"),
            (server.url_of(BLOB), ticket_for(other), 403, "wrong_digest"),
            (server.url_of(BLOB), ticket_for(BLOB, expires_at=NOW), 403, "expired"),
            (server.url_of(BLOB), ticket_for(BLOB, issuer="5Other"), 403, "bad_signature"),
            (server.url_of(other), ticket_for(other), 404, "missing"),
            (server.url_of(other), None, 401, "ticket_needed"),
            (f"{server.url}/nothing", None, 404, "not found"),
        ]
        for url, ticket, status, reason in cases:
            got_status, headers, body = await get(url, ticket)
            assert (got_status, body) == (status, f'{{"error": "{reason}"}}'.encode())
            assert headers["Connection"] == "close"
        assert server.bytes_out.total == 0


async def test_another_validator_takes_over() -> None:
    async with make_server() as server:
        server.issuer = "5Next"
        assert (await get(server.url_of(BLOB), ticket_for(BLOB)))[0] == 403
        assert (await get(server.url_of(BLOB), ticket_for(BLOB, issuer="5Next")))[0] == 200


async def test_health_and_extra_routes() -> None:
    async def hi(request: web.Request) -> web.Response:
        return web.Response(text="hi")

    async with make_server(extra_routes=[web.get("/hi", hi)]) as server:
        assert (await get(f"{server.url}/v1/health"))[2] == b'{"ok": true, "blobs": 1, "bytes": 3000000, "active": 0}'
        assert (await get(f"{server.url}/hi"))[2] == b"hi"


async def test_a_taken_port_is_named() -> None:
    async with make_server() as server:
        second = BlobServer(MemoryStore(1), "127.0.0.1", server.port, ISSUER, verify)
        with pytest.raises(PortInUse, match=f"127.0.0.1:{server.port} is in use"):
            await second.start()
        await second.stop()
    with pytest.raises(CannotListen, match="check the host"):
        await BlobServer(MemoryStore(1), "192.0.2.1", 0, ISSUER, verify).start()


async def test_urls() -> None:
    assert BlobServer(MemoryStore(1), "::1", 80, ISSUER, verify).url == "http://[::1]:80"
    behind = BlobServer(MemoryStore(1), "0.0.0.0", 80, ISSUER, verify, advertise="https://me.example/")
    assert behind.located(BlobRef(BLOB, 3)) == BlobRef(BLOB, 3, (f"https://me.example/v1/blobs/{BLOB}",))


async def test_a_full_server_says_when_to_come_back_and_drops_who_stalls() -> None:
    store = MemoryStore(100_000_000)
    store.put(DATA)
    big = store.put(DATA * 10).digest
    async with make_server(store, max_concurrent=1, stall_s=0.3) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(f"GET /v1/blobs/{big}?ticket={ticket_for(big)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: server.active == 1)
        status, headers, body = await get(server.url_of(BLOB), ticket_for(BLOB))
        assert (status, headers["Retry-After"], body) == (503, "1", b'{"error": "busy"}')
        await eventually(lambda: server.active == 0)
        await eventually(lambda: server.connections == 0)
        assert (await get(server.url_of(BLOB), ticket_for(BLOB)))[0] == 200
        writer.transport.abort()


async def test_idle_and_surplus_connections_are_dropped() -> None:
    async with make_server(max_connections=2, idle_s=0.2) as server:
        first = await asyncio.open_connection("127.0.0.1", server.port)
        second = await asyncio.open_connection("127.0.0.1", server.port)
        second[1].write(b"GET /v1/health HTTP/1.1\r\nX-Slow: ")
        await asyncio.sleep(0.05)
        third = await asyncio.open_connection("127.0.0.1", server.port)
        with pytest.raises(ConnectionError):
            third[1].write(b"GET /v1/health HTTP/1.1\r\n\r\n")
            if not await third[0].read():
                raise ConnectionResetError
        assert await asyncio.wait_for(first[0].read(), 3) == b""
        assert await asyncio.wait_for(second[0].read(), 3) == b""
        for _, writer in (first, second, third):
            writer.close()


async def test_a_file_that_shrank_is_cut_not_passed_off(tmp_path: Path) -> None:
    store = DirStore(tmp_path, LIMIT)
    store.put(DATA)
    (tmp_path / BLOB).write_bytes(DATA[:1000])
    async with make_server(store) as server:
        with pytest.raises(aiohttp.ClientError):
            await get(server.url_of(BLOB), ticket_for(BLOB))
