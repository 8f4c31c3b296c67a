"""Every line says that something is well or what to do; exit codes and JSON say the same."""

from __future__ import annotations

import dataclasses
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iota_subnet import SPEC_VERSION
from iota_subnet.cli import main
from iota_subnet.doctor import machine, network
from iota_subnet.doctor.finding import BUILT_IN, FILE, Finding, Needs, needs

NEEDS = Needs(cores=2, ram=4.0, disk=2.0, vram=8.0, mbits=10.0)


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("NETUID", "AXON_PORT", "WORK_DEVICE", "WALLET_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def page() -> Iterator[tuple[str, dict[str, object]]]:
    """A validator's public address, and what its status says."""
    said: dict[str, object] = {"run": "r", "phase": "train", "time": time.time(), "spec_version": SPEC_VERSION}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v1/status" and "time" in said:
                said["time"] = time.time() + float(said.get("ahead", 0.0))  # type: ignore[arg-type]
            body = json.dumps(said).encode() if self.path == "/v1/status" else b"x" * 50_000
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", said
    server.shutdown()
    server.server_close()


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {one.name: one for one in findings}


def test_what_is_built_in_is_what_the_file_says() -> None:
    assert FILE.is_file() and {role: needs(role) for role in BUILT_IN} == BUILT_IN


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.yml").write_text("compute_spec: {miner: {cpu: 3}}")
    with pytest.raises(ValueError, match=r"m\.yml cannot be read"):
        needs("miner", tmp_path / "m.yml")


def test_whatever_is_not_well_says_what_to_do() -> None:
    findings = [
        machine.python((3, 9, 2)),
        machine.cores(1, NEEDS),
        machine.memory(2.0, 1.0, NEEDS),
        machine.memory(16.0, 1.0, NEEDS),
        machine.torch_device("no-such-device", NEEDS),
        machine.port("--axon.port", "203.0.113.1", 4000, None),
        network.clock(time.time() - 100, time.time(), time.time()),
        network.release({"spec_version": 99}),
        network.line(1.0, NEEDS),
    ]
    assert [one.state for one in findings] == ["bad", "warn", "bad", "warn", "bad", "bad", "bad", "bad", "warn"]
    assert all(one.advice and "\n" not in one.text + one.advice for one in findings)


def test_what_is_well_is_ok() -> None:
    findings = [
        machine.python(), machine.cores(2, NEEDS), machine.memory(16.0, 8.0, NEEDS),
        machine.torch_device("cpu", NEEDS), network.line(50.0, NEEDS), network.release({"spec_version": SPEC_VERSION}),
    ]  # fmt: skip
    assert {one.state for one in findings} == {"ok"}
    assert {one.state for one in machine.packages()} == {"ok"}


def test_a_full_disk_and_a_folder_that_is_not_ours_are_told(tmp_path: Path) -> None:
    assert machine.disk(tmp_path / "not" / "there" / "yet", Needs(1, 1, 0.0, 0, 1)).state == "ok"
    full = machine.disk(tmp_path, Needs(1, 1, 1e9, 0, 1))
    assert full.state == "bad" and "make room" in full.advice


def test_a_port_in_use_is_told_and_a_free_one_is_ok() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        found = machine.port("--axon.port", "127.0.0.1", taken, None)
        assert found.state == "bad" and "choose another --axon.port" in found.advice
    assert machine.port("--axon.port", "127.0.0.1", taken, None).state == "ok"
    assert machine.port("--axon.port", "127.0.0.1", taken, "127.0.0.1").state == "ok"


@pytest.mark.parametrize(
    ("ahead", "state"), [(0.0, "ok"), (3.0, "ok"), (-8.0, "warn"), (8.0, "warn"), (-40.0, "bad"), (40.0, "bad")]
)
def test_a_clock_is_judged_by_what_signed_calls_allow(ahead: float, state: str) -> None:
    # Our own clock is ahead by so much; the answer took a second.
    assert network.clock(1000.0, 999.5 + ahead, 1000.5 + ahead).state == state


def test_a_validator_is_compared_with(page: tuple[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, said = page
    monkeypatch.setattr(network, "LINE_BYTES", 400_000)
    # A machine that does other things is slow even on loopback.
    found = by_name(network.validator(url, dataclasses.replace(NEEDS, mbits=1e-6)))
    assert {name: one.state for name, one in found.items()} == {
        "validator's page": "ok", "clock": "ok", "release": "ok", "bandwidth": "ok",
    }  # fmt: skip
    said |= {"ahead": 600.0, "spec_version": "<b>"}
    found = by_name(network.validator(url, NEEDS))
    assert found["clock"].state == found["release"].state == "bad" and "behind" in found["clock"].text


def test_an_address_where_nobody_answers_is_told() -> None:
    (found,) = network.validator("http://127.0.0.1:9", NEEDS)
    assert found.state == "bad" and "data at" in found.advice
    (found,) = network.validator("nonsense", NEEDS)
    assert found.state == "bad"


def test_without_a_wallet_it_does_not_pass(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--wallet.path", str(nobody), "--axon.port", "0", "--json"])
    document = json.loads(capsys.readouterr().out)
    found = {one["name"]: one for one in document["findings"]}
    assert code == 1 and document["ok"] is False
    assert found["wallet"]["state"] == "bad" and "btcli wallet create" in found["wallet"]["advice"]
    assert found["chain"]["state"] == "skipped" and "--netuid" in found["chain"]["advice"]


def test_a_machine_that_is_ready_passes(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from template.staging import wallet_from_uri

    wallet_from_uri(nobody, "me", "m1", "//Me")
    flags = ["--wallet.path", str(nobody), "--wallet.name", "me", "--wallet.hotkey", "m1", "--axon.port", "0"]
    code = main(["doctor", *flags, "--neuron.state_dir", str(nobody)])
    out = capsys.readouterr().out
    assert code == 0 and "nothing stands in the way" in out and "me/m1: 5" in out


def test_a_chain_that_does_not_answer_is_a_finding_and_no_error(
    nobody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--netuid", "1", "--subtensor.chain_endpoint", "ws://127.0.0.1:9", "--axon.ip", "127.0.0.1"]
    code = main(["doctor", *flags, "--axon.port", "0", "--wallet.path", str(nobody), "--json"])
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert code == 1 and found["chain"]["state"] == "bad" and "ws://127.0.0.1:9" in found["chain"]["text"]


def test_a_wrong_setting_is_one_line(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--axon.port", "x"]) == 2
    assert "--axon.port (AXON_PORT)" in capsys.readouterr().err
