"""What a neuron shows on its own machine: `/metrics`, and a miner its page. On loopback unless told otherwise.

Law: nothing secret is shown. A listener on loopback answers to names of loopback only, or a web page elsewhere could
have a name of its own point here and read along.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from iota_subnet.settings import LocalSettings
from template.errors import BadSettings

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Read = Callable[[], "Iterable[Metric]"]


class LocalServer:
    """`read` gives the metrics at the time of a scrape."""

    def __init__(self, settings: LocalSettings, read: Read, routes: Iterable[web.AbstractRouteDef] = ()) -> None:
        self._settings = settings
        self._read = read
        self._routes = list(routes)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens; port 0 before `start`."""
        host = self._settings.ip
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    async def start(self) -> None:
        """Listen. Raises BadSettings."""
        app = web.Application(middlewares=[_own_names(self._settings.ip)])
        app.add_routes([web.get("/metrics", self._metrics), *self._routes])
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=15.0, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._settings.ip, self._settings.port, backlog=16).start()
        except OSError as error:
            await runner.cleanup()
            raise BadSettings(
                f"--local.port (LOCAL_PORT): cannot listen on {self._settings.ip}:{self._settings.port} "
                f"({error.strerror}); choose another, or 0 for a free one"
            ) from None
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def close(self) -> None:
        """Safe to call twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        """Metrics in the text format of Prometheus."""
        body, kind = exposition(self._read)
        return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-store"})


def exposition(read: Read) -> tuple[bytes, str]:
    """The text format of Prometheus, and its content type."""
    # Here, so that a miner that nobody scrapes does not hold it.
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

    class Reader:
        def collect(self) -> Iterator[Metric]:
            yield from read()

        def describe(self) -> list[Metric]:
            return []

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Reader())
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _own_names(ip: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    guarded = ipaddress.ip_address(ip).is_loopback

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        host = (request.url.host or "").strip("[]")
        if guarded and host not in ("127.0.0.1", "::1", "localhost", ip):
            raise web.HTTPForbidden(text="this is served to this machine alone")
        return await handler(request)

    return check
