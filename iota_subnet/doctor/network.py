"""What lies outside: wallet and chain, the subnet's validator, its clock, its release, and the line to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from iota_subnet import SPEC_VERSION, __version__
from iota_subnet.doctor.finding import Finding, Needs
from iota_subnet.settings import MinerSettings, ValidatorSettings
from template.errors import NeuronError, NotRegistered

#: Seconds of difference that signed calls allow, and from which on it is worth mending.
CLOCK_BAD_S = 30.0
CLOCK_WARN_S = 5.0

ANSWER_S = 10.0

#: Of the line: seconds, bytes and connections at most.
LINE_S = 3.0
LINE_BYTES = 16 << 20
LINES = 4


def chain(settings: MinerSettings | ValidatorSettings, known: bool) -> Iterator[Finding]:
    """Wallet, chain, registration, validator; as far as each can be looked at without the one before."""
    from template.wallet import load

    hotkey = ""
    wallet: Any = None
    try:
        wallet = load(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
        hotkey = wallet.hotkey.ss58_address
        yield Finding("wallet", "ok", f"{settings.wallet.name}/{settings.wallet.hotkey}: {hotkey}")
    except NeuronError as error:
        yield _bad("wallet", error)
    if not known:
        yield Finding("chain", "skipped", "which subnet?", "give --netuid, and --subtensor.network if it is not finney")
        return
    from template.subtensor import SubtensorChain

    node = SubtensorChain(wallet, settings.subtensor.endpoint, settings.subtensor.timeout_s)
    try:
        block = node.block()
        yield Finding("chain", "ok", f"block {block} at {node.endpoint}")
        view = node.metagraph(settings.netuid)
    except NeuronError as error:
        yield _bad("chain", error)
        return
    finally:
        node.close()
    neuron = view.by_hotkey(hotkey) if hotkey else None
    if neuron is not None:
        yield Finding("registration", "ok", f"uid {neuron.uid} of subnet {settings.netuid}")
    elif hotkey:
        network = settings.subtensor.chain_endpoint or settings.subtensor.network
        lacking = NotRegistered(hotkey, settings.netuid, settings.wallet.name, settings.wallet.hotkey, network)
        yield _bad("registration", lacking)
    serving = [one for one in view.neurons if one.is_serving and one.validator_permit and one.hotkey != hotkey]
    best = max(serving, key=lambda one: (one.stake, -one.uid), default=None)
    if isinstance(settings, ValidatorSettings):
        return
    if best is None:
        yield Finding("validator", "warn", "none serves an axon on this subnet", "a miner waits until there is one")
        return
    try:
        socket.create_connection((best.ip, best.port), ANSWER_S).close()
        yield Finding("validator", "ok", f"uid {best.uid} answers at {best.ip}:{best.port}")
    except OSError as error:
        advice = "look at your firewall; if others reach it, it is yours, else wait for the validator"
        yield Finding("validator", "bad", f"uid {best.uid} does not answer at {best.ip}:{best.port} ({error})", advice)


def validator(url: str | None, needs: Needs) -> Iterator[Finding]:
    """Clock, release and bandwidth, by the public address of a validator."""
    if url is None:
        advice = "give a validator's public address with --url http://HOST:PORT"
        yield Finding("clock, release, bandwidth", "skipped", "no validator to compare with", advice)
        return
    began = time.time()
    try:
        document = _fetch(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield Finding(
            "validator's page", "bad", f"{url}: {error}", "check the address: its log names it after 'data at'"
        )
        return
    ended = time.time()
    yield Finding("validator's page", "ok", f"run {str(document.get('run', ''))[:60]} at {url}, {ended - began:.2f} s")
    yield clock(document.get("time"), began, ended)
    yield release(document)
    yield line(bandwidth(url), needs)


def clock(theirs: Any, began: float, ended: float) -> Finding:
    """`theirs` was read somewhere between `began` and `ended` by our clock."""
    if not isinstance(theirs, int | float):
        return Finding("clock", "skipped", "this validator is of a release that does not say its time")
    ahead = began - theirs if theirs < began else min(0.0, ended - theirs)
    side = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) < CLOCK_WARN_S:
        return Finding("clock", "ok", f"within {abs(ahead) + ended - began:.1f} s of the validator's")
    state = "bad" if abs(ahead) >= CLOCK_BAD_S else "warn"
    advice = "set it: timedatectl set-ntp true; signed calls allow little difference"
    return Finding("clock", "bad" if state == "bad" else "warn", f"{abs(ahead):.0f} s {side} the validator's", advice)


def release(document: dict[str, Any]) -> Finding:
    """Whether the validator, by its status document, speaks our version of the protocol."""
    theirs = document.get("spec_version")
    if theirs is None:
        return Finding("release", "skipped", f"this is {__version__}; the validator does not say its own")
    if theirs != SPEC_VERSION:
        text = f"this is {__version__} (version {SPEC_VERSION} of the protocol), the validator speaks {theirs!r}"
        return Finding("release", "bad", text[:200], "install the same release as the validator")
    return Finding("release", "ok", f"{__version__}, the same protocol as the validator")


def line(mbits: float, needs: Needs) -> Finding:
    """Whether `mbits` (Mbit/s, measured; 0: not measured) is what `min_compute.yml` asks for."""
    if not mbits:
        return Finding("bandwidth", "skipped", "nothing could be fetched to measure it")
    text = f"{mbits:.0f} Mbit/s from the validator at least, {needs.mbits:.0f} needed"
    if mbits >= needs.mbits:
        return Finding("bandwidth", "ok", text)
    advice = "a thin line is not punished, but waits cost work; see docs/faults.md for what to expect"
    return Finding("bandwidth", "warn", text, advice)


def bandwidth(url: str) -> float:
    """Mbit/s at which the validator's page comes over a few connections: less than the line can do. 0: not at all."""
    parts = urlsplit(url)
    deadline = time.monotonic() + LINE_S
    got = [0] * LINES

    def fetch(index: int) -> None:
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_S)
        try:
            while time.monotonic() < deadline and sum(got) < LINE_BYTES:
                connection.request("GET", "/dashboard.js", headers={"Accept-Encoding": "identity"})
                answer = connection.getresponse()
                if answer.status != 200:
                    return
                got[index] += len(answer.read(LINE_BYTES))
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    began = time.monotonic()
    threads = [threading.Thread(target=fetch, args=(index,), daemon=True) for index in range(LINES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LINE_S + ANSWER_S)
    return 8e-6 * sum(got) / max(1e-6, time.monotonic() - began)


def _fetch(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an address such as http://203.0.113.7:8093")
    # Neurons call each other directly; a proxy that the environment names would be asked in vain.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{parts.scheme}://{parts.netloc}/v1/status", timeout=ANSWER_S) as answer:
        found = json.loads(answer.read(64 << 20))
    if not isinstance(found, dict):
        raise ValueError("no validator's status")
    return found


def _bad(name: str, error: NeuronError) -> Finding:
    """Errors of this project are one line: what is wrong; what to do."""
    what, _, advice = str(error).partition("; ")
    return Finding(name, "bad", what, advice)
