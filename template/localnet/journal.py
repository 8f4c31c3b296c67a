"""One line of text for each extrinsic of a block: who called what with which arguments, and how it ended."""

from __future__ import annotations

from typing import Any

from template.localnet.accounts import ss58
from template.localnet.chain import Block
from template.localnet.codec import Enum
from template.localnet.dispatch import call_name
from template.localnet.extrinsic import decode_extrinsic
from template.localnet.spec import load_spec
from template.localnet.state import ChainState

_SHOWN_ITEMS = 4
_SHOWN_BYTES = 8


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        if len(value) == 32:
            return ss58(value)
        return f"0x{value[:_SHOWN_BYTES].hex()}{'…' if len(value) > _SHOWN_BYTES else ''}"
    if isinstance(value, Enum):
        if isinstance(value.value, Enum):
            return f"{call_name(value)}({_arguments(value.value.value)})"
        return _short(value.value) if value.value is not None else value.name
    if isinstance(value, list | tuple):
        more = f", … {len(value)} in all" if len(value) > _SHOWN_ITEMS else ""
        return f"[{', '.join(_short(item) for item in value[:_SHOWN_ITEMS])}{more}]"
    if isinstance(value, dict):
        return f"{{{_arguments(value)}}}"
    return str(value)


def _arguments(args: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in (args or {}).items())


def _outcomes(state: ChainState) -> dict[int, str]:
    """Extrinsic index -> ok, or the name of the error."""
    found: dict[int, str] = {}
    for index, event in state.events:
        if index is None or event.name != "System" or not event.value.name.startswith("Extrinsic"):
            continue
        failed = event.value.name == "ExtrinsicFailed"
        found[index] = error_name(event.value.value["dispatch_error"]) if failed else "ok"
    return found


def error_name(error: Enum) -> str:
    """``Pallet.Error``, ``Token.BelowMinimum``, ``BadOrigin`` ... of a native dispatch error."""
    if error.name == "Module":
        pallet = next(item for item in load_spec().pallets.values() if item.index == error.value["index"])
        return f"{pallet.name}.{pallet.errors[error.value['error'][0]]}"
    return error.name if error.value is None else f"{error.name}.{error.value.name}"


def extrinsic_lines(block: Block, state: ChainState) -> list[str]:
    """Lines of the signed extrinsics of ``block``; ``state`` is the one after it."""
    outcomes, lines = _outcomes(state), []
    for index, raw in enumerate(block.extrinsics[1:], start=1):
        extrinsic = decode_extrinsic(raw)
        signer, name = ss58(extrinsic.signer), call_name(extrinsic.call)
        args = _arguments(extrinsic.call.value.value)
        lines.append(f"#{block.number} {signer} {name}({args}) -> {outcomes.get(index, '?')}")
    return lines
