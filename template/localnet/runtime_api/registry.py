"""Registry of runtime API methods and the generic decode, call, encode around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from template.localnet.codec import load_codecs
from template.localnet.errors import QueryError
from template.localnet.scale import Reader, ScaleError
from template.localnet.spec import MethodDef, load_spec
from template.localnet.state import ChainState


@dataclass(frozen=True)
class Query:
    """What a method may read: the state at the asked block and, for the metadata API, the metadata builder."""

    state: ChainState
    metadata: Callable[[int], bytes]


Method = Callable[..., Any]
_METHODS: dict[str, tuple[MethodDef, Method]] = {}
# decoded by hand because it is an extrinsic, not a plain value
RAW_INPUT = "TransactionPaymentApi_query_info"


def serves(name: str) -> Callable[[Method], Method]:
    """Register ``Api_method``; the function gets the :class:`Query` and the decoded inputs."""
    api, method = name.split("_", 1)
    definition = next(item for item in load_spec().apis[api][1] if item.name == method)

    def register(function: Method) -> Method:
        _METHODS[name] = (definition, function)
        return function

    return register


def served_methods() -> list[str]:
    """Names of all served methods, as ``Api_method``."""
    return sorted(_METHODS)


def call_runtime_api(query: Query, name: str, data: bytes) -> bytes:
    """Encoded result of one method; raises QueryError for unknown methods and malformed input."""
    found = _METHODS.get(name)
    if found is None:
        raise QueryError(f"Exported method {name} is not found: runtime API {name} is not served by this chain")
    definition, function = found
    codecs = load_codecs()
    if name == RAW_INPUT:
        return codecs.encode(definition.output, function(query, data))
    reader = Reader(data)
    try:
        arguments = [codecs.get(item.type).decode(reader) for item in definition.inputs]
    except ScaleError as error:
        raise QueryError(f"malformed input of {name}: {error}") from error
    if reader.remaining:
        raise QueryError(f"malformed input of {name}: {reader.remaining} bytes left")
    return codecs.encode(definition.output, function(query, *arguments))
