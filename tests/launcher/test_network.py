"""Real namespaces and TUN devices; only where the kernel lets us."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from iota_subnet.localnet import tun
from iota_subnet.localnet.lanes import Link
from iota_subnet.localnet.network import Wan
from iota_subnet.localnet.processes import Family
from template.errors import BadSettings

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 5000))
while True:
    client, _ = server.accept()
    client.sendall(client.recv(100))
"""


def why_not() -> str:
    try:
        tun.check()
    except BadSettings as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def ask(address: str, deadline: float) -> float:
    """Seconds that an echo takes, once the server is up."""
    while True:
        try:
            with socket.create_connection((address, 5000), 5.0) as client:
                began = time.monotonic()
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
                return time.monotonic() - began
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_miner_behind_a_link_is_its_round_trip_away_and_nothing_is_left_behind(tmp_path: Path) -> None:
    home, mine = os.stat(tun.HERE).st_ino, set(os.listdir("/sys/class/net"))
    family = Family(tmp_path)
    wan = Wan(Link(rtt_s=0.06), 2, 0, tmp_path, family)
    try:
        assert os.stat(tun.HERE).st_ino != home
        family.start("echo", [sys.executable, "-c", ECHO, wan.address(1)], netns=wan.namespace(1))
        assert ask(wan.address(1), time.monotonic() + 20) >= 0.06
    finally:
        family.stop()
        figures = wan.figures()
        wan.leave()
    assert os.stat(tun.HERE).st_ino == home and set(os.listdir("/sys/class/net")) == mine
    assert figures is not None and figures["link"] == "60ms"
    assert figures["up"][1]["packets"] >= 3 and figures["up"][0]["packets"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["echo.log", "link.log"]


def test_without_a_relay_there_is_one_clear_error(tmp_path: Path) -> None:
    family = Family(tmp_path)
    home = os.stat(tun.HERE).st_ino
    with pytest.raises(Exception, match="the links could not be made"):
        Wan(Link(), 500, 0, tmp_path, family)
    assert os.stat(tun.HERE).st_ino == home
    family.stop()
