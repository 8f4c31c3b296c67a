"""A miner's page of its own, for its operator: what its status file says, on this machine alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from iota_subnet.dashboard.files import File, as_json, routes_of

FILES: dict[str, File] = {
    "/": ("own.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/own.js": ("own.js", "text/javascript"),
}


def own_routes(document: Callable[[], dict[str, Any]]) -> list[web.AbstractRouteDef]:
    """`document` is what the status file holds now."""

    async def own(request: web.Request) -> web.Response:
        """The miner's status document; JSON."""
        return as_json(document())

    return [*routes_of(FILES), web.get("/v1/own", own)]
