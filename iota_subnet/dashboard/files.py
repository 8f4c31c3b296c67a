"""Our own files over HTTP, and what a browser may do with them: run our script, ask this host, nothing else."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: Name in `static`, and its kind.
File = tuple[str, str]


def routes_of(shown: Mapping[str, File]) -> list[web.AbstractRouteDef]:
    """One for each path. A browser asks whether it has the newest, and is not sent it again."""
    return [web.get(path, _handler(*file)) for path, file in shown.items()]


def _handler(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        plain, packed, tag = content(name)
        headers = {**HEADERS, "ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        body = plain
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = packed, "gzip"
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    return handle


def as_json(document: Any) -> web.Response:
    """Records as JSON, never kept by a browser."""
    headers = {**HEADERS, "Cache-Control": "no-store"}
    return web.Response(body=msgspec.json.encode(document), content_type="application/json", headers=headers)


@cache
def content(name: str) -> tuple[bytes, bytes, str]:
    """A file as it is, packed, and a tag that changes with it."""
    plain = (files("iota_subnet.dashboard") / "static" / name).read_bytes()
    return plain, gzip.compress(plain, 9, mtime=0), f'"{blake2b(plain, digest_size=12).hexdigest()}"'
