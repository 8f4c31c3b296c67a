"""Content-addressed bytes: where they lie, who hands them out, who gets them. One door to the three files behind it."""

from __future__ import annotations

from iota_subnet.wire.bucket import Bucket, BucketFailed, Site
from iota_subnet.wire.digests import digest_of, is_digest
from iota_subnet.wire.fetch import THIN_BYTES_S, Attempt, BlobFetcher, FetchFailed
from iota_subnet.wire.server import BlobServer, CannotListen, PortInUse
from iota_subnet.wire.source import Kind
from iota_subnet.wire.store import BlobStore, DirStore, MemoryStore, NotStored, StoreFull

__all__ = [
    "THIN_BYTES_S",
    "Attempt",
    "BlobFetcher",
    "BlobServer",
    "BlobStore",
    "Bucket",
    "BucketFailed",
    "CannotListen",
    "DirStore",
    "FetchFailed",
    "Kind",
    "MemoryStore",
    "NotStored",
    "PortInUse",
    "Site",
    "StoreFull",
    "digest_of",
    "is_digest",
]
