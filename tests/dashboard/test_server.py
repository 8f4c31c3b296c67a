"""The page over HTTP: what a browser is allowed, what strangers can hold, what is answered to nonsense."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from iota_subnet.core.state import Part
from iota_subnet.dashboard import own
from iota_subnet.dashboard import server as module
from iota_subnet.dashboard.files import content
from iota_subnet.dashboard.hub import WATCHERS
from iota_subnet.dashboard.server import FILES, Dashboard
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.validator.standing import standing

from .kit import heard

HOSTILE = '<img src=x onerror="alert(1)">\r\n\r\ndata: {}'


@pytest.fixture
async def site() -> AsyncIterator[tuple[World, Dashboard, ClientSession, str]]:
    world = World(Plan(3, stages=2, miners=4, epochs=1)).run()
    state = world.orchestrator.state
    page = Dashboard(
        lambda: state, lambda: None, lambda: world.now, lambda hotkey: standing(state, hotkey, world.now), "5Val", 1
    )
    app = web.Application()
    app.add_routes(page.routes())
    async with TestServer(app) as server, ClientSession(auto_decompress=False) as client:
        yield world, page, client, str(server.make_url("")).rstrip("/")
        await page.hub.close()


async def test_the_page_may_ask_its_own_host_alone(site: Any) -> None:
    _, _, client, url = site
    for path, (_, kind) in FILES.items():
        async with client.get(url + path, headers={"Accept-Encoding": "identity"}) as answer:
            assert answer.status == 200 and answer.content_type == kind
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            text = await answer.text()
            links = re.findall(
                r"""(?:src|href|url|fetch|EventSource|import)\s*[=(]?\s*["'(]+([a-z]+:)?//[^"')]+""", text
            )
            assert links == []
            assert "innerHTML" not in text and "eval(" not in text and "document.write" not in text


def test_the_page_weighs_less_than_a_quarter_of_a_megabyte() -> None:
    assert sum(len(content(name)[0]) for name, _ in {**FILES, **own.FILES}.values()) < 250_000


async def test_a_browser_that_has_the_page_is_not_sent_it_again(site: Any) -> None:
    _, _, client, url = site
    async with client.get(f"{url}/dashboard.js", headers={"Accept-Encoding": "gzip"}) as answer:
        tag, packed = answer.headers["ETag"], await answer.read()
        assert answer.headers["Content-Encoding"] == "gzip" and len(packed) < 30_000
    async with client.get(f"{url}/dashboard.js", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304 and await answer.read() == b""


async def test_the_stream_begins_with_everything(site: Any) -> None:
    world, _, client, url = site
    async with client.get(f"{url}/v1/stream") as answer:
        assert answer.content_type == "text/event-stream"
        assert (await answer.content.readuntil(b"\n\n")).startswith(b"retry:")
        document = heard(await answer.content.readuntil(b"\n\n"))
    assert document["full"] and document["run"]["validator"] == "5Val"
    assert {row[1] for row in document["rows"]} == set(world.orchestrator.state.miners)


async def test_what_strangers_call_themselves_stays_text(site: Any) -> None:
    world, _, client, url = site
    state = world.orchestrator.state
    state.parts[HOSTILE] = [Part(world.now, 0, 1.0, 1.0)]
    async with client.get(f"{url}/v1/stream") as answer:
        await answer.content.readuntil(b"\n\n")
        document = heard(await answer.content.readuntil(b"\n\n"))
    assert HOSTILE in {row[1] for row in document["rows"]}
    async with client.get(f"{url}/v1/miners/%3Cimg%20src=x%3E") as answer:
        assert answer.status == 404 and b"<img" not in await answer.read()


@pytest.mark.parametrize("stage", ["2", "-1", "x", "%00", "9" * 40, "١"])
async def test_a_stage_that_is_none_is_not_found(site: Any, stage: str) -> None:
    _, _, client, url = site
    async with client.get(f"{url}/v1/agreement/{stage}") as answer:
        assert answer.status == 404


async def test_a_miner_and_its_stage_can_be_asked_for(site: Any) -> None:
    world, _, client, url = site
    hotkey = next(iter(world.orchestrator.state.miners))
    async with client.get(f"{url}/v1/miners/{hotkey}") as answer:
        document = await answer.json()
        assert document["report"]["parts"] and document["row"]["hotkey"] == hotkey
    async with client.get(f"{url}/v1/agreement/0") as answer:
        assert (await answer.json())["hotkeys"]
    async with client.get(f"{url}/v1/miners/5Nobody") as answer:
        assert answer.status == 404


async def test_one_address_cannot_take_all_places(site: Any) -> None:
    _, page, client, url = site
    open_ = [await client.get(f"{url}/v1/stream") for _ in range(WATCHERS // 2)]
    assert all(answer.status == 200 for answer in open_)
    async with client.get(f"{url}/v1/stream") as answer:
        assert answer.status == 503 and answer.headers["Retry-After"]
    assert page.hub.watchers == WATCHERS // 2
    for answer in open_:
        answer.close()


async def test_who_reads_nothing_loses_its_connection(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world, page, _, url = site
    state = world.orchestrator.state
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    monkeypatch.setattr(module, "STALL_S", 0.2)
    # So much is new with each look that the kernel's buffers fill.
    writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"retry"), 10)
    deadline = asyncio.get_running_loop().time() + 30
    number = 0
    while page.hub.watchers and asyncio.get_running_loop().time() < deadline:
        number += 1
        state.parts = {f"{'x' * 50}{number}-{n}": [Part(world.now, 0, 1.0, 1.0)] for n in range(2000)}
        page.hub.tick()
        await asyncio.sleep(0.01)
    assert page.hub.watchers == 0
    writer.close()
