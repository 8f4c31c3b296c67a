"""A miner's blobs as objects of an S3 bucket, from which others read them without this miner having an open port.

Law: what is ready lies there whole, what is dropped is deleted, and nothing is touched outside of this process's own
folder. Uploads are few at a time; every wait ends. What is told of a failure is one line, and never what the bucket
said: that may hold the name of a key. What a killed process leaves behind is for the bucket's lifecycle rule.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from loguru import logger

from iota_subnet.spec import BlobRef
from iota_subnet.tasks import cancel
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.digests import digest_of
from iota_subnet.wire.fetch import FetchFailed
from iota_subnet.wire.limits import within
from iota_subnet.wire.places import BLOBS
from iota_subnet.wire.stats import ByteCounter

#: Uploads at a time, tries of each, and seconds for one beside what `THIN_BYTES_S` allows for its size.
MAX_UPLOADS = 4
TRIES = 6
UPLOAD_S = 20.0
THIN_BYTES_S = 64e3

#: Objects that may lie there or be on their way; more are refused.
MAX_OBJECTS = 20_000

#: Objects in one request to delete, which is what S3 takes; seconds for such a request, and for all of them at the end.
MAX_DELETED = 1000
DELETE_S = 20.0

#: What S3 says, for which another try is no use, and what to do.
_ADVICE = {
    "NoSuchBucket": "there is no such bucket there; check its name, AWS_ENDPOINT_URL and AWS_REGION",
    "InvalidBucketName": "there is no such bucket there; check its name",
    "PermanentRedirect": "it lies in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "it lies in another region; set AWS_REGION",
    "IllegalLocationConstraintException": "it lies in another region; set AWS_REGION",
    "InvalidAccessKeyId": "the key is not known there; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the key is not accepted; check AWS_SECRET_ACCESS_KEY",
    "InvalidToken": "the key is not accepted; check AWS_SESSION_TOKEN",
    "ExpiredToken": "the key has expired; get a new AWS_SESSION_TOKEN",
    "AccessDenied": "this key may not do that; it needs s3:PutObject and s3:DeleteObject",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it, with NTP for one",
}
#: What S3 says with a status that else means "no use", of bytes that went wrong on their way.
_PASSING = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest"})

_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")


class BucketFailed(Exception):
    """Something did not work with the bucket: one line without secrets. `final`: another try would be no use."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass(frozen=True, slots=True)
class Site:
    """A bucket, the folder in it that objects go to, and how to write there. Endpoint "" is AWS itself."""

    name: str
    prefix: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    key_id: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def public_url(self) -> str:
        """The base of its objects for who has no key, as far as one can guess: a domain of one's own one cannot."""
        if self.endpoint:
            return f"{self.endpoint.rstrip('/')}/{self.name}"
        if "." in self.name:
            # A certificate for *.s3.amazonaws.com does not cover it.
            return f"https://s3.{self.region}.amazonaws.com/{self.name}"
        return f"https://{self.name}.s3.{self.region}.amazonaws.com"


