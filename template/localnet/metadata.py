"""Encodes runtime metadata V15 and V14 from the interface tables.

Layout facts are those of the public frame-metadata format; clients (bittensor 10.5 with cyscale 0.5.0) ask for V15
through ``Metadata_metadata_at_version`` and need type names on all fields, the well-known type paths, and the type
parameters of generic containers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from template.localnet.codec import Codecs, load_codecs
from template.localnet.errors import ERROR_DOCS
from template.localnet.scale import encode_compact, encode_text
from template.localnet.spec import Field, PalletDef, Spec, StorageDef, Variant, load_spec, split_top

MAGIC = b"meta"
_PRIMITIVES = ("bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "u256", "i8", "i16", "i32", "i64", "i128")
_HASHER_INDEX = {"Blake2_128Concat": 2, "Twox64Concat": 5, "Identity": 6}
_BOUNDED_VEC = ("bounded_collections", "bounded_vec", "BoundedVec")

# identifier, type inside the extrinsic, type in the signed payload only
SIGNED_EXTENSIONS = (
    ("CheckNonZeroSender", "()", "()"),
    ("CheckSpecVersion", "()", "u32"),
    ("CheckTxVersion", "()", "u32"),
    ("CheckGenesis", "()", "H256"),
    ("CheckMortality", "Era", "H256"),
    ("CheckNonce", "Compact<u32>", "()"),
    ("CheckWeight", "()", "()"),
    ("ChargeTransactionPayment", "Compact<u64>", "()"),
    ("CheckMetadataHash", "CheckMetadataHashMode", "Option<[u8; 32]>"),
)


def _vec(items: Sequence[bytes]) -> bytes:
    return encode_compact(len(items)) + b"".join(items)


def _docs(*lines: str) -> bytes:
    return _vec([encode_text(line) for line in lines])


def _option(encoded: bytes | None) -> bytes:
    return b"\x00" if encoded is None else b"\x01" + encoded


class _Registry:
    """Portable type registry: gives every type expression an id and keeps its encoded definition."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._ids: dict[str, int] = {}
        self._encoded: list[bytes] = []

    def encoded(self) -> bytes:
        return _vec(self._encoded)

    def ref(self, expression: str) -> bytes:
        return encode_compact(self.id(expression))

    def id(self, expression: str) -> int:
        if expression in self._ids:
            return self._ids[expression]
        number = self._ids[expression] = len(self._encoded)
        self._encoded.append(b"")
        self._encoded[number] = encode_compact(number) + self._define(expression)
        return number

    def _type(self, path: Sequence[str], params: Sequence[tuple[str, str | None]], definition: bytes) -> bytes:
        encoded_params = [
            encode_text(name) + _option(None if kind is None else self.ref(kind)) for name, kind in params
        ]
        return _vec([encode_text(part) for part in path]) + _vec(encoded_params) + definition + _docs()

    def _fields(self, fields: Sequence[Field]) -> bytes:
        return _vec(
            [
                _option(None if item.name is None else encode_text(item.name))
                + self.ref(item.type)
                + _option(encode_text(item.type))
                + _docs()
                for item in fields
            ]
        )

    def _composite(self, fields: Sequence[Field]) -> bytes:
        return b"\x00" + self._fields(fields)

    def _variants(self, variants: Sequence[Variant], docs: Callable[[str], tuple[str, ...]]) -> bytes:
        return b"\x01" + _vec(
            [encode_text(v.name) + self._fields(v.fields) + bytes((v.index,)) + _docs(*docs(v.name)) for v in variants]
        )

    def _define(self, expression: str) -> bytes:
        if expression in _PRIMITIVES:
            return self._type((), (), bytes((5, _PRIMITIVES.index(expression))))
        if expression[0] == "(":
            parts = split_top(expression[1:-1])
            return self._type((), (), b"\x04" + _vec([self.ref(part) for part in parts]))
        if expression[0] == "[":
            inner, count = expression[1:-1].rsplit("; ", 1)
            return self._type((), (), b"\x03" + int(count).to_bytes(4, "little") + self.ref(inner))
        if expression.endswith(">"):
            return self._generic(*expression[:-1].split("<", 1))
        return self._named(expression)

    def _generic(self, head: str, body: str) -> bytes:
        parts = split_top(body)
        if head == "Vec":
            return self._type((), (), b"\x02" + self.ref(body))
        if head == "Compact":
            return self._type((), (), b"\x06" + self.ref(body))
        if head == "Option":
            some = (Variant("None", 0), Variant("Some", 1, (Field(None, body),)))
            return self._type(("Option",), (("T", body),), self._variants(some, lambda name: ()))
        if head == "Result":
            both = (Variant("Ok", 0, (Field(None, parts[0]),)), Variant("Err", 1, (Field(None, parts[1]),)))
            params = (("T", parts[0]), ("E", parts[1]))
            return self._type(("Result",), params, self._variants(both, lambda name: ()))
        if head == "BoundedVec":
            params_bounded = (("T", body), ("S", None))
            return self._type(_BOUNDED_VEC, params_bounded, self._composite((Field(None, f"Vec<{body}>"),)))
        if head == "BTreeMap":
            params = (("K", parts[0]), ("V", parts[1]))
            return self._type(("BTreeMap",), params, self._composite((Field(None, f"Vec<({body})>"),)))
        if head == "BTreeSet":
            return self._type(("BTreeSet",), (("T", body),), self._composite((Field(None, f"Vec<{body}>"),)))
        raise KeyError(f"unknown generic {head}")

    def _named(self, name: str) -> bytes:
        definition = self._spec.types[name]
        params = [(str(param.name), param.type) for param in definition.params]
        if definition.fields is not None:
            return self._type(definition.path, params, self._composite(definition.fields))
        pallet = name.removesuffix("Error")

        def docs(variant: str) -> tuple[str, ...]:
            text = ERROR_DOCS.get(f"{pallet}.{variant}")
            return () if text is None else (text,)

        return self._type(definition.path, params, self._variants(definition.variants or (), docs))


