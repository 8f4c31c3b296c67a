"""The relay between the namespaces of one run: reads IP packets, keeps them as long as the links say, writes them on.

A star: the hub holds chain and validator, each miner has a link to it; from miner to miner a packet takes both links.
In user space, because not every kernel can delay and lose packets (`sch_netem`); on any Linux with TUN it works alike.
One thread, no buffers without bound: what comes faster than a lane takes it is dropped, as on a real line.

Run by the launcher as `python -m iota_subnet.localnet.wan`. Prints one JSON line when it is ready: the descriptors of
the namespaces, the hub's first, to be opened through /proc/PID/fd. SIGTERM ends it when traffic has ended.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from iota_subnet.localnet import tun
from iota_subnet.localnet.lanes import MTU, UNDER_WAY_MAX, Lane, Link

#: Packets read of one device before the others get their turn.
_TURN = 64

#: Seconds between two writings of the figures.
WRITE_S = 1.0

#: After SIGTERM: ends after so many seconds without a packet, and after so many in all.
QUIET_S, LINGER_S = 0.5, 4.0

#: Due time, order of arrival, the lane that it still has to take (None: it is at its end), the device of its end, the
#: packet.
_UnderWay = tuple[float, int, "Lane | None", int, bytes]


class Relay:
    """Moves packets between the hub's device and the miners'. `devices` are TUN descriptors by IPv4 address."""

    def __init__(self, hub: int, miners: dict[bytes, int], link: Link, seed: int) -> None:
        self._hub = hub
        self._devices = miners
        self._up = {device: Lane(link, f"{seed} up {n}") for n, device in enumerate(miners.values())}
        self._down = {device: Lane(link, f"{seed} down {n}") for n, device in enumerate(miners.values())}
        self._heap: list[_UnderWay] = []
        self._under_way = 0
        self._order = 0
        self.late_s = 0.0
        self.last_packet_at = 0.0
        self._poll = select.epoll()
        for device in (hub, *miners.values()):
            self._poll.register(device, select.EPOLLIN)

    def turn(self, wait_s: float) -> None:
        """Wait for packets or for what is due, `wait_s` seconds at most, and move them."""
        if self._heap:
            wait_s = min(wait_s, max(0.0, self._heap[0][0] - time.monotonic()))
        for device, _ in self._poll.poll(wait_s):
            self._read(device)
        self._write_due()

    def _read(self, device: int) -> None:
        up = self._up.get(device)
        for _ in range(_TURN):
            try:
                packet = os.read(device, 65536)
            except OSError:
                # Nothing more to read now.
                return
            now = self.last_packet_at = time.monotonic()
            if packet[0] >> 4 != 4:
                # IPv6 of the namespaces' own greetings: nobody asked for it.
                continue
            target = self._devices.get(packet[16:20])
            lane = None if target is None else self._down[target]
            if up is not None:
                self._keep(up.send(now, len(packet)), lane, self._hub if target is None else target, packet)
            elif lane is not None and target is not None:
                self._keep(lane.send(now, len(packet)), None, target, packet)

    def _keep(self, due: float | None, then: Lane | None, target: int, packet: bytes) -> None:
        if due is not None and self._under_way + len(packet) <= UNDER_WAY_MAX:
            self._order += 1
            self._under_way += len(packet)
            heapq.heappush(self._heap, (due, self._order, then, target, packet))

    def _write_due(self) -> None:
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, then, target, packet = heapq.heappop(self._heap)
            self._under_way -= len(packet)
            self.late_s = max(self.late_s, now - due)
            if then is not None:
                # On from the time at which it was due: that this loop was late is no property of the link.
                self._keep(then.send(due, len(packet)), None, target, packet)
                continue
            try:
                os.write(target, packet)
            except OSError:
                # Its end is not up, or its queue is full: that packet is lost.
                continue

    def figures(self) -> dict[str, Any]:
        """Per miner in the order of their numbers; CPU seconds of this process; how late a packet was at worst."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "up": [lane.figures() for lane in self._up.values()],
            "down": [lane.figures() for lane in self._down.values()],
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "late_ms_max": round(self.late_s * 1e3, 1),
        }


def build(link: Link, miners: int, seed: int) -> tuple[Relay, list[int]]:
    """The relay, and descriptors of its namespaces, the hub's first. Raises OSError."""
    home = os.open(tun.HERE, os.O_RDONLY)
    namespaces: list[int] = []
    devices: list[int] = []
    for address in (tun.HUB, *map(tun.address_of, range(miners))):
        tun.unshare()
        namespaces.append(os.open(tun.HERE, os.O_RDONLY))
        devices.append(tun.open_tun(address, MTU))
    tun.enter(home)
    by_address = {tun.packed(tun.address_of(n)): device for n, device in enumerate(devices[1:])}
    return Relay(devices[0], by_address, link, seed), namespaces


def main() -> int:
    """Relay until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m iota_subnet.localnet.wan", description=__doc__)
    parser.add_argument("--miners", type=int, required=True)
    parser.add_argument("--link", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figures", type=Path, required=True, help="file that the figures are written to")
    options = parser.parse_args()
    relay, namespaces = build(Link.parse(options.link), options.miners, options.seed)
    ends: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: ends.append(time.monotonic() + LINGER_S))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(json.dumps({"namespaces": namespaces}), flush=True)
    write_at = 0.0
    while True:
        relay.turn(0.25)
        now = time.monotonic()
        if now >= write_at:
            _write(options.figures, relay.figures())
            write_at = now + WRITE_S
        if ends and (now > ends[0] or now > relay.last_packet_at + QUIET_S):
            _write(options.figures, relay.figures())
            return 0


def _write(path: Path, figures: dict[str, Any]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(figures), encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
