"""A chain state as JSON text and back: for the state file and for snapshots that people share.

Plain values stay as they are; everything else is a list with a tag: ``["b", hex]`` bytes, ``["l", ...]`` list,
``["t", ...]`` tuple, ``["r", j, value, ...]`` row of pairs, ``["d", [key, value], ...]`` dict, ``["e", name, value]``
enum value, ``["c", class, {...}]`` record. Nothing in it can run code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from template.localnet.codec import Enum, Some
from template.localnet.config import ChainConfig
from template.localnet.state import Account, ChainState, Hyperparameters, Subnet

_KINDS: tuple[Any, ...] = (Account, ChainConfig, ChainState, Hyperparameters, Subnet, Some)
_RECORDS: dict[str, Any] = {kind.__name__: kind for kind in _KINDS}
_LEFT_OUT = frozenset({"block_hashes"})  # kept with the blocks


class BadSnapshot(ValueError):
    """Text that is no state; one line for the user."""


def _is_row(value: tuple[Any, ...]) -> bool:
    return bool(value) and all(
        type(item) is tuple and len(item) == 2 and type(item[0]) is int and type(item[1]) is int for item in value
    )


def _pack(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return ["b", value.hex()]
    if isinstance(value, list):
        return ["l", *map(_pack, value)]
    if isinstance(value, Enum):  # before tuple: it is one
        return ["e", value.name, _pack(value.value)]
    if isinstance(value, tuple):
        return ["r", *(number for pair in value for number in pair)] if _is_row(value) else ["t", *map(_pack, value)]
    if isinstance(value, dict):
        return ["d", *([_pack(key), _pack(item)] for key, item in value.items())]
    names = [item.name for item in fields(value) if item.name not in _LEFT_OUT]
    return ["c", type(value).__name__, {name: _pack(getattr(value, name)) for name in names}]


def _row(parts: list[Any]) -> tuple[tuple[int, int], ...]:
    if not all(type(number) is int for number in parts):
        raise TypeError("a row holds integers")
    return tuple(zip(parts[::2], parts[1::2], strict=True))


def _record(parts: list[Any]) -> Any:
    name, values = parts
    return _RECORDS[name](**{key: _unpack(item) for key, item in values.items()})


_TAGS: dict[str, Callable[[list[Any]], Any]] = {
    "b": lambda parts: bytes.fromhex(parts[0]),
    "l": lambda parts: [_unpack(item) for item in parts],
    "t": lambda parts: tuple(_unpack(item) for item in parts),
    "r": _row,
    "d": lambda parts: {_unpack(key): _unpack(item) for key, item in parts},
    "e": lambda parts: Enum(str(parts[0]), _unpack(parts[1])),
    "c": _record,
}


def _unpack(value: Any) -> Any:
    return _TAGS[value[0]](value[1:]) if isinstance(value, list) else value


def dump_state(state: ChainState) -> str:
    """Everything but the hashes of earlier blocks."""
    return json.dumps(_pack(state), separators=(",", ":"))


def load_state(text: str) -> ChainState:
    """The state of :func:`dump_state`; raises BadSnapshot."""
    try:
        state = _unpack(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BadSnapshot(f"no state of this chain: {type(error).__name__}: {error}") from error
    if not isinstance(state, ChainState) or not isinstance(state.config, ChainConfig):
        raise BadSnapshot("no state of this chain")
    return state
