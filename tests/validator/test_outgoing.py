"""What the validator sends: tickets for one reader, its own copy last, manifests that nobody can alter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iota_subnet.core.actions import Contribution, Duty
from iota_subnet.core.events import Manifest, ShardRef
from iota_subnet.messages import StageManifest, manifest_line
from iota_subnet.spec import BlobRef
from iota_subnet.validator.outgoing import TICKET_S, Outgoing
from iota_subnet.wire.blobs import BlobServer, MemoryStore, digest_of
from iota_subnet.wire.tickets import BadTicket, check
from template.wallet import verify

from .kit import NOW, digest, hotkey, signer

V, READER = hotkey("V"), hotkey("reader")
OTHER = "http://10.0.0.7:81/v1/blobs/"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(1 << 20)


@pytest.fixture
def outgoing(store: MemoryStore) -> Outgoing:
    server = BlobServer(store, "127.0.0.1", 80, V, verify, lambda: NOW)
    return Outgoing("the run", signer("V"), lambda: NOW, store, lambda: server)


def test_a_ticket_opens_its_blob_for_a_while_and_nothing_else(outgoing: Outgoing) -> None:
    blob = outgoing.blob(BlobRef(digest("x"), 3, (OTHER,)), READER)
    ticket = check(blob.ticket, V, verify, NOW, digest("x"))
    assert (ticket.digest, ticket.reader, ticket.expires_at) == (digest("x"), READER, NOW + TICKET_S)
    for issuer, when, name in ((READER, NOW, "x"), (V, NOW + TICKET_S, "x"), (V, NOW, "y")):
        with pytest.raises(BadTicket):
            check(blob.ticket, issuer, verify, when, digest(name))


def test_the_validators_own_copy_is_named_last_and_only_if_it_has_one(outgoing: Outgoing, store: MemoryStore) -> None:
    name = digest_of(b"mine")
    ref = BlobRef(name, 4, (OTHER + name,))
    assert outgoing.blob(ref, READER).urls == (OTHER + name,)
    store.put(b"mine")
    assert outgoing.blob(ref, READER).urls == (OTHER + name, f"http://127.0.0.1:80/v1/blobs/{name}")
    assert outgoing.blob(BlobRef(name, 4), READER).urls == (f"http://127.0.0.1:80/v1/blobs/{name}",)


def test_no_more_urls_are_named_than_a_fetcher_takes(outgoing: Outgoing, store: MemoryStore) -> None:
    name = store.put(b"mine").digest
    blob = outgoing.blob(BlobRef(name, 4, tuple(f"{OTHER}{number}" for number in range(9))), READER)
    assert len(blob.urls) == 4 and blob.urls[-1] == f"http://127.0.0.1:80/v1/blobs/{name}"


def test_what_a_bucket_does_not_have_the_validator_relays(outgoing: Outgoing, store: MemoryStore) -> None:
    folder = f"https://bucket.example/{READER}/{'0a' * 16}"
    name = store.put(b"mine").digest
    there, relay = f"{folder}/v1/blobs/{name}", f"http://127.0.0.1:80/v1/relay/{READER}/v1/blobs/{name}"
    own = f"http://127.0.0.1:80/v1/blobs/{name}"
    ref = BlobRef(name, 4, (there,))
    assert outgoing.blob(ref, READER).urls == (there, relay, own)
    # It has installed the state, which is not uploaded for that.
    assert outgoing.blob(BlobRef(name, 4), READER, [folder]).urls == (relay, own)
    assert outgoing.blob(ref, READER, [folder]).urls == (there, relay, own)


def test_another_validator_knows_who_relays(store: MemoryStore) -> None:
    elsewhere = "http://10.0.0.9:81"
    follower = Outgoing("the run", signer("V"), lambda: NOW, store, lambda: pytest.fail(), elsewhere=lambda: elsewhere)
    name = digest("x")
    there = f"https://bucket.example/{READER}/{'0a' * 16}/v1/blobs/{name}"
    assert follower.blob(BlobRef(name, 4, (there,)), READER).urls == (
        there, f"{elsewhere}/v1/relay/{READER}/v1/blobs/{name}", f"{elsewhere}/v1/blobs/{name}",
    )  # fmt: skip


def manifest(outgoing: Outgoing) -> StageManifest:
    shards = (
        ShardRef(0, 3, BlobRef(digest("w0"), 12), BlobRef(digest("m0"), 12)),
        ShardRef(3, 6, BlobRef(digest("w1"), 12), BlobRef(digest("m1"), 12)),
    )
    return outgoing.manifest(Manifest(1, 4, shards), READER)


def is_signed(found: StageManifest, run: str = "the run") -> bool:
    return verify(V, manifest_line(run, found.name), bytes.fromhex(found.signature))


def test_a_manifest_is_signed_and_the_signature_covers_all_that_counts(outgoing: Outgoing) -> None:
    found = manifest(outgoing)
    first, second = found.shards
    assert is_signed(found)
    assert not is_signed(found, "another run")
    other = replace(first.weights, digest=digest("poison"))
    for tampered in (
        replace(found, stage=0),
        replace(found, epoch=5),
        replace(found, revision=1),
        replace(found, shards=(second, first)),
        replace(found, shards=(first,)),
        replace(found, shards=(replace(first, lo=1), second)),
        replace(found, shards=(replace(first, hi=2), second)),
        replace(found, shards=(replace(first, weights=other), second)),
        replace(found, shards=(replace(first, momentum=other), second)),
    ):
        assert not is_signed(tampered), tampered


def test_readers_differ_in_tickets_and_not_in_what_is_signed(outgoing: Outgoing) -> None:
    mine = manifest(outgoing)
    moved = replace(mine.shards[0].weights, urls=("http://elsewhere:1/",), ticket="another")
    assert is_signed(replace(mine, shards=(replace(mine.shards[0], weights=moved), mine.shards[1])))


def test_a_duty_keeps_the_order_of_its_contributions(outgoing: Outgoing) -> None:
    given = tuple(Contribution(name, weight, BlobRef(digest(name), 9)) for weight, name in enumerate("cab"))
    planned = outgoing.duty(Duty(2, 10, 20, given), READER)
    assert (planned.shard, planned.lo, planned.hi) == (2, 10, 20)
    assert [(c.hotkey, c.weight, c.blob.digest) for c in planned.contributions] == [
        (c.hotkey, c.weight, c.blob.digest) for c in given
    ]
    assert all(check(c.blob.ticket, V, verify, NOW, c.blob.digest).reader == READER for c in planned.contributions)
