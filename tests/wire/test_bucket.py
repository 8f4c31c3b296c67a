"""What a miner puts into a bucket others read as from a blob server; what it drops is gone; what fails is one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from loguru import logger

from iota_subnet.spec import BlobRef
from iota_subnet.wire import bucket as module
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import Bucket, BucketFailed, Site, digest_of
from iota_subnet.wire.places import asks_ticket, keeper
from iota_subnet.wire.stats import ByteCounter
from tests.s3 import KEY, S3, SECRET, serving

from .blobkit import BLOB, DATA, failure, make_fetcher
from .kit import eventually, fake_http, raw, ref_to, ticket_for

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
FOLDER = f"pre/fix/{HOTKEY}/{'0a' * 16}"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


def site(s3: S3, name: str) -> Site:
    return Site(name, FOLDER, endpoint=s3.endpoint, key_id=KEY, secret=SECRET)


def open_bucket(at: Site, url: str = "") -> Bucket:
    return Bucket(at, url or f"{at.public_url()}/{at.prefix}", ByteCounter(), Backoff(0.001, 0.002))


def ref(bucket: Bucket, data: bytes = DATA) -> BlobRef:
    return ref_to(data, bucket.url_of(digest_of(data)))


async def put(bucket: Bucket, data: bytes = DATA) -> BlobRef:
    bucket.begin(digest_of(data), data)
    await bucket.ready([digest_of(data)])
    return ref(bucket, data)


async def refusal(bucket: Bucket) -> BucketFailed:
    async with make_fetcher() as fetcher:
        with pytest.raises(BucketFailed) as caught:
            await bucket.prove(lambda ref: fetcher.fetch(ref, ""))
    await bucket.close()
    line = str(caught.value)
    assert "\n" not in line and KEY not in line and SECRET not in line and "<" not in line
    return caught.value


async def test_what_is_ready_is_read_by_others_with_a_ticket_that_is_not_shown(s3: S3) -> None:
    bucket = open_bucket(site(s3, s3.bucket()))
    async with make_fetcher() as fetcher:
        await bucket.prove(lambda ref: fetcher.fetch(ref, ""))
        refs = [await put(bucket, data) for data in (DATA, b"one", b"two", b"three")]
        read = await asyncio.gather(*(fetcher.fetch(one, ticket_for(one.digest)) for one in refs))
        assert read == [DATA, b"one", b"two", b"three"]
        await bucket.close()
        assert (await failure(fetcher, refs[0], ticket_for(BLOB))).kind == "missing"


async def test_what_is_dropped_is_deleted_and_may_come_again_at_once(s3: S3) -> None:
    bucket = open_bucket(site(s3, s3.bucket()))
    async with make_fetcher() as fetcher:
        kept, gone = await put(bucket, b"kept"), await put(bucket, b"gone")
        bucket.drop([gone.digest, "0" * 64])
        await bucket.settled()
        assert await fetcher.fetch(kept, "") == b"kept"
        assert (await failure(fetcher, gone)).kind == "missing"
        for _ in range(5):
            await put(bucket, b"gone")
            bucket.drop([gone.digest])
            await asyncio.sleep(0)
        await put(bucket, b"gone")
        await bucket.settled()
        assert await fetcher.fetch(gone, "") == b"gone"
    await bucket.close()


class Slow:
    """Stands in for obstore: deletes when told to, and remembers in which order things were done."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.may_delete = asyncio.Event()

    async def put_async(self, *args: object, **options: object) -> None:
        self.log.append("put")

    async def delete_async(self, *args: object) -> None:
        self.log.append("asked to delete")
        await self.may_delete.wait()
        self.log.append("deleted")


async def test_what_comes_again_waits_until_it_is_deleted() -> None:
    bucket = open_bucket(Site("bucket", FOLDER))
    bucket._obstore = slow = Slow()
    await put(bucket)
    bucket.drop([BLOB])
    await eventually(lambda: len(slow.log) == 2)
    again = asyncio.create_task(put(bucket))
    for _ in range(20):
        await asyncio.sleep(0)
    assert slow.log == ["put", "asked to delete"]
    slow.may_delete.set()
    await again
    assert slow.log == ["put", "asked to delete", "deleted", "put"]
    await bucket.close()


