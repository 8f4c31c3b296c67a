"""Signed calls on real loopback sockets: every trap of the SDK that `synapse.py` closes, each by its name."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import bittensor as bt
import pytest
from aiohttp import web

from template.envelope import AXON, DENDRITE, ReplayGuard, parse_head, reply_digest, request_digest
from template.errors import BadReply, PortInUse, Refused, Unreachable
from template.server import Limits
from template.synapse import SignedAxon, SignedDendrite, SignedSynapse

ROOT = Path(__file__).parents[2]


class Ask(SignedSynapse):
    x: int
    note: str = ""
    blob: bytes = b""
    ratio: float = 0.0
    y: int | None = None


class AskTwin(SignedSynapse):
    """The same fields under another name: what is signed for one must not serve for the other."""

    x: int
    note: str = ""
    blob: bytes = b""
    ratio: float = 0.0
    y: int | None = None


class Clock:
    """A clock that a test sets; `offset` seconds from the real one."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class Peers:
    """Alice's axon and Bob's dendrite, and a way to send bytes that no honest dendrite would."""

    def __init__(self, wallets: dict[str, Any], limits: Limits, who: Callable[[str], str | None]) -> None:
        self.wallets = wallets
        self.axon_clock, self.dendrite_clock = Clock(), Clock()
        self.served: list[SignedSynapse] = []
        self.release = asyncio.Event()
        self.hotkey: str = wallets["Alice"].hotkey.ss58_address
        self.axon = SignedAxon(wallets["Alice"], "127.0.0.1", 0, who=who, limits=limits, clock=self.axon_clock)
        self.axon.attach(self.ask).attach(self.ask_twin)
        self.dendrite = SignedDendrite(wallets["Bob"], clock=self.dendrite_clock)
        self.http: aiohttp.ClientSession

    async def ask(self, synapse: Ask) -> Ask:
        self.served.append(synapse)
        if synapse.note == "sleep":
            await self.release.wait()
        if synapse.note == "crash":
            raise ZeroDivisionError("the secret path is /root/key")
        if synapse.note == "refuse":
            raise Refused("not in this phase\nof the moon", 409 if synapse.x else 403)
        synapse.y = synapse.x * 2
        return synapse

    async def ask_twin(self, synapse: AskTwin) -> AskTwin:
        self.served.append(synapse)
        return synapse

    async def call(self, synapse: Any, **changes: Any) -> Any:
        target = {"hotkey": self.hotkey, "ip": "127.0.0.1", "port": self.axon.port, "timeout_s": 5.0} | changes
        return await self.dendrite.call(synapse=synapse, **target)

    async def signed(self, synapse: Any) -> tuple[str, dict[str, str], bytes]:
        """URL, headers and body of a good request, not yet sent."""
        if not self.dendrite._sessions:
            await self.call(Ask(x=0))
            self.served.clear()
        request, url, headers = self.dendrite.prepare(self.hotkey, "127.0.0.1", self.axon.port, synapse, 5.0)
        return url, headers, request.body()

    async def post(self, url: str, headers: dict[str, str], body: Any) -> tuple[int, str]:
        async with self.http.post(url, headers=headers, data=body) as response:
            return response.status, (await response.json(content_type=None)).get("message", "ok")


@pytest.fixture
async def peers_of(wallets) -> AsyncIterator[Callable[..., Any]]:
    made: list[Peers] = []

    async def make(who: Callable[[str], str | None] = lambda hotkey: None, **limits: Any) -> Peers:
        peers = Peers(wallets, Limits(**limits), who)
        await peers.axon.start()
        peers.http = aiohttp.ClientSession()
        made.append(peers)
        return peers

    yield make
    for peers in made:
        peers.release.set()
        await peers.http.close()
        await peers.dendrite.close()
        await peers.axon.stop()


# It is the SDK, and it works


