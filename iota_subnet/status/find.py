"""Where statuses come from: the files of this machine's neurons, and validators' public /v1/status."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from iota_subnet.statusfile import NAME, gone, read_status
from template.errors import BadSettings, NeuronError

#: Seconds that a validator may take to answer, and the largest answer that is read.
ANSWER_S = 5.0
MAX_BYTES = 64 << 20


@dataclass
class Neuron:
    """One neuron. `document` is its status file, or what stands for it; `run` a validator's /v1/status.

    `problem` says why the neuron is not fine: it is not running (`gone`), or it has no seat; empty otherwise.
    """

    document: dict[str, Any]
    problem: str = ""
    gone: bool = False
    run: dict[str, Any] | None = None
    path: str = ""

    @property
    def kind(self) -> str:
        """What it is: miner or validator."""
        return str(self.document["kind"])


def find(folder: Path, name: str | None, hotkey: str | None, netuid: int | None) -> list[Neuron]:
    """All neurons with a status file below `folder`, validators first. Raises NeuronError when there is none."""
    paths = _paths(folder, name, hotkey, netuid)
    found = [neuron for path in paths if (neuron := _read(path)) is not None]
    if not found:
        chosen = [f"{flag} {value}" for flag, value in (("--wallet.name", name), ("--wallet.hotkey", hotkey)) if value]
        chosen += [f"--netuid {netuid}"] if netuid is not None else []
        of = f" for {' '.join(chosen)}" if chosen else ""
        raise NeuronError(
            f"no neuron has left a status under {folder}{of}; start one, name its --neuron.state_dir with "
            "--state-dir DIR, or look at a validator with --url http://HOST:PORT"
        )
    return sorted(found, key=lambda neuron: (neuron.kind != "validator", neuron.path))


def look(url: str) -> Neuron:
    """The validator at `url`. Raises NeuronError when none answers there."""
    try:
        run = fetch(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NeuronError(
            f"no validator's status at {url} ({error}); give the address of its blob server, which its log names "
            "after 'data at'"
        ) from None
    return Neuron({"kind": "validator", "hotkey": run.get("validator", ""), "url": url, "state": "running"}, run=run)


def fetch(url: str) -> dict[str, Any]:
    """A validator's status. Raises BadSettings for what is no address, OSError, HTTPException or ValueError when there
    is no such answer."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSettings(f"--url: {url} is not an address such as http://203.0.113.7:8093")
    where = url.rstrip("/") if parts.path.rstrip("/") else f"{url.rstrip('/')}/v1/status"
    # A proxy that the environment names has no way to this machine's own loopback.
    handlers = [urllib.request.ProxyHandler({})] if _is_loopback(parts.hostname) else []
    with urllib.request.build_opener(*handlers).open(where, timeout=ANSWER_S) as answer:
        data = answer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError("the answer is too large")
    try:
        run = json.loads(data)
    except ValueError:
        raise ValueError("the answer is not JSON") from None
    if not isinstance(run, dict) or not {"phase", "epoch", "miners", "reports"} <= set(run):
        raise ValueError("the answer is not a validator's status")
    return run


def _paths(folder: Path, name: str | None, hotkey: str | None, netuid: int | None) -> list[Path]:
    pattern = f"{name or '*'}/{hotkey or '*'}/netuid{netuid if netuid is not None else '*'}/{NAME}"
    # A localnet's run folder keeps the states in a folder of its own.
    return sorted(folder.glob(pattern)) or sorted((folder / "state").glob(pattern))


def _read(path: Path) -> Neuron | None:
    """None for a file that went away, or that is not a status."""
    try:
        document = read_status(path)
    except (OSError, ValueError):
        return None
    neuron = Neuron(document, path=str(path))
    ended = gone(document, time.time())
    if ended:
        neuron.gone, neuron.problem = True, f"not running: {ended}; below is how it stood then"
    elif neuron.kind == "miner":
        neuron.problem = _without_seat(document)
    else:
        try:
            neuron.run = fetch(str(document.get("url", "")))
        except (BadSettings, OSError, http.client.HTTPException, ValueError) as error:
            neuron.problem = f"its process runs, but {document.get('url')} does not answer: {error}"
    return neuron


def _without_seat(document: dict[str, Any]) -> str:
    standing = document.get("standing")
    if standing is not None and standing.get("seat") is None:
        return f"no seat: {standing.get('own', '')}"
    if document.get("connected"):
        return ""
    # Without a standing the state is all there is to show, and is shown.
    return "no open work channel" + (f": {document.get('state', '')}" if standing is not None else " to a validator")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
