"""Readers get a relayed miner's bytes as they come; nothing unasked is taken, nothing wrong kept, memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp

from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobServer, MemoryStore, digest_of
from iota_subnet.wire.relay import PREFIX, Relay

from .blobkit import BLOB, DATA, LIMIT, failure, get, make_fetcher
from .kit import ISSUER, NOW, eventually, ticket_for, verify

MINER = "5Relayed"


class Post:
    """A validator's blob server with a relay behind it, and what the miner was asked for."""

    def __init__(self, max_bytes: int = LIMIT, ask_s: float = 5.0) -> None:
        self.asked: list[tuple[str, str]] = []
        self.connected = True
        self.relay = Relay(
            self.ask, lambda digest, ticket: self.server.admit(digest, ticket), max_bytes, LIMIT, ask_s=ask_s
        )
        self.server = BlobServer(
            MemoryStore(1024), "127.0.0.1", 0, ISSUER, verify, lambda: NOW, extra_routes=self.relay.routes()
        )

    def ask(self, hotkey: str, digest: str, token: str) -> bool:
        assert hotkey == MINER
        self.asked.append((digest, token))
        return self.connected

    def url(self, digest: str = BLOB) -> str:
        return f"{self.server.url}{PREFIX}/{MINER}/v1/blobs/{digest}"

    def ref(self, data: bytes = DATA) -> BlobRef:
        return BlobRef(digest_of(data), len(data), (self.url(digest_of(data)),))

    async def token(self, number: int = 1) -> str:
        await eventually(lambda: len(self.asked) >= number)
        return self.asked[number - 1][1]

    async def upload(self, token: str, data: bytes = DATA) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{self.server.url}{PREFIX}/{token}", data=data) as response,
        ):
            return response.status, await response.text()


@contextlib.asynccontextmanager
async def post(max_bytes: int = LIMIT, ask_s: float = 5.0) -> AsyncIterator[Post]:
    built = Post(max_bytes, ask_s)
    async with built.server:
        yield built


async def test_readers_share_one_upload_and_what_came_is_kept_for_the_next() -> None:
    async with post() as p, make_fetcher() as one, make_fetcher() as other:
        reads = [asyncio.create_task(f.fetch(p.ref(), ticket_for(BLOB))) for f in (one, other)]
        assert (await p.upload(await p.token()))[0] == 204
        assert await asyncio.gather(*reads) == [DATA, DATA]
        assert (await get(p.url(), ticket_for(BLOB)))[2] == DATA
        status, headers, body = await get(p.url(), ticket_for(BLOB), Range="bytes=2999990-")
        assert (status, headers["Content-Range"], body) == (206, "bytes 2999990-2999999/3000000", DATA[-10:])
        assert len(p.asked) == 1 and p.relay.bytes_in.total == len(DATA) == p.relay.used


async def test_a_reader_has_the_first_bytes_before_the_miner_has_sent_the_last() -> None:
    async with post() as p, aiohttp.ClientSession() as session:
        held = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield DATA[:100_000]
            await held.wait()
            yield DATA[100_000:]

        headers = {"Authorization": f"Ticket {ticket_for(BLOB)}"}
        reading = asyncio.create_task(session.get(p.url(), headers=headers))
        url = f"{p.server.url}{PREFIX}/{await p.token()}"
        length = {"Content-Length": str(len(DATA))}
        sending = asyncio.create_task(session.put(url, data=slowly(), headers=length))
        async with await reading as response:
            assert await response.content.readexactly(100_000) == DATA[:100_000]
            held.set()
            assert await response.content.read() == DATA[100_000:]
        (await sending).release()


async def test_who_has_no_ticket_makes_nobody_upload() -> None:
    async with post() as p:
        assert (await get(p.url()))[0] == 401
        assert (await get(p.url(), ticket_for(digest_of(b"another"))))[0] == 403
        assert p.asked == []


async def test_what_nobody_asked_for_is_not_taken_and_a_token_is_good_once() -> None:
    async with post() as p, make_fetcher() as fetcher:
        assert await p.upload("a-guess") == (403, '{"error": "unasked"}')
        reading = asyncio.create_task(fetcher.fetch(p.ref(), ticket_for(BLOB)))
        token = await p.token()
        assert (await p.upload(token))[0] == 204 and await reading == DATA
        assert (await p.upload(token))[0] == 403


async def test_other_bytes_are_not_kept_and_the_miner_is_told() -> None:
    async with post() as p:
        reading = asyncio.create_task(get(p.url(), ticket_for(BLOB)))
        forged = bytes(len(DATA))
        assert await p.upload(await p.token(), forged) == (422, '{"error": "wrong_digest"}')
        with contextlib.suppress(aiohttp.ClientError):
            # Cut short, or refused when it came too late to see a first byte; never the whole.
            assert (await reading)[2] != forged
        assert p.relay.used == 0


async def test_a_miner_that_is_away_or_silent_or_empty_handed_is_named_as_such() -> None:
    async with post(ask_s=0.05) as p, aiohttp.ClientSession() as session:
        late = await get(p.url(), ticket_for(BLOB))
        assert (late[0], late[2]) == (503, b'{"error": "late"}')
        reading = asyncio.create_task(get(p.url(), ticket_for(BLOB)))
        async with session.delete(f"{p.server.url}{PREFIX}/{await p.token(2)}") as response:
            assert response.status == 204
        missing = await reading
        assert (missing[0], missing[2]) == (404, b'{"error": "missing"}')
        p.connected = False
        away = await get(p.url(), ticket_for(BLOB))
        assert (away[0], away[2]) == (503, b'{"error": "away"}')


async def test_readers_hear_at_once_that_the_miner_has_gone() -> None:
    async with post(ask_s=60.0) as p:
        reading = asyncio.create_task(get(p.url(), ticket_for(BLOB)))
        await p.token()
        p.relay.lost(MINER)
        assert (await reading)[2] == b'{"error": "away"}'


async def test_memory_is_bounded_the_oldest_goes_first_and_what_never_fits_is_refused() -> None:
    async with post(max_bytes=250) as p, make_fetcher() as fetcher:
        for number in range(5):
            data = bytes([number]) * 100
            reading = asyncio.create_task(fetcher.fetch(p.ref(data), ticket_for(digest_of(data))))
            assert (await p.upload(await p.token(number + 1), data))[0] == 204
            assert await reading == data and p.relay.used <= 250
        large = bytes(300)
        refused = asyncio.create_task(failure(fetcher, p.ref(large), ticket_for(digest_of(large))))
        assert await p.upload(await p.token(6), large) == (413, '{"error": "too_big"}')
        p.connected = False
        assert (await refused).kind == "unreachable"


async def test_a_validator_that_relays_nothing_has_no_such_place() -> None:
    async with post(max_bytes=0) as p:
        assert (await get(p.url(), ticket_for(BLOB)))[0] == 404