async def test_a_call_over_real_bittensor_classes(peers_of, wallets, address):
    peers = await peers_of()
    synapse = Ask(x=21, note="ü\n", blob=b"\xff\x00", ratio=0.1)
    reply = await peers.call(synapse)
    assert isinstance(reply, Ask) and (reply.y, reply.note, reply.blob, reply.ratio) == (42, "ü\n", b"\xff\x00", 0.1)
    assert synapse.y is None and reply.is_success and reply.axon.hotkey == address["Alice"]
    served = peers.served[-1]
    assert served.dendrite.hotkey == address["Bob"] and served.dendrite.ip == "127.0.0.1"
    assert isinstance(peers.axon, bt.Axon) and isinstance(peers.dendrite.dendrite, bt.Dendrite)
    assert isinstance(reply, bt.Synapse) and peers.axon.info().port == peers.axon.port


async def test_sdk_headers_are_present_and_small(peers_of):
    peers = await peers_of()
    url, headers, body = await peers.signed(Ask(x=1, note="n" * 5000))
    for key in ("hotkey", "nonce", "uuid", "signature", "version"):
        assert f"{DENDRITE}{key}" in headers
    assert headers[f"{AXON}hotkey"] == peers.hotkey and headers["name"] == "Ask" and "computed_body_hash" in headers
    assert sum(len(k) + len(v) for k, v in headers.items()) < 1200
    async with peers.http.post(url, headers=headers, data=body) as response:
        assert response.status == 200 and response.headers[f"{AXON}signature"].startswith("0x")


async def test_trap_an_axon_at_our_own_address_is_called_there(peers_of):
    """SDK: when the target's ip equals the dendrite's external ip, it calls 0.0.0.0 instead."""
    peers = await peers_of()
    peers.dendrite.dendrite.external_ip = "127.0.0.1"
    url, _, _ = await peers.signed(Ask(x=1))
    assert url == f"http://127.0.0.1:{peers.axon.port}/Ask"
    _, url, _ = peers.dendrite.prepare(peers.hotkey, "::1", 9000, Ask(x=1), 5.0)
    assert url == "http://[::1]:9000/Ask"


async def test_many_at_once(peers_of):
    peers = await peers_of()
    replies = await asyncio.gather(*(peers.call(Ask(x=i)) for i in range(16)))
    assert [reply.y for reply in replies] == [2 * i for i in range(16)]


async def test_handlers_run_on_the_caller_s_loop_and_no_thread_is_made(peers_of):
    import threading

    before = set(threading.enumerate())
    peers = await peers_of()
    loops = []

    async def where(synapse: Ask) -> Ask:
        loops.append(asyncio.get_running_loop())
        return synapse

    peers.axon.attach(where)
    await peers.call(Ask(x=1))
    assert loops == [asyncio.get_running_loop()] and set(threading.enumerate()) == before


async def test_latency_below_eight_ms(peers_of):
    """The SDK needs 25 ms, most of it for a schema rebuilt on each call; Nagle's algorithm would cost 40 more."""
    peers = await peers_of()
    times = []
    for i in range(60):
        began = time.perf_counter()
        await peers.call(Ask(x=i))
        times.append(time.perf_counter() - began)
    p50_ms = statistics.median(times) * 1000
    print(f"p50 {p50_ms:.2f} ms")
    assert p50_ms < 8


async def test_the_schema_is_not_rebuilt_per_call(peers_of, monkeypatch):
    peers = await peers_of()
    monkeypatch.setattr(Ask, "model_json_schema", classmethod(lambda cls: pytest.fail("rebuilt")))
    await peers.call(Ask(x=1))


# What is signed


def test_trap_every_declared_field_is_hashed_and_signed():
    """SDK: required_hash_fields is () by default, so the body is not authenticated at all."""

    class Base(SignedSynapse):
        a: int = 1

    class Derived(Base):
        b: str = ""

    assert Derived.required_hash_fields == ("a", "b") and bt.Synapse.required_hash_fields == ()
    plain = Derived(a=1, b="x")
    for other in (Derived(a=2, b="x"), Derived(a=1, b="y"), Base(a=1)):
        assert other.body_hash != plain.body_hash
    assert Derived(a=1, b="x").body_hash == plain.body_hash


