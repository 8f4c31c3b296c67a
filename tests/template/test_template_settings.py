"""Flags, variables, .env and defaults, and what the SDK does with flags instead."""

from __future__ import annotations

import argparse
from pathlib import Path

import bittensor
import pytest

from template.errors import BadSettings
from template.settings import NETWORKS, AxonSettings, Group, NeuronSettings, parse


def test_precedence_flag_env_dotenv_default(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("NETUID=3\nAXON_PORT=1111\nWALLET_NAME=dot\nWALLET_HOTKEY=dot\nUNRELATED=1\n")
    monkeypatch.setenv("AXON_PORT", "2222")
    monkeypatch.setenv("WALLET_NAME", "env")
    settings = parse(NeuronSettings, ["--axon.port", "3333"])
    assert (settings.axon.port, settings.wallet.name, settings.wallet.hotkey, settings.netuid) == (
        3333,
        "env",
        "dot",
        3,
    )
    assert settings.axon.ip == "0.0.0.0" and settings.logging.level == "INFO"


def test_every_ecosystem_flag_is_honoured():
    flags = {
        "--netuid": "5", "--wallet.name": "w", "--wallet.hotkey": "h", "--wallet.path": "/p",
        "--subtensor.network": "test", "--subtensor.chain_endpoint": "ws://10.0.0.1:9944", "--axon.ip": "127.0.0.1",
        "--axon.port": "9001", "--axon.external_ip": "203.0.113.7", "--axon.external_port": "9002",
        "--logging.level": "warning", "--neuron.state_dir": "/s",
    }  # fmt: skip
    settings = parse(NeuronSettings, [part for pair in flags.items() for part in pair] + ["--logging.trace"])
    assert settings.netuid == 5
    assert (settings.wallet.name, settings.wallet.hotkey, settings.wallet.path) == ("w", "h", Path("/p"))
    assert settings.subtensor.endpoint == "ws://10.0.0.1:9944"
    assert settings.axon.announced(1) == ("203.0.113.7", 9002)
    assert (settings.axon.ip, settings.axon.port) == ("127.0.0.1", 9001)
    assert (settings.logging.level, settings.logging.effective_level) == ("WARNING", "TRACE")
    assert settings.state_path == Path("/s/w/h/netuid5/state.json")


@pytest.mark.parametrize(
    ("network", "endpoint"),
    [
        ("finney", "wss://entrypoint-finney.opentensor.ai:443"),
        ("test", "wss://test.finney.opentensor.ai:443"),
        ("local", "ws://127.0.0.1:9944"),
        ("ws://127.0.0.1:9955", "ws://127.0.0.1:9955"),
    ],
)
def test_network_resolves_to_the_right_endpoint(network, endpoint):
    assert parse(NeuronSettings, ["--netuid", "1", "--subtensor.network", network]).subtensor.endpoint == endpoint


def test_networks_are_the_sdk_s():
    from bittensor.core.settings import NETWORK_MAP

    assert {name: NETWORK_MAP[name] for name in NETWORKS} == NETWORKS


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("", "--netuid (NETUID): is required"),
        ("--netuid x", "--netuid"),
        ("--netuid 1 --axon.port 99999", "--axon.port (AXON_PORT)"),
        ("--netuid 1 --axon.ip host.example", "--axon.ip"),
        ("--netuid 1 --nonsense 3", "--nonsense"),
        ("--netuid 1 --axon.port", "--axon.port"),
        ("--netuid 1 --subtensor.network 127.0.0.1:9944", "--subtensor.network"),
        ("--netuid 1 --subtensor.network ws://127.0.0.1:99999", "--subtensor.network"),
        ("--netuid 1 --logging.level loud", "--logging.level"),
    ],
)
def test_bad_settings_are_one_line_that_names_the_flag(flags, named):
    with pytest.raises(BadSettings) as caught:
        parse(NeuronSettings, flags.split())
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_help_lists_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(NeuronSettings, ["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for group, field in NeuronSettings.model_fields.items():
        names = getattr(field.annotation, "model_fields", None)
        for flag in [f"--{group}.{name}" for name in names] if names else [f"--{group}"]:
            assert flag in text
    assert "port to listen on" in text and "8091" in text


def test_a_subnet_adds_its_group(monkeypatch):
    class Model(Group):
        layers: int = 2

    class Mine(NeuronSettings):
        model: Model = Model()

    monkeypatch.setenv("MODEL_LAYERS", "7")
    assert parse(Mine, ["--netuid", "1"]).model.layers == 7
    assert parse(Mine, ["--netuid", "1", "--model.layers", "9"]).model.layers == 9


def test_a_wildcard_is_not_announced_and_nobody_is_asked():
    with pytest.raises(BadSettings, match=r"--axon\.external_ip"):
        AxonSettings(ip="0.0.0.0").announced(8091)
    assert AxonSettings(ip="192.0.2.1").announced(8091) == ("192.0.2.1", 8091)


def test_trap_the_sdk_ignores_the_command_line_by_default():
    """Why `bt.Config` is not used. If this fails, the SDK has changed and `settings.py` may be simplified."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--netuid", type=int)
    assert bittensor.Config(parser, args=["--netuid", "4"]).netuid is None
