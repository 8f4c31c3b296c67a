"""One spelling for events and states, so that two runs can be compared by a hash.

Lists and dicts keep their order: a state whose dicts are ordered otherwise would decide otherwise later.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from enum import Enum
from typing import Any

from iota_subnet.core.events import Event

_FIELDS: dict[type, tuple[str, ...]] = {}


def _fields(cls: type) -> tuple[str, ...]:
    """Names of the fields that take part in a comparison; what is only an index into the others does not."""
    if cls not in _FIELDS:
        if dataclasses.is_dataclass(cls):
            _FIELDS[cls] = tuple(field.name for field in dataclasses.fields(cls) if field.compare)
        else:
            _FIELDS[cls] = tuple(name for base in cls.__mro__ for name in getattr(base, "__slots__", ()))
    return _FIELDS[cls]


def _plain(value: Any) -> Any:
    """What `json` does not know by itself: records, sets, bytes."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    names = _fields(type(value)) or tuple(vars(value))
    return [type(value).__name__, *(_keyed(getattr(value, name)) for name in names)]


def _keyed(value: Any) -> Any:
    """A dict as a list of pairs: its order counts, and its keys need not be strings."""
    if isinstance(value, dict):
        return [[_key(key), _keyed(item)] for key, item in value.items()]
    return value


def _key(key: Any) -> Any:
    return key if isinstance(key, (str, int)) else repr(key)


def event_line(event: Event) -> str:
    """An event as one line of canonical JSON: no spaces, records as lists that begin with their name."""
    return json.dumps(_plain(event), default=_plain, separators=(",", ":"))


def ledger_hash(events: Iterable[Event]) -> str:
    """blake2b-256 over the lines of all events, in hex."""
    h = hashlib.blake2b(digest_size=32)
    for event in events:
        h.update(event_line(event).encode() + b"\n")
    return h.hexdigest()


def state_hash(state: object) -> str:
    """blake2b-256 over everything in a state, in hex."""
    text = json.dumps(_plain(state), default=_plain, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def combined(hashes: Iterable[str]) -> str:
    """blake2b-256 over several hashes, in their order."""
    return hashlib.blake2b("\n".join(hashes).encode(), digest_size=32).hexdigest()
