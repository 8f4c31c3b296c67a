"""Who gets blobs: the bytes a `BlobRef` names, from whichever of its URLs gives them.

Law: nothing is returned but `nbytes` bytes with that digest; nothing is buffered beyond `nbytes`; every wait ends; a
failure says who is to blame. URLs come from strangers: only http(s), no redirects, no passwords in them, and with
`public_only` no address of a private network. Ranges follow RFC 9110 section 14: a cut transfer goes on where it was.
"""

from __future__ import annotations

import asyncio
import functools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import SplitResult, urlsplit

import aiohttp

from iota_subnet.spec import BlobRef
from iota_subnet.wire.backoff import Backoff, Jitter
from iota_subnet.wire.digests import is_digest
from iota_subnet.wire.limits import within
from iota_subnet.wire.places import asks_ticket
from iota_subnet.wire.plain import Cut, NotPlain, Plain, Silent, is_plain
from iota_subnet.wire.resolve import PublicResolver, is_private_literal
from iota_subnet.wire.source import Fault, Intake, Kind, Source, judge
from iota_subnet.wire.stats import ByteCounter
from iota_subnet.wire.store import BlobStore
from iota_subnet.wire.together import Together

#: The kind reported when URLs failed differently: proofs of a lie first, then definite answers, then silence.
_GRAVEST: tuple[Kind, ...] = ("corrupt", "too_big", "refused", "missing", "timeout", "unreachable")

#: A URL of which no other try is made after such an answer.
_FINAL: frozenset[Kind] = frozenset({"corrupt", "too_big", "refused", "missing"})

MAX_URLS = 4
MAX_URL_CHARS = 4096

#: Bytes a second at which a blob is still worth waiting for.
THIN_BYTES_S = 64e3


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
        self._plain = Plain(connect_s, try_s, max_concurrent)
        self._together = Together(self._plain, self._slots, lambda nbytes: try_s + nbytes / min_bytes_s, max_blob_bytes)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> BlobFetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The fetcher may be used again afterwards."""
        await self._together.close()
        self._plain.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(self, ref: BlobRef, ticket: str, label: str = "blob") -> bytes:
        """The bytes of `ref`, from the local store or from its URLs; FetchFailed when nobody gave them.

        `ticket` is shown only to blob servers and relays (`places.asks_ticket`), never to an object store, which would
        refuse the request for it. `label` is the kind under which bytes are counted.
        """
        self._check(ref)
        found = await self._local(ref.digest)
        if found is not None:
            return found
        sources = self._sources(ref)
        found = await self._with_others(ref, ticket, label)
        if found is not None:
            return found
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

    async def _with_others(self, ref: BlobRef, ticket: str, label: str) -> bytes | None:
        """The blob in one answer with others that lie at the same place, if that works."""
        try:
            parts = self._check_url(ref.urls[0])
        except (Fault, ValueError):
            return None
        if not is_plain(parts, ticket) or not self._together.fits(parts, ref, ticket):
            return None
        return await self._together.ask(parts, ref, ticket, functools.partial(self.bytes_in.add, label))

    def _sources(self, ref: BlobRef) -> list[Source]:
        if not ref.urls:
            raise FetchFailed(ref.digest, "the reference has no URL", "missing")
        if len(ref.urls) > MAX_URLS:
            raise FetchFailed(ref.digest, f"the reference has more than {MAX_URLS} URLs", "refused")
        return [Source(url, ref.nbytes) for url in ref.urls]

    async def _download(self, ref: BlobRef, sources: list[Source], ticket: str, label: str) -> bytes:
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
                except Fault as fault:
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

    async def _try(self, ref: BlobRef, source: Source, ticket: str, label: str, limit_s: float) -> bytes:
        """One request of one URL within `limit_s` seconds; every failure is a Fault."""
        try:
            async with within(limit_s):
                return await self._request(ref, source, ticket, label)
        except aiohttp.ConnectionTimeoutError:
            raise Fault("unreachable", f"no connection within {self._connect_s} s") from None
        except (aiohttp.SocketTimeoutError, Silent):
            raise Fault("timeout", f"nothing for {self._try_s:.3g} s, {source.got} bytes so far") from None
        except asyncio.TimeoutError:
            raise Fault("timeout", f"not done within {limit_s:.3g} s, {source.got} bytes so far") from None
        except (aiohttp.ClientPayloadError, Cut):
            raise Fault("unreachable", f"cut after {source.got} of {ref.nbytes} bytes") from None
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError) as error:
            raise Fault("refused", f"no usable answer: {type(error).__name__}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Fault("unreachable", f"{type(error).__name__}: {error}"[:200]) from None

    async def _request(self, ref: BlobRef, source: Source, ticket: str, label: str) -> bytes:
        parts = self._check_url(source.url)
        headers = {"Accept-Encoding": "identity"}
        if ticket and asks_ticket(parts.path, ref.digest):
            headers["Authorization"] = f"Ticket {ticket}"
        if source.got:
            headers["Range"] = f"bytes={source.got}-"
        count = functools.partial(self.bytes_in.add, label)
        if is_plain(parts, ticket):
            try:
                await self._plain.get(parts, headers, Intake(source, ref, count))
                return source.finish(ref.digest)
            except NotPlain:
                pass
        async with self._client().get(source.url, headers=headers, allow_redirects=False) as response:
            judge(response.status, response.headers, response.content_length, source, ref)
            try:
                async for chunk in response.content.iter_any():
                    source.take(chunk)
                    count(len(chunk))
            except (aiohttp.ClientError, OSError):
                # All bytes may be here although the connection did not end cleanly.
                if source.got != ref.nbytes:
                    raise
        return source.finish(ref.digest)

    def _check_url(self, url: str) -> SplitResult:
        if len(url) > MAX_URL_CHARS:
            raise Fault("refused", f"a URL of more than {MAX_URL_CHARS} characters")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise Fault("refused", "only http(s) URLs with a host and without a password are fetched")
        if self._public_only and is_private_literal(parts.hostname):
            raise Fault("refused", "the URL names an address of a private network")
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


def _host(url: str) -> str:
    """Host and port of `url`, for people; a signed URL's query is a secret and is never shown."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "no host"
    except ValueError:
        return "not a URL"
