"""With a bucket nothing is told of before it lies there, in the order of computing; wrong settings end in one line."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from iota_subnet import messages as m
from iota_subnet.miner import merge
from iota_subnet.miner.bucket import Keys, open_bucket
from iota_subnet.settings import MinerSettings
from iota_subnet.wire.blobs import BucketFailed
from iota_subnet.wire.stats import ByteCounter
from template.errors import BadSettings
from template.settings import parse
from tests.s3 import KEY, S3, SECRET, serving
from tests.validator.kit import eventually

from .kit import activation, bench, tokens
from .test_neuron import joined, subnet
from .test_work import answer, lease

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"


class Gate:
    """A bucket whose uploads end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.dropped: list[str] = []
        self.open: set[str] = set()
        self.trouble: Exception | None = None

    def begin(self, digest: str, data: bytes) -> None:
        self.begun.append(digest)

    async def ready(self, digests: Iterable[str]) -> None:
        for digest in digests:
            await eventually(lambda digest=digest: digest in self.open or self.trouble, 60.0)
        if self.trouble is not None:
            raise self.trouble

    def drop(self, digests: Iterable[str]) -> None:
        self.dropped += digests


async def test_a_receipt_waits_for_its_upload_and_for_the_receipts_before_it() -> None:
    gate = Gate()
    async with bench(bucket=gate) as b:
        await b.hold()
        for number in (1, 2):
            b.worker.give(lease(number, "forward", 0, b.blob(tokens(number)), batch=number))
            await eventually(lambda number=number: len(gate.begun) == number, 60.0)
        gate.open.add(gate.begun[1])
        # The head ends without output: nothing of it is uploaded, and yet it is told of in its turn.
        ended = b.counted("backward")
        b.worker.give(lease(3, "backward", 0, b.blob(tokens(1)), b.blob(activation(2)), batch=1))
        await eventually(lambda: ended, 60.0)
        await b.engine.call(lambda runner: None)
        assert b.sent == []
        gate.open.add(gate.begun[0])
        await eventually(lambda: len(b.sent) == 3, 60.0)
        assert [receipt.lease for receipt in b.of(m.Receipt)] == [1, 2, 3]


async def test_a_receipt_of_a_later_pass_does_not_overtake_a_commit() -> None:
    gate = Gate()
    async with bench(bucket=gate) as b:
        await b.hold()
        b.merger.commit(0, 0, 2)
        await eventually(lambda: len(gate.begun) == 2, 60.0)
        b.worker.give(lease(1, "forward", 0, b.blob(tokens(1))))
        await eventually(lambda: len(gate.begun) == 3, 60.0)
        gate.open.add(gate.begun[2])
        await asyncio.sleep(0)
        assert b.sent == []
        gate.open.update(gate.begun)
        await eventually(lambda: len(b.sent) == 2, 60.0)
        assert [type(said) for said in b.sent] == [m.Committed, m.Receipt]


async def test_an_upload_that_fails_is_a_failure_and_its_pass_is_not_computed_twice() -> None:
    gate = Gate()
    gate.trouble = BucketFailed("SlowDown")
    async with bench(1, bucket=gate) as b:
        await b.hold()
        computed = b.counted("forward_backward")
        given = lease(1, "loss", 1, b.blob(activation(1)), b.blob(tokens(1)))
        for _ in range(2):
            # The line that an upload needs is the one over which its failure is told: it may be asked for again.
            said = await answer(b, given)
            assert said == m.Failure(1, "work", "", "upload to the bucket: SlowDown") and b.worker.done == 0
            await eventually(lambda: not b.worker.open)
        gate.trouble = None
        gate.open.update(gate.begun)
        assert isinstance(await answer(b, given), m.Receipt)
        # A lease that is in a transcript twice is a false transcript.
        assert computed == [0] and len(gate.begun) == 3 and b.worker.done == 1


async def test_a_commit_whose_upload_fails_is_tried_again_as_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "AGAIN_S", 0.0)
    gate = Gate()
    gate.trouble = BucketFailed("SlowDown")
    async with bench(bucket=gate) as b:
        await b.hold()
        taken = b.counted("pseudo_gradient")
        b.merger.commit(0, 0, 2)
        await eventually(lambda: len(gate.begun) >= 6, 60.0)
        gate.trouble = None
        gate.open.update(gate.begun)
        await eventually(lambda: b.of(m.Committed), 60.0)
        (said,) = b.of(m.Committed)
        assert {shard.digest for shard in said.shards} == set(gate.begun) and taken == [0]


async def test_a_commit_that_is_asked_for_again_is_what_was_taken_before() -> None:
    gate = Gate()
    gate.trouble = BucketFailed("AccessDenied", final=True)
    async with bench(bucket=gate) as b:
        await b.hold()
        taken = b.counted("pseudo_gradient")
        for _ in range(2):
            b.merger.commit(0, 0, 2)
            await eventually(lambda: not b.merger.busy, 60.0)
        # What is computed after the transcript was closed may not be in what is committed with it.
        assert taken == [0] and len(gate.begun) == 4 and b.sent == []
        gate.trouble = None
        gate.open.update(gate.begun)
        b.merger.commit(0, 0, 2)
        await eventually(lambda: b.of(m.Committed), 60.0)
        assert taken == [0]


