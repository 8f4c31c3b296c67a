"""The border: what a stranger says becomes one bounded event, or one named refusal that costs nobody else anything."""

from __future__ import annotations

from typing import Any

import pytest

from iota_subnet import SPEC_VERSION
from iota_subnet import messages as m
from iota_subnet.core import events as e
from iota_subnet.core.actions import Action
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.protocol import Join, Leave, Standing
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.validator.gateway import STARTING, Gateway
from iota_subnet.wire.channel import ChannelError

from .kit import NOW, digest, hotkey, small_spec, started

SPEC = small_spec(max_miners=2)
A, B, C = hotkey("A"), hotkey("B"), hotkey("C")
D = digest("a blob")
HERE = "http://10.0.0.7:81"


#: The only signature that counts here.
SIGNED = bytes(range(64))


class Border:
    """A gateway before a real core; `chain` is what the metagraph says."""

    def __init__(self) -> None:
        self.core = Orchestrator(SPEC)
        self.events: list[e.Event] = []
        self.obeyed: list[Any] = []
        self.relays = True
        self.chain = {A: "10.0.0.7", B: "10.0.0.7", C: "10.0.0.7"}
        self.gateway = Gateway(
            SPEC, lambda: "http://v:1/v1/channel", self.core.state.miners.get, self.chain.get, self.post, lambda: NOW,
            lambda: self.core.state, lambda hotkey, data, signature: signature == SIGNED,
            lambda hotkey: f"http://v:1/v1/relay/{hotkey}" if self.relays else "",
            lambda hotkey, message: self.obeyed.append((hotkey, message)),
        )  # fmt: skip
        self.gateway.opened = True
        self.core.handle(started(SPEC))
        self.core.handle(
            e.MinerJoined(at=NOW, hotkey=A, boot="12345678", axon="127.0.0.1:8", data_url="http://127.0.0.1:9")
        )

    def post(self, event: e.Event) -> list[Action]:
        self.events.append(event)
        return self.core.handle(event)

    async def join(self, who: str = B, source: str = "10.0.0.7", **fields: Any) -> Join:
        given = {"spec_version": SPEC_VERSION, "boot": "12345678", "axon_ip": "10.0.0.7", "axon_port": 80}
        synapse = Join(**(given | {"data_url": HERE, "threads": 1} | fields))
        synapse.set_terminals({"hotkey": who, "ip": source}, {})
        return await self.gateway.join(synapse)

    def say(self, message: m.FromMiner) -> e.Event:
        self.gateway.message(A, message)
        return self.events[-1]


@pytest.fixture
def border() -> Border:
    return Border()


async def test_a_join_is_answered_with_the_run_and_the_channel(border: Border) -> None:
    reply = await border.join()
    assert reply.accepted and reply.reason == ""
    assert RunSpec.from_json(reply.spec) == SPEC and reply.channel_url == "http://v:1/v1/channel"
    assert border.events == [e.MinerJoined(at=NOW, hotkey=B, boot="12345678", axon="10.0.0.7:80", data_url=HERE)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"spec_version": SPEC_VERSION + 1}, "install the same release"),
        ({"data_url": "http://10.0.0.8:81"}, "same IP address as the axon"),
        ({"data_url": "http://10.0.0.7.evil.example:81"}, "same IP address"),
        ({"data_url": "http://10.0.0.7"}, "http://IP:PORT"),
        ({"data_url": "http://10.0.0.7:99999"}, "http://IP:PORT"),
        ({"data_url": "http://[10.0.0.7"}, "http://IP:PORT"),
        ({"axon_ip": "localhost", "data_url": "http://localhost:81"}, "http://IP:PORT"),
        ({"axon_ip": "169.254.169.254", "data_url": "http://169.254.169.254:80"}, "nor the one that the chain knew"),
    ],
)
async def test_a_join_that_cannot_be_is_refused_with_a_reason_and_not_journaled(
    border: Border, fields: dict[str, Any], words: str
) -> None:
    reply = await border.join(**fields)
    assert not reply.accepted and words in reply.reason
    assert reply.spec == "" and border.events == []


async def test_the_address_a_miner_calls_from_is_as_good_as_the_one_on_chain(border: Border) -> None:
    border.chain[B] = "0.0.0.0"
    assert (await border.join(source="10.0.0.7")).accepted
    assert not (await border.join(source="10.9.9.9")).accepted


async def test_who_names_no_address_is_relayed_or_told_that_nothing_is(border: Border) -> None:
    nowhere = {"axon_ip": "", "axon_port": 0, "data_url": ""}
    assert (await border.join(source="192.0.2.1", **nowhere)).accepted
    joined = border.events[-1]
    assert isinstance(joined, e.MinerJoined)
    assert (joined.axon, joined.data_url) == ("", f"http://v:1/v1/relay/{B}")
    assert "or no axon" in (await border.join(data_url="")).reason
    assert "--blobs.bucket" not in (await border.join(axon_port=0)).reason
    border.relays = False
    assert "relays nothing; open a port" in (await border.join(**nowhere)).reason


