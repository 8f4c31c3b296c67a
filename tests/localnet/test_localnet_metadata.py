"""The interface tables: complete, consistent, and readable by the decoder that the SDK uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalecodec import ScaleBytes
from scalecodec.base import RuntimeConfigurationObject
from scalecodec.type_registry import load_type_registry_preset

import template.localnet.calls  # noqa: F401
from template.localnet.codec import Enum, Some, load_codecs
from template.localnet.dispatch import HANDLERS
from template.localnet.errors import ERROR_DOCS
from template.localnet.metadata import build_metadata, default_bytes
from template.localnet.runtime_api import served_methods
from template.localnet.scale import Reader, ScaleError, encode_compact
from template.localnet.spec import load_spec

ROOT = Path(__file__).resolve().parents[2]


def decoder(version: int) -> tuple[Any, Any]:
    config = RuntimeConfigurationObject(ss58_format=42, implements_scale_info=True)
    config.update_type_registry(load_type_registry_preset("core"))
    metadata = config.create_scale_object("MetadataVersioned", data=ScaleBytes(build_metadata(version, ())))
    metadata.decode()
    config.add_portable_registry(metadata)
    return config, metadata


@pytest.mark.parametrize("version", [14, 15])
def test_sdk_decoder_reads_the_metadata(version: int) -> None:
    _, metadata = decoder(version)
    names = {pallet.name for pallet in metadata.pallets}
    assert names == set(load_spec().pallets)
    errors = metadata.get_metadata_pallet("SubtensorModule").errors
    assert [error.name for error in errors] == load_spec().pallets["SubtensorModule"].errors


def test_sdk_decoder_reads_what_our_codec_writes() -> None:
    config, metadata = decoder(15)
    call = Enum("SubtensorModule", Enum("set_weights", {"netuid": 1, "dests": [1], "weights": [9], "version_key": 3}))
    data = ScaleBytes(load_codecs().encode("RuntimeCall", call))
    decoded = config.create_scale_object("Call", data=data, metadata=metadata).decode()
    assert decoded["call_function"] == "set_weights"
    assert {arg["name"]: arg["value"] for arg in decoded["call_args"]}["weights"] == [9]


def test_unknown_metadata_version() -> None:
    with pytest.raises(ValueError, match="13"):
        build_metadata(13, ())


def test_everything_declared_is_served() -> None:
    spec = load_spec()
    calls = {f"{pallet.name}.{item.name}" for pallet in spec.pallets.values() for item in pallet.calls}
    assert calls == set(HANDLERS)
    methods = {f"{api}_{item.name}" for api, (_, items) in spec.apis.items() for item in items}
    assert methods == set(served_methods())
    for name in ERROR_DOCS:
        pallet, error = name.split(".")
        assert error in spec.pallets[pallet].errors, name


def test_every_type_resolves_and_has_a_default() -> None:
    spec, codecs = load_spec(), load_codecs()
    for name in spec.types:
        codecs.get(name)
    for pallet in spec.pallets.values():
        for entry in pallet.storage:
            if not entry.optional:
                codecs.decode(entry.value, default_bytes(codecs, entry))


@given(st.integers(0, 2**128))
def test_compact_round_trip(value: int) -> None:
    assert Reader(encode_compact(value)).compact() == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Vec<u16>", [1, 65535]),
        ("Vec<(u16, AccountId32)>", [(1, bytes(32))]),
        ("Option<Option<u8>>", 5),
        ("BTreeMap<u16, u64>", {1: 2, 3: 4}),
        ("Result<u8, bool>", Enum("Err", True)),
        ("[u16; 2]", [3, 4]),
        ("i128", -5),
        ("Vec<u8>", b"abc"),
    ],
)
def test_values_round_trip(kind: str, value: Any) -> None:
    codecs = load_codecs()
    assert codecs.decode(kind, codecs.encode(kind, value)) == value


def test_inner_none_is_not_outer_none() -> None:
    codecs = load_codecs()
    assert codecs.encode("Option<Option<u8>>", Some(None)) == b"\x01\x00"
    assert codecs.encode("Option<Option<u8>>", None) == b"\x00"


@pytest.mark.parametrize(
    ("kind", "data"),
    [("u32", b"\x00"), ("u8", b"\x00\x00"), ("Vec<u64>", b"\xfe\xff\xff\xff"), ("bool", b"\x02"), ("Pays", b"\x09")],
)
def test_malformed_bytes_are_refused(kind: str, data: bytes) -> None:
    with pytest.raises(ScaleError):
        load_codecs().decode(kind, data)


def test_server_process_loads_no_sdk() -> None:
    """The chain stays small: neither the SDK nor torch nor the SDK's codec is imported."""
    code = (
        "import sys, template.localnet; "
        "print([m for m in ('bittensor', 'torch', 'scalecodec', 'async_substrate_interface') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
