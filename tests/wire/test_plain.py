"""The plain client: heads of liars, connections that are used again, bodies in pieces. Loopback only."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.wire.blobs import Attempt, BlobFetcher, MemoryStore
from iota_subnet.wire.plain import HEAD_BYTES, MAX_FIELDS, BadAnswer, Head, NotPlain, is_plain

from .blobkit import BLOB, DATA, LIMIT, failure, make_fetcher, make_server
from .kit import Reply, fake_http, ref_to, ticket_for


def sent(*parts: bytes) -> Reply:
    """A reply in so many pieces; the connection ends when all are out."""

    async def reply(head: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return reply


def ok(body: bytes, *fields: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields, "", ""]).encode() + body


async def test_one_connection_serves_many_blobs() -> None:
    store = MemoryStore(LIMIT)
    refs = [store.put(bytes([number]) * size) for number, size in enumerate((0, 1, 70_000, 2_000_000, 5))]
    async with make_server(store) as server, make_fetcher() as fetcher:
        for ref in refs:
            assert await fetcher.fetch(server.located(ref), ticket_for(ref.digest)) == store.get(ref.digest)
        assert server.connections == 1


async def test_a_connection_that_was_closed_meanwhile_is_nobodys_fault() -> None:
    faults: list[Attempt] = []
    async with make_fetcher(on_fault=lambda digest, attempt: faults.append(attempt)) as fetcher:
        async with fake_http(sent(ok(DATA))) as (url, seen):
            for _ in range(3):
                assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
        assert len(seen) == 3 and faults == []


async def test_a_connection_with_bytes_behind_the_answer_is_not_used_again(fetcher: BlobFetcher) -> None:
    callers: list[object] = []

    async def reply(head: bytes, writer: asyncio.StreamWriter) -> None:
        callers.append(writer.get_extra_info("peername"))
        writer.write(ok(DATA) + ok(b"a second answer, for whoever asks next"))
        await writer.drain()
        await asyncio.sleep(0.2)

    async with fake_http(reply) as (url, _):
        for _ in range(2):
            assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
    assert len(set(callers)) == 2


async def test_an_answer_may_come_in_any_pieces(fetcher: BlobFetcher) -> None:
    whole = ok(DATA[:300])
    async with fake_http(sent(*(whole[i : i + 1] for i in range(len(whole))))) as (url, _):
        assert await fetcher.fetch(ref_to(DATA[:300], url), "") == DATA[:300]


async def test_a_body_may_end_with_its_connection(fetcher: BlobFetcher) -> None:
    async with fake_http(sent(b"HTTP/1.0 200 OK\r\n\r\n", DATA)) as (url, _):
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA


async def test_a_chunked_answer_is_read_by_the_general_client(fetcher: BlobFetcher) -> None:
    body = f"{len(DATA):x}\r\n".encode() + DATA + b"\r\n0\r\n\r\n"
    reply = sent(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    async with fake_http(reply) as (url, seen):
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
        assert len(seen) == 2


HEADS = {
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "another protocol": b"HTTP/2 200\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "a bare line feed": b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 3\r\n\r\n",
    "a space in a name": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
    "a length without end": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    "no end": b"HTTP/1.1 200 OK\r\nA: " + b"b" * HEAD_BYTES,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_a_head_that_is_none_is_refused(fetcher: BlobFetcher, head: bytes) -> None:
    async with fake_http(sent(head)) as (url, seen):
        assert (await failure(fetcher, ref_to(DATA, url))).kind == "refused"
        assert len(seen) == 1


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail)))
def test_any_head_is_read_or_refused(data: bytes) -> None:
    try:
        head = Head(data)
    except (BadAnswer, NotPlain):
        return
    assert 200 <= head.status < 600 and (head.content_length is None or head.content_length >= 0)


@pytest.mark.parametrize(
    ("url", "ticket", "plain"),
    [
        ("http://127.0.0.1:80/v1/blobs/x", "t", True),
        ("http://[::1]:80/x?a=b", "", True),
        ("http://127.0.0.1", "", True),
        ("https://127.0.0.1/x", "", False),
        ("http://example.org/x", "", False),
        ("http://127.1/x", "", False),
        ("http://127.0.0.1/a b", "", False),
        ("http://127.0.0.1/\u00e4", "", False),
        ("http://127.0.0.1:99999/x", "", False),
        ("http://127.0.0.1/x", "t\r\nX: y", False),
    ],
)
def test_what_is_plain(url: str, ticket: str, plain: bool) -> None:
    assert is_plain(urlsplit(url), ticket) is plain


async def test_no_ticket_smuggles_a_field(fetcher: BlobFetcher) -> None:
    async with fake_http(sent(ok(DATA))) as (url, seen):
        error = await failure(fetcher, ref_to(DATA, f"{url}/v1/blobs/{BLOB}"), "t\r\nX-Evil: 1")
        assert error.kind == "refused" and seen == []