async def test_what_is_over_is_deleted_and_an_installed_state_is_not_uploaded() -> None:
    gate = Gate()
    async with bench(bucket=gate) as b:
        await b.hold()
        b.merger.install(b.spec, b.manifest(1))
        await eventually(lambda: b.of(m.Installed), 60.0)
        assert gate.begun == []
        b.worker.give(lease(1, "forward", 0, b.blob(tokens(1)), epoch=1))
        await eventually(lambda: gate.begun, 60.0)
        gate.open.update(gate.begun)
        await eventually(lambda: b.of(m.Receipt), 60.0)
        b.worker.retire(7)
        assert gate.dropped == gate.begun


# Settings


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Keys.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def settings(*flags: str) -> MinerSettings:
    return parse(MinerSettings, ["--netuid", "1", *flags])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--blobs.bucket", "s3://my-bucket", "--blobs.relay"], "two ways to do without an open port"),
        (["--blobs.bucket", "s3://my-bucket", "--axon.external_ip", "203.0.113.7"], "give one of them"),
        (["--blobs.bucket_url", "https://x.example"], "give that too"),
        (["--blobs.bucket", "my-bucket"], "use s3://BUCKET"),
        (["--blobs.bucket", "s3://my-bucket/../x"], "use s3://BUCKET"),
        (["--blobs.bucket", "s3://my-bucket", "--blobs.bucket_url", "https://x.example/?y"], "use an address"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(keys: None, flags: list[str], words: str) -> None:
    with pytest.raises(BadSettings, match=words) as caught:
        settings(*flags)
    assert "\n" not in str(caught.value) and "--blobs.bucket" in str(caught.value)


def test_a_process_has_a_folder_of_its_own_below_the_prefix(keys: None) -> None:
    given = settings("--blobs.bucket", "s3://my-bucket/a/b/", "--blobs.bucket_url", "https://pub.example/").blobs
    one, two = (open_bucket(given, HOTKEY, ByteCounter()).url for _ in range(2))
    assert one != two and one.startswith(f"https://pub.example/a/b/{HOTKEY}/")
    plain = open_bucket(settings("--blobs.bucket", "s3://my-bucket").blobs, HOTKEY, ByteCounter())
    assert plain.url.startswith(f"https://my-bucket.s3.us-east-1.amazonaws.com/{HOTKEY}/")


def test_keys_come_from_a_file_too_and_without_them_nothing_is_asked(
    keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings("--blobs.bucket", "s3://my-bucket").blobs
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadSettings, match=r"needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_bucket(given, HOTKEY, ByteCounter())
    (tmp_path / ".env").write_text("AWS_SECRET_ACCESS_KEY=x\nAWS_REGION=eu-west-1\n")
    assert "eu-west-1" in open_bucket(given, HOTKEY, ByteCounter()).url


def test_without_obstore_it_is_said_how_to_install_it(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BadSettings, match=r"--blobs\.bucket .*pip install -e '\.\[s3\]'"):
        open_bucket(settings("--blobs.bucket", "s3://my-bucket").blobs, HOTKEY, ByteCounter())


# The neuron


@pytest.fixture
def s3(keys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server


async def test_a_miner_joins_with_its_bucket_and_opens_no_port(tmp_path: Path, s3: S3) -> None:
    name = s3.bucket()
    async with subnet(tmp_path, boss=99.0) as (s, v):
        boss, miner = v["boss"], s.start("--blobs.bucket", f"s3://{name}", "--axon.ip", "0.0.0.0")
        await joined(boss, miner)
        (join,) = boss.joins
        assert (join.axon_ip, join.axon_port) == ("", 0) and miner.server._listener is None
        assert join.data_url.startswith(f"{s3.endpoint}/{name}/{miner.hotkey}/")
        boss.channel.send(miner.hotkey, m.Order(1, "AssignLayer", boss.assignment().body()))
        await eventually(lambda: any(isinstance(said, m.Installed) for said in boss.heard), 60.0)


@pytest.mark.parametrize("trouble", ["bucket", "keys", "readers"])
async def test_a_bucket_that_cannot_serve_ends_the_miner_with_one_line(tmp_path: Path, s3: S3, trouble: str) -> None:
    name = s3.bucket(readable=trouble != "readers")
    words = {"bucket": "NoSuchBucket", "keys": "AWS_ACCESS_KEY_ID", "readers": "s3:GetObject"}[trouble]
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.make("--blobs.bucket", f"s3://{'none-such' if trouble == 'bucket' else name}")
        with (
            s3.strict() if trouble == "keys" else contextlib.nullcontext(),
            pytest.raises(BadSettings, match=words) as caught,
        ):
            await miner.run()
        assert str(caught.value).startswith("--blobs.bucket (BLOBS_BUCKET): ") and "\n" not in str(caught.value)
        assert KEY not in str(caught.value) and v["boss"].joins == []
