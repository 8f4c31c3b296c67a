"""What is served has the names, indices and types of the recorded interface of the real runtime (spec 424).

The recording lies beside the checkout, not in it; without it there is nothing to compare with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from template.localnet.codec import load_codecs
from template.localnet.metadata import default_bytes
from template.localnet.spec import Field, load_spec, split_top

NAME = Path("shared") / "subtensor" / "interface-424.json"
FOUND = [folder / NAME for folder in Path(__file__).resolve().parents if (folder / NAME).exists()]

pytestmark = pytest.mark.skipif(not FOUND, reason=f"{NAME} is not beside the checkout")

SPEC = load_spec()
OUTER = ("RuntimeCall", "RuntimeEvent", "RuntimeError")  # the recording does not expand them
PALLETS = sorted(SPEC.pallets)


@lru_cache(maxsize=1)
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FOUND[0].read_text())
    return content


def by_name(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


def split_generic(text: str) -> tuple[str, list[str]] | None:
    match = re.fullmatch(r"(Vec|BoundedVec|WeakBoundedVec|BTreeSet|BTreeMap|Option|Compact|Result)<(.*)>", text)
    return None if match is None else (match[1], split_top(match[2]))


def differences(ours: str, theirs: str, where: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
    """Follow both type expressions down to primitives."""
    ours, theirs = ours.strip(), theirs.strip()
    if ours == theirs and (ours in OUTER or ours not in SPEC.types) and not ours.endswith((">", ")", "]")):
        return
    if (ours, theirs) in seen:
        return
    seen |= {(ours, theirs)}
    left, right = split_generic(ours), split_generic(theirs)
    sequences = ("Vec", "BoundedVec", "WeakBoundedVec", "BTreeSet")
    if left and right:
        alike = left[0] == right[0] or (left[0] in sequences and right[0] in sequences)
        if not alike or len(left[1]) != len(right[1]):
            yield f"{where}: {ours} instead of {theirs}"
        for a, b in zip(left[1], right[1], strict=False):
            yield from differences(a, b, where, seen)
    elif ours[0] == "(" and theirs[0] == "(":
        mine, other = split_top(ours[1:-1]), split_top(theirs[1:-1])
        if len(mine) != len(other):
            yield f"{where}: {ours} instead of {theirs}"
        for a, b in zip(mine, other, strict=False):
            yield from differences(a, b, where, seen)
    elif ours[0] == "[" and theirs[0] == "[":
        (a, n), (b, m) = (text[1:-1].rsplit(";", 1) for text in (ours, theirs))
        if n.strip() != m.strip():
            yield f"{where}: {ours} instead of {theirs}"
        yield from differences(a, b, where, seen)
    elif ours in SPEC.types and theirs in recorded()["types"]:
        yield from named_differences(ours, theirs, where, seen)
    else:
        yield f"{where}: {ours} instead of {theirs}"


def named_differences(ours: str, theirs: str, where: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
    mine, other = SPEC.types[ours], recorded()["types"][theirs]
    where = f"{where} > {theirs}"
    if mine.path != tuple(other["path"].split("::")):
        yield f"{where}: path {'::'.join(mine.path)} instead of {other['path']}"
    if mine.fields is not None and other["kind"] == "struct":
        yield from field_differences(mine.fields, other.get("fields", []), where, seen)
    elif mine.variants is not None and other["kind"] == "enum":
        known = by_name(other["variants"])
        for variant in mine.variants:
            there = known.get(variant.name)
            if there is None or there["index"] != variant.index:
                yield f"{where}: variant {variant.name} at {variant.index}, recorded {there}"
            else:
                yield from field_differences(variant.fields, there.get("fields", []), f"{where}.{variant.name}", seen)
    else:
        yield f"{where}: struct and enum"


def field_differences(
    mine: tuple[Field, ...], other: list[dict[str, Any]], where: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[str]:
    names = [field.name for field in mine]
    if names != [field.get("name") for field in other]:
        yield f"{where}: fields {names} instead of {[field.get('name') for field in other]}"
        return
    for field, there in zip(mine, other, strict=True):
        yield from differences(field.type, there["type"], f"{where}.{field.name or ''}", seen)


def pallet_of(name: str) -> dict[str, Any]:
    found = recorded()["pallets"].get(name)
    if found is None:
        pytest.skip(f"{name} is not recorded in detail")
    return dict(found)


def test_pallets_have_their_indices() -> None:
    assert {name: pallet.index for name, pallet in SPEC.pallets.items()}.items() <= recorded()["all_pallets"].items()


@pytest.mark.parametrize("name", PALLETS)
@pytest.mark.parametrize("kind", ["calls", "events"])
def test_calls_and_events_have_their_index_and_arguments(name: str, kind: str) -> None:
    known, found = by_name(pallet_of(name)[kind]), []
    for variant in getattr(SPEC.pallets[name], kind):
        there = known.get(variant.name)
        if there is None or there["index"] != variant.index:
            found.append(f"{variant.name} at {variant.index}, recorded {there}")
            continue
        arguments = there.get("args", there.get("fields", []))
        found.extend(field_differences(variant.fields, arguments, variant.name))
    assert found == []


@pytest.mark.parametrize("name", PALLETS)
def test_storage_has_its_keys_hashers_value_and_default(name: str) -> None:
    known, found = by_name(pallet_of(name)["storage"]), []
    for entry in SPEC.pallets[name].storage:
        there = known.get(entry.name)
        if there is None:
            found.append(f"{entry.name} is not recorded")
            continue
        if list(entry.hashers) != there["hashers"] or entry.optional != (there["modifier"] == "Optional"):
            found.append(f"{entry.name}: {entry.hashers} {entry.optional}, recorded {there}")
        for mine, other in zip(entry.keys, there["keys"], strict=False):
            found.extend(differences(mine, other, f"{entry.name} key", frozenset()))
        found.extend(differences(entry.value, there["value"], entry.name, frozenset()))
        default = there.get("default_hex", "")
        if default.startswith("0x") and "0x" + default_bytes(load_codecs(), entry).hex() != default:
            found.append(f"{entry.name}: default 0x{default_bytes(load_codecs(), entry).hex()} instead of {default}")
    assert found == []


@pytest.mark.parametrize("name", PALLETS)
def test_constants_have_their_type(name: str) -> None:
    known, found = by_name(pallet_of(name)["constants"]), []
    for constant in SPEC.pallets[name].constants:
        if constant.name not in known:
            found.append(f"{constant.name} is not recorded")
        else:
            found.extend(differences(constant.type, known[constant.name]["type"], constant.name, frozenset()))
    assert found == []


@pytest.mark.parametrize("name", PALLETS)
def test_errors_have_their_index(name: str) -> None:
    known = {item["name"]: item["index"] for item in pallet_of(name)["errors"]}
    assert [
        f"{error} at {index}, recorded {known.get(error)}"
        for index, error in enumerate(SPEC.pallets[name].errors)
        if known.get(error) != index
    ] == []


@pytest.mark.parametrize("api", sorted(SPEC.apis))
def test_runtime_apis_have_their_arguments_and_results(api: str) -> None:
    known = by_name(recorded()["runtime_apis"]).get(api)
    if known is None:
        pytest.skip(f"{api} is not recorded")
    methods, found = by_name(known["methods"]), []
    for method in SPEC.apis[api][1]:
        there = methods.get(method.name)
        if there is None:
            found.append(f"{method.name} is not recorded")
            continue
        # the extrinsic type is another wrapper around the same bytes
        inputs = [field for field in there["inputs"] if field["name"] != "uxt"]
        found.extend(field_differences(tuple(f for f in method.inputs if f.name != "uxt"), inputs, method.name))
        found.extend(differences(method.output, there["output"], f"{method.name} result", frozenset()))
    assert found == []
