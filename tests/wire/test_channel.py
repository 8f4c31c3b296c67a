"""The work channel over real loopback sockets: honest peers and handshakes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from iota_subnet.wire.channel import ChannelError

from .channelkit import Lease, Miner, Receipt, Validator
from .kit import eventually, signer


async def test_messages_go_both_ways_in_order() -> None:
    async with Validator() as validator, Miner(validator.url).running() as miner:
        await miner.until("on")
        assert miner.channel.connected and validator.channel.connected() == {"A"}
        assert all(validator.channel.send("A", Lease(number)) for number in range(100))
        assert all(miner.channel.send(Receipt(number)) for number in range(100))
        await eventually(lambda: len(miner.got) == len(validator.got) == 100)
        assert miner.got == [Lease(number) for number in range(100)]
        assert validator.got == [("A", Receipt(number)) for number in range(100)]
        assert not validator.channel.send("B", Lease(1))
        with pytest.raises(TypeError, match="Receipt is not a message of this direction"):
            validator.channel.send("A", Receipt(1))
        with pytest.raises(ChannelError, match="oversize"):
            validator.channel.send("A", Lease(1, "x" * (1 << 20)))
        assert validator.channel.connected() == {"A"}
    assert validator.events == [("on", "A"), ("off", "A", "peer:stopped")]
    assert miner.events == [("on",), ("off", "stopped")]
    assert not miner.channel.connected and not miner.channel.send(Receipt(1))


async def test_many_miners() -> None:
    async with Validator(max_greetings_per_address=99) as validator:
        miners = [Miner(validator.url, f"M{number}") for number in range(30)]
        tasks = [asyncio.create_task(miner.channel.run()) for miner in miners]
        await eventually(lambda: len(validator.channel.connected()) == 30)
        for number in range(30):
            validator.channel.send(f"M{number}", Lease(number))
        await eventually(lambda: all(miner.got == [Lease(number)] for number, miner in enumerate(miners)))
        for miner in miners:
            miner.channel.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        await eventually(lambda: not validator.channel.connected())


async def test_the_server_can_send_from_on_connect_and_cut() -> None:
    validator: Validator = Validator(on_connect=lambda hotkey: validator.channel.send(hotkey, Lease(1)))
    async with validator, Miner(validator.url).running() as miner:
        await eventually(lambda: miner.got == [Lease(1)])
        assert validator.channel.disconnect("A", "deregistered") and not validator.channel.disconnect("A", "again")
        assert not validator.channel.connected() and not validator.channel.send("A", Lease(2))
        await miner.until("off", "peer:deregistered")
        assert validator.off("A") == ["deregistered"] and not validator.channel.disconnect("B", "never was")


async def test_real_sr25519() -> None:
    wallet = pytest.importorskip("bittensor_wallet")
    alice, bob = wallet.Keypair.create_from_uri("//Alice"), wallet.Keypair.create_from_uri("//Bob")

    def real(hotkey: str, data: bytes, signature: bytes) -> bool:
        return bool(wallet.Keypair(ss58_address=hotkey).verify(data, signature))

    validator = Validator(hotkey=alice.ss58_address, sign=alice.sign, verify=real)
    keys = {"server_hotkey": alice.ss58_address, "verify": real}
    async with validator, Miner(validator.url, bob.ss58_address, sign=bob.sign, **keys).running() as miner:
        await miner.until("on")
        validator.channel.send(bob.ss58_address, Lease(1))
        miner.channel.send(Receipt(1))
        await eventually(lambda: miner.got == [Lease(1)] and validator.got == [(bob.ss58_address, Receipt(1))])
        async with Miner(validator.url, alice.ss58_address, sign=bob.sign, **keys).running() as thief:
            await thief.until("failed", "peer:bad_signature")
        async with Miner(validator.url, "garbage", sign=bob.sign, **keys).running() as thief:
            await thief.until("failed", "peer:bad_signature")
        assert validator.channel.connected() == {bob.ss58_address}


# ------------------------------------------------------------------------------------------------------- handshakes


async def test_refused_handshakes_say_why() -> None:
    async with Validator() as validator:
        validator.refusals["S"] = "not registered on netuid 7"
        cases: list[tuple[dict[str, Any], str]] = [
            ({"hotkey": "S"}, "refused: not registered on netuid 7"),
            ({"server_hotkey": "W"}, "wrong_server: V answered where W was expected"),
            ({"spec_digest": "other"}, "wrong_spec: the server runs spec spec, this side other; join again"),
            ({"sign": signer("B")}, "peer:bad_signature"),
        ]
        for options, reason in cases:
            async with Miner(validator.url, **options).running() as miner:
                await miner.until("failed", reason)
        assert validator.events == []


async def test_a_server_with_a_stolen_name_is_left() -> None:
    async with Validator(sign=signer("W")) as validator, Miner(validator.url).running() as miner:
        await eventually(lambda: any(event[0] == "failed" for event in miner.events))
        assert miner.events[0][1].startswith("bad_signature") and not miner.got


@pytest.mark.parametrize("send", ["garbage", "text", "too much", "nothing"])
async def test_strangers(send: str) -> None:
    async with Validator(handshake_s=0.2) as validator, aiohttp.ClientSession() as session:
        async with session.ws_connect(validator.url) as ws:
            await ws.receive()
            if send == "text":
                await ws.send_str("hello")
            elif send != "nothing":
                await ws.send_bytes(b"\xc1" * (10 if send == "garbage" else 1 << 21))
            expected = {"text": "not_binary", "nothing": "handshake_timeout", "garbage": "bad_handshake"}.get(send)
            with suppress(ConnectionError):
                msg = await ws.receive(timeout=5)
                assert msg.type is not WSMsgType.BINARY
                assert expected is None or msg.extra == expected
        assert validator.events == []


async def test_strangers_cannot_take_all_places() -> None:
    async with Validator(max_greetings_per_address=2, handshake_s=0.3) as validator, aiohttp.ClientSession() as session:
        idle = [await session.ws_connect(validator.url) for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(validator.url)
        assert caught.value.status == 503
        async with Miner(validator.url).running() as miner:
            await miner.until("on")
        for ws in idle:
            await ws.close()


async def test_plain_http_is_told_to_upgrade() -> None:
    async with Validator() as validator, aiohttp.ClientSession() as session, session.get(validator.url) as response:
        assert response.status == 426 and await response.json() == {"error": "websocket_needed"}


async def test_a_fault_in_who_ends_only_that_handshake() -> None:
    def who(hotkey: str) -> str | None:
        if hotkey == "B":
            raise RuntimeError("no metagraph")
        return None

    async with Validator(who=who) as validator, Miner(validator.url).running() as miner:
        await miner.until("on")
        async with Miner(validator.url, "B").running() as other:
            await other.until("failed", "peer:internal_error")
        assert validator.channel.connected() == {"A"}


def test_coroutine_callbacks_are_refused() -> None:
    async def later(*_: object) -> None: ...

    with pytest.raises(TypeError, match="on_message must be a plain function"):
        Validator(on_message=later)
