"""The page in a real browser: it says nothing on the console, asks nobody else, and shows strangers' words as words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from iota_subnet.core.state import Part
from iota_subnet.dashboard.server import Dashboard
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.validator.standing import standing
from scripts.browser import browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium here")

HOSTILE = "<img src=x onerror=document.title='taken'>"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    world = World(Plan(3, stages=2, miners=6, epochs=2)).run()
    state = world.orchestrator.state
    state.parts[HOSTILE] = [Part(world.now, 1, 1.0, 1.0)]
    state.waiting_for = HOSTILE
    page = Dashboard(
        lambda: state, lambda: None, lambda: world.now, lambda hotkey: standing(state, hotkey, world.now), "5Val", 1
    )

    async def status(request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.add_routes([*page.routes(), web.get("/v1/status", status)])
    async with TestServer(app) as server:
        page.hub.start()
        yield str(server.make_url("/"))
        await page.hub.close()


async def test_the_page_works_in_a_browser(url: str) -> None:
    async with browser() as page:
        await page.size(1440, 900)
        await page.call("Page.navigate", url=url)
        await page.until("document.querySelectorAll('#board .tr').length === 7")
        await page.until("document.querySelector('#loss svg path') !== null")
        names = await page.run("[...document.querySelectorAll('#board .tr a')].map((a) => a.title)")
        assert HOSTILE in names and await page.run("document.images.length") == 0
        await page.size(390, 844, 2, mobile=True)
        await page.until("document.documentElement.scrollWidth <= 390")
        await page.run("location.hash = document.querySelector('#board .tr a').getAttribute('href')")
        await page.until("document.querySelectorAll('#person .card').length > 3")
        await page.run(f"location.hash = '#/miner/' + encodeURIComponent({HOSTILE!r})")
        await page.until(f"document.querySelector('#person h1')?.textContent.startsWith({HOSTILE!r})")
        await page.until("document.documentElement.scrollWidth <= 390")
        assert "taken" not in await page.run("document.title")
        await asyncio.sleep(0)
        assert page.log == []
        assert {urlsplit(one).netloc for one in page.requests} == {urlsplit(url).netloc}
