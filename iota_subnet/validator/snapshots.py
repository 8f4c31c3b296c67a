"""A state as bytes, and back to the bit.

Everything is encoded by the types of the dataclasses themselves, so a new field needs nothing here. What a dataclass
leaves out of its comparison is derived from the rest and left out here too; `decode` derives it anew. Dicts keep their
order. The same state gives the same bytes, so their digest names the state.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, get_type_hints

import msgspec

from iota_subnet.core.state import RunState

_KEPT = [field for field in dataclasses.fields(RunState) if field.compare]


def _body() -> type[msgspec.Struct]:
    """`RunState` without what is derived."""
    hints = get_type_hints(RunState)
    fields: list[Any] = []
    for field in _KEPT:
        if field.default is not dataclasses.MISSING:
            fields.append((field.name, hints[field.name], msgspec.field(default=field.default)))
        elif field.default_factory is not dataclasses.MISSING:
            fields.append((field.name, hints[field.name], msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, hints[field.name]))
    return msgspec.defstruct("Body", fields, forbid_unknown_fields=True)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_body())


def encode(state: RunState) -> bytes:
    """msgpack: maps from the names of fields to their values."""
    return _ENCODER.encode({field.name: getattr(state, field.name) for field in _KEPT})


def decode(body: bytes) -> RunState:
    """The state, ready for its next event.

    Raises:
        msgspec.MsgspecError, ValueError: not a state of this release.
    """
    raw = _DECODER.decode(body)
    state = RunState(**{field.name: getattr(raw, field.name) for field in _KEPT})
    if state.manifests:
        state.index.rebuild(state)
    return state


def digest(body: bytes) -> bytes:
    """blake2b-256 over an encoded state."""
    return hashlib.blake2b(body, digest_size=32).digest()


def state_hash(state: RunState) -> str:
    """What names a state, in hex. Two states that differ only in the order of a dict have different names."""
    return digest(encode(state)).hex()
