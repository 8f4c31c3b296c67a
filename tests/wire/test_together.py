"""Several blobs in one answer: the shorter way, and what happens when it leads nowhere. Loopback only."""

from __future__ import annotations

import asyncio
import random

import pytest

from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobServer, FetchFailed, MemoryStore
from iota_subnet.wire.tickets import MAX_TOGETHER

from .blobkit import BLOB, LIMIT, get, make_fetcher, make_server
from .kit import fake_http, raw, ref_to, ticket_for

BLOBS = [random.Random(number).randbytes(1000 + number) for number in range(5)]


def shelf() -> tuple[MemoryStore, list[BlobRef]]:
    store = MemoryStore(LIMIT)
    return store, [store.put(blob) for blob in BLOBS]


def tickets(refs: list[BlobRef]) -> str:
    return ", ".join(ticket_for(ref.digest) for ref in refs)


async def test_the_blobs_of_all_tickets_come_in_their_order() -> None:
    store, refs = shelf()
    async with make_server(store) as server:
        status, headers, body = await get(f"{server.url}/v1/blobs", tickets(refs[::-1]))
        assert (status, body) == (200, b"".join(BLOBS[::-1]))
        assert server.bytes_out.total == len(body) == int(headers["Content-Length"])


async def test_all_or_nothing(server: BlobServer) -> None:
    url, good, absent = f"{server.url}/v1/blobs", ticket_for(BLOB), ticket_for("ab" * 32)
    assert (await get(url, f"{good},{absent}"))[0] == 404
    assert (await get(url, f"{good},{good[:-4]}AAAA"))[0] == 403
    assert (await get(url, ",".join([good] * (MAX_TOGETHER + 1))))[0] == 403
    assert (await get(url))[0] == 401
    assert server.bytes_out.total == 0 and server.active == 0


async def test_what_is_asked_for_at_once_is_one_request() -> None:
    refs = [ref_to(blob) for blob in BLOBS]
    async with fake_http(raw("200 OK", b"".join(BLOBS))) as (base, seen), make_fetcher() as fetcher:
        wanted = [BlobRef(ref.digest, ref.nbytes, (f"{base}/v1/blobs/{ref.digest}",)) for ref in refs]
        got = await asyncio.gather(*(fetcher.fetch(ref, ticket_for(ref.digest), "merge") for ref in wanted))
    assert got == BLOBS and len(seen) == 1
    assert fetcher.bytes_in.by_label() == {"merge": sum(map(len, BLOBS))}


async def test_more_than_fit_into_one_request_come_in_several() -> None:
    store = MemoryStore(LIMIT)
    blobs = [random.Random(number).randbytes(50_000) for number in range(3 * MAX_TOGETHER)]
    async with make_server(store) as server, make_fetcher() as fetcher:
        refs = [server.located(store.put(blob)) for blob in blobs]
        assert await asyncio.gather(*(fetcher.fetch(ref, ticket_for(ref.digest)) for ref in refs)) == blobs


@pytest.mark.parametrize(
    "answer",
    [
        raw("404 Not Found"),
        raw("200 OK", b"short"),
        raw("200 OK", BLOBS[0] + b"\0" * len(BLOBS[1])),
        raw("200 OK", BLOBS[0], len(BLOBS[0] + BLOBS[1])),
        raw("200 OK", BLOBS[0] + BLOBS[1] + b"more"),
        raw("200 OK", BLOBS[0] + BLOBS[1], None),
        raw("200 OK", b"0\r\n\r\n", None, "Transfer-Encoding: chunked"),
    ],
    ids=["unknown", "short", "second-forged", "cut", "long", "no-length", "chunked"],
)
async def test_what_does_not_come_together_comes_alone(answer: object) -> None:
    async def alone(head: bytes, writer: asyncio.StreamWriter) -> None:
        await raw("200 OK", next(blob for blob in BLOBS if ref_to(blob).digest.encode() in head))(head, writer)

    async with fake_http(answer, alone) as (base, seen), make_fetcher() as fetcher:  # type: ignore[arg-type]
        refs = [ref_to(blob, f"{base}/v1/blobs/{ref_to(blob).digest}") for blob in BLOBS[:2]]
        got = await asyncio.gather(*(fetcher.fetch(ref, ticket_for(ref.digest)) for ref in refs))
    assert got == BLOBS[:2]
    assert len(seen) in (2, 3) and b"GET /v1/blobs HTTP" in seen[0]


async def test_who_lies_together_and_alone_is_named() -> None:
    async with fake_http(raw("200 OK", b"x" * 2001)) as (base, _), make_fetcher() as fetcher:
        refs = [ref_to(blob, f"{base}/v1/blobs/{ref_to(blob).digest}") for blob in BLOBS[:2]]
        asked = (fetcher.fetch(ref, ticket_for(ref.digest)) for ref in refs)
        failures = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(failure, FetchFailed) and failure.kind == "too_big" for failure in failures)


async def test_one_who_gives_up_takes_nobody_along() -> None:
    store, refs = shelf()
    async with make_server(store) as server, make_fetcher() as fetcher:
        tasks = [asyncio.create_task(fetcher.fetch(server.located(ref), ticket_for(ref.digest))) for ref in refs]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await asyncio.gather(*tasks[1:]) == BLOBS[1:]
