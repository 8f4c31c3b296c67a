"""A running blob server over either store, and a fetcher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iota_subnet.wire.blobs import BlobFetcher, BlobServer, BlobStore, DirStore, MemoryStore

from .blobkit import DATA, LIMIT, make_fetcher, make_server


@pytest.fixture(params=["memory", "dir"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobServer]:
    store: BlobStore = MemoryStore(LIMIT) if request.param == "memory" else DirStore(tmp_path, LIMIT)
    store.put(DATA)
    async with make_server(store) as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[BlobFetcher]:
    async with make_fetcher() as made:
        yield made