async def test_who_waits_for_a_deletion_keeps_nobody_from_uploading() -> None:
    bucket = open_bucket(Site("bucket", FOLDER))
    bucket._obstore = slow = Slow()
    blobs = [b"%d" % n for n in range(module.MAX_UPLOADS)]
    for data in blobs:
        await put(bucket, data)
    bucket.drop(digest_of(data) for data in blobs)
    await eventually(lambda: "asked to delete" in slow.log)
    again = [asyncio.create_task(put(bucket, data)) for data in blobs]
    await asyncio.wait_for(put(bucket, b"another"), 60.0)
    bucket.drop([digest_of(b"another")])
    slow.may_delete.set()
    await asyncio.gather(*again)
    await bucket.close()


async def test_who_waits_for_what_is_dropped_waits_no_longer(s3: S3) -> None:
    bucket = open_bucket(site(s3, s3.bucket()))
    bucket.begin(BLOB, DATA)
    waiting = asyncio.create_task(bucket.ready([BLOB]))
    await asyncio.sleep(0)
    bucket.drop([BLOB])
    await asyncio.wait_for(waiting, 60.0)
    await bucket.close()


async def test_one_object_too_many_is_refused_and_the_others_stay(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OBJECTS", 2)
    bucket = open_bucket(site(s3, s3.bucket()))
    first = [await put(bucket, data) for data in (b"1", b"2")]
    with pytest.raises(BucketFailed, match="2 objects are there already"):
        await put(bucket, b"3")
    bucket.drop([first[0].digest, digest_of(b"3")])
    await put(bucket, b"3")
    await bucket.close()


async def test_a_bucket_that_is_not_there_is_said_in_one_line(s3: S3) -> None:
    error = await refusal(open_bucket(site(s3, "no-such-bucket")))
    assert error.final and "NoSuchBucket" in str(error) and "AWS_ENDPOINT_URL" in str(error)


async def test_a_key_that_is_not_accepted_is_said_in_one_line(s3: S3) -> None:
    bucket = open_bucket(site(s3, s3.bucket()))
    with s3.strict():
        error = await refusal(bucket)
    assert error.final and "AWS_ACCESS_KEY_ID" in str(error)


async def test_nobody_at_the_endpoint_is_said_in_one_line(s3: S3) -> None:
    bucket = open_bucket(replace(site(s3, "some-bucket"), endpoint="http://127.0.0.1:9"))
    error = await refusal(bucket)
    assert not error.final and "no usable answer from 127.0.0.1:9" in str(error)


async def test_a_bucket_that_others_cannot_read_is_said_in_one_line(s3: S3) -> None:
    error = await refusal(open_bucket(site(s3, s3.bucket(readable=False))))
    assert error.final and "s3:GetObject" in str(error) and "--blobs.bucket_url" in str(error)


async def test_an_upload_is_tried_again_while_that_may_help(s3: S3) -> None:
    answers = [raw("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>"), raw("200 OK", b"", -1, 'ETag: "1"')]
    async with fake_http(*answers) as (url, seen):
        await put(open_bucket(replace(site(s3, "busy-bucket"), endpoint=url)), b"blob")
        assert len(seen) == 2
    slow = raw("400 Bad Request", b"<Error><Code>RequestTimeout</Code></Error>")
    async with fake_http(slow, raw("200 OK", b"", -1, 'ETag: "1"')) as (url, seen):
        await put(open_bucket(replace(site(s3, "busy-bucket"), endpoint=url)), b"blob")
        assert len(seen) == 2
    denied = raw("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")
    async with fake_http(denied) as (url, seen):
        with pytest.raises(BucketFailed, match="s3:PutObject"):
            await put(open_bucket(replace(site(s3, "busy-bucket"), endpoint=url)), b"blob")
        assert len(seen) == 1


async def test_no_key_is_shown_by_what_is_printed(s3: S3) -> None:
    at = replace(site(s3, "some-bucket"), token="test-token")
    shown = repr(at) + str(at)
    assert not any(secret in shown for secret in (KEY, SECRET, "test-token"))
    lines: list[str] = []
    sink = logger.add(lines.append, level="TRACE")
    try:
        bucket = open_bucket(replace(at, endpoint="http://127.0.0.1:9"))
        bucket.begin(BLOB, b"x")
        bucket.drop([BLOB])
        await bucket.close()
    finally:
        logger.remove(sink)
    assert not any(secret in "".join(lines) for secret in (KEY, SECRET, "test-token"))


XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("403 Forbidden", XML, "refused"),
        ("404 Not Found", XML, "missing"),
        ("200 OK", XML, "corrupt"),
        ("200 OK", b"x" * len(DATA), "corrupt"),
        ("200 OK", DATA + b"x", "too_big"),
        ("503 Slow Down", XML, "unreachable"),
    ],
)
async def test_whatever_a_bucket_answers_only_the_blob_passes_and_the_next_place_is_asked(
    status: str, body: bytes, kind: str
) -> None:
    async with fake_http(raw(status, body)) as (url, seen), fake_http(raw("200 OK", DATA)) as (relay, asked):
        there = f"{url}/bucket/{FOLDER}/v1/blobs/{BLOB}"
        async with make_fetcher(tries=1) as fetcher:
            assert (await failure(fetcher, ref_to(DATA, there), ticket_for(BLOB))).kind == kind
            then = f"{relay}/v1/relay/{HOTKEY}/v1/blobs/{BLOB}"
            assert await fetcher.fetch(ref_to(DATA, there, then), ticket_for(BLOB)) == DATA
    assert not any(b"Authorization" in head for head in seen) and b"Authorization: Ticket " in asked[0]


