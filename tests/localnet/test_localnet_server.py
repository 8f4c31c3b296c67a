"""The websocket server and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bittensor_drand import encrypt_mlkem768  # type: ignore[import-untyped]
from localnet_kit import key, sign
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

import template.localnet.server as server_module
from template.localnet import ChainConfig, ChainServer, main
from template.localnet.server import MAX_MESSAGE_BYTES
from template.localnet.shield import public_key

ROOT = Path(__file__).resolve().parents[2]


async def ask(connection: Any, method: str, *params: Any) -> Any:
    await connection.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}))
    while True:
        message = json.loads(await connection.recv())
        if message.get("id") == 7:
            return message


def run_with_server(scenario: Any, **settings: Any) -> None:
    async def body() -> None:
        server = ChainServer(ChainConfig(port=0, **{"block_time": 0.02, **settings}))
        await server.start()
        try:
            await asyncio.wait_for(scenario(server), 60)
        finally:
            await server.stop()
            await server.stop()

    asyncio.run(body())


def test_blocks_are_made_and_pushed() -> None:
    async def scenario(server: ChainServer) -> None:
        async with connect(server.endpoint) as one, connect(server.endpoint) as two:
            for connection in (one, two):
                await ask(connection, "chain_subscribeNewHeads")
            for connection in (one, two):
                heads = [json.loads(await connection.recv())["params"]["result"] for _ in range(4)]
                numbers = [int(head["number"], 16) for head in heads]
                assert numbers == list(range(numbers[0], numbers[0] + 4))

    run_with_server(scenario)


def test_malformed_messages_do_not_end_the_connection() -> None:
    async def scenario(server: ChainServer) -> None:
        async with connect(server.endpoint) as connection:
            for bad in ("{", "[]", b"\x00\xff", '{"method": 1}', "\x00"):
                await connection.send(bad)
                assert "error" in json.loads(await connection.recv())
            assert (await ask(connection, "system_health"))["result"]["peers"] == 0

    run_with_server(scenario)


def test_oversized_message_is_refused_and_a_far_larger_one_ends_its_connection() -> None:
    async def scenario(server: ChainServer) -> None:
        async with connect(server.endpoint) as other:
            big = await connect(server.endpoint)
            await big.send("x" * (MAX_MESSAGE_BYTES + 1))
            assert json.loads(await big.recv())["error"]["code"] == -32007
            assert "result" in await ask(big, "chain_getHead")
            with pytest.raises(ConnectionClosed):
                await big.send("x" * (3 * MAX_MESSAGE_BYTES))
                await big.recv()
            assert "result" in await ask(other, "chain_getHead")

    run_with_server(scenario)


def test_one_connection_too_many_is_refused_until_another_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)

    async def scenario(server: ChainServer) -> None:
        async with connect(server.endpoint) as first, connect(server.endpoint) as second:
            for one in (first, second):
                await ask(one, "system_health")
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.endpoint)
            assert refused.value.response.status_code == 429
            assert json.loads(refused.value.response.body)["error"]["code"] == -32009
        while True:  # the server learns of the end a moment later
            with contextlib.suppress(InvalidStatus):
                async with connect(server.endpoint) as again:
                    assert "result" in await ask(again, "chain_getHead")
                    return

    run_with_server(scenario)


def test_client_that_asks_much_and_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_OUTBOX_BYTES", 1 << 20)

    async def scenario(server: ChainServer) -> None:
        # one frame at a time is read ahead, so that the rest must wait in the server
        async with connect(server.endpoint, max_queue=1, max_size=None) as greedy, connect(server.endpoint) as other:
            request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "state_getMetadata", "params": []})
            with contextlib.suppress(ConnectionClosed):
                for _ in range(400):
                    await greedy.send(request)
            with pytest.raises(ConnectionClosed):
                for _ in range(401):
                    await greedy.recv()
            assert "result" in await ask(other, "chain_getHead")

    run_with_server(scenario)


def test_a_shielded_call_gets_its_block_on_demand() -> None:
    """Nobody says anything after the call was sent: what it opens is demand enough."""

    async def body() -> None:
        server = ChainServer(ChainConfig(port=0), on_demand=True)
        await server.start()
        try:
            chain, alice = server.chain, key("//Alice")
            inner = sign(chain, alice, "System.remark", {"remark": b"hidden"}, nonce=1)
            ciphertext = encrypt_mlkem768(public_key(chain.state.seed), inner, include_key_hash=True)
            shielded = sign(chain, alice, "MevShield.submit_encrypted", {"ciphertext": ciphertext})
            async with connect(server.endpoint) as connection:
                await ask(connection, "author_submitExtrinsic", "0x" + shielded.hex())
                while chain.head.number < 2:
                    await asyncio.sleep(0.01)
            assert inner in chain.head.extrinsics and not chain.has_ready
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(body(), 60))


def test_web_pages_are_refused() -> None:
    async def scenario(server: ChainServer) -> None:
        with pytest.raises(InvalidStatus):
            await connect(server.endpoint, origin=Origin("http://example.com"))

    run_with_server(scenario)


def test_stop_does_not_wait_for_a_client_that_never_reads() -> None:
    async def body() -> None:
        server = ChainServer(ChainConfig(port=0, block_time=0.02))
        await server.start()
        port = int(server.endpoint.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = b"dGhlIHNhbXBsZSBub25jZQ=="
        head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(head + b"Sec-WebSocket-Key: " + key + b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait_for(server.stop(), 60)
        writer.close()

    asyncio.run(body())


def test_port_in_use_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error == f"localnet: cannot listen on 127.0.0.1:{port}: the port is in use\n"


def test_bad_settings_are_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "0.0.0.0"]) == 2
    assert main(["--block-time", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("localnet: ") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_announces_itself_and_stops_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "template.localnet", "--port", "0", "--block-time", "0.1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("localnet ready: endpoint ws://127.0.0.1:")
        assert "//Alice 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY holds 1000000 TAO and is sudo" in line
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_operator_s_commands_refuse_what_they_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    address = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    for words in (["faucet", "nobody", "1"], ["faucet", address, "-1"], ["faucet", address, "0.0000000001"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
    for words in (["advance", "0"], ["advance", "many"]):
        with pytest.raises(SystemExit):
            main(words)
    capsys.readouterr()
    assert main(["--export", "/nowhere/snapshot"]) == 2
    assert "--export needs --state" in capsys.readouterr().err
