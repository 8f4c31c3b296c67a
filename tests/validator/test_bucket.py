"""A miner without an open port, whose blobs lie in a bucket, trains, merges, shows its evidence and is paid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iota_subnet import messages as m
from iota_subnet.core.state import Phase
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.places import keeper
from tests.s3 import KEY, S3, SECRET, serving

from .swarm import conserved, swarm

PATIENCE_S = 300.0


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield server


def flags(name: str) -> list[str]:
    return ["--blobs.bucket", f"s3://{name}/iota", "--axon.ip", "0.0.0.0"]


async def test_a_miner_with_a_bucket_trains_merges_and_shows_its_evidence(tmp_path: Path, s3: S3) -> None:
    name = s3.bucket()
    async with swarm(tmp_path, miners=3, start_miners=4, epochs=2, epoch_batches=16, audit_miners=1.0) as s:
        miner = s.add_miner("closed", flags=flags(name))
        state = await s.finished(within_s=PATIENCE_S)
        seat = state.miners[miner.hotkey]
        assert miner.server._listener is None and seat.axon == ""
        assert seat.data_url.startswith(f"{s3.endpoint}/{name}/iota/{miner.hotkey}/")
        assert keeper(seat.data_url) == miner.hotkey
        assert conserved(state) and not state.faults
        assert [report.coverage for report in state.reports] == [[1.0, 1.0]] * 2
        assert all(report.replicas_identical for report in state.reports)
        assert miner.worker.done > 0 and state.reports[-1].scores[miner.hotkey] > 0
        await s.until(lambda: not state.open_audits, PATIENCE_S, "the audits")
        assert {verdict.verdict for verdict in state.verdicts[miner.hotkey]} == {"sound"}
        sent = miner.server.bytes_out.by_label()
        assert sent["bucket"] > 0 and sent["relay"] > 0, "work goes through the bucket, old evidence through the relay"
        assert b"<Key>" in s3.ask("GET", f"/{name}?list-type=2")[1]
        await s.leave(miner)
    assert b"<Key>" not in s3.ask("GET", f"/{name}?list-type=2")[1]


async def test_a_swarm_of_buckets_alone_loses_nothing(tmp_path: Path, s3: S3) -> None:
    name = s3.bucket()
    async with swarm(tmp_path, miners=0, start_miners=4, epochs=2, epoch_batches=16, reconnect_s=20.0) as s:
        miners = [s.add_miner(who, flags=flags(name)) for who in ("one", "two", "three", "four")]
        await s.phase(Phase.TRAIN, within_s=PATIENCE_S)
        await s.until(lambda: miners[0].worker.done > 1, PATIENCE_S, "some work")
        s.validator.channel.disconnect(miners[0].hotkey, "a test")
        state = await s.finished(within_s=PATIENCE_S)
        assert conserved(state) and not state.faults
        assert all(report.replicas_identical for report in state.reports)
        # What the validator relays is evidence and states for who joins: work goes past it.
        assert s.validator.relay.bytes_in.total < sum(m.server.bytes_out.by_label()["bucket"] for m in miners) / 4


async def test_an_outage_of_line_and_bucket_makes_nobody_a_liar(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = s3.bucket()
    async with swarm(
        tmp_path, miners=3, start_miners=4, epochs=2, epoch_batches=16, audit_miners=1.0, reconnect_s=20.0
    ) as s:
        miner = s.add_miner("closed", flags=flags(name))
        await s.phase(Phase.TRAIN, within_s=PATIENCE_S)
        bucket, lost = miner.bucket, list[m.FromMiner]()
        assert bucket is not None
        monkeypatch.setattr(bucket, "_backoff", Backoff(0.001, 0.002))
        put = bucket._obstore.put_async

        async def cut(*args: Any, **options: Any) -> Any:
            if miner.worker.done > 0 and not lost:
                raise OSError("the line is cut")
            return await put(*args, **options)

        class Cut:
            put_async, delete_async = staticmethod(cut), staticmethod(bucket._obstore.delete_async)

        send = miner.worker._send

        def told(message: m.FromMiner) -> object:
            if isinstance(message, m.Failure) and not lost:
                lost.append(message)
                return s.validator.channel.disconnect(miner.hotkey, "a test")
            return send(message)

        monkeypatch.setattr(bucket, "_obstore", Cut)
        monkeypatch.setattr(miner.worker, "_send", told)
        state = await s.finished(within_s=PATIENCE_S)
        assert lost and conserved(state)
        await s.until(lambda: not state.open_audits, PATIENCE_S, "the audits")
        assert {verdict.verdict for verdict in state.verdicts[miner.hotkey]} == {"sound"} and not state.faults
        assert all(report.replicas_identical for report in state.reports)