async def test_a_bucket_sends_nobody_to_another_host() -> None:
    async with fake_http(raw("200 OK", DATA)) as (other, asked):
        moved = raw("307 Temporary Redirect", b"", -1, f"Location: {other}/v1/blobs/{BLOB}")
        async with fake_http(moved) as (url, seen), make_fetcher() as fetcher:
            error = await failure(fetcher, ref_to(DATA, f"{url}/b/{FOLDER}/v1/blobs/{BLOB}"), ticket_for(BLOB))
    assert error.kind == "refused" and (len(seen), asked) == (1, [])


async def test_several_blobs_of_a_bucket_are_asked_for_one_by_one() -> None:
    one, two = ref_to(b"one"), ref_to(b"two")
    async with fake_http(raw("404 Not Found", XML)) as (url, seen), make_fetcher(tries=1) as fetcher:
        refs = [BlobRef(r.digest, r.nbytes, (f"{url}/b/{FOLDER}/v1/blobs/{r.digest}",)) for r in (one, two)]
        await asyncio.gather(*(failure(fetcher, r, ticket_for(r.digest)) for r in refs))
    assert len(seen) == 2 and not any(b"/v1/blobs HTTP" in head for head in seen)


async def test_a_bucket_that_everybody_can_list_is_noticed() -> None:
    listing = b'<?xml version="1.0"?><ListBucketResult><Contents/></ListBucketResult>'
    for status, body, found in (("200 OK", listing, True), ("403 Forbidden", XML, False), ("200 OK", b"hi", False)):
        async with fake_http(raw(status, body)) as (url, seen):
            assert await open_bucket(Site("bucket", FOLDER), f"{url}/bucket/{FOLDER}").listed() is found
            assert seen[0].startswith(b"GET /bucket/?list-type=2")


def test_the_public_address_is_guessed_as_aws_and_others_have_it() -> None:
    assert Site("mine", region="eu-west-1").public_url() == "https://mine.s3.eu-west-1.amazonaws.com"
    assert Site("my.own", region="eu-west-1").public_url() == "https://s3.eu-west-1.amazonaws.com/my.own"
    assert Site("mine", endpoint="https://s3.example.org/").public_url() == "https://s3.example.org/mine"


def test_a_url_says_who_answers_there() -> None:
    base = f"https://host.example/{FOLDER}"
    assert keeper(base) == keeper(f"{base}/v1/blobs/{BLOB}") == HOTKEY
    for other in (
        f"http://10.0.0.1:80/v1/blobs/{BLOB}",
        f"http://10.0.0.1:80/v1/relay/{HOTKEY}/v1/blobs/{BLOB}",
        f"https://host.example/{HOTKEY}/v1/blobs/{BLOB}",
        f"{base}/x",
        f"{base}?x",
        f"https://a@host.example/{FOLDER}",
    ):
        assert keeper(other) == ""
    assert asks_ticket(f"/v1/blobs/{BLOB}", BLOB) and asks_ticket(f"/v1/relay/{HOTKEY}/v1/blobs/{BLOB}", BLOB)
    assert not asks_ticket(f"/{FOLDER}/v1/blobs/{BLOB}", BLOB)
    # The prefix is for the operator to choose.
    assert not asks_ticket(f"/v1/relay/{HOTKEY}/{'0a' * 16}/v1/blobs/{BLOB}", BLOB)
    assert not asks_ticket(f"/v1/blobs/{'0' * 64}", BLOB)
