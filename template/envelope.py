"""What is signed, what is fresh, what was seen before: the rules of a signed call, without any I/O or SDK.

A request signs `issued_ns.caller.receiver.request_id.digest`, the SDK's own line, so that an SDK user finds what he
expects; but the digest covers (class name, receiver's session, body bytes as sent) instead of chosen fields.
A reply signs `issued_ns.axon.caller.request_id.digest`, its digest covering (class name, request digest, status,
session, body bytes). The two digests carry different first words, so a reply can never pass as a request.

The session is a random id drawn by the receiver at each start. Nothing signed before a restart names the new one, so
whatever was issued before is refused without any state on disk and whatever the clocks say.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from template.errors import Refused

AXON = "bt_header_axon_"
DENDRITE = "bt_header_dendrite_"
BODY_HASH = "computed_body_hash"
NS = 1_000_000_000

STALE_SESSION = 409
TOO_LARGE = 413

_HOTKEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{46,49}")
_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"0x[0-9a-f]{128}")
_NUMBER = re.compile(r"[0-9]{1,20}")


def _digest(*parts: bytes) -> str:
    sha = hashlib.sha3_256()
    for part in parts:
        # The length before each part: no two different lists of parts hash the same bytes.
        sha.update(len(part).to_bytes(8, "big"))
        sha.update(part)
    return sha.hexdigest()


def request_digest(name: str, session: str, body: bytes) -> str:
    """Digest of a request: its class, the receiver's session it was meant for, and the body bytes as sent."""
    return _digest(b"request", name.encode(), session.encode(), body)


def reply_digest(name: str, request: str, status: int, session: str, body: bytes) -> str:
    """Digest of a reply: bound to the digest of its request, to the HTTP status and to the answering session."""
    return _digest(b"reply", name.encode(), request.encode(), str(status).encode(), session.encode(), body)


def signed_line(issued_ns: int, sender: str, receiver: str, request_id: str, digest: str) -> bytes:
    """The bytes that a hotkey signs; the SDK's format (bittensor 10.5, `Axon.default_verify`)."""
    return f"{issued_ns}.{sender}.{receiver}.{request_id}.{digest}".encode()


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The claims in a request's headers, checked for shape only. All strings have a fixed alphabet: none has a dot."""

    name: str
    caller: str
    receiver: str
    session: str
    request_id: str
    issued_ns: int
    digest: str
    signature: str

    @property
    def line(self) -> bytes:
        """What `signature` must sign."""
        return signed_line(self.issued_ns, self.caller, self.receiver, self.request_id, self.digest)


def parse_head(name: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[RequestHead, int | None]:
    """The head, and the announced body length in bytes (None for a chunked body).

    Raises Refused(400) for anything missing, repeated or misshapen. The SDK's `timeout` and `version` headers are not
    read at all: they are unsigned, and the SDK lets them widen or switch off its own freshness check.
    """
    found: dict[str, str] = {}
    for raw_key, raw_value in headers:
        key = raw_key.decode("latin-1").lower()
        if key in found:
            raise Refused(f"header {key[:40]} is repeated", 400)
        found[key] = raw_value.decode("latin-1")

    def take(key: str, pattern: re.Pattern[str]) -> str:
        value = found.get(key, "")
        if not pattern.fullmatch(value):
            raise Refused(f"header {key} is missing or malformed", 400)
        return value

    head = RequestHead(
        name=name,
        caller=take(f"{DENDRITE}hotkey", _HOTKEY),
        receiver=take(f"{AXON}hotkey", _HOTKEY),
        # A first call does not know the session yet; it is told by the refusal.
        session=take(f"{AXON}uuid", _ID) if f"{AXON}uuid" in found else "",
        request_id=take(f"{DENDRITE}uuid", _ID),
        issued_ns=int(take(f"{DENDRITE}nonce", _NUMBER)),
        digest=take(BODY_HASH, _DIGEST),
        signature=take(f"{DENDRITE}signature", _SIGNATURE),
    )
    length = int(take("content-length", _NUMBER)) if "content-length" in found else None
    return head, length


@dataclass(slots=True)
class _Seen:
    """The request ids of one caller, in the order of arrival, with the time at which each stops being fresh."""

    ids: set[str] = field(default_factory=set)
    queue: deque[tuple[int, str]] = field(default_factory=deque)


class ReplayGuard:
    """Lets each signed request through once, and only while it is fresh. Bounded in memory.

    `window_s`: how far, in seconds, the caller's clock may be behind or ahead. `per_caller_max`: requests of one
    caller within two windows; one more is refused, so that a member who floods only locks out itself.
    """

    def __init__(self, window_s: float = 30.0, per_caller_max: int = 20_000, callers_max: int = 4096) -> None:
        self.window_ns = int(window_s * NS)
        self.per_caller_max = per_caller_max
        self.callers_max = callers_max
        self._seen: dict[str, _Seen] = {}

    def check_fresh(self, issued_ns: int, now_ns: int) -> None:
        """Raise Refused(401) when the request was issued too long ago or too far in the future."""
        skew_s = (issued_ns - now_ns) / NS
        if abs(issued_ns - now_ns) > self.window_ns:
            side = "ahead of" if skew_s > 0 else "behind"
            raise Refused(
                f"your clock is {abs(skew_s):.0f} s {side} mine, {self.window_ns // NS} s are allowed; "
                "set it, for example with: timedatectl set-ntp true",
                401,
            )

    def admit(self, caller: str, request_id: str, issued_ns: int, now_ns: int) -> None:
        """Remember the request. Raise Refused(401) when it was seen before, Refused(429) when the caller floods."""
        seen = self._seen.get(caller)
        if seen is None:
            if len(self._seen) >= self.callers_max:
                self._forget_stale(now_ns)
            if len(self._seen) >= self.callers_max:
                raise Refused("too many different callers, try again in a minute", 429)
            seen = self._seen[caller] = _Seen()
        self._expire(seen, now_ns)
        if request_id in seen.ids:
            raise Refused("this request was sent before (replay)", 401)
        if len(seen.ids) >= self.per_caller_max:
            raise Refused("too many requests, slow down", 429)
        seen.ids.add(request_id)
        seen.queue.append((issued_ns + self.window_ns, request_id))

    @property
    def size(self) -> int:
        """How many request ids are remembered."""
        return sum(len(seen.ids) for seen in self._seen.values())

    def _expire(self, seen: _Seen, now_ns: int) -> None:
        # Arrival order is not quite the order of expiry, but an entry outstays by at most two windows.
        while seen.queue and seen.queue[0][0] < now_ns:
            seen.ids.discard(seen.queue.popleft()[1])

    def _forget_stale(self, now_ns: int) -> None:
        for caller in list(self._seen):
            self._expire(self._seen[caller], now_ns)
            if not self._seen[caller].ids:
                del self._seen[caller]
