"""What a neuron shows on its own machine is for that machine; settings that cannot work end with one line."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession

from iota_subnet.metrics.server import LocalServer
from iota_subnet.metrics.work import work_metrics
from iota_subnet.settings import LocalSettings
from template.errors import BadSettings

DOCUMENT = {"connected": True, "epochs": {}, "leases_done": 3, "leases": [], "standing": None}


def server(**settings: object) -> LocalServer:
    return LocalServer(LocalSettings(**settings), lambda: work_metrics(DOCUMENT, {}, {}))  # type: ignore[arg-type]


async def test_metrics_are_served_on_a_free_port() -> None:
    local = server()
    await local.start()
    try:
        async with ClientSession() as client, client.get(f"{local.url}metrics") as answer:
            assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")
            assert "iota_leases_done_total 3.0" in await answer.text()
    finally:
        await local.close()
        await local.close()


@pytest.mark.parametrize("name", ["evil.example", "evil.example:80", ""])
async def test_a_foreign_name_for_this_machine_is_refused(name: str) -> None:
    local = server()
    await local.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", local.port)
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert b" 403 " in answer.split(b"\r\n")[0] and b"iota_leases" not in answer
        writer.close()
    finally:
        await local.close()


async def test_a_port_in_use_is_one_line_with_the_flag() -> None:
    first = server()
    await first.start()
    try:
        with pytest.raises(BadSettings, match=r"--local\.port \(LOCAL_PORT\): cannot listen on .*; choose another"):
            await server(port=first.port).start()
    finally:
        await first.close()