def default_bytes(codecs: Codecs, entry: StorageDef) -> bytes:
    """What a missing key of ``entry`` reads as (a single zero byte for optional entries)."""
    if entry.optional:
        return b"\x00"
    if entry.default is None:
        return codecs.zero(entry.value)
    if entry.default.startswith("0x"):
        return bytes.fromhex(entry.default[2:])
    if entry.value == "U64F64":
        return codecs.encode(entry.value, {"bits": int(entry.default)})
    return codecs.encode(entry.value, entry.default == "True" if entry.value == "bool" else int(entry.default))


def _storage_entry(registry: _Registry, codecs: Codecs, entry: StorageDef) -> bytes:
    if entry.keys:
        key = entry.keys[0] if len(entry.keys) == 1 else "(" + ", ".join(entry.keys) + ")"
        hashers = _vec([bytes((_HASHER_INDEX[name],)) for name in entry.hashers])
        kind = b"\x01" + hashers + registry.ref(key) + registry.ref(entry.value)
    else:
        kind = b"\x00" + registry.ref(entry.value)
    default = default_bytes(codecs, entry)
    modifier = b"\x00" if entry.optional else b"\x01"
    return encode_text(entry.name) + modifier + kind + encode_compact(len(default)) + default + _docs()


def _pallet(registry: _Registry, codecs: Codecs, pallet: PalletDef, constants: Mapping[str, int]) -> bytes:
    storage: bytes | None = None
    if pallet.storage:
        entries = [_storage_entry(registry, codecs, entry) for entry in pallet.storage]
        storage = encode_text(pallet.name) + _vec(entries)
    encoded_constants = []
    for const in pallet.constants:
        value = codecs.encode(const.type, constants.get(f"{pallet.name}.{const.name}", const.value))
        body = encode_compact(len(value)) + value
        encoded_constants.append(encode_text(const.name) + registry.ref(const.type) + body + _docs())

    def outer(kind: str, present: bool) -> bytes:
        return _option(registry.ref(pallet.name + kind) if present else None)

    return (
        encode_text(pallet.name)
        + _option(storage)
        + outer("Call", bool(pallet.calls))
        + outer("Event", bool(pallet.events))
        + _vec(encoded_constants)
        + outer("Error", bool(pallet.errors))
        + bytes((pallet.index,))
    )


def _extensions(registry: _Registry) -> bytes:
    return _vec(
        [encode_text(name) + registry.ref(kind) + registry.ref(extra) for name, kind, extra in SIGNED_EXTENSIONS]
    )


def _runtime_apis(registry: _Registry, spec: Spec) -> bytes:
    encoded = []
    for name, (_, methods) in spec.apis.items():
        items = []
        for method in methods:
            inputs = _vec([encode_text(str(item.name)) + registry.ref(item.type) for item in method.inputs])
            items.append(encode_text(method.name) + inputs + registry.ref(method.output) + _docs())
        encoded.append(encode_text(name) + _vec(items) + _docs())
    return _vec(encoded)


@lru_cache(maxsize=8)
def build_metadata(version: int, constants: tuple[tuple[str, int], ...]) -> bytes:
    """Metadata with its magic prefix. ``version`` is 14 or 15; ``constants`` overrides table values by
    ``Pallet.Name``. Raises ValueError for another version."""
    if version not in (14, 15):
        raise ValueError(f"metadata version {version} is not served")
    spec, codecs = load_spec(), load_codecs()
    registry, overrides = _Registry(spec), dict(constants)
    pallets = []
    for pallet in spec.pallets.values():
        body = _pallet(registry, codecs, pallet, overrides)
        pallets.append(body + _docs() if version == 15 else body)
    extension_list = _extensions(registry)
    signed = b"".join(registry.ref(name) for name in ("MultiAddress", "RuntimeCall", "MultiSignature", "()"))
    runtime_type = registry.ref("Runtime")
    if version == 14:
        tail = registry.ref("UncheckedExtrinsic") + b"\x04" + extension_list + runtime_type
    else:
        enums = b"".join(registry.ref(name) for name in ("RuntimeCall", "RuntimeEvent", "RuntimeError"))
        registry.ref("UncheckedExtrinsic")
        apis = _runtime_apis(registry, spec)
        tail = b"\x04" + signed + extension_list + runtime_type + apis + enums + _vec([])
    return MAGIC + bytes((version,)) + registry.encoded() + _vec(pallets) + tail