FOLDER = f"{B}/{'0a' * 16}"
PORTLESS = {"axon_ip": "", "axon_port": 0}


@pytest.mark.parametrize(
    "base", ["https://b.s3.eu-west-1.amazonaws.com", "https://pub.example.org/a/b-c", "http://192.0.2.1:9000/bucket"]
)
async def test_a_bucket_is_where_a_miner_without_a_port_says(border: Border, base: str) -> None:
    assert (await border.join(source="192.0.2.1", data_url=f"{base}/{FOLDER}", **PORTLESS)).accepted
    joined = border.events[-1]
    assert isinstance(joined, e.MinerJoined) and (joined.axon, joined.data_url) == ("", f"{base}/{FOLDER}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"https://host.example/{A}/{'0a' * 16}", "/HOTKEY/"),
        (f"https://host.example/{FOLDER}/", "/HOTKEY/"),
        (f"https://host.example/{B}/{'0a' * 15}", "/HOTKEY/"),
        (f"https://host.example/{B}/../{FOLDER}?x", "/HOTKEY/"),
        (f"https://user:pass@host.example/{FOLDER}", "/HOTKEY/"),
        (f"https://host.example/{'x' * 100}/{FOLDER}", "200 characters"),
        (f"http://host.example/{FOLDER}", "by https at a public name"),
        (f"https://host.example:22/{FOLDER}", "on the usual port"),
        (f"https://localhost/{FOLDER}", "public name"),
        (f"https://router.local/{FOLDER}", "public name"),
        (f"https://127.1/{FOLDER}", "public name"),
        (f"https://10.0x1/{FOLDER}", "public name"),
        (f"https://bucket.localhost./{FOLDER}", "public name"),
        (f"http://192.0.2.9/{FOLDER}", "must be at your own"),
        (f"https://169.254.169.254/{FOLDER}", "must be at your own"),
        (f"http://[::1]/{FOLDER}", "must be at your own"),
    ],
)
async def test_a_bucket_that_would_make_others_call_somebody_is_refused(border: Border, url: str, words: str) -> None:
    # The fields are looked at here; what the protocol itself refuses does not come this far.
    synapse = Join.model_construct(
        spec_version=SPEC_VERSION, boot="12345678", threads=1, accepted=False, reason="", data_url=url, **PORTLESS
    )
    synapse.set_terminals({"hotkey": B, "ip": "192.0.2.1"}, {})
    reply = await border.gateway.join(synapse)
    assert not reply.accepted and words in reply.reason and border.events == []


async def test_a_bucket_needs_a_validator_that_relays_what_is_not_in_it(border: Border) -> None:
    border.relays = False
    reply = await border.join(data_url=f"https://host.example/{FOLDER}", **PORTLESS)
    assert not reply.accepted and "relays nothing" in reply.reason


def test_the_answer_to_an_order_is_not_for_the_core(border: Border) -> None:
    told = m.Obeyed(3, True, "")
    border.gateway.message(A, told)
    assert border.obeyed == [(A, told)] and border.events == []


async def test_a_full_house_is_said(border: Border) -> None:
    assert (await border.join(B)).accepted
    reply = await border.join(C)
    assert not reply.accepted and reply.reason.startswith("all 2 seats are taken; you are number 1 in the line")


async def test_who_is_not_registered_is_not_served(border: Border) -> None:
    assert border.gateway.who(A) is None
    assert "not registered" in str(border.gateway.who(hotkey("stranger")))


async def test_nobody_comes_in_before_the_run_has_begun_again(border: Border) -> None:
    border.gateway.opened = False
    assert border.gateway.who(A) == border.gateway.admits(A) == STARTING


def test_only_who_has_a_seat_gets_a_work_channel(border: Border) -> None:
    assert border.gateway.admits(A) is None
    assert border.gateway.admits(B) == "join first"


async def test_leaving_frees_the_seat_and_without_one_is_not_journaled(border: Border) -> None:
    for who in (B, A, A):
        synapse = Leave(reason="done")
        synapse.set_terminals({"hotkey": who}, {})
        assert (await border.gateway.leave(synapse)).accepted
    assert border.events == [e.MinerLeft(at=NOW, hotkey=A)]


async def test_a_standing_is_the_callers_own_whatever_was_sent_and_is_not_journaled(border: Border) -> None:
    forged = (await ask_standing(border, A, Standing())).report
    assert forged is not None and forged.seat is not None
    reply = await ask_standing(border, C, Standing(report=forged))
    assert reply.report is not None and reply.report.seat is None and reply.report.own == "join"
    assert border.events == []


async def ask_standing(border: Border, who: str, synapse: Standing) -> Standing:
    synapse.set_terminals({"hotkey": who}, {})
    return await border.gateway.standing(synapse)


async def test_a_standing_survives_the_wire(border: Border) -> None:
    reply = await ask_standing(border, A, Standing())
    assert Standing.from_body(reply.body()).report == reply.report


def at_a(text: str, nbytes: int) -> BlobRef:
    return BlobRef(digest(text), nbytes, (f"http://127.0.0.1:9/v1/blobs/{digest(text)}",))


