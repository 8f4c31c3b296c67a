"""The blob fetcher, against honest servers and liars. Loopback only."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from iota_subnet.spec import BlobRef
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import (
    Attempt,
    BlobFetcher,
    BlobServer,
    BlobStore,
    DirStore,
    MemoryStore,
    digest_of,
)  # fmt: skip
from iota_subnet.wire.resolve import PublicResolver, is_private_literal
from iota_subnet.wire.stats import ByteCounter

from .blobkit import BLOB, DATA, LIMIT, failure, make_fetcher, make_server
from .kit import Reply, fake_http, raw, ref_to, ticket_for


async def test_fetches_and_counts(server: BlobServer, fetcher: BlobFetcher) -> None:
    ref = server.located(BlobRef(BLOB, len(DATA)))
    assert await fetcher.fetch(ref, ticket_for(BLOB), "activation") == DATA
    assert fetcher.bytes_in.by_label() == {"activation": len(DATA)}


async def test_an_empty_blob() -> None:
    store = MemoryStore(10)
    async with make_server(store) as server, make_fetcher() as fetcher:
        ref = server.located(store.put(b""))
        assert await fetcher.fetch(ref, ticket_for(ref.digest)) == b""


@pytest.mark.parametrize("disk", [False, True])
async def test_the_local_store_comes_first_and_is_not_filled(tmp_path: Path, disk: bool) -> None:
    store: BlobStore = DirStore(tmp_path, LIMIT) if disk else MemoryStore(LIMIT)
    held = store.put(b"held")
    async with make_server() as server, make_fetcher(store=store) as fetcher:
        assert await fetcher.fetch(held, "") == b"held"
        await fetcher.fetch(server.located(BlobRef(BLOB, len(DATA))), ticket_for(BLOB))
        assert not store.has(BLOB)


async def test_a_hundred_at_once() -> None:
    store = MemoryStore(LIMIT)
    blobs = [random.Random(i).randbytes(20_000 + i) for i in range(100)]
    async with make_server(store, max_concurrent=100) as server, make_fetcher(max_concurrent=100) as fetcher:
        refs = [server.located(store.put(blob)) for blob in blobs]
        assert await asyncio.gather(*(fetcher.fetch(ref, ticket_for(ref.digest)) for ref in refs)) == blobs
        assert server.bytes_out.total == fetcher.bytes_in.total == sum(map(len, blobs))


async def test_a_crowd_gets_through_a_narrow_door() -> None:
    store = MemoryStore(LIMIT)
    refs = [store.put(random.Random(i).randbytes(50_000)) for i in range(40)]
    narrow = make_server(store, max_concurrent=2, retry_after_s=0)
    async with narrow as server, make_fetcher(max_concurrent=40, tries=50, backoff=Backoff(0.01, 0.05)) as fetcher:
        got = await asyncio.gather(*(fetcher.fetch(server.located(ref), ticket_for(ref.digest)) for ref in refs))
        assert [digest_of(data) for data in got] == [ref.digest for ref in refs]


def dropping(*cuts: int) -> list[Reply]:
    """Replies of an honest server whose connection is cut after so many bytes; the last one is whole."""

    async def serve(head: bytes, writer: asyncio.StreamWriter, cut: int | None) -> None:
        start = 0
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("range: bytes="):
                start = int(line.split("=")[1].rstrip("-"))
        status = f"206 x\r\nContent-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}" if start else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(DATA) - start}\r\n\r\n".encode())
        writer.write(DATA[start : None if cut is None else start + cut])
        await writer.drain()

    def reply(cut: int | None) -> Reply:
        return lambda head, writer: serve(head, writer, cut)

    return [*(reply(cut) for cut in cuts), reply(None)]


async def test_a_cut_transfer_goes_on_where_it_was(fetcher: BlobFetcher) -> None:
    async with fake_http(*dropping(1_000_000, 500_000)) as (url, seen):
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
        assert b"Range: bytes=1000000-" in seen[1] and b"Range: bytes=1500000-" in seen[2]
        assert fetcher.bytes_in.total == len(DATA), "nothing was sent twice"


async def test_a_server_without_ranges_starts_over(fetcher: BlobFetcher) -> None:
    async with fake_http(raw("200 OK", DATA[:1000], len(DATA)), raw("200 OK", DATA)) as (url, seen):
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
        assert b"Range: bytes=1000-" in seen[1]


async def test_a_refused_resume_starts_over(fetcher: BlobFetcher) -> None:
    replies = raw("200 OK", DATA[:1000], len(DATA)), raw("416 x"), raw("200 OK", DATA)
    async with fake_http(*replies) as (url, seen):
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
        assert b"Range" not in seen[2]


@pytest.mark.parametrize("said", ["bytes 0-9/3000000", "bytes 1000-2999999/4000000", "rubbish", ""])
async def test_a_wrong_resume_is_a_lie(fetcher: BlobFetcher, said: str) -> None:
    replies = raw("200 OK", DATA[:1000], len(DATA)), raw("206 x", DATA[1000:], -1, f"Content-Range: {said}")
    async with fake_http(*replies) as (url, _):
        assert (await failure(fetcher, ref_to(DATA, url))).kind == "corrupt"


async def test_all_bytes_without_a_clean_end_are_enough(fetcher: BlobFetcher) -> None:
    body = f"{len(DATA):x}\r\n".encode() + DATA + b"\r\n"  # the last chunk never comes
    async with fake_http(raw("200 OK", body, None, "Transfer-Encoding: chunked")) as (url, _):
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA


WRONG = bytes([DATA[0] ^ 1]) + DATA[1:]
CHUNKED = raw("200 OK", b"zz\r\n", None, "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("reply", "kind", "tries"),
    [
        (raw("200 OK", WRONG), "corrupt", 1),
        (raw("200 OK", DATA[:-1]), "corrupt", 1),
        (raw("200 OK", DATA[:-1], None), "corrupt", 1),
        (raw("200 OK", DATA + b"x"), "too_big", 1),
        (raw("200 OK", DATA + b"x", None), "too_big", 1),
        (raw("200 OK", b"", 10**15), "too_big", 1),
        (raw("200 OK", DATA[:500], len(DATA)), "unreachable", 4),
        (raw("200 OK", DATA, -1, "Content-Encoding: gzip"), "none", 1),
        (raw("404 x"), "missing", 1),
        (raw("410 x"), "missing", 1),
        (raw("401 x"), "refused", 1),
        (raw("403 x"), "refused", 1),
        (raw("302 x", b"", -1, "Location: http://127.0.0.1:1/"), "refused", 1),
        (raw("206 x", DATA), "refused", 1),
        (raw("500 x"), "unreachable", 4),
        (raw("503 x", b"", -1, "Retry-After: 99999"), "unreachable", 4),
        (raw("200 OK", b"", None, "Content-Length: -5"), "refused", 1),
        (CHUNKED, "refused", 1),
    ],
)  # fmt: skip
async def test_liars_and_failures_have_kinds(fetcher: BlobFetcher, reply: Reply, kind: str, tries: int) -> None:
    async with fake_http(reply) as (url, seen):
        if kind == "none":
            assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
        else:
            error = await failure(fetcher, ref_to(DATA, url))
            assert error.kind == kind and error.digest == BLOB
            assert len(error.attempts) == tries
        # What the plain client cannot read is asked for once more, by a general one.
        assert len(seen) == tries + (reply is CHUNKED)


async def test_rubbish_instead_of_http(fetcher: BlobFetcher) -> None:
    async def rubbish(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async with fake_http(rubbish) as (url, _):
        assert (await failure(fetcher, ref_to(DATA, url))).kind == "refused"


async def test_nobody_there(fetcher: BlobFetcher) -> None:
    async with fake_http(raw("200 OK")) as (url, _):
        pass
    error = await failure(fetcher, ref_to(DATA, url))
    assert error.kind == "unreachable" and len(error.attempts) == 4


async def test_a_slow_loris_is_left() -> None:
    async def drip(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    loop = asyncio.get_running_loop()
    cases = [(drip, 0.1, 100, 4), (silent, 0.1, 100, 4), (drip, 0.1, 2, 2), (silent, 0.1, 2, 2), (drip, 60.0, 100, 1)]
    for reply, try_s, tries, expected in cases:
        async with fake_http(reply) as (url, _), make_fetcher(try_s=try_s, total_s=0.35, tries=tries) as fetcher:
            began = loop.time()
            error = await failure(fetcher, ref_to(DATA, url))
            assert error.kind == "timeout" and loop.time() - began < 1.0
            assert expected - 1 <= len(error.attempts) <= expected


async def test_a_thin_line_is_waited_for_and_silence_is_not() -> None:
    async def thin(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n")
        for start in range(0, len(DATA), 300_000):
            writer.write(DATA[start : start + 300_000])
            await writer.drain()
            await asyncio.sleep(0.05)

    async def stops(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + DATA[:1000])
        await writer.drain()
        await asyncio.sleep(30)

    limits = {"try_s": 0.3, "total_s": 0.35, "tries": 1, "min_bytes_s": len(DATA) / 20}
    async with fake_http(thin) as (url, _), make_fetcher(**limits) as fetcher:
        assert await fetcher.fetch(ref_to(DATA, url), "") == DATA
    async with fake_http(stops) as (url, _), make_fetcher(**limits) as fetcher:
        error = await failure(fetcher, ref_to(DATA, url))
        assert error.kind == "timeout" and "nothing for 0.3 s, 1000 bytes so far" in str(error)


async def test_the_second_url_helps_and_the_first_is_blamed() -> None:
    faults: list[tuple[str, Attempt]] = []
    async with (
        fake_http(raw("200 OK", WRONG)) as (liar, _),
        fake_http(raw("200 OK", DATA)) as (honest, _),
        make_fetcher(on_fault=lambda digest, attempt: faults.append((digest, attempt))) as fetcher,
    ):
        assert await fetcher.fetch(ref_to(DATA, liar, honest), "") == DATA
    assert [(digest, attempt.url, attempt.kind) for digest, attempt in faults] == [(BLOB, liar, "corrupt")]


async def test_the_gravest_kind_is_reported() -> None:
    async with (
        fake_http(raw("404 x")) as (empty, _),
        fake_http(raw("200 OK", WRONG)) as (liar, _),
        fake_http(raw("500 x")) as (broken, _),
        make_fetcher() as fetcher,
    ):
        error = await failure(fetcher, ref_to(DATA, broken, liar, empty))
        assert error.kind == "corrupt" and [attempt.kind for attempt in error.attempts][:3] == [
            "unreachable",
            "corrupt",
            "missing",
        ]
        assert (await failure(fetcher, ref_to(DATA, broken, empty))).kind == "missing"


async def test_references_that_cannot_be(fetcher: BlobFetcher) -> None:
    async with fake_http(raw("200 OK", DATA)) as (url, seen):
        cases = [
            (BlobRef(BLOB, LIMIT + 1, (url,)), "too_big"),
            (BlobRef(BLOB, -1, (url,)), "refused"),
            (BlobRef("../x", 1, (url,)), "refused"),
            (BlobRef(BLOB, 1, ()), "missing"),
            (BlobRef(BLOB, 1, (url,) * 5), "refused"),
            (BlobRef(BLOB, 1, ("file:///etc/passwd",)), "refused"),
            (BlobRef(BLOB, 1, ("http://user:pass@127.0.0.1/",)), "refused"),
            (BlobRef(BLOB, 1, ("http://[::1",)), "refused"),
            (BlobRef(BLOB, 1, ("http://127.0.0.1:99999/",)), "refused"),
            (BlobRef(BLOB, 1, ("http://",)), "refused"),
            (BlobRef(BLOB, 1, (f"{url}/{'x' * 5000}",)), "refused"),
        ]
        for ref, kind in cases:
            assert (await failure(fetcher, ref)).kind == kind, ref
        assert seen == []


async def test_tickets_go_to_blob_servers_only(fetcher: BlobFetcher) -> None:
    async with fake_http(raw("200 OK", DATA)) as (url, seen):
        await fetcher.fetch(ref_to(DATA, f"{url}/bucket/{BLOB}?X-Amz-Signature=1"), ticket_for(BLOB))
        await fetcher.fetch(ref_to(DATA, f"{url}/v1/blobs/{BLOB}"), ticket_for(BLOB))
    assert b"Authorization" not in seen[0] and b"Authorization: Ticket " in seen[1]
    error = await failure(fetcher, ref_to(b"gone", f"{url}/x?X-Amz-Signature=secret"))
    assert "secret" not in str(error), "what is shown to people must not hold a signed URL's secret"


async def test_private_addresses_can_be_refused() -> None:
    async with fake_http(raw("200 OK", DATA)) as (url, seen), make_fetcher(public_only=True, tries=1) as fetcher:
        assert (await failure(fetcher, ref_to(DATA, url))).kind == "refused"
        port = url.rpartition(":")[2]
        assert (await failure(fetcher, ref_to(DATA, f"http://localhost:{port}/"))).kind == "unreachable"
        assert seen == []
    for host in ("10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%eth0", "0.0.0.0"):
        assert is_private_literal(host)
    assert not is_private_literal("8.8.8.8") and not is_private_literal("example.org")
    with pytest.raises(OSError, match="public"):
        await PublicResolver().resolve("localhost")


def test_counters_stay_small() -> None:
    counter = ByteCounter(max_labels=2)
    for label in ("a", "b", "c", "d", "a"):
        counter.add(label, 1)
    assert counter.by_label() == {"a": 2, "b": 1, "other": 2} and counter.total == 5


def test_backoff_is_bounded() -> None:
    backoff = Backoff(0.2, 20.0)
    assert [backoff.delay_s(n, lambda: 0.999999) for n in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.8], rel=1e-3)
    assert backoff.delay_s(1, lambda: 0.0) == 0.1 and backoff.delay_s(10**6, lambda: 0.0) == 10.0