async def test_trap_a_tampered_body_is_refused(peers_of):
    peers = await peers_of()
    for field, value in {"x": 41, "note": "n", "blob": "AAAA", "ratio": 2.0, "y": 1}.items():
        url, headers, body = await peers.signed(Ask(x=1))
        forged = json.dumps(json.loads(body) | {field: value}).encode()
        headers.pop("content-length", None)
        status, message = await peers.post(url, headers, forged)
        assert status == 401 and "not what the caller signed" in message
    assert peers.served == []


async def test_a_request_for_one_synapse_does_not_serve_for_another(peers_of):
    peers = await peers_of()
    url, headers, body = await peers.signed(Ask(x=1))
    assert (await peers.post(url.replace("/Ask", "/AskTwin"), headers, body))[0] == 401
    assert peers.served == []


@pytest.mark.parametrize("key", ["nonce", "hotkey", "uuid", "signature"])
async def test_a_tampered_header_is_refused(peers_of, address, key):
    peers = await peers_of()
    url, headers, body = await peers.signed(Ask(x=1))
    other = {
        "nonce": str(time.time_ns()),
        "hotkey": address["Charlie"],
        "uuid": "0" * 32,
        "signature": "0x" + "11" * 64,
    }
    status, message = await peers.post(url, headers | {f"{DENDRITE}{key}": other[key]}, body)
    assert status == 401 and "signature" in message and peers.served == []


async def test_the_receiver_is_bound(peers_of, wallets, address):
    peers = await peers_of()
    with pytest.raises(BadReply, match="not signed by"):
        await peers.call(Ask(x=1), hotkey=address["Charlie"])  # Charlie's name, Alice's address
    url, headers, body = await peers.signed(Ask(x=1))
    status, message = await peers.post(url, headers | {f"{AXON}hotkey": address["Charlie"]}, body)
    assert status == 401 and "this is the axon of" in message and peers.served == []


# Freshness and replay


async def test_trap_a_replay_is_refused(peers_of):
    peers = await peers_of()
    url, headers, body = await peers.signed(Ask(x=1))
    assert await peers.post(url, headers, body) == (200, "ok")
    status, message = await peers.post(url, headers, body)
    assert status == 401 and "replay" in message and len(peers.served) == 1


async def test_trap_a_replay_after_a_restart_is_refused(peers_of):
    """SDK: nonces live in memory, so a restart forgets them. Here even a request from the future's clock is refused."""
    peers = await peers_of()
    peers.dendrite_clock.offset = 20.0  # ahead, so that its requests outlive the restart by any clock
    url, headers, body = await peers.signed(Ask(x=1))
    assert (await peers.post(url, headers, body))[0] == 200
    await peers.axon.stop()
    await peers.axon.start()
    assert (await peers.post(url, headers, body))[0] == 409
    moved = headers | {f"{AXON}uuid": peers.axon.uuid}  # naming the new session does not help: it is signed
    status, message = await peers.post(url, moved, body)
    assert status == 401 and "session" in message and len(peers.served) == 1


async def test_an_honest_caller_survives_the_restart_unaware(peers_of):
    peers = await peers_of()
    assert (await peers.call(Ask(x=1))).y == 2
    await peers.axon.stop()
    await peers.axon.start()
    assert (await peers.call(Ask(x=2))).y == 4
    assert len(peers.served) == 2


async def test_trap_raised_timeout_and_lowered_version_headers_change_nothing(peers_of):
    """SDK: the window is 4 s + the unsigned `timeout` header, and version < 7.2 switches it off."""
    peers = await peers_of(window_s=5.0)
    url, headers, body = await peers.signed(Ask(x=1))
    peers.axon_clock.offset = 29.0
    for trick in ({}, {"timeout": "9999"}, {f"{DENDRITE}version": "1"}, {"timeout": "9999", f"{DENDRITE}version": "1"}):
        status, message = await peers.post(url, headers | trick, body)
        assert status == 401 and "your clock is 29 s behind mine, 5 s are allowed" in message
    assert peers.served == []


