"""Where the processes of a run live: all on loopback, or each miner behind an emulated link of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time
from pathlib import Path
from typing import Any

from iota_subnet.localnet import tun
from iota_subnet.localnet.lanes import Link
from iota_subnet.localnet.processes import Child, Family
from template.errors import NeuronError

READY_S = 20.0

#: Ports are looked for from here on.
FIRST_PORT = 20_000


class Network:
    """Loopback: everybody at one address, no limits."""

    #: Where chain and validator listen.
    hub = "127.0.0.1"

    def address(self, miner: int) -> str:
        """Where that miner listens."""
        return self.hub

    def namespace(self, miner: int) -> Path | None:
        """The network namespace that the miner is to be started in; None for the launcher's own."""
        return None

    def figures(self) -> dict[str, Any] | None:
        """What went over the links, for the summary."""
        return None

    def leave(self) -> None:
        """Take the launcher back to where it was."""


class Wan(Network):
    """Miners in namespaces of their own, the launcher and what else it starts in the hub's.

    Making one puts the calling thread into the hub's namespace, until `leave`. Raises NeuronError.
    """

    hub = tun.HUB

    def __init__(self, link: Link, miners: int, seed: int, folder: Path, family: Family) -> None:
        self._link = link
        self._figures = folder / "link.json"
        argv = [sys.executable, "-m", "iota_subnet.localnet.wan", "--miners", str(miners), "--link", str(link)]
        self._relay = family.start("link", [*argv, "--seed", str(seed), "--figures", str(self._figures)])
        self._namespaces = _namespaces(self._relay)
        self._home = os.open(tun.HERE, os.O_RDONLY)
        hub = os.open(self._namespaces[0], os.O_RDONLY)
        try:
            tun.enter(hub)
        finally:
            os.close(hub)

    def address(self, miner: int) -> str:
        return tun.address_of(miner)

    def namespace(self, miner: int) -> Path | None:
        return self._namespaces[1 + miner]

    def figures(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._figures.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return {"link": str(self._link)} | found

    def leave(self) -> None:
        if self._home >= 0:
            tun.enter(self._home)
            os.close(self._home)
            self._home = -1
        self._figures.unlink(missing_ok=True)


def _namespaces(relay: Child) -> list[Path]:
    """The namespaces that the relay has made, the hub's first."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and relay.alive:
        try:
            found = json.loads(relay.tail(1))["namespaces"]
            return [Path(f"/proc/{relay.process.pid}/fd/{number}") for number in found]
        except (ValueError, KeyError, TypeError):
            time.sleep(0.02)
    raise NeuronError(f"the links could not be made; the end of {relay.log}:\n{relay.tail()}")


def free_port(host: str) -> int:
    """A port of `host` that nobody listens on now, and that the system gives to nobody who asks for any: a validator
    that is killed finds it free when it comes back. NeuronError if there is none."""
    for port in random.sample(range(FIRST_PORT, _first_given()), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise NeuronError(f"no free port of {host} between {FIRST_PORT} and {_first_given()}")


def _first_given() -> int:
    """The first port of those that connections and port 0 get; IANA's where the system does not say."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 49_152
    return max(first, FIRST_PORT + 1000)


def listens(host: str, port: int) -> bool:
    """Whether something takes a connection there within half a second."""
    try:
        socket.create_connection((host, port), 0.5).close()
    except OSError:
        return False
    return True
