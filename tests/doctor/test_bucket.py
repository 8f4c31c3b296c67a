"""A bucket is well when its keys write and everybody reads; what is wrong comes with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iota_subnet.cli import main
from iota_subnet.doctor.bucket import bucket
from iota_subnet.settings import MinerData
from tests.s3 import KEY, S3, SECRET, serving


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield server


def test_a_bucket_is_written_read_and_left_as_it_was(s3: S3) -> None:
    name = s3.bucket()
    (found,) = bucket(MinerData(bucket=f"s3://{name}/iota"))
    # This S3 lets everybody list, whatever a policy says.
    assert found.state == "warn" and "can be listed by everybody" in found.text and "s3:ListBucket" in found.advice
    assert b"<Key>" not in s3.ask("GET", f"/{name}?list-type=2")[1]


def test_a_bucket_that_cannot_serve_says_what_to_do(s3: S3) -> None:
    (absent,) = bucket(MinerData(bucket="s3://none-such"))
    (closed,) = bucket(MinerData(bucket=f"s3://{s3.bucket(readable=False)}"))
    assert absent.state == closed.state == "bad"
    assert "NoSuchBucket" in absent.advice and "s3:GetObject" in closed.advice


@pytest.mark.parametrize("flags", [["--blobs.relay"], ["--blobs.bucket", "s3://none-such"]])
def test_without_an_open_port_none_is_looked_at(s3: S3, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    main(["doctor", "--json", *flags])
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["ports"]["state"] == "ok" and "none is needed" in found["ports"]["text"]
    assert ("bucket" in found) == ("--blobs.bucket" in flags)