async def test_trap_a_far_future_nonce_is_refused(peers_of):
    """SDK: no upper bound, and one such nonce locks out the caller's later requests."""
    peers = await peers_of()
    assert (await peers.call(Ask(x=1))).y == 2
    peers.dendrite_clock.offset = 3600.0
    with pytest.raises(Refused, match=r"your clock is 3[56]\d\d s ahead of mine, 30 s are allowed; set it"):
        await peers.call(Ask(x=1))
    peers.dendrite_clock.offset = 0.0
    assert (await peers.call(Ask(x=3))).y == 6


def test_the_guard_forgets_what_is_stale_and_is_bounded():
    """SDK: `axon.nonces` and `synapse_history` grow for ever."""
    second = 10**9
    guard = ReplayGuard(window_s=10, per_caller_max=5, callers_max=3)
    for i in range(5):
        guard.admit("a", f"id{i}", i * second, i * second)
    with pytest.raises(Refused, match="too many requests"):
        guard.admit("a", "id5", 5 * second, 5 * second)
    guard.admit("b", "id0", 5 * second, 5 * second)  # another member is not affected
    guard.admit("a", "id5", 16 * second, 16 * second)  # the first ones are stale and gone
    guard.admit("b", "id1", 16 * second, 16 * second)
    guard.admit("c", "x", 16 * second, 16 * second)
    with pytest.raises(Refused, match="different callers"):
        guard.admit("d", "x", 16 * second, 16 * second)
    guard.admit("d", "x", 99 * second, 99 * second)
    assert guard.size == 1


async def test_histories_are_bounded(peers_of):
    peers = await peers_of()
    for i in range(5):
        await peers.call(Ask(x=i))
    assert len(peers.axon.nonces) == 0 and peers.dendrite.dendrite.synapse_history.maxlen == 100
    assert peers.axon.signed.guard.size == 5 and not peers.axon.signed.in_flight


# Size, time and load


async def test_trap_an_oversize_body_is_refused_before_it_is_read(peers_of):
    """SDK: no limit; the whole body is buffered and parsed."""
    peers = await peers_of(max_body_bytes=4096)
    with pytest.raises(Refused, match="larger than 4096 bytes") as caught:
        await peers.call(Ask(x=1, note="n" * 5000))
    assert caught.value.status == 413 and peers.served == []


async def test_trap_an_oversize_chunked_body_is_cut_off(peers_of):
    peers = await peers_of(max_body_bytes=4096)
    url, headers, _ = await peers.signed(Ask(x=1))
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 1000
            yield b"x" * 1000
            await asyncio.sleep(0)

    try:
        status, message = await peers.post(url, headers, endless())
        assert status == 413 and "larger than 4096" in message
    except aiohttp.ClientError:
        pass  # the connection may be closed before our side has read the refusal
    assert sent < 50_000_000 and peers.served == []


async def test_a_body_that_dawdles_is_cut_off(peers_of):
    peers = await peers_of(body_timeout_s=0.05)
    url, headers, _ = await peers.signed(Ask(x=1))
    hold = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.wait_for(hold.wait(), 5)

    sending = asyncio.create_task(peers.post(url, headers, slow()))
    status, message = await asyncio.wait_for(sending, 4)
    hold.set()
    assert status == 408 and "within 0.05 s" in message and peers.axon.signed.in_flight.total() == 0


async def test_headers_that_dawdle_are_cut_off(peers_of, monkeypatch):
    monkeypatch.setattr("template.server.HEADER_TIMEOUT_S", 0.05)
    peers = await peers_of()
    for opening in (b"", b"POST /Ask HTTP/1.1\r\nhost: x\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", peers.axon.port)
        writer.write(opening)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    assert (await peers.call(Ask(x=1))).y == 2


async def test_a_slow_handler_is_cut_off(peers_of):
    peers = await peers_of(handler_timeout_s=0.05)
    with pytest.raises(Refused, match=r"not done within 0\.05 s") as caught:
        await peers.call(Ask(x=1, note="sleep"))
    assert caught.value.status == 504 and (await peers.call(Ask(x=1))).y == 2


