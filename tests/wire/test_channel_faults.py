"""The work channel over real loopback sockets: liars, sleepers, deaths, restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
import pytest

from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import BlobServer, MemoryStore
from iota_subnet.wire.channel import PATH, ChannelError
from iota_subnet.wire.frames import OVERHEAD_BYTES

from .channelkit import Lease, Miner, Odd, Raw, Receipt, Validator, raw_client
from .kit import eventually, verify

LIMIT = 1 << 16
#: Bytes of a frame around Odd(pad) beside the pad's own, when that needs a 16-bit length.
FRAME_OF_65K = OVERHEAD_BYTES + len(msgspec.msgpack.encode(Odd("x" * 60_000))) - 60_000
Spoil = Callable[[Raw], list[bytes]]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda raw: [raw.frame(Receipt(1))[:-1] + b"\x02"], "bad_signature"),
        (lambda raw: [raw.frame(Receipt(1))] * 2, "replayed"),
        (lambda raw: [raw.frame(Receipt(1)) and raw.frame(Receipt(2))], "gap"),
        (lambda raw: [raw.frame(Odd("x" * 70_000))], "oversize"),
        (lambda raw: [raw.frame(Odd("x" * (LIMIT + 1 - FRAME_OF_65K)))], "oversize"),
        (lambda raw: [raw.writer.seal(b"\xc1garbage")], "bad_body"),
        (lambda raw: [raw.frame(Odd())], "bad_body"),
        (lambda raw: [b"short"], "undersize"),
        (lambda raw: [b""], "undersize"),
    ],
    ids=["tampered", "replayed", "gap", "oversize", "one byte too long", "garbage", "other type", "short", "empty"],
)  # fmt: skip
async def test_a_violation_ends_that_connection_and_no_other(spoil: Spoil, reason: str) -> None:
    async with Validator(max_frame_bytes=LIMIT) as validator, Miner(validator.url, "B").running() as neighbour:
        await neighbour.until("on")
        async with raw_client(validator.url) as raw:
            frames = spoil(raw)
            for data in frames:
                await raw.ws.send_bytes(data)
            code, text = await raw.closing()
        await eventually(lambda: bool(validator.off("A")))
        assert validator.off("A") == [reason]
        assert (code, text) == (4000, reason) or reason == "oversize"
        assert [msg for hotkey, msg in validator.got if hotkey == "A"] == ([Receipt(1)] if reason == "replayed" else [])
        neighbour.channel.send(Receipt(9))
        await eventually(lambda: ("B", Receipt(9)) in validator.got)
        assert validator.channel.connected() == {"B"}


async def test_text_after_the_handshake() -> None:
    async with Validator() as validator, raw_client(validator.url) as raw:
        await raw.ws.send_str("hello")
        assert await raw.closing() == (4000, "not_binary")


async def test_the_client_checks_the_server_too() -> None:
    """A relay in the middle changes one byte of the first frame that comes down."""
    async with Validator() as validator, aiohttp.ClientSession() as session:

        async def relay(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
            down = aiohttp.web.WebSocketResponse()
            await down.prepare(request)
            async with session.ws_connect(validator.url) as up:
                await down.send_bytes((await up.receive()).data)
                await up.send_bytes((await down.receive()).data)
                await down.send_bytes((await up.receive()).data)
                frame = bytearray((await up.receive()).data)
                frame[-1] ^= 1
                await down.send_bytes(bytes(frame))
                await down.receive()
            return down

        middle = BlobServer(MemoryStore(1), "127.0.0.1", 0, "V", verify, extra_routes=[aiohttp.web.get(PATH, relay)])
        async with middle, Miner(middle.url + PATH).running() as miner:
            await miner.until("on")
            await eventually(lambda: validator.channel.send("A", Lease(1)))
            await miner.until("off", "bad_signature")
            assert miner.got == []


async def test_a_handler_that_fails_ends_one_connection() -> None:
    def fails(hotkey: str, msg: Any) -> None:
        raise RuntimeError("bug")

    async with Validator(on_message=fails) as validator, Miner(validator.url, "B").running() as neighbour:
        async with raw_client(validator.url) as raw:
            await raw.ws.send_bytes(raw.frame(Receipt(1)))
            assert await raw.closing() == (4000, "handler_failed")
        await neighbour.until("on")
        assert validator.off("A") == ["handler_failed"] and validator.channel.connected() == {"B"}


async def test_a_message_that_the_layer_above_refuses_ends_the_connection_by_that_name() -> None:
    def refuses(hotkey: str, msg: Any) -> None:
        raise ChannelError("bad_message", "makes no sense")

    async with Validator(on_message=refuses) as validator, raw_client(validator.url) as raw:
        await raw.ws.send_bytes(raw.frame(Receipt(1)))
        assert await raw.closing() == (4000, "bad_message")
        assert validator.off("A") == ["bad_message"]


async def test_a_failing_on_connect_is_contained() -> None:
    def fails(hotkey: str) -> None:
        raise RuntimeError("bug")

    async with Validator(on_connect=fails) as validator, Miner(validator.url).running() as miner:
        await miner.until("off", "peer:handler_failed")
        assert validator.off("A")[0] == "handler_failed"


# ------------------------------------------------------------------------------------- replacement, slowness, deaths


async def test_a_new_connection_replaces_the_old_one() -> None:
    async with Validator() as validator, raw_client(validator.url) as old:
        async with raw_client(validator.url) as new:
            assert await old.closing() == (4000, "replaced")
            await old.ws.close()
            await new.ws.send_bytes(new.frame(Receipt(5)))
            await eventually(lambda: validator.got == [("A", Receipt(5))])
            assert validator.channel.send("A", Lease(1))
            assert new.reader.open((await new.ws.receive()).data) == Lease(1)
            assert validator.events == [("on", "A"), ("off", "A", "replaced"), ("on", "A")]
        await eventually(lambda: len(validator.events) == 4)
        assert validator.events[3][:2] == ("off", "A")


async def test_who_is_replaced_does_not_fight_back() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.Event().wait()

    miner = Miner("", sleep=sleep, backoff=Backoff(1.0, 64.0))
    async with Validator() as validator:
        miner.channel.url = validator.url
        async with miner.running(), raw_client(validator.url, "B"):
            await miner.until("on")
            async with raw_client(validator.url):
                await miner.until("off", "peer:replaced")
                await eventually(lambda: bool(waits))
    assert waits == [32.0]


async def test_a_slow_reader_is_cut_and_delays_nobody() -> None:
    async with Validator(max_queue=50, heartbeat_s=60) as validator, Miner(validator.url, "B").running() as neighbour:
        await neighbour.until("on")
        async with raw_client(validator.url) as raw:
            transport = raw.ws._response.connection.transport  # type: ignore[union-attr]
            transport.pause_reading()  # type: ignore[union-attr]
            sent, slowest = 0, 0.0
            while validator.channel.send("A", Lease(sent, "x" * 100_000)):
                sent += 1
                began = time.perf_counter()
                assert validator.channel.send("B", Lease(sent))
                slowest = max(slowest, time.perf_counter() - began)
                await asyncio.sleep(0)
                assert sent < 2000
            assert validator.channel.connected() == {"B"} and slowest < 0.1
            await eventually(lambda: validator.off("A") == ["overflow"])
            await eventually(lambda: len(neighbour.got) == sent)
            await eventually(lambda: validator.http.connections == 1)
            transport.abort()  # type: ignore[union-attr]


async def test_a_full_queue_is_an_overflow() -> None:
    async with Validator(max_queue=3) as validator, Miner(validator.url).running() as miner:
        await miner.until("on")
        for number in range(9):
            assert validator.channel.send("A", Lease(number, "x" * 1000))
            await eventually(lambda expected=number + 1: len(miner.got) == expected)  # type: ignore[misc]
        assert [validator.channel.send("A", Lease(number)) for number in range(5)] == [True, True, True, False, False]
        await miner.until("off", "peer:overflow")


async def test_what_was_sent_is_no_longer_queued() -> None:
    async with Validator(max_queue_bytes=10_000) as validator, Miner(validator.url).running() as miner:
        await miner.until("on")
        for number in range(5):
            assert validator.channel.send("A", Lease(number, "x" * 6_000))
            await eventually(lambda expected=number + 1: len(miner.got) == expected)  # type: ignore[misc]


async def test_queued_bytes_are_a_limit_too() -> None:
    async with Validator(max_queue_bytes=10_000) as validator, Miner(validator.url).running() as miner:
        await miner.until("on")
        assert validator.channel.send("A", Lease(1, "x" * 6_000))
        assert not validator.channel.send("A", Lease(2, "x" * 6_000))
        await miner.until("off", "peer:overflow")


async def test_a_busy_peer_waits_its_turn() -> None:
    async with Validator(max_rate=100.0) as validator, Miner(validator.url).running() as miner:
        await miner.until("on")
        began = time.perf_counter()
        for number in range(130):
            miner.channel.send(Receipt(number))
        await eventually(lambda: len(validator.got) == 130)
        assert time.perf_counter() - began > 0.25


async def test_a_dead_peer_is_noticed_on_both_sides() -> None:
    """A proxy that swallows everything once told to: no reset, no close, just silence."""
    silent = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not silent.is_set():
                writer.write(data)

    async with Validator(heartbeat_s=0.3) as validator:
        pipes: list[asyncio.StreamWriter] = []

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", validator.http.port)
            pipes.extend((writer, up_writer))
            with suppress(ConnectionError):
                await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
        async with Miner(url, heartbeat_s=0.3).running() as miner:
            await miner.until("on")
            await asyncio.sleep(0.7)
            assert len(miner.events) == 1, "pings keep an idle line alive"
            silent.set()
            began = time.perf_counter()
            await eventually(lambda: len(miner.events) > 1 and bool(validator.off("A")))
            assert time.perf_counter() - began < 1.2
            assert miner.events[1] == ("off", "heartbeat_lost") and validator.off("A") == ["heartbeat_lost"]
        server.close()
        for pipe in pipes:
            pipe.transport.abort()


async def test_reconnects_after_a_restart_of_the_server() -> None:
    first = Validator()
    async with first, Miner(first.url).running() as miner:
        await miner.until("on")
        port = first.http.port
        await first.channel.close()
        await first.http.stop()
        await miner.until("off", "peer:stopped")
        await eventually(lambda: any(event[0] == "failed" for event in miner.events))
        second = Validator()
        second.http.port = port
        async with second:
            await eventually(lambda: miner.events[-1] == ("on",))
            miner.channel.send(Receipt(1))
            await eventually(lambda: second.got == [("A", Receipt(1))])
    reasons = {event[1].partition(":")[0] for event in miner.events if event[0] == "failed"}
    assert reasons == {"unreachable"}


async def test_the_pauses_grow_with_chance_in_them() -> None:
    waits: list[float] = []
    chances = iter([0.0, 0.5, 0.999, 0.0, 0.0])

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            miner.channel.stop()

    miner = Miner("http://127.0.0.1:1/v1/channel", sleep=sleep, jitter=lambda: next(chances), backoff=Backoff(1.0, 6.0))
    await asyncio.wait_for(miner.channel.run(), 5)
    assert waits == pytest.approx([0.5, 1.5, 4.0, 3.0, 3.0], rel=1e-3)
    assert [event[0] for event in miner.events] == ["failed"] * 5


async def test_stop_wakes_a_sleeping_client() -> None:
    miner = Miner("http://127.0.0.1:1/v1/channel", backoff=Backoff(1000.0, 1000.0))
    async with miner.running():
        await eventually(lambda: bool(miner.events))


async def test_a_closed_server_takes_nobody() -> None:
    async with Validator() as validator, aiohttp.ClientSession() as session:
        await validator.channel.close()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(validator.url)
        assert caught.value.status == 503


async def test_cancelling_run_leaves_nothing_behind() -> None:
    async with Validator() as validator:
        miner = Miner(validator.url)
        task = asyncio.create_task(miner.channel.run())
        await miner.until("on")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert miner.events == [("on",), ("off", "stopped")]
        await eventually(lambda: not validator.channel.connected())
