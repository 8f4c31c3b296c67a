"""The page over HTTP: three files, a stream, and what is asked for of one miner or one stage.

    GET /                        the page; /dashboard.css and /dashboard.js belong to it
    GET /v1/stream               server-sent events, see `hub`; 503 when too many watch
    GET /v1/miners/{hotkey}      one miner, and the reasons of its pay (`person.Person`); 404 when nobody knows it
    GET /v1/agreement/{stage}    who agreed with whom (`person.Matrix`)

Law: a browser that opens the page asks this host and no other, and runs no script but ours: the policy says so, and all
that strangers wrote is put on the page as text.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from iota_subnet.core.state import RunState
from iota_subnet.dashboard.files import HEADERS, File, as_json, routes_of
from iota_subnet.dashboard.hub import WATCHERS, Hub, TooMany, Watcher
from iota_subnet.dashboard.person import known, matrix, person
from iota_subnet.messages import StandingReport
from iota_subnet.wire.limits import within
from template.chain import MetagraphView

FILES: dict[str, File] = {
    "/": ("index.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
}

#: Seconds that a watcher may take for one message, and without news after which a comment keeps the line open.
STALL_S = 15.0
QUIET_S = 20.0

#: Of all places for watchers, so many are for one address at most.
SHARE_OF_ONE = 0.5

#: Milliseconds after which a browser comes back.
RETRY_MS = 2000


class Dashboard:
    """`explain(hotkey)` is the validator's report on one miner."""

    def __init__(
        self,
        state: Callable[[], RunState],
        chain: Callable[[], MetagraphView | None],
        clock: Callable[[], float],
        explain: Callable[[str], StandingReport],
        validator: str,
        netuid: int,
        burn: float = 0.0,
    ) -> None:
        self._state, self._chain, self._explain, self._burn = state, chain, explain, burn
        self.hub = Hub(state, chain, clock, validator, netuid, burn)
        self._from: Counter[str] = Counter()

    def routes(self) -> list[web.AbstractRouteDef]:
        """What the module's docstring lists, for an `aiohttp` application."""
        return [
            *routes_of(FILES),
            web.get("/v1/stream", self._stream, allow_head=False),
            web.get("/v1/miners/{hotkey}", self._miner, allow_head=False),
            web.get("/v1/agreement/{stage}", self._agreement, allow_head=False),
        ]

    async def _miner(self, request: web.Request) -> web.Response:
        """One miner, and the reasons of its pay; JSON. 404 when nobody here has heard of it."""
        hotkey = request.match_info["hotkey"]
        state = self._state()
        if not known(state, hotkey):
            raise web.HTTPNotFound(reason="nobody here has heard of this hotkey")
        return as_json(person(state, self._chain(), hotkey, self._explain(hotkey), self._burn))

    async def _agreement(self, request: web.Request) -> web.Response:
        """Who agreed with whom in the merges of a stage; JSON. 404 when there is no such stage."""
        stage = request.match_info["stage"]
        state = self._state()
        if not (stage.isascii() and stage.isdigit() and len(stage) < 6 and int(stage) < state.spec.model.stages):
            raise web.HTTPNotFound(reason="there is no such stage")
        return as_json(matrix(state, int(stage)))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """What the page shows, as server-sent events; 503 when too many watch."""
        address = request.remote or ""
        if self._from[address] >= WATCHERS * SHARE_OF_ONE:
            return _busy()
        try:
            watcher = self.hub.watch()
        except TooMany:
            return _busy()
        self._from[address] += 1
        headers = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        response.content_type = "text/event-stream"
        try:
            await response.prepare(request)
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            await _feed(response, watcher)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            self.hub.leave(watcher)
            self._from[address] -= 1
            if not self._from[address]:
                del self._from[address]
            if watcher.dropped and request.transport is not None:
                # What it has not read would keep the connection, and the memory, for as long as it likes.
                request.transport.abort()
        response.force_close()
        return response


async def _feed(response: web.StreamResponse, watcher: Watcher) -> None:
    """Until the hub, or the watcher, has enough."""
    while True:
        try:
            async with within(QUIET_S):
                message = await watcher.messages.get()
        except asyncio.TimeoutError:
            message = b": still here\n\n"
        if message is None:
            return
        async with within(STALL_S):
            await response.write(message)


def _busy() -> web.Response:
    response = web.json_response({"error": "too many watch"}, status=503, headers={"Retry-After": "10"})
    response.force_close()
    return response
