"""Reads the interface tables into plain dataclasses.

Notation (one item per line, continued by indentation)::

    Name = path::of::Type { field: T, ... }      struct, ``( T, ... )`` for unnamed fields
    Name = path::of::Type [ Variant, V2@5(T) ]   enum, ``@n`` sets the discriminant
    pallet Name index
    storage Name (I u16, B AccountId32) -> T     hashers I identity, B blake2-128 concat, T twox64 concat;
                                                 a trailing ``?`` makes it optional, ``= v`` gives the default
    const Name T = value | call Name index fields | event Name index fields | errors A, B, ...
    api Name version | method name (arg: T, ...) -> T

Names, shapes and indices are those of subtensor spec 424, restricted to what this chain serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from template.localnet import tables

HASHERS = {"I": "Identity", "B": "Blake2_128Concat", "T": "Twox64Concat"}


@dataclass(frozen=True)
class Field:
    """One field of a struct, variant, call, event or method; ``name`` is None for unnamed ones."""

    name: str | None
    type: str


@dataclass(frozen=True)
class Variant:
    """One call, event or case of an enum, with its number on the wire."""

    name: str
    index: int
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class TypeDef:
    """A named type: exactly one of ``fields`` (struct) and ``variants`` (enum) is not None."""

    name: str
    path: tuple[str, ...]
    params: tuple[Field, ...]
    fields: tuple[Field, ...] | None
    variants: tuple[Variant, ...] | None


@dataclass(frozen=True)
class StorageDef:
    """A storage entry. ``default`` is None for a zero value, else a decimal, boolean or hex literal."""

    pallet: str
    name: str
    hashers: tuple[str, ...]
    keys: tuple[str, ...]
    value: str
    optional: bool
    default: str | None


@dataclass(frozen=True)
class ConstDef:
    """A constant of a pallet."""

    name: str
    type: str
    value: int


@dataclass
class PalletDef:
    """One pallet: what of it is served."""

    name: str
    index: int
    storage: list[StorageDef] = field(default_factory=list)
    constants: list[ConstDef] = field(default_factory=list)
    calls: list[Variant] = field(default_factory=list)
    events: list[Variant] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MethodDef:
    """One method of a runtime API, with the types of its arguments and result."""

    api: str
    name: str
    inputs: tuple[Field, ...]
    output: str


@dataclass(frozen=True)
class Spec:
    """The whole served interface."""

    types: dict[str, TypeDef]
    pallets: dict[str, PalletDef]
    apis: dict[str, tuple[int, list[MethodDef]]]


def split_top(text: str) -> list[str]:
    """Split on commas that are outside of any bracket; blanks around the parts are dropped."""
    parts: list[str] = []
    depth, start = 0, 0
    for i, char in enumerate(text):
        if char in "<([{":
            depth += 1
        elif char in ">)]}" and text[i - 1 : i] != "-":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _lines(table: str) -> Iterator[str]:
    pending = ""
    for raw in table.strip().splitlines():
        if raw.startswith(" "):
            pending += " " + raw.strip()
            continue
        if pending:
            yield pending
        pending = raw.strip()
    if pending:
        yield pending


def _fields(text: str) -> tuple[Field, ...]:
    text = text.strip()
    if not text:
        return ()
    inner = split_top(text[1:-1])
    if text[0] == "{":
        return tuple(Field(name.strip(), kind.strip()) for name, kind in (part.split(":", 1) for part in inner))
    return tuple(Field(None, part) for part in inner)


def _variants(text: str) -> tuple[Variant, ...]:
    variants: list[Variant] = []
    following = 0
    for part in split_top(text):
        match = re.match(r"(\w+)(?:@(\d+))?\s*(.*)$", part)
        assert match is not None, part
        index = int(match[2]) if match[2] else following
        following = index + 1
        variants.append(Variant(match[1], index, _fields(match[3])))
    return tuple(variants)


def _type_def(line: str) -> TypeDef:
    match = re.match(r"(\w+)(?:<(.*?)>)? = ([\w:]+) ([{(\[].*)$", line)
    assert match is not None, line
    name, params, path, body = match.groups()
    parameters = _fields("{" + params + "}") if params else ()
    if body[0] == "[":
        return TypeDef(name, tuple(path.split("::")), parameters, None, _variants(body[1:-1]))
    return TypeDef(name, tuple(path.split("::")), parameters, _fields(body), None)


def _generated_types() -> dict[str, TypeDef]:
    """Types whose variants follow a rule: transaction eras and the raw data of commitments."""
    mortal = tuple(Variant(f"Mortal{i}", i, (Field(None, "u8"),)) for i in range(1, 256))
    era = TypeDef("Era", ("sp_runtime", "generic", "era", "Era"), (), None, (Variant("Immortal", 0), *mortal))
    raw = [Variant(f"Raw{i}", i + 1, (Field(None, f"[u8; {i}]"),)) for i in range(129)]
    digests = [
        Variant(name, 130 + i, (Field(None, "[u8; 32]"),))
        for i, name in enumerate(("BlakeTwo256", "Sha256", "Keccak256", "ShaThree256"))
    ]
    tail = [
        Variant("TimelockEncrypted", 134, (Field("encrypted", "BoundedVec<u8>"), Field("reveal_round", "u64"))),
        Variant("ResetBondsFlag", 135),
        Variant("BigRaw", 136, (Field(None, "BoundedVec<u8>"),)),
    ]
    variants = (Variant("None", 0), *raw, *digests, *tail)
    return {"Era": era, "Data": TypeDef("Data", ("pallet_commitments", "types", "Data"), (), None, variants)}


def _storage(pallet: str, text: str) -> StorageDef:
    match = re.match(r"(\w+) (?:\((.*?)\) )?-> (.+?)(?: (\?)| = (\S+))?$", text)
    assert match is not None, text
    keys = [part.split(" ", 1) for part in split_top(match[2] or "")]
    hashers = tuple(HASHERS[code] for code, _ in keys)
    return StorageDef(
        pallet, match[1], hashers, tuple(kind for _, kind in keys), match[3], match[4] is not None, match[5]
    )


def _pallets(table: str) -> dict[str, PalletDef]:
    pallets: dict[str, PalletDef] = {}
    current: PalletDef | None = None
    for line in _lines(table):
        kind, rest = line.split(" ", 1)
        if kind == "pallet":
            name, index = rest.split(" ")
            current = pallets[name] = PalletDef(name, int(index))
            continue
        assert current is not None, line
        if kind == "storage":
            current.storage.append(_storage(current.name, rest))
        elif kind == "const":
            head, value = rest.split(" = ")
            name, type_name = head.split(" ", 1)
            current.constants.append(ConstDef(name, type_name, int(value)))
        elif kind == "errors":
            current.errors.extend(split_top(rest))
        else:
            name, index, body = rest.split(" ", 2)
            target = current.calls if kind == "call" else current.events
            target.append(Variant(name, int(index), _fields(body)))
    return pallets


def _apis(table: str) -> dict[str, tuple[int, list[MethodDef]]]:
    apis: dict[str, tuple[int, list[MethodDef]]] = {}
    current = ""
    for line in _lines(table):
        kind, rest = line.split(" ", 1)
        if kind == "api":
            current, version = rest.split(" ")
            apis[current] = (int(version), [])
            continue
        match = re.match(r"(\w+) \((.*)\) -> (.+)$", rest)
        assert match is not None, line
        apis[current][1].append(MethodDef(current, match[1], _fields("{" + match[2] + "}"), match[3]))
    return apis


def _outer_enums(pallets: dict[str, PalletDef]) -> dict[str, TypeDef]:
    """RuntimeCall, RuntimeEvent, RuntimeError and the enum of every pallet that they are made of."""
    types: dict[str, TypeDef] = {}
    for kind in ("Call", "Event", "Error"):
        outer: list[Variant] = []
        for pallet in pallets.values():
            errors = [Variant(name, i) for i, name in enumerate(pallet.errors)]
            variants = {"Call": pallet.calls, "Event": pallet.events, "Error": errors}[kind]
            if not variants:
                continue
            snake = re.sub(r"(?<!^)(?=[A-Z])", "_", pallet.name).lower()
            inner = TypeDef(pallet.name + kind, (f"pallet_{snake}", "pallet", kind), (), None, tuple(variants))
            types[inner.name] = inner
            outer.append(Variant(pallet.name, pallet.index, (Field(None, inner.name),)))
        name = "Runtime" + kind
        types[name] = TypeDef(name, ("node_subtensor_runtime", name), (), None, tuple(outer))
    return types


@lru_cache(maxsize=1)
def load_spec() -> Spec:
    """Parse all tables once per process (about 10 ms)."""
    types = _generated_types()
    for line in _lines(tables.TYPES):
        definition = _type_def(line)
        types[definition.name] = definition
    pallets = _pallets("\n".join((tables.PALLETS, tables.SUBTENSOR_STORAGE, tables.SUBTENSOR_CALLS)))
    types.update(_outer_enums(pallets))
    return Spec(types, pallets, _apis(tables.RUNTIME_APIS))
