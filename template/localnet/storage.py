"""Storage keys: from hashed bytes to entry and key values and back, and reads of encoded values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from template.localnet.codec import Codec, load_codecs
from template.localnet.errors import QueryError
from template.localnet.hashing import blake2_128_concat, identity, twox64_concat, twox_128
from template.localnet.scale import Reader, ScaleError
from template.localnet.spec import StorageDef, load_spec
from template.localnet.state import ChainState
from template.localnet.views import VIEWS

_HASHERS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "Identity": (identity, 0),
    "Blake2_128Concat": (blake2_128_concat, 16),
    "Twox64Concat": (twox64_concat, 8),
}
PREFIX_BYTES = 32


@dataclass(frozen=True)
class Entry:
    """A storage entry with everything needed to read it quickly."""

    definition: StorageDef
    prefix: bytes
    hashers: tuple[tuple[Callable[[bytes], bytes], int], ...]
    key_codecs: tuple[Codec, ...]
    value_codec: Codec

    @property
    def name(self) -> str:
        """`Pallet.Entry`."""
        return f"{self.definition.pallet}.{self.definition.name}"

    def encode_key(self, keys: tuple[Any, ...]) -> bytes:
        """The full storage key: the entry's prefix, then each key hashed as its definition says."""
        parts = [self.prefix]
        for value, codec, (hasher, _) in zip(keys, self.key_codecs, self.hashers, strict=True):
            parts.append(hasher(codec.encode(value)))
        return b"".join(parts)

    def decode_key(self, key: bytes) -> tuple[Any, ...]:
        """Raises QueryError when the bytes after the prefix are not a full key."""
        reader = Reader(key)
        reader.take(PREFIX_BYTES)
        values = []
        try:
            for codec, (_, skip) in zip(self.key_codecs, self.hashers, strict=True):
                reader.take(skip)
                values.append(codec.decode(reader))
        except ScaleError as error:
            raise QueryError(f"not a key of {self.name}: {error}") from error
        if reader.remaining:
            raise QueryError(f"not a key of {self.name}: {reader.remaining} bytes left")
        return tuple(values)


@lru_cache(maxsize=1)
def entries() -> dict[bytes, Entry]:
    """All declared entries by their 32 byte prefix."""
    codecs = load_codecs()
    found = {}
    for pallet in load_spec().pallets.values():
        for item in pallet.storage:
            prefix = twox_128(pallet.name.encode()) + twox_128(item.name.encode())
            hashers = tuple(_HASHERS[name] for name in item.hashers)
            key_codecs = tuple(codecs.get(kind) for kind in item.keys)
            found[prefix] = Entry(item, prefix, hashers, key_codecs, codecs.get(item.value))
    return found


def read(state: ChainState, key: bytes) -> bytes | None:
    """Encoded value at a storage key, or None where nothing is stored.

    Entries that are declared but that nothing on this chain ever sets have no view and read as missing, so clients see
    their default. An undeclared prefix reads as missing too, as on a real node.
    """
    entry = entries().get(key[:PREFIX_BYTES])
    if entry is None:
        return None
    view = VIEWS.get(entry.name)
    if view is None:
        return None
    value = view.get(state, entry.decode_key(key))
    return None if value is None else entry.value_codec.encode(value)


def keys_with_prefix(state: ChainState, prefix: bytes) -> Iterator[bytes]:
    """Sorted keys below a prefix of at least one entry (32 bytes); raises QueryError for a shorter one."""
    if len(prefix) < PREFIX_BYTES:
        raise QueryError("a key prefix needs at least pallet and entry (32 bytes)")
    entry = entries().get(prefix[:PREFIX_BYTES])
    view = None if entry is None else VIEWS.get(entry.name)
    if entry is None or view is None:
        return iter(())
    found = (entry.encode_key(keys) for keys in view.keys(state))
    return iter(sorted(key for key in found if key.startswith(prefix)))
