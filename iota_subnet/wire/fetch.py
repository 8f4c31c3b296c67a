"""Who gets blobs: the bytes a `BlobRef` names, from whichever of its URLs gives them.

Law: nothing is returned but `nbytes` bytes with that digest; nothing is buffered beyond `nbytes`; every wait ends; a
failure says who is to blame. URLs come from strangers: only http(s), no redirects, no passwords in them, and with
`public_only` no address of a private network. Ranges follow RFC 9110 section 14: a cut transfer goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import aiohttp
from blake3 import blake3

from iota_subnet.spec import BlobRef
from iota_subnet.wire.backoff import Backoff, Jitter
from iota_subnet.wire.digests import is_digest
from iota_subnet.wire.resolve import PublicResolver, is_private_literal
from iota_subnet.wire.stats import ByteCounter
from iota_subnet.wire.store import BlobStore

#: unreachable: no connection, cut, or busy. refused: it will not give it to us, or the reference is no good.
#: missing: it does not have it. corrupt: it gave other bytes. too_big: it gave or declared more than `nbytes`, or
#: `nbytes` is above our limit. timeout: bytes came too slowly or not at all.
Kind = Literal["unreachable", "refused", "missing", "corrupt", "too_big", "timeout"]

#: The kind reported when URLs failed differently: proofs of a lie first, then definite answers, then silence.
_GRAVEST: tuple[Kind, ...] = ("corrupt", "too_big", "refused", "missing", "timeout", "unreachable")

#: A URL of which no other try is made after such an answer.
_FINAL: frozenset[Kind] = frozenset({"corrupt", "too_big", "refused", "missing"})

MAX_URLS = 4
MAX_URL_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed try."""

    url: str
    kind: Kind
    reason: str


