"""Names to addresses, without the private ones.

A reference made by a stranger must not make this machine call its own network (a router's page, a cloud's metadata
service). The check is on the resolved address, so a public name that points inside is caught too.
"""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver


def is_private_literal(host: str) -> bool:
    """Whether `host` is an address (not a name) that is not on the public internet."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_global


class PublicResolver(AbstractResolver):
    """The system's resolver, less every address that is not public. Raises OSError when none is left."""

    def __init__(self) -> None:
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of `host` on the public internet. Raises OSError when there is none."""
        found = await self._inner.resolve(host, port, family)
        public = [result for result in found if not is_private_literal(result["host"])]
        if not public:
            raise OSError(f"{host} has no address on the public internet")
        return public

    async def close(self) -> None:
        """Close the resolver inside."""
        await self._inner.close()