MADE = m.Made(D, 5)
LOCATED = at_a("a blob", 5)
SENT_AND_POSTED = [
    (
        m.Receipt(3, MADE, (0.5, 0.25), 0.1, 7),
        e.LeaseFinished(at=NOW, hotkey=A, lease=3, output=LOCATED, losses=(0.5, 0.25), seconds=0.1, inner_step=7),
    ),
    (
        m.Failure(3, "input", D, "404\x1b[2J\n" + "x" * 900),
        e.LeaseFailed(at=NOW, hotkey=A, lease=3, kind="input", digest=D, reason="404 [2J " + "x" * 192),
    ),
    (m.Installed(1, 2, D, D), e.StageInstalled(at=NOW, hotkey=A, stage=1, epoch=2, digest=D, manifest=D)),
    (
        m.Committed(1, 2, (MADE,), m.Made(digest("said"), 9), SIGNED.hex()),
        e.ShardsCommitted(
            at=NOW, hotkey=A, stage=1, epoch=2, shards=(LOCATED,), transcript=at_a("said", 9), signature=SIGNED.hex()
        ),
    ),
    (
        m.Committed(1, 2, (MADE,), m.Made(digest("said"), 9), "00" * 64),
        e.ShardsCommitted(at=NOW, hotkey=A, stage=1, epoch=2, shards=(LOCATED,)),
    ),
    (m.Committed(1, 2, (MADE,)), e.ShardsCommitted(at=NOW, hotkey=A, stage=1, epoch=2, shards=(LOCATED,))),
    (m.Fetched(1, 2, 3, (A, B)), e.ShardFetched(at=NOW, hotkey=A, stage=1, epoch=2, shard=3, have=(A, B))),
    (
        m.Fetched(1, 2, 3, (A,), ((B, "404\n" + "x" * 900),)),
        e.ShardFetched(at=NOW, hotkey=A, stage=1, epoch=2, shard=3, have=(A,), missed=((B, "404 " + "x" * 196),)),
    ),
    (
        m.Reduced(1, 2, 3, m.Made(digest("d"), 7), MADE, m.Made(digest("m"), 6)),
        e.ShardReduced(
            at=NOW, hotkey=A, stage=1, epoch=2, shard=3, mean=at_a("d", 7), weights=LOCATED, momentum=at_a("m", 6)
        ),
    ),
]


@pytest.mark.parametrize(("message", "event"), SENT_AND_POSTED)
def test_each_message_becomes_one_event_with_blobs_where_the_miner_serves_them(
    border: Border, message: m.FromMiner, event: e.Event
) -> None:
    assert border.say(message) == event


@pytest.mark.parametrize(
    "message",
    [
        m.Receipt(3, m.Made(D.upper(), 5), (), 0.1, 0),
        m.Receipt(3, m.Made("../../etc/passwd", 5), (), 0.1, 0),
        m.Receipt(3, m.Made(D, -5), (), 0.1, 0),
        m.Receipt(3, m.Made(D, 0), (), 0.1, 0),
        m.Receipt(3, m.Made(D, SPEC.swarm.max_blob_bytes + 1), (), 0.1, 0),
        m.Receipt(3, None, (1.0,) * 5000, 0.1, 0),
        m.Failure(3, "input", "x" * 65, ""),
        m.Installed(0, 0, "x" * 100_000, D),
        m.Installed(0, 0, D, "x" * 100_000),
        m.Committed(0, 0, (m.Made("short", 5),)),
        m.Committed(0, 0, (MADE,) * (m.MAX_SHARDS + 1)),
        m.Committed(0, 0, (MADE,), MADE, "no signature"),
        m.Committed(0, 0, (MADE,), MADE, "xx" * 64),
        m.Fetched(0, 0, 0, ("x" * 65,)),
        m.Fetched(0, 0, 0, (A, B, C)),
        m.Fetched(0, 0, 0, (), (("x" * 65, ""),)),
        m.Fetched(0, 0, 0, (), ((A, ""),) * 300),
        m.Reduced(0, 0, 0, MADE, MADE, m.Made(D, -1)),
    ],
)
def test_nonsense_ends_in_a_named_error_before_anything_is_journaled(border: Border, message: m.FromMiner) -> None:
    with pytest.raises(ChannelError) as caught:
        border.gateway.message(A, message)
    assert caught.value.reason == "bad_message" and caught.value.detail
    assert border.events == []
    assert A in border.core.state.miners


def test_who_lost_its_seat_is_not_listened_to(border: Border) -> None:
    border.gateway.message(B, SENT_AND_POSTED[0][0])
    assert border.events == []


def test_a_disconnection_is_journaled_as_one_short_line(border: Border) -> None:
    border.gateway.connected(B)
    border.gateway.disconnected(A, "peer:\n" + "y" * 500)
    assert border.events[0] == e.MinerConnected(at=NOW, hotkey=B)
    assert border.events[1] == e.MinerDisconnected(at=NOW, hotkey=A, reason="peer: " + "y" * 194)