class Bucket:
    """The folder `site.prefix` of a bucket, which nobody else uses; others read it at `url`.

    Raises BucketFailed where obstore is not installed.
    """

    def __init__(self, site: Site, url: str, bytes_out: ByteCounter, backoff: Backoff | None = None) -> None:
        self.url = url.rstrip("/")
        self._site = site
        self._bytes_out = bytes_out
        self._backoff = backoff or Backoff(first_s=0.2, max_s=3.0)
        self._turn = asyncio.Semaphore(MAX_UPLOADS)
        self._uploads: dict[str, asyncio.Task[None]] = {}
        self._gone: dict[str, None] = {}
        self._deleting: frozenset[str] = frozenset()
        self._deleted = asyncio.Event()
        self._deleter: asyncio.Task[None] | None = None
        try:
            self._obstore: Any = importlib.import_module("obstore")
            store = importlib.import_module("obstore.store")
        except ImportError:
            raise BucketFailed("needs the package obstore; install it: pip install -e '.[s3]'", final=True) from None
        config = {"access_key_id": site.key_id, "secret_access_key": site.secret, "region": site.region}
        config |= {"session_token": site.token} if site.token else {}
        config |= {"endpoint": site.endpoint} if site.endpoint else {}
        client = {"allow_http": site.endpoint.startswith("http://"), "connect_timeout": "5s", "timeout": "1h"}
        # Tries and their times are ours, as everywhere.
        self._store = store.S3Store(
            site.name, prefix=site.prefix or None, config=config, client_options=client, retry_config={"max_retries": 0}
        )

    def url_of(self, digest: str) -> str:
        """Where others read a blob."""
        return f"{self.url}{BLOBS}/{digest}"

    async def prove(self, read: Callable[[BlobRef], Awaitable[bytes]]) -> None:
        """Put an object, have it read as others would, delete it. Raises BucketFailed, which says what to do."""
        data = secrets.token_bytes(32)
        ref = BlobRef(digest_of(data), len(data), (self.url_of(digest_of(data)),))
        self.begin(ref.digest, data)
        await self.ready([ref.digest])
        try:
            await read(ref)
        except FetchFailed as error:
            raise BucketFailed(
                f"can be written, but others cannot read at {self.url} ({error.reason}); allow s3:GetObject on "
                "it to everybody, or name its public address with --blobs.bucket_url",
                final=error.kind in ("refused", "missing", "corrupt", "too_big"),
            ) from None
        finally:
            self.drop([ref.digest])
        await self.settled()

    async def listed(self) -> bool:
        """Whether everybody can list the bucket, and so read what was told to nobody yet."""
        root = self.url.removesuffix(self._site.prefix)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=UPLOAD_S)) as session:
            try:
                where = f"{root}?list-type=2&max-keys=1"
                async with session.get(where, allow_redirects=False) as response:
                    return response.status == 200 and b"<ListBucketResult" in await response.content.read(4096)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
                return False

    def begin(self, digest: str, data: bytes) -> None:
        """Begin to put a blob there, unless it is there or on its way."""
        known = self._uploads.get(digest)
        if known is not None and not (known.done() and (known.cancelled() or known.exception() is not None)):
            return
        self._gone.pop(digest, None)
        task = asyncio.get_running_loop().create_task(self._put(digest, data))
        # Whoever waits for it hears why; if nobody does, nobody has to.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._uploads[digest] = task

    async def ready(self, digests: Iterable[str]) -> None:
        """Wait until others can read these. Raises BucketFailed. What has been dropped is not waited for."""
        tasks = [self._uploads[digest] for digest in digests if digest in self._uploads]
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def drop(self, digests: Iterable[str]) -> None:
        """Have these deleted, if they were put there."""
        for digest in digests:
            task = self._uploads.pop(digest, None)
            if task is not None:
                task.cancel()
                self._gone[digest] = None
        if self._gone and (self._deleter is None or self._deleter.done()):
            self._deleter = asyncio.get_running_loop().create_task(self._delete())

    async def settled(self) -> None:
        """What was dropped is deleted, or given up."""
        if self._deleter is not None:
            await asyncio.wait([self._deleter])

    async def close(self) -> None:
        """End the uploads and delete what lies there, as far as that takes no longer than `DELETE_S`."""
        await cancel(list(self._uploads.values()))
        self.drop(list(self._uploads))
        if self._deleter is not None:
            await asyncio.wait([self._deleter], timeout=DELETE_S)
            await cancel([self._deleter])

    async def _put(self, digest: str, data: bytes) -> None:
        if len(self._uploads) > MAX_OBJECTS:
            raise BucketFailed(f"{MAX_OBJECTS} objects are there already")
        if digest in self._deleting:
            # It would be deleted by what was asked for before.
            await self._deleted.wait()
        async with self._turn:
            kind = {"Content-Type": "application/octet-stream"}
            put = partial(self._obstore.put_async, attributes=kind, use_multipart=False)
            await self._insist(partial(put, self._store, _name(digest), data), UPLOAD_S + len(data) / THIN_BYTES_S)
        self._bytes_out.add("bucket", len(data))

    async def _delete(self) -> None:
        while self._gone:
            batch = list(self._gone)[:MAX_DELETED]
            self._deleting, self._deleted = frozenset(batch), asyncio.Event()
            for digest in batch:
                del self._gone[digest]
            names = [_name(digest) for digest in batch]
            try:
                await self._insist(partial(self._obstore.delete_async, self._store, names), DELETE_S)
            except BucketFailed as error:
                logger.warning("{} objects stay in the bucket for its lifecycle rule: {}", len(batch), error)
            finally:
                self._deleting = frozenset()
                self._deleted.set()

    async def _insist(self, act: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Do it, again after a while where that may help. Raises BucketFailed."""
        for attempt in range(1, TRIES + 1):
            try:
                async with within(seconds):
                    await act()
                return
            except asyncio.TimeoutError:
                failed = BucketFailed(f"not done within {seconds:.0f} s")
            except Exception as error:
                failed = self._explain(error)
            if failed.final or attempt == TRIES:
                raise failed
            await asyncio.sleep(self._backoff.delay_s(attempt, random.random))

    def _explain(self, error: Exception) -> BucketFailed:
        text = str(error)
        code = _CODE.search(text)
        status = _STATUS.search(text)
        if code is not None and code[1] in _ADVICE:
            return BucketFailed(f"{code[1]}: {_ADVICE[code[1]]}", final=True)
        said = code[1] if code is not None else f"status {status[1]}" if status is not None else ""
        if not said:
            host = urlsplit(self._site.public_url()).netloc.rpartition("@")[2]
            return BucketFailed(f"no usable answer from {host}; check AWS_ENDPOINT_URL and the network")
        final = status is not None and status[1] in ("301", "307", "400", "401", "403", "404", "405", "501")
        return BucketFailed(f"the bucket answered {said}", final and said not in _PASSING)


def _name(digest: str) -> str:
    return f"{BLOBS}/{digest}".lstrip("/")
