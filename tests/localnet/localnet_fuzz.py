"""Wrong input of every depth: bytes of websocket frames, JSON texts, SCALE values, calls with any arguments."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from template.localnet.client import keypair, signed_extrinsic
from template.localnet.codec import Enum, Some
from template.localnet.hashing import twox_128
from template.localnet.rpc import INTERNAL_ERROR, METHODS
from template.localnet.runtime_api import served_methods
from template.localnet.session import SUBSCRIPTIONS
from template.localnet.spec import load_spec, split_top

DEADLINE = 120.0  # seconds for one answer
BATCH = 100  # messages between two right questions
CLIENTS = 4  # of each kind
PER_CONNECTION = 2000  # messages: a connection holds so many subscriptions and no more
BOB = b"b" * 32
CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Balances", "transfer_keep_alive", {"dest": Enum("Id", BOB), "value": 5}),
    ("SubtensorModule", "set_weights", {"netuid": 1, "dests": [0, 1], "weights": [1, 2], "version_key": 0}),
    ("SubtensorModule", "burned_register", {"netuid": 1, "hotkey": BOB}),
    ("Commitments", "set_commitment", {"netuid": 1, "info": {"fields": [Enum("Raw3", b"abc")]}}),
    ("Utility", "batch_all", {"calls": [Enum("System", Enum("remark", {"remark": b"x" * 40}))] * 3}),
    ("MevShield", "submit_encrypted", {"ciphertext": b"z" * 1300}),
)
ODD: tuple[Any, ...] = (None, True, -1, 2**70, 1e300, "", "0x", "0xzz", "\ud800", [], {}, [[[]]], "ff" * 300, {"a": 1})


def corpus(genesis: bytes) -> list[Any]:
    """Right requests of every kind that clients send."""
    alice = keypair("//Alice")
    raws = ["0x" + signed_extrinsic(alice, *call, 0, genesis).hex() for call in CALLS]
    key = "0x" + (twox_128(b"System") + twox_128(b"Account")).hex()
    requests: list[tuple[str, list[Any]]] = [("author_submitExtrinsic", [raw]) for raw in raws]
    requests += [("author_submitAndWatchExtrinsic", [raw]) for raw in raws]
    requests += [("state_call", [name, "0x" + data]) for name in served_methods() for data in ("", "0100", "00" * 40)]
    requests += [(name, [key, 10, None, "0x" + genesis.hex()]) for name in (*METHODS, *SUBSCRIPTIONS)]
    requests += [(name, []) for name in METHODS]
    bodies: list[Any] = [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(requests)]
    return [*bodies, bodies[:5]]


def damaged(data: bytes, chance: Random) -> bytes:
    """A few bytes changed, put in, cut or doubled."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place, kind = chance.randrange(len(found) + 1), chance.randrange(5)
        if kind == 0:
            found[place : place + 1] = bytes((chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))),))
        elif kind == 1:
            found[place:place] = chance.randbytes(chance.choice((1, 2, 4, 64)))
        elif kind == 2:
            del found[place : place + chance.choice((1, 2, 8, 1 << 20))]
        elif kind == 3:
            found[place:place] = found[place : place + 64]
        elif place < len(found):
            found[place] ^= 1 << chance.randrange(8)
    return bytes(found)