async def test_concurrency_is_bounded_per_caller_and_in_all(peers_of):
    peers = await peers_of(in_flight_max=3, in_flight_per_caller_max=2)
    open_calls = [asyncio.create_task(peers.call(Ask(x=1, note="sleep"))) for _ in range(2)]
    while len(peers.served) < 2:
        await asyncio.sleep(0.005)
    with pytest.raises(Refused, match="too many of your requests"):
        await peers.call(Ask(x=1))
    peers.axon.signed.in_flight["other"] = 1
    with pytest.raises(Refused, match="busy"):
        await peers.call(Ask(x=1))
    for call in open_calls:
        call.cancel()
    await asyncio.gather(*open_calls, return_exceptions=True)


# Who may call, and what refusals say


async def test_an_unknown_caller_is_refused_with_the_reason(peers_of, address):
    asked = []

    def who(hotkey: str) -> str | None:
        asked.append(hotkey)
        return "not registered in subnet 1"

    peers = await peers_of(who=who)
    with pytest.raises(Refused, match="not registered in subnet 1") as caught:
        await peers.call(Ask(x=1))
    assert caught.value.status == 403 and asked == [address["Bob"]] and peers.served == []


async def test_trap_who_is_asked_only_about_verified_callers(peers_of, address):
    """SDK: the blacklist runs before the signature is checked, with the claimed hotkey."""
    asked = []
    peers = await peers_of(who=lambda hotkey: asked.append(hotkey))
    url, headers, body = await peers.signed(Ask(x=1))
    asked.clear()
    await peers.post(url, headers | {f"{DENDRITE}hotkey": address["Charlie"]}, body)
    assert asked == []


async def test_only_attached_classes_are_served(peers_of):
    """SDK: every axon also serves an unsigned ping, and the schema of its API."""
    peers = await peers_of()
    base = f"http://127.0.0.1:{peers.axon.port}"
    for path in ("/Synapse", "/docs", "/openapi.json", "/", "/Ask/x"):
        assert (await peers.post(base + path, {}, b"{}"))[0] == 404
    assert (await peers.post(f"{base}/Ask", {}, b"{}"))[0] == 400
    async with peers.http.get(f"{base}/Ask") as response:
        assert response.status == 405 and "server" not in response.headers


async def test_trap_errors_do_not_leak(peers_of):
    """SDK: error strings and the signed message go back to the caller."""
    peers = await peers_of()
    with pytest.raises(Refused) as caught:
        await peers.call(Ask(x=1, note="crash"))
    assert re.fullmatch(r"internal error, incident [0-9a-f]{8}", caught.value.reason) and caught.value.status == 500


async def test_a_handler_s_refusal_reaches_the_caller_on_one_line(peers_of):
    peers = await peers_of()
    with pytest.raises(Refused) as caught:
        await peers.call(Ask(x=0, note="refuse"))
    assert caught.value.reason == "not in this phase of the moon" and caught.value.status == 403


async def test_a_handler_that_refuses_with_409_is_not_asked_twice(peers_of):
    peers = await peers_of()
    with pytest.raises(Refused) as caught:
        await peers.call(Ask(x=1, note="refuse"))
    assert caught.value.status == 409 and len(peers.served) == 1


@pytest.mark.parametrize(
    "body",
    [b"[1]", b"{", b"null", b'"x"', b"{}", b'{"x":"y"}', b'{"x":1,"z":2}', b'{"x":1,"ratio":NaN}', b"[" * 4000,
     b'{"x":1,"timeout":99}', b'{"x":1,"dendrite":{"hotkey":"me"}}', b'{"x":1,"axon":null}', b"\xff", b"",
     b'{"x":1,"blob":"%%"}', b'{"x":1e999}'],
)  # fmt: skip
async def test_a_signed_body_that_is_no_synapse_gets_a_named_reason(peers_of, wallets, body):
    peers = await peers_of()
    await peers.signed(Ask(x=1))

    class Forged(Ask):
        def body(self) -> bytes:
            return body

    Forged.__name__ = "Ask"
    with pytest.raises(Refused) as caught:
        await peers.call(Forged(x=1))
    assert caught.value.status == 422 and caught.value.reason.startswith("bad Ask: ") and peers.served == []


