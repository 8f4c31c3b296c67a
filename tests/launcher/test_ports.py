"""Ports that stay free while the process that listens there is away."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from iota_subnet.localnet.network import FIRST_PORT, free_port
from template.errors import NeuronError

HOST = "127.0.0.1"


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4/ip_local_port_range").exists(), reason="the system does not say")
def test_a_port_is_none_of_those_that_the_system_gives_to_others() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        given = other.getsockname()[1]
    found = {free_port(HOST) for _ in range(50)}
    assert len(found) > 25 and FIRST_PORT <= min(found) <= max(found) < given


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    free, taken = free_port(HOST), socket.socket()
    with taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(random, "sample", lambda population, k: [port, free])
        assert free_port(HOST) == free
        monkeypatch.setattr(random, "sample", lambda population, k: [port])
        with pytest.raises(NeuronError, match="no free port"):
            free_port(HOST)