class Fuzzer:
    """Wrong messages and frames from a seed, the same every time."""

    def __init__(self, seed: int, genesis: bytes) -> None:
        self.chance = Random(seed)
        self._corpus = corpus(genesis)

    def message(self) -> bytes:
        """Wrong in its values, in the SCALE within its hex, or in its text."""
        chance, body = self.chance, self.chance.choice(self._corpus)
        kind = chance.randrange(4)
        if kind == 0 and isinstance(body, dict):
            body = {**body, chance.choice(("id", "method", "params", "jsonrpc")): chance.choice(ODD)}
        elif kind in (1, 2) and isinstance(body, dict) and body["params"]:
            params = list(body["params"])
            place = chance.randrange(len(params))
            value = params[place]
            if kind == 1 and isinstance(value, str) and value.startswith("0x"):
                params[place] = "0x" + damaged(bytes.fromhex(value[2:]), chance).hex()
            else:
                params[place] = chance.choice(ODD)
            body = {**body, "params": params}
        text = json.dumps(body).encode()
        return damaged(text, chance) if kind == 3 else text

    def frame(self) -> bytes:
        """Bytes in place of a websocket frame."""
        chance = self.chance
        payload, mask = self.message()[:60_000], chance.randbytes(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        length = len(payload)
        head = bytes((0x81, 0x80 | length)) if length < 126 else b"\x81\xfe" + length.to_bytes(2, "big")
        kind = chance.randrange(4)
        if kind == 0:
            return damaged(head, chance) + mask + masked
        if kind == 1:
            return chance.randbytes(chance.randrange(2, 60))
        if kind == 2:  # claims to be up to 2^63 bytes long
            return b"\x81\xff" + chance.randrange(1 << 63).to_bytes(8, "big") + mask + masked
        return damaged(head + mask + masked, chance)


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def _ask(connection: Any, method: str, *params: Any) -> Any:
    """Answer to one right question, behind whatever the connection still says; none of that may be a bug."""
    await connection.send(json.dumps({"jsonrpc": "2.0", "id": "right", "method": method, "params": list(params)}))
    while True:
        message = json.loads(await asyncio.wait_for(connection.recv(), DEADLINE))
        for part in message if isinstance(message, list) else [message]:
            assert part.get("error", {}).get("code") != INTERNAL_ERROR, part
        if isinstance(message, dict) and message.get("id") == "right":
            return message["result"]


async def _send_messages(endpoint: str, fuzzer: Fuzzer, count: int, seen: Counter[str]) -> None:
    """Wrong messages on good connections; after each batch a right question must be answered."""
    sent = 0
    while sent < count:
        async with connect(endpoint, max_size=None, max_queue=None, open_timeout=DEADLINE) as connection:
            try:
                for _ in range(min(PER_CONNECTION, count - sent) // BATCH):
                    for _ in range(BATCH):
                        message = fuzzer.message()
                        sent += 1
                        # as text where it is text: a client cannot send any other
                        try:
                            await connection.send(message.decode())
                        except UnicodeDecodeError:
                            await connection.send(message)
                    assert (await _ask(connection, "system_health"))["peers"] == 0
                    seen["answered"] += BATCH
            except ConnectionClosed:
                seen["closed"] += 1


async def _send_frames(endpoint: str, fuzzer: Fuzzer, count: int, seen: Counter[str]) -> None:
    """Wrong frames behind a good handshake, and now and then a wrong handshake."""
    host, port = endpoint.removeprefix("ws://").rsplit(":", 1)
    handshake = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
    handshake += base64.b64encode(bytes(16)) + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
    for _ in range(count):
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), DEADLINE)
        wrong_start = fuzzer.chance.random() < 0.1
        writer.write(damaged(handshake, fuzzer.chance) if wrong_start else handshake)
        writer.write(fuzzer.frame())
        try:
            writer.write_eof()
            await asyncio.wait_for(reader.read(), DEADLINE)
        except OSError:
            pass  # reset: that is an end too
        seen["ended"] += 1
        writer.close()