@pytest.mark.parametrize(
    "headers",
    [
        [(b"bt_header_axon_hotkey", b"x")],
        [(b"a", b"1"), (b"A", b"1")],
        [(b"bt_header_dendrite_hotkey", b"\xff" * 48)],
        [(b"content-length", b"-1")],
        [],
    ],
)
def test_misshapen_headers_are_refused(headers):
    with pytest.raises(Refused) as caught:
        parse_head("Ask", headers)
    assert caught.value.status == 400


def test_digests_tell_their_parts_apart():
    made = {request_digest("A", "s", b"b"), request_digest("As", "", b"b"), request_digest("A", "", b"sb"),
            reply_digest("A", "s", 200, "", b"b"), reply_digest("A", "s", 20, "0", b"b")}  # fmt: skip
    assert len(made) == 5


# Replies


@pytest.fixture
async def middle(peers_of) -> AsyncIterator[Any]:
    """A man in the middle between Bob and Alice; `edit` gets and returns (status, headers, body) of each reply."""
    peers = await peers_of()

    class Middle:
        port = 0
        edit: Callable[..., Any] = staticmethod(lambda status, headers, body: (status, headers, body))

        async def relay(self, request: web.Request) -> web.Response:
            body = await request.read()
            url = f"http://127.0.0.1:{peers.axon.port}{request.path}"
            async with peers.http.post(url, headers=request.headers, data=body) as response:
                status, headers, reply = self.edit(response.status, dict(response.headers), await response.read())
            headers.pop("Content-Length", None)
            headers.pop("content-length", None)
            return web.Response(status=status, headers=headers, body=reply)

    man = Middle()
    man.peers = peers
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", man.relay)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    man.port = site._server.sockets[0].getsockname()[1]
    yield man
    await runner.cleanup()


async def test_trap_a_reply_altered_by_a_man_in_the_middle_is_not_believed(middle):
    """SDK: replies are neither signed nor verified."""
    peers = middle.peers
    assert (await peers.call(Ask(x=1), port=middle.port)).y == 2
    edits = {
        "body": lambda status, headers, body: (status, headers, body.replace(b'"y":2', b'"y":3')),
        "status": lambda status, headers, body: (403, headers, body),
        "message": lambda status, headers, body: (403, headers, b'{"message":"go away"}'),
        "session": lambda status, headers, body: (status, headers | {f"{AXON}uuid": "0" * 32}, body),
        "unsigned": lambda status, headers, body: (status, {"content-type": "application/json"}, body),
        "nonce": lambda status, headers, body: (status, headers | {f"{AXON}nonce": "x"}, body),
        "huge": lambda status, headers, body: (status, headers, b"x" * (3 << 20)),
        "redirect": lambda status, headers, body: (307, headers | {"Location": "http://127.0.0.1:9/"}, b""),
    }
    for name, edit in edits.items():
        middle.edit = edit
        with pytest.raises(BadReply):
            await peers.call(Ask(x=1), port=middle.port)
            pytest.fail(name)


async def test_a_reply_to_another_request_is_not_believed(middle):
    kept: list[Any] = []

    def keep_first(*reply: Any) -> Any:
        kept.append(reply)
        return kept[0]

    peers = middle.peers
    await peers.call(Ask(x=1))
    middle.edit = keep_first
    assert (await peers.call(Ask(x=1), port=middle.port)).y == 2
    with pytest.raises(BadReply):
        await peers.call(Ask(x=1), port=middle.port)


async def test_a_signed_reply_of_the_wrong_shape_is_a_bad_reply(peers_of, monkeypatch):
    """A dishonest axon may sign nonsense; its signature does not make it an Ask."""
    peers = await peers_of()

    async def nonsense(*_: Any) -> bytes:
        return b'{"x":"no number"}'

    await peers.call(Ask(x=1))
    monkeypatch.setattr(peers.axon.signed, "_handle", nonsense)
    with pytest.raises(BadReply, match="no Ask: x: "):
        await peers.call(Ask(x=1))


async def test_nobody_there_is_unreachable(peers_of):
    peers = await peers_of()
    await peers.axon.stop()
    with pytest.raises(Unreachable, match="cannot be reached"):
        await peers.call(Ask(x=1))


