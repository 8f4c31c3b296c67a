"""Compiles type expressions of the interface tables into SCALE encoders and decoders.

Python side of the values:

* integers and ``Compact<..>``: int; ``bool``: bool; ``str``: str; bytes for ``[u8; n]``, ``Vec<u8>``, account ids
* ``Vec<T>``, ``BTreeSet<T>``: list; ``(A, B)``: tuple; ``BTreeMap<K, V>``: dict
* ``Option<T>``: None or the value; :class:`Some` marks an inner None (``Option<Option<T>>``)
* structs with named fields: dict; one unnamed field: the value itself; several: tuple
* enums: :class:`Enum` (name, payload); a unit variant may be given as its bare name when encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from template.localnet.scale import Reader, ScaleError, encode_compact
from template.localnet.spec import Field, Spec, TypeDef, load_spec, split_top

Encoder = Callable[[Any], bytes]
Decoder = Callable[[Reader], Any]

_INT_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16, "256": 32}
_STRUCT_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


class Enum(NamedTuple):
    """A decoded enum value: variant name and payload (None for a unit variant)."""

    name: str
    value: Any = None


@dataclass(frozen=True)
class Some:
    """Wraps the payload of an Option whose payload may itself be None."""

    value: Any


class Codec(NamedTuple):
    """``encode(value) -> bytes`` and ``decode(reader) -> value`` of one type."""

    encode: Encoder
    decode: Decoder


def _integer(name: str) -> Codec:
    size, signed = _INT_SIZES[name[1:]], name[0] == "i"

    def encode(value: Any) -> bytes:
        return int(value).to_bytes(size, "little", signed=signed)

    def decode(reader: Reader) -> int:
        return int.from_bytes(reader.take(size), "little", signed=signed)

    return Codec(encode, decode)


def _decode_bool(reader: Reader) -> bool:
    value = reader.uint(1)
    if value > 1:
        raise ScaleError(f"{value} is no boolean")
    return value == 1


def _encode_raw(value: Any) -> bytes:
    return encode_compact(len(value)) + bytes(value)


def _decode_raw(reader: Reader) -> bytes:
    return reader.take(reader.compact())


def _encode_str(value: Any) -> bytes:
    return _encode_raw(str(value).encode())


_BASE: dict[str, Codec] = {
    "bool": Codec(lambda value: b"\x01" if value else b"\x00", _decode_bool),
    "str": Codec(_encode_str, lambda reader: _decode_raw(reader).decode()),
    "()": Codec(lambda value: b"", lambda reader: None),
    **{sign + bits: _integer(sign + bits) for sign in "ui" for bits in _INT_SIZES},
}


def _fixed_bytes(size: int) -> Codec:
    def encode(value: Any) -> bytes:
        if len(value) != size:
            raise ScaleError(f"wanted {size} bytes, got {len(value)}")
        return bytes(value)

    return Codec(encode, lambda reader: reader.take(size))


def _sequence(inner: Codec, code: str | None) -> Codec:
    """Vec of any type; ``code`` is the struct code of a fixed-size integer, which packs in one call."""

    def encode(value: Sequence[Any]) -> bytes:
        if code is not None:
            return encode_compact(len(value)) + struct.pack(f"<{len(value)}{code}", *value)
        return encode_compact(len(value)) + b"".join([inner.encode(item) for item in value])

    def decode(reader: Reader) -> list[Any]:
        count = reader.compact()
        if count > reader.remaining:
            raise ScaleError(f"a sequence of {count} items cannot fit")
        return [inner.decode(reader) for _ in range(count)]

    return Codec(encode, decode)


def _array(inner: Codec, count: int) -> Codec:
    return Codec(
        lambda value: b"".join([inner.encode(item) for item in value]),
        lambda reader: [inner.decode(reader) for _ in range(count)],
    )


def _tuple(parts: list[Codec]) -> Codec:
    def encode(value: Sequence[Any]) -> bytes:
        return b"".join([part.encode(item) for part, item in zip(parts, value, strict=True)])

    return Codec(encode, lambda reader: tuple([part.decode(reader) for part in parts]))


def _struct(names: list[str], parts: list[Codec]) -> Codec:
    pairs = [(name, part.encode) for name, part in zip(names, parts, strict=True)]
    decoders = [(name, part.decode) for name, part in zip(names, parts, strict=True)]

    def encode(value: Any) -> bytes:
        return b"".join([encoder(value[name]) for name, encoder in pairs])

    return Codec(encode, lambda reader: {name: decoder(reader) for name, decoder in decoders})


def _option(inner: Codec) -> Codec:
    def encode(value: Any) -> bytes:
        if value is None:
            return b"\x00"
        return b"\x01" + inner.encode(value.value if isinstance(value, Some) else value)

    def decode(reader: Reader) -> Any:
        return inner.decode(reader) if _decode_bool(reader) else None

    return Codec(encode, decode)


def _mapping(pairs: Codec) -> Codec:
    return Codec(lambda value: pairs.encode(sorted(value.items())), lambda reader: dict(pairs.decode(reader)))


class Codecs:
    """Codec of every type expression, compiled on first use and kept."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._known: dict[str, Codec] = dict(_BASE)

    def get(self, expression: str) -> Codec:
        """The codec of e.g. ``Vec<(u16, AccountId32)>``; KeyError for an unknown name."""
        codec = self._known.get(expression)
        if codec is None:
            codec = self._known[expression] = self._compile(expression)
        return codec

    def encode(self, expression: str, value: Any) -> bytes:
        """The SCALE bytes of a value of the type that `expression` names."""
        return self.get(expression).encode(value)

    def decode(self, expression: str, data: bytes) -> Any:
        """Decode exactly all of ``data``; raises :class:`ScaleError` for short or left-over bytes."""
        reader = Reader(data)
        try:
            value = self.get(expression).decode(reader)
        except (RecursionError, UnicodeDecodeError) as error:
            raise ScaleError(f"not a valid {expression}: {type(error).__name__}") from error
        if reader.remaining:
            raise ScaleError(f"{reader.remaining} bytes left after {expression}")
        return value

    def zero(self, expression: str) -> bytes:
        """Encoding of the default value: zeros, empty sequences, None, first variant."""
        if expression in ("bool", "str") or expression.startswith(("Vec<", "Option<", "BTree", "Bounded", "Compact<")):
            return b"\x00"
        if expression[0] in "ui" and expression[1:] in _INT_SIZES:
            return bytes(_INT_SIZES[expression[1:]])
        if expression[0] == "(":
            return b"".join(self.zero(part) for part in split_top(expression[1:-1]))
        if expression[0] == "[":
            inner, count = expression[1:-1].rsplit("; ", 1)
            return self.zero(inner) * int(count)
        definition = self._spec.types[expression]
        if definition.fields is not None:
            return b"".join(self.zero(part.type) for part in definition.fields)
        first = (definition.variants or ())[0]
        return bytes((first.index,)) + b"".join(self.zero(part.type) for part in first.fields)

    def _compile(self, expression: str) -> Codec:
        if expression[0] == "(":
            return _tuple([self.get(part) for part in split_top(expression[1:-1])])
        if expression[0] == "[":
            inner, count = expression[1:-1].rsplit("; ", 1)
            return _fixed_bytes(int(count)) if inner == "u8" else _array(self.get(inner), int(count))
        if expression.endswith(">"):
            return self._generic(*expression[:-1].split("<", 1))
        return self._named(self._spec.types[expression])

    def _generic(self, head: str, body: str) -> Codec:
        if head == "Compact":
            return _BASE["()"] if body == "()" else Codec(encode_compact, Reader.compact)
        if head in ("Vec", "BoundedVec", "BTreeSet"):
            if body == "u8":
                return Codec(_encode_raw, _decode_raw)
            return _sequence(self.get(body), _STRUCT_CODES.get(body))
        if head == "Option":
            return _option(self.get(body))
        if head == "BTreeMap":
            return _mapping(self.get(f"Vec<({body})>"))
        if head == "Result":
            ok, error = split_top(body)
            return self._enum([("Ok", 0, self.get(ok)), ("Err", 1, self.get(error))])
        raise KeyError(f"unknown generic {head}")

    def _named(self, definition: TypeDef) -> Codec:
        if definition.fields is not None:
            return self._fields(definition.fields)
        variants = definition.variants or ()
        return self._enum([(v.name, v.index, self._lazy(v.fields)) for v in variants])

    def _fields(self, fields: tuple[Field, ...]) -> Codec:
        parts = [self.get(part.type) for part in fields]
        if not fields:
            return _BASE["()"]
        if fields[0].name is not None:
            return _struct([str(part.name) for part in fields], parts)
        return parts[0] if len(parts) == 1 else _tuple(parts)

    def _lazy(self, fields: tuple[Field, ...]) -> Codec:
        """Compile at first use: calls contain calls, so compiling eagerly would not end."""
        found: list[Codec] = []

        def resolve() -> Codec:
            if not found:
                found.append(self._fields(fields))
            return found[0]

        return Codec(lambda value: resolve().encode(value), lambda reader: resolve().decode(reader))

    @staticmethod
    def _enum(variants: list[tuple[str, int, Codec]]) -> Codec:
        by_name = {name: (bytes((index,)), codec) for name, index, codec in variants}
        by_index = {index: (name, codec) for name, index, codec in variants}

        def encode(value: Any) -> bytes:
            name, payload = (value, None) if isinstance(value, str) else value
            prefix, codec = by_name[name]
            return prefix + codec.encode(payload)

        def decode(reader: Reader) -> Enum:
            index = reader.uint(1)
            if index not in by_index:
                raise ScaleError(f"no variant {index}")
            name, codec = by_index[index]
            return Enum(name, codec.decode(reader))

        return Codec(encode, decode)


@lru_cache(maxsize=1)
def load_codecs() -> Codecs:
    """The codecs of the served interface, shared by the whole process."""
    return Codecs(load_spec())