async def bombard(endpoint: str, pid: int, seed: int, messages: int, frames: int) -> Counter[str]:
    """Send both kinds from several clients; then the chain must still make blocks and answer.

    Returns counts, with the growth of the server's memory in MiB as `grown`.
    """
    seen: Counter[str] = Counter()
    async with connect(endpoint, open_timeout=DEADLINE) as connection:
        genesis = bytes.fromhex((await _ask(connection, "chain_getBlockHash", 0))[2:])
    await _send_messages(endpoint, Fuzzer(seed, genesis), 2 * BATCH, Counter())  # what is built at first use is built
    before = rss_mb(pid)
    work = [_send_messages(endpoint, Fuzzer(seed + 1 + i, genesis), messages // CLIENTS, seen) for i in range(CLIENTS)]
    work += [_send_frames(endpoint, Fuzzer(seed + 101 + i, genesis), frames // CLIENTS, seen) for i in range(CLIENTS)]
    await asyncio.gather(*work)
    seen["grown"] = round(rss_mb(pid) - before)
    async with connect(endpoint, open_timeout=DEADLINE) as connection:
        first = int((await _ask(connection, "chain_getHeader"))["number"], 16)
        deadline = time.monotonic() + DEADLINE
        while int((await _ask(connection, "chain_getHeader"))["number"], 16) == first:
            assert time.monotonic() < deadline, "no more blocks"
            await asyncio.sleep(0.01)
    return seen


def arbitrary(expression: str, chance: Random, depth: int = 0) -> Any:
    """A native value of a type expression: mostly small, sometimes at the ends of its range."""
    if expression in ("bool", "()", "str"):
        return {"bool": chance.random() < 0.5, "()": None, "str": "text"}[expression]
    if expression[0] in "ui" and expression[1:].isdigit():
        top = (1 << (int(expression[1:]) - (expression[0] == "i"))) - 1
        return chance.choice((0, 1, 2, 7, chance.randrange(top), top))
    if expression == "AccountId32":
        return chance.choice((bytes(keypair("//Alice").public_key), bytes(32), b"\xff" * 32, chance.randbytes(32)))
    if expression[0] == "(":
        return tuple(arbitrary(part, chance, depth) for part in split_top(expression[1:-1]))
    if expression[0] == "[":
        inner, count = expression[1:-1].rsplit("; ", 1)
        return chance.randbytes(int(count)) if inner == "u8" else [arbitrary(inner, chance, depth)] * int(count)
    if expression.endswith(">"):
        return _arbitrary_generic(*expression[:-1].split("<", 1), chance, depth)
    if expression == "RuntimeCall":
        return arbitrary_call(chance, depth + 1)
    definition = load_spec().types[expression]
    if definition.fields is not None:
        return _arbitrary_fields(definition.fields, chance, depth)
    variant = chance.choice(definition.variants or ())
    return Enum(variant.name, _arbitrary_fields(variant.fields, chance, depth))


def _arbitrary_generic(head: str, body: str, chance: Random, depth: int) -> Any:
    if head == "Compact":
        return arbitrary(body, chance, depth)
    if head == "Option":
        value = arbitrary(body, chance, depth)
        return chance.choice((None, Some(value) if value is None else value))
    if head == "BTreeMap":
        return {}
    if body == "u8":
        return chance.randbytes(chance.choice((0, 1, 20, 2000)))
    return [arbitrary(body, chance, depth) for _ in range(chance.randrange(4))]


def _arbitrary_fields(fields: Any, chance: Random, depth: int) -> Any:
    values = [arbitrary(item.type, chance, depth) for item in fields]
    if not fields:
        return None
    if fields[0].name is not None:
        return {item.name: value for item, value in zip(fields, values, strict=True)}
    return values[0] if len(values) == 1 else tuple(values)


def arbitrary_call(chance: Random, depth: int = 0) -> Enum:
    """Any call of the interface; calls within calls end at the third."""
    pallets = [pallet for pallet in load_spec().pallets.values() if pallet.calls]
    if depth > 2:
        pallets = [pallet for pallet in pallets if pallet.name not in ("Utility", "Sudo", "Proxy")]
    pallet = chance.choice(pallets)
    variant = chance.choice(pallet.calls)
    return Enum(pallet.name, Enum(variant.name, _arbitrary_fields(variant.fields, chance, depth)))
