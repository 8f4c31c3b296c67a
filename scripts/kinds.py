"""How the reference names a type, its bounds and its unit."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

#: Unit by how a name ends; the first that fits counts.
UNITS = (
    ("_per_s", "a second"),
    ("seconds_left", "s"),
    ("seconds", "s"),
    ("_s", "s"),
    ("deadline", "Unix s"),
    ("nbytes", "bytes"),
    ("_bytes", "bytes"),
    ("losses", "nats per token"),
    ("loss", "nats per token"),
    ("epoch_length", "blocks"),
    ("min_stake", "alpha"),
    ("digest", "hex"),
    ("hotkeys", "ss58"),
    ("hotkey", "ss58"),
)

NAMES = {type(None): "none", str: "text", int: "int", float: "float", bool: "bool", Path: "path", bytes: "bytes"}


def unit(name: str) -> str:
    """The unit that a field's name tells, or nothing."""
    if name == "at":
        return "Unix s"
    return next((word for end, word in UNITS if name == end.lstrip("_") or name.endswith(end)), "")


def kind(given: Any) -> str:
    """A type as people read it: `int`, `"a" or "b"`, `Blob, any number`."""
    origin, args = get_origin(given), get_args(given)
    if origin is Annotated:
        return kind(args[0])
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(arg) for arg in args)
    if origin in (tuple, list):
        if len(args) == 2 and args[1] is Ellipsis:
            inner = kind(args[0])
            return f"any number of ({inner})" if " " in inner or "," in inner else f"{inner}, any number"
        return ", ".join(kind(arg) for arg in args)
    if origin is dict:
        return f"{kind(args[0])} to {kind(args[1])}"
    return NAMES.get(given, getattr(given, "__name__", str(given)))


def bounds(info: FieldInfo) -> str:
    """What a pydantic field is checked for, or nothing."""
    found = [*info.metadata, *_inside(info.annotation)]
    told = []
    for one in found:
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if (value := getattr(one, name, None)) is not None:
                told.append(f"{sign} {amount(value)}")
        for name, words in (("min_length", "at least"), ("max_length", "at most")):
            if (value := getattr(one, name, None)) is not None:
                told.append(f"{words} {value} long")
        if (pattern := getattr(one, "pattern", None)) is not None:
            told.append(f"matches `{pattern}`")
    return ", ".join(dict.fromkeys(told))


def amount(value: Any) -> str:
    """A number as people write it: 4294967296 as 4 GiB, 600.0 as 600."""
    if isinstance(value, int) and not isinstance(value, bool):
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
            if value and value % size == 0:
                return f"{value // size} {name}"
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return amount(int(value))
    return str(value)


def _inside(annotation: Any) -> list[Any]:
    """Constraints of the members of a union, such as `Port | None`."""
    found: list[Any] = []
    for arg in get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ():
        if typing.get_origin(arg) is Annotated:
            for one in get_args(arg)[1:]:
                found += one.metadata if isinstance(one, FieldInfo) else [one]
    return found