class FetchFailed(Exception):
    """No URL gave the blob. `kind` is the gravest of `attempts`, which are in order of time."""

    def __init__(self, digest: str, reason: str, kind: Kind, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(f"blob {digest[:12]}: {kind}: {reason}")
        self.digest = digest
        self.reason = reason
        self.kind = kind
        self.attempts = tuple(attempts)


class _Fault(Exception):
    """Why one try failed."""

    def __init__(self, kind: Kind, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry_after_s = retry_after_s


#: A chunk below this many bytes is copied to its neighbours: a drip of single bytes must not become a million objects.
_SMALL_BYTES = 4096


class _Source:
    """One URL and what it gave so far. Bytes of two URLs are never mixed: a wrong digest has one author."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.restart()

    def restart(self) -> None:
        self.got = 0
        self._parts: list[bytes] = []
        self._drip = bytearray()
        self._hasher = blake3()

    def take(self, chunk: bytes, nbytes: int) -> None:
        if self.got + len(chunk) > nbytes:
            self.restart()
            raise _Fault("too_big", f"sent more than the {nbytes} bytes of the reference")
        self.got += len(chunk)
        self._hasher.update(chunk)
        if len(chunk) < _SMALL_BYTES:
            self._drip += chunk
        else:
            self._settle()
            self._parts.append(chunk)

    def finish(self, ref: BlobRef) -> bytes:
        got, digest = self.got, self._hasher.hexdigest()
        self._settle()
        parts = self._parts
        self.restart()
        if got != ref.nbytes or digest != ref.digest:
            raise _Fault("corrupt", f"{got} of {ref.nbytes} bytes, with another digest")
        # One copy, into memory of the right size; a single part is not even copied.
        return b"".join(parts)

    def _settle(self) -> None:
        if self._drip:
            self._parts.append(bytes(self._drip))
            self._drip.clear()


class BlobFetcher:
    """Gets blobs of at most `max_blob_bytes`; at most `max_concurrent` at once, so memory is bounded by their product.

    `connect_s`, `try_s` and `total_s` limit a connection, one try of one URL, and one fetch (not the time it waits for
    its turn, which is nobody else's fault). A thin line is no fault either: a blob gets `nbytes / min_bytes_s` more for
    a try and in all, but a source that sends nothing for `try_s` is left all the same. The URLs are tried in order,
    `tries` times over with a pause in between.
    `store` is only looked into: whether a fetched blob is kept is for the caller to decide. `on_fault(digest, attempt)`
    hears of every failed try, also when another URL then gave the blob.
    """

    def __init__(
        self,
        max_blob_bytes: int,
        *,
        store: BlobStore | None = None,
        connect_s: float = 5.0,
        try_s: float = 30.0,
        total_s: float = 90.0,
        min_bytes_s: float = math.inf,
        tries: int = 4,
        max_concurrent: int = 16,
        backoff: Backoff | None = None,
        public_only: bool = False,
        jitter: Jitter = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_fault: Callable[[str, Attempt], object] | None = None,
    ) -> None:
        self.bytes_in = ByteCounter()
        self._max_blob_bytes = max_blob_bytes
        self._store = store
        self._connect_s = connect_s
        self._try_s = try_s
        self._total_s = total_s
        self._min_bytes_s = min_bytes_s
        self._tries = tries
        self._max_concurrent = max_concurrent
        self._backoff = backoff or Backoff(first_s=0.1, max_s=3.0)
        self._public_only = public_only
        self._jitter = jitter
        self._sleep = sleep
        self._on_fault = on_fault
        self._slots = asyncio.Semaphore(max_concurrent)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> BlobFetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The fetcher may be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(self, ref: BlobRef, ticket: str, label: str = "blob") -> bytes:
        """The bytes of `ref`, from the local store or from its URLs; FetchFailed when nobody gave them.

        `ticket` is shown only to URLs of a blob server (`.../v1/blobs/<digest>`), never to an object store, whose
        signed URLs would break and which has no business with it. `label` is the kind under which bytes are counted.
        """
        self._check(ref)
        found = await self._local(ref.digest)
        if found is not None:
            return found
        sources = self._sources(ref)
        async with self._slots:
            return await self._download(ref, sources, ticket, label)

    def _check(self, ref: BlobRef) -> None:
        if not is_digest(ref.digest) or ref.nbytes < 0:
            raise FetchFailed(ref.digest, "not a reference: bad digest or size", "refused")
        if ref.nbytes > self._max_blob_bytes:
            reason = f"{ref.nbytes} bytes are above the limit of {self._max_blob_bytes}"
            raise FetchFailed(ref.digest, reason, "too_big")

    async def _local(self, digest: str) -> bytes | None:
        if self._store is None or not self._store.has(digest):
            return None
        if self._store.on_disk:
            return await asyncio.to_thread(self._store.get, digest)
        return self._store.get(digest)

    def _sources(self, ref: BlobRef) -> list[_Source]:
        if not ref.urls:
            raise FetchFailed(ref.digest, "the reference has no URL", "missing")
        if len(ref.urls) > MAX_URLS:
            raise FetchFailed(ref.digest, f"the reference has more than {MAX_URLS} URLs", "refused")
        return [_Source(url) for url in ref.urls]

    async def _download(self, ref: BlobRef, sources: list[_Source], ticket: str, label: str) -> bytes:
        """Round after round over the URLs that may still give it; FetchFailed when none is left, or no time."""
        now = asyncio.get_running_loop().time
        more_s = ref.nbytes / self._min_bytes_s
        deadline = now() + self._total_s + more_s
        attempts: list[Attempt] = []
        hint_s = 0.0
        for round_ in range(self._tries):
            if round_:
                pause_s = max(self._backoff.delay_s(round_, self._jitter), hint_s)
                hint_s = 0.0
                await self._sleep(max(0.0, min(pause_s, deadline - now())))
            for source in list(sources):
                left_s = deadline - now()
                if left_s <= 0:
                    sources.clear()
                    break
                try:
                    return await self._try(ref, source, ticket, label, min(self._try_s + more_s, left_s))
                except _Fault as fault:
                    attempt = Attempt(source.url, fault.kind, fault.reason)
                    hint_s = max(hint_s, min(fault.retry_after_s, self._backoff.max_s))
                attempts.append(attempt)
                if self._on_fault is not None:
                    self._on_fault(ref.digest, attempt)
                if attempt.kind in _FINAL:
                    sources.remove(source)
            if not sources:
                break
        worst = min(attempts, key=lambda attempt: _GRAVEST.index(attempt.kind))
        raise FetchFailed(ref.digest, f"{worst.reason} ({_host(worst.url)})", worst.kind, attempts)

    async def _try(self, ref: BlobRef, source: _Source, ticket: str, label: str, limit_s: float) -> bytes:
        """One request of one URL within `limit_s` seconds; every failure is a _Fault."""
        try:
            return await asyncio.wait_for(self._request(ref, source, ticket, label), limit_s)
        except aiohttp.ConnectionTimeoutError:
            raise _Fault("unreachable", f"no connection within {self._connect_s} s") from None
        except aiohttp.SocketTimeoutError:
            raise _Fault("timeout", f"nothing for {self._try_s:.3g} s, {source.got} bytes so far") from None
        except asyncio.TimeoutError:
            raise _Fault("timeout", f"not done within {limit_s:.3g} s, {source.got} bytes so far") from None
        except aiohttp.ClientPayloadError:
            raise _Fault("unreachable", f"cut after {source.got} of {ref.nbytes} bytes") from None
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError) as error:
            raise _Fault("refused", f"no usable answer: {type(error).__name__}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Fault("unreachable", f"{type(error).__name__}: {error}"[:200]) from None

    async def _request(self, ref: BlobRef, source: _Source, ticket: str, label: str) -> bytes:
        parts = self._check_url(source.url)
        headers = {"Accept-Encoding": "identity"}
        if ticket and parts.path.endswith(f"/v1/blobs/{ref.digest}"):
            headers["Authorization"] = f"Ticket {ticket}"
        if source.got:
            headers["Range"] = f"bytes={source.got}-"
        async with self._client().get(source.url, headers=headers, allow_redirects=False) as response:
            _judge(response, source, ref)
            try:
                async for chunk in response.content.iter_any():
                    source.take(chunk, ref.nbytes)
                    self.bytes_in.add(label, len(chunk))
            except (aiohttp.ClientError, OSError):
                # All bytes may be here although the connection did not end cleanly.
                if source.got != ref.nbytes:
                    raise
        return source.finish(ref)

    def _check_url(self, url: str) -> SplitResult:
        if len(url) > MAX_URL_CHARS:
            raise _Fault("refused", f"a URL of more than {MAX_URL_CHARS} characters")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise _Fault("refused", "only http(s) URLs with a host and without a password are fetched")
        if self._public_only and is_private_literal(parts.hostname):
            raise _Fault("refused", "the URL names an address of a private network")
        return parts

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = PublicResolver() if self._public_only else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_concurrent, resolver=resolver),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=self._try_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed answer is not the blob; unpacking it would only give a bomb its chance.
                auto_decompress=False,
                read_bufsize=1 << 18,
            )
        return self._session


def _judge(response: aiohttp.ClientResponse, source: _Source, ref: BlobRef) -> None:
    """Whether the body that follows can be (the rest of) the blob; else a _Fault. Nothing of the body was read yet."""
    status = response.status
    if status in (429, 503):
        hint = response.headers.get("Retry-After", "")
        raise _Fault("unreachable", f"busy ({status})", float(hint) if hint.isdecimal() and len(hint) < 6 else 0.0)
    if status >= 500:
        raise _Fault("unreachable", f"the server failed ({status})")
    if status in (404, 410):
        raise _Fault("missing", f"it does not have the blob ({status})")
    if 300 <= status < 400:
        raise _Fault("refused", f"redirects are not followed ({status})")
    if status == 416 and source.got:
        source.restart()
        raise _Fault("unreachable", "it would not go on where it was cut (416)")
    if status not in (200, 206) or (status == 206 and not source.got):
        raise _Fault("refused", f"it refused ({status})")
    if status == 200:
        source.restart()
    else:
        expected = f"bytes {source.got}-{ref.nbytes - 1}/{ref.nbytes}"
        if response.headers.get("Content-Range", "") != expected:
            source.restart()
            raise _Fault("corrupt", "it went on with another range than the one asked for")
    declared = response.content_length
    wanted = ref.nbytes - source.got
    if declared is not None and declared > wanted:
        raise _Fault("too_big", f"declares {declared} bytes where {wanted} are due")
    if declared is not None and declared < wanted:
        raise _Fault("corrupt", f"declares {declared} bytes where {wanted} are due")


def _host(url: str) -> str:
    """Host and port of `url`, for people; a signed URL's query is a secret and is never shown."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "no host"
    except ValueError:
        return "not a URL"