async def test_silence_is_unreachable_in_time(peers_of):
    peers = await peers_of()
    await peers.call(Ask(x=1))
    with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s"):
        await peers.call(Ask(x=1, note="sleep"), timeout_s=0.05)


# Addresses


async def test_trap_it_binds_exactly_the_address_given(peers_of):
    """SDK: uvicorn binds 0.0.0.0 whatever `ip=` says."""
    peers = await peers_of()
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{peers.axon.port:04X}" in listening and f"00000000:{peers.axon.port:04X}" not in listening


async def test_a_taken_port_is_a_clear_error(peers_of, wallets):
    peers = await peers_of()
    second = SignedAxon(wallets["Bob"], "127.0.0.1", peers.axon.port, who=lambda hotkey: None)
    with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{peers.axon.port}: another program is listening"):
        await second.start()
    with pytest.raises(PortInUse, match=r"cannot listen on 192\.0\.2\.1"):
        await SignedAxon(wallets["Bob"], "192.0.2.1", 0, who=lambda hotkey: None).start()
    await second.stop()


async def test_stop_and_start_on_the_same_port(peers_of):
    peers = await peers_of()
    port = peers.axon.port
    await peers.axon.stop()
    await peers.axon.stop()
    await peers.axon.start()
    assert peers.axon.port == port and (await peers.call(Ask(x=1))).y == 2


async def test_trap_no_external_ip_lookup(wallets, monkeypatch):
    """SDK: Dendrite() always asks public sites for our address, Axon() too unless told; offline that raises."""
    import bittensor.utils.networking as networking

    def lookup() -> str:
        raise AssertionError("asked a public site")

    monkeypatch.setattr(networking, "get_external_ip", lookup)
    monkeypatch.setattr(bt.Dendrite, "__del__", lambda self: None)  # it would fail on the half-made object
    with pytest.raises(AssertionError, match="public site"):
        bt.Dendrite(wallets["Bob"])
    axon = SignedAxon(wallets["Alice"], "127.0.0.1", 0, who=lambda hotkey: None)
    dendrite = SignedDendrite(wallets["Bob"])
    assert axon.external_ip == "127.0.0.1"
    named = SignedAxon(wallets["Alice"], "0.0.0.0", 9000, "203.0.113.7", 9001, who=lambda hotkey: None)
    assert (named.external_ip, named.external_port, named.port) == ("203.0.113.7", 9001, 9000)
    await dendrite.close()


def test_attach_says_what_is_wrong(wallets):
    axon = SignedAxon(wallets["Alice"], "127.0.0.1", 0, who=lambda hotkey: None)

    async def unannotated(synapse):
        return synapse

    async def unsigned(synapse: bt.Synapse) -> bt.Synapse:
        return synapse

    def blocking(synapse: Ask) -> Ask:
        return synapse

    for handler in (unannotated, unsigned, blocking):
        with pytest.raises(TypeError):
            axon.attach(handler)
    with pytest.raises(TypeError, match="who="):
        axon.attach(unannotated, blacklist_fn=lambda synapse: (False, ""))
    assert set(axon.attach(unannotated, synapse_type=Ask).forward_fns) == {"Ask"}


def test_import_cost_fits_beside_torch():
    """A miner with torch and the SDK must start in 8 s of CPU and 450 MB of memory."""
    code = (
        "import torch, template.synapse, template.subtensor, template.base, bittensor, resource, sys;"
        "use = resource.getrusage(resource.RUSAGE_SELF); lines = open('/proc/self/status').read().splitlines();"
        # Not ru_maxrss: Linux hands the parent's peak on to a child, and pytest's is large by now.
        "peak = next(line.split()[1] for line in lines if line.startswith('VmHWM'));"
        "print(use.ru_utime + use.ru_stime, int(peak) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=ROOT)
    cpu_s, rss_mb = done.stdout.split()
    print(f"torch + template + bittensor: {cpu_s} s CPU, {rss_mb} MB")
    assert float(cpu_s) < 8 and int(rss_mb) < 450
