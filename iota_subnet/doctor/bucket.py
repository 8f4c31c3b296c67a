"""Whether a miner's bucket can be written with its keys, and read, but not listed, without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from iota_subnet.doctor.finding import Finding
from iota_subnet.miner.bucket import FLAG, open_bucket
from iota_subnet.settings import MinerData
from iota_subnet.wire.blobs import BlobFetcher, BucketFailed
from iota_subnet.wire.stats import ByteCounter
from template.errors import BadSettings


def bucket(settings: MinerData) -> Iterator[Finding]:
    """Put one object of 32 bytes there, read it as others would, delete it."""
    yield asyncio.run(_look(settings))


async def _look(settings: MinerData) -> Finding:
    try:
        opened = open_bucket(settings, "doctor", ByteCounter())
    except BadSettings as error:
        return Finding("bucket", "bad", settings.bucket, str(error).removeprefix(f"{FLAG}: "))
    fetcher = BlobFetcher(1 << 20, tries=2)
    try:
        await opened.prove(lambda ref: fetcher.fetch(ref, ""))
        if await opened.listed():
            advice = "allow everybody s3:GetObject and not s3:ListBucket, or whoever looks reads what is not told yet"
            return Finding("bucket", "warn", f"{settings.bucket} can be listed by everybody", advice)
    except BucketFailed as error:
        return Finding("bucket", "bad", settings.bucket, str(error))
    finally:
        await opened.close()
        await fetcher.close()
    return Finding("bucket", "ok", f"{settings.bucket}: written, read as others read it, deleted")
