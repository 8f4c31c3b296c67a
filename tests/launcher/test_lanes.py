"""Emulated links: what can be asked for, and what becomes of packets. Socket pairs stand for TUN devices."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from iota_subnet.localnet import tun
from iota_subnet.localnet.lanes import MTU, QUEUE_MIN_BYTES, Lane, Link
from iota_subnet.localnet.wan import Relay
from template.errors import BadSettings


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("20mbit,80ms,1%", Link(20e6, 0.08, 0.01)),
        ("1%,0.5s", Link(0.0, 0.5, 0.01)),
        ("64kbit", Link(64e3)),
        (" 1.5Gbit , 0ms", Link(1.5e9)),
    ],
)
def test_a_link_is_read_in_any_order_and_its_text_reads_as_itself(text: str, link: Link) -> None:
    assert Link.parse(text) == link
    assert Link.parse(str(link)) == link


@pytest.mark.parametrize(
    "text",
    ["", "20", "fast", "20mbit,", "20mbit,30mbit", "-1ms", "nan%", "80%", "nanms", "1bit", "1kbit", "11s", "infs", "%"],
)
def test_a_link_that_cannot_be_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadSettings, match=f"--link {text}"):
        Link.parse(text)


def test_a_lane_takes_the_time_of_its_rate_and_then_half_the_round_trip() -> None:
    lane = Lane(Link(8e6, 0.08), "seed")
    arrivals = [lane.send(1.0, 1000) for _ in range(3)]
    assert arrivals == pytest.approx([1.041, 1.042, 1.043])
    assert lane.send(2.0, 1000) == pytest.approx(2.041)


def test_what_finds_no_room_in_the_queue_is_dropped_and_room_comes_back() -> None:
    lane = Lane(Link(1e6), "seed")
    sent = [lane.send(0.0, MTU) for _ in range(100)]
    kept = QUEUE_MIN_BYTES // MTU
    assert None not in sent[:kept] and sent[kept:] == [None] * (100 - kept)
    assert lane.figures() == {"packets": 100, "bytes": 100 * MTU, "lost": 0, "dropped": 100 - kept}
    assert lane.send(0.1, MTU) is not None


def test_losses_are_drawn_from_the_seed_at_about_their_share() -> None:
    def run(seed: str) -> list[float | None]:
        lane = Lane(Link(0.0, 0.0, 0.1), seed)
        return [lane.send(float(n), MTU) for n in range(2000)]

    assert run("a") == run("a") != run("b")
    assert 150 < run("a").count(None) < 250


def packet(target: str, size: int = 100) -> bytes:
    """As much of an IPv4 packet as a relay looks at; the rest is chance."""
    return b"\x45" + bytes(15) + tun.packed(target) + random.Random(size).randbytes(size - 20)


Ends = tuple[Callable[[Link], Relay], socket.socket, list[socket.socket]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A maker of relays, the hub's end, and the ends of two miners."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3)]
    for pair in pairs:
        for side in pair:
            side.setblocking(False)
    fds = [inner.fileno() for _, inner in pairs]

    def make(link: Link) -> Relay:
        return Relay(fds[0], {tun.packed(tun.address_of(n)): fds[1 + n] for n in range(2)}, link, 0)

    yield make, pairs[0][0], [outer for outer, _ in pairs[1:]]
    for pair in pairs:
        for side in pair:
            side.close()


def arrived(relay: Relay, at: socket.socket, within_s: float = 5.0) -> bytes:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        relay.turn(0.05)
        try:
            return at.recv(65536)
        except BlockingIOError:
            continue
    raise AssertionError("the packet did not arrive")


def test_packets_find_their_way_between_hub_and_miners(ends: Ends) -> None:
    make, hub, (first, second) = ends
    relay = make(Link())
    for source, target, address in (
        (hub, first, tun.address_of(0)),
        (first, hub, tun.HUB),
        (first, second, tun.address_of(1)),
        (second, second, tun.address_of(1)),
    ):
        source.send(packet(address))
        assert arrived(relay, target) == packet(address)
    figures = relay.figures()
    # From miner to miner both links are paid for.
    assert [lane["packets"] for lane in figures["up"]] == [2, 1]
    assert [lane["packets"] for lane in figures["down"]] == [1, 2]


def test_a_packet_is_not_there_before_its_time(ends: Ends) -> None:
    make, _, (first, second) = ends
    relay = make(Link(rtt_s=0.1))
    began = time.monotonic()
    first.send(packet(tun.address_of(1)))
    arrived(relay, second)
    assert time.monotonic() - began >= 0.1


def test_what_is_no_ipv4_or_for_nobody_is_dropped(ends: Ends) -> None:
    make, hub, (first, second) = ends
    relay = make(Link())
    first.send(b"\x60" + bytes(60))
    hub.send(packet("198.18.0.99"))
    first.send(packet(tun.HUB))
    assert arrived(relay, hub) == packet(tun.HUB)
    with pytest.raises(BlockingIOError):
        second.recv(1)


def test_packets_that_a_dead_end_does_not_take_are_lost_and_nothing_else(ends: Ends) -> None:
    make, hub, (first, second) = ends
    relay = make(Link())
    second.close()
    first.send(packet(tun.address_of(1)))
    first.send(packet(tun.HUB))
    assert arrived(relay, hub) == packet(tun.HUB)


@pytest.mark.skipif(os.geteuid() == 0, reason="only without root is it refused")
def test_without_root_links_are_refused_with_a_remedy() -> None:
    with pytest.raises(BadSettings, match="needs root"):
        tun.check()
