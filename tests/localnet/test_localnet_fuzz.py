"""Mutated requests: every one is answered with JSON-RPC, none is a bug, and the chain goes on."""

from __future__ import annotations

import asyncio
import json
import random
import resource
from typing import Any

import pytest
from localnet_kit import Driver, mortal_era, sign
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from template.localnet import ChainConfig, ChainServer
from template.localnet.codec import Enum
from template.localnet.hashing import twox_128
from template.localnet.rpc import INTERNAL_ERROR, METHODS
from template.localnet.runtime_api import served_methods
from template.localnet.server import MAX_CLIENTS
from template.localnet.session import SUBSCRIPTIONS, Session

BOB = b"b" * 32
ODD: tuple[Any, ...] = (None, True, -1, 2**70, 1e300, "", "0x", "0xzz", "\ud800", [], {}, [[[]]], "ff" * 300, {"a": 1})


def corpus(driver: Driver) -> list[Any]:
    """Valid requests of every kind."""
    chain, alice = driver.chain, driver.alice
    calls: list[tuple[str, dict[str, Any]]] = [
        ("Balances.transfer_keep_alive", {"dest": Enum("Id", BOB), "value": 5}),
        ("SubtensorModule.set_weights", {"netuid": 1, "dests": [0, 1], "weights": [1, 2], "version_key": 0}),
        ("SubtensorModule.burned_register", {"netuid": 1, "hotkey": BOB}),
        ("Commitments.set_commitment", {"netuid": 1, "info": {"fields": [Enum("Raw3", b"abc")]}}),
        ("Utility.batch_all", {"calls": [Enum("System", Enum("remark", {"remark": b"x" * 40}))] * 3}),
        ("MevShield.submit_encrypted", {"ciphertext": b"z" * 1300}),
    ]
    eras = (mortal_era(chain.head.number, 64), mortal_era(chain.head.number, 8))
    raws = [sign(chain, alice, name, args, era=era).hex() for name, args in calls for era in eras]
    key = (twox_128(b"System") + twox_128(b"Account")).hex()
    requests: list[tuple[str, list[Any]]] = [("author_submitExtrinsic", ["0x" + raw]) for raw in raws]
    requests += [("author_submitAndWatchExtrinsic", ["0x" + raw]) for raw in raws]
    requests += [("state_call", [name, "0x" + data]) for name in served_methods() for data in ("", "0100", "00" * 40)]
    requests += [(name, ["0x" + key, 10, None, "0x" + chain.head.hash.hex()]) for name in (*METHODS, *SUBSCRIPTIONS)]
    requests += [(name, []) for name in METHODS]
    bodies: list[Any] = [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(requests)]
    return [*bodies, bodies[:5]]


def changed(chance: random.Random, body: Any) -> str:
    """A request with one thing wrong, in its values, its hex or its text."""
    kind = chance.randrange(4)
    if kind == 0 and isinstance(body, dict):
        body = {**body, chance.choice(("id", "method", "params", "jsonrpc")): chance.choice(ODD)}
    if kind in (1, 2) and isinstance(body, dict) and body["params"]:
        params = list(body["params"])
        place = chance.randrange(len(params))
        value = params[place]
        if isinstance(value, str) and value.startswith("0x") and len(value) > 4 and kind == 1:
            raw = bytearray.fromhex(value[2:])
            for _ in range(chance.randrange(1, 4)):
                raw[chance.randrange(len(raw))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            cut = chance.randrange(len(raw)) if chance.random() < 0.2 else len(raw)
            value = "0x" + raw[:cut].hex()
        else:
            value = chance.choice(ODD)
        params[place] = value
        body = {**body, "params": params}
    text = json.dumps(body)
    if kind == 3:
        place = chance.randrange(len(text))
        text = (
            text[:place] + chance.choice(("", '"', "{", "]", "\x00", text[place:] * 2, "9" * 400)) + text[place + 1 :]
        )
    return text


def fuzz(count: int) -> None:
    driver = Driver(max_pool=64)
    driver.subnet()
    chance = random.Random(count)
    session, bodies = Session(driver.chain), corpus(driver)
    peak = 0
    for number in range(count):
        for text in session.handle(changed(chance, chance.choice(bodies))):
            answer = json.loads(text)
            for part in answer if isinstance(answer, list) else [answer]:
                assert part.get("error", {}).get("code") != INTERNAL_ERROR, part
        if number % 200 == 199:
            driver.block()
            session.on_block(driver.chain.head)
            session.take_wanted()
        if number % 1000 == 999:
            session, bodies = Session(driver.chain), corpus(driver)  # fresh nonces and eras
        if number == count // 4:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < 64 << 10, f"{grown} KiB more than after a quarter of the run"
    before = driver.chain.head.number
    driver.block()
    assert driver.chain.head.number == before + 1


def test_mutated_requests() -> None:
    fuzz(5000)


@pytest.mark.soak
def test_a_hundred_thousand_mutated_requests() -> None:
    fuzz(100_000)


def test_bytes_that_are_no_websocket_and_frames_that_are_broken() -> None:
    async def scenario() -> None:
        server = ChainServer(ChainConfig(port=0, block_time=0.05))
        await server.start()
        host, port = server.endpoint.removeprefix("ws://").split(":")
        chance = random.Random(5)
        try:
            for _ in range(50):
                _, writer = await asyncio.open_connection(host, int(port))
                head = chance.choice((b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b""))
                writer.write(head + chance.randbytes(200) + b"\r\n\r\n")
                await writer.drain()
                writer.close()
            for _ in range(50):
                async with connect(server.endpoint, close_timeout=0.1) as socket:
                    # a frame with reserved bits or a bad opcode, straight into the stream
                    socket.transport.write(chance.randbytes(chance.randrange(2, 60)))
                    try:
                        await asyncio.wait_for(socket.recv(), 0.02)
                    except (TimeoutError, WebSocketException):
                        pass
            async with connect(server.endpoint, close_timeout=0.1) as socket:
                await socket.send('{"jsonrpc":"2.0","id":1,"method":"system_name"}')
                assert "template-localnet" in str(await socket.recv())
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_one_connection_too_many_is_refused() -> None:
    async def scenario() -> None:
        server = ChainServer(ChainConfig(port=0))
        await server.start()
        try:
            sockets = await asyncio.gather(*(connect(server.endpoint, open_timeout=60) for _ in range(MAX_CLIENTS)))
            with pytest.raises(InvalidStatus, match="503"):
                await connect(server.endpoint)
            await sockets[0].close()
            while len(server._clients) >= MAX_CLIENTS:
                await asyncio.sleep(0.01)
            async with connect(server.endpoint) as again:
                await again.send('{"jsonrpc":"2.0","id":1,"method":"system_name"}')
                assert await again.recv()
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(scenario(), 120))
