"""A blob of 3 MB, a server that has it, and a fetcher that does not wait long."""

from __future__ import annotations

import random

import aiohttp
import pytest

from iota_subnet.spec import BlobRef
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import (
    BlobFetcher,
    BlobServer,
    BlobStore,
    FetchFailed,
    MemoryStore,
    digest_of,
)  # fmt: skip

from .kit import ISSUER, NOW, verify

DATA = random.Random(0).randbytes(3_000_000)
BLOB = digest_of(DATA)
LIMIT = 8_000_000


def make_server(store: BlobStore | None = None, **options: object) -> BlobServer:
    if store is None:
        store = MemoryStore(LIMIT)
        store.put(DATA)
    return BlobServer(store, "127.0.0.1", 0, ISSUER, verify, lambda: NOW, **options)  # type: ignore[arg-type]


def make_fetcher(**options: object) -> BlobFetcher:
    defaults: dict[str, object] = {"try_s": 5.0, "backoff": Backoff(0.001, 0.002), "jitter": lambda: 0.0}
    return BlobFetcher(LIMIT, **{**defaults, **options})  # type: ignore[arg-type]


async def get(url: str, ticket: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    if ticket is not None:
        headers["Authorization"] = f"Ticket {ticket}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, dict(response.headers), await response.read()


async def failure(fetcher: BlobFetcher, ref: BlobRef, ticket: str = "") -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetcher.fetch(ref, ticket)
    return caught.value
