"""One client connection: requests, batches and subscriptions. No sockets here: text in, texts out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from template.localnet.chain import Block, LocalChain
from template.localnet.rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHODS,
    PARSE_ERROR,
    Params,
    RpcError,
    call_method,
    from_hex,
    guarded,
    header_json,
    runtime_version,
    to_hex,
)

MAX_SUBSCRIPTIONS = 256
MAX_BATCH = 512
MAX_BATCH_ANSWER = 16 << 20  # characters
MAX_ADVANCE = 100  # blocks that one message may ask for
_TOO_MANY = -32006
_ANSWER_TOO_BIG = -32008


@dataclass
class _StorageWatch:
    keys: list[bytes]
    last: dict[bytes, bytes | None] = field(default_factory=dict)


class Session:
    """State of one connection. :meth:`handle` answers a message, :meth:`on_block` yields what a new block pushes."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._counter = 0
        self._heads: dict[str, str] = {}  # subscription -> notification name
        self._watched: dict[bytes, str] = {}  # extrinsic hash -> subscription
        self._storage: dict[str, _StorageWatch] = {}
        self._quiet: set[str] = set()  # subscriptions that never push again
        self._outbox: list[str] = []
        self._wanted = 0

    def handle(self, text: str | bytes) -> list[str]:
        """Texts to send back, the answer first; malformed input gives a JSON-RPC error."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return [error_text(None, RpcError(PARSE_ERROR, "Parse error"))]
        self._outbox = []
        if isinstance(message, list):
            if not 0 < len(message) <= MAX_BATCH:
                error = RpcError(INVALID_REQUEST, f"Invalid request: a batch holds 1..{MAX_BATCH} requests")
                return [error_text(None, error)]
            texts = self._answer_batch(message)
        else:
            answer = self._answer(message)
            texts = [] if answer is None else [json.dumps(answer)]
        return texts + self._outbox

    def _answer_batch(self, requests: list[Any]) -> list[str]:
        answers: list[str] = []
        length = 0
        for item in requests:
            answer = self._answer(item)
            if answer is not None:
                answers.append(json.dumps(answer))
                length += len(answers[-1])
            if length > MAX_BATCH_ANSWER:
                return [error_text(None, RpcError(_ANSWER_TOO_BIG, "The batch response was too large"))]
        return [f"[{','.join(answers)}]"] if answers else []

    def _answer(self, request: Any) -> dict[str, Any] | None:
        """Response object of one request, None for a notification."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, RpcError(INVALID_REQUEST, "Invalid request"))
        number = request.get("id")
        if not isinstance(number, str | int | float | None):
            return _error(None, RpcError(INVALID_REQUEST, "Invalid request"))
        params = request.get("params") or []
        try:
            if not isinstance(params, list):
                raise RpcError(INVALID_PARAMS, "Invalid params: a list is expected")
            result = self._call(request["method"], params)
        except RpcError as error:
            return _error(number, error)
        if "id" not in request:
            return None
        return {"jsonrpc": "2.0", "id": number, "result": result}

    def _call(self, name: str, params: Params) -> Any:
        if name == "rpc_methods":
            return {"methods": sorted({*METHODS, *SUBSCRIPTIONS, "rpc_methods"})}
        handler = SUBSCRIPTIONS.get(name)
        if handler is None:
            return call_method(self._chain, name, params)
        return guarded(lambda: handler(self, params), name)

    def _new_id(self) -> str:
        active = len(self._heads) + len(self._watched) + len(self._storage) + len(self._quiet)
        if active >= MAX_SUBSCRIPTIONS:
            raise RpcError(_TOO_MANY, f"Too many subscriptions on the connection: the limit is {MAX_SUBSCRIPTIONS}")
        self._counter += 1
        return f"sub{self._counter}"

    def _push(self, name: str, subscription: str, result: Any) -> None:
        params = {"subscription": subscription, "result": result}
        self._outbox.append(json.dumps({"jsonrpc": "2.0", "method": name, "params": params}))

    def subscribe_heads(self, notification: str) -> str:
        """New, best and finalized heads are the same here: every block is final at once."""
        number = self._new_id()
        self._heads[number] = notification
        self._push(notification, number, header_json(self._chain.head))
        return number

    def subscribe_runtime_version(self, params: Params) -> str:
        """Tells the runtime's version once: it is never upgraded. Returns the subscription's id."""
        number = self._new_id()
        self._quiet.add(number)  # the runtime is never upgraded
        self._push("state_runtimeVersion", number, runtime_version())
        return number

    def subscribe_storage(self, params: Params) -> str:
        """Tells the values of these keys now and whenever a block changes one. Raises RpcError."""
        wanted = params[0] if params else None
        if not isinstance(wanted, list) or not 0 < len(wanted) <= MAX_BATCH:
            raise RpcError(INVALID_PARAMS, "Invalid params: a list of storage keys is expected")
        watch = _StorageWatch([from_hex(item, "storage key") for item in wanted])
        number = self._new_id()
        self._push_storage(number, watch, first=True)  # raises for keys that cannot be read: then nothing is watched
        self._storage[number] = watch
        return number

    def _push_storage(self, number: str, watch: _StorageWatch, first: bool) -> None:
        changes = []
        for key in watch.keys:
            value = self._chain.storage(key)
            if first or watch.last.get(key) != value:
                changes.append([to_hex(key), None if value is None else to_hex(value)])
            watch.last[key] = value
        if changes:
            self._push("state_storage", number, {"block": to_hex(self._chain.head.hash), "changes": changes})

    def submit_and_watch(self, params: Params) -> str:
        """Submits an extrinsic and tells its way into a block. Raises RpcError."""
        raw = from_hex(params[0] if params else None, "extrinsic")
        number = self._new_id()
        self._watched[self._chain.submit(raw)] = number
        self._push("author_extrinsicUpdate", number, "ready")
        return number

    def unsubscribe(self, params: Params) -> bool:
        """Whether there was such a subscription."""
        number = params[0] if params else None
        if not isinstance(number, str):
            return False
        known = number in self._heads or number in self._storage or number in self._quiet
        self._heads.pop(number, None)
        self._storage.pop(number, None)
        self._quiet.discard(number)
        for extrinsic_hash in [key for key, value in self._watched.items() if value == number]:
            del self._watched[extrinsic_hash]
            known = True
        return known

    def advance(self, params: Params) -> int:
        """Ask for blocks; returns the number of the last of them, which the server makes after the answer."""
        count = params[0] if params else None
        if type(count) is not int or not 1 <= count <= MAX_ADVANCE:
            raise RpcError(INVALID_PARAMS, f"Invalid params: a number of blocks within 1..{MAX_ADVANCE} is expected")
        self._wanted = min(self._wanted + count, MAX_ADVANCE)
        return self._chain.head.number + self._wanted

    def take_wanted(self) -> int:
        """How many blocks the last message asked for."""
        wanted, self._wanted = self._wanted, 0
        return wanted

    def on_block(self, block: Block) -> list[str]:
        """Notifications that a new block causes on this connection."""
        self._outbox = []
        for number, notification in self._heads.items():
            self._push(notification, number, header_json(block))
        for number, watch in self._storage.items():
            self._push_storage(number, watch, first=False)
        if self._watched:
            self._push_extrinsics(block)
        return self._outbox

    def _push_extrinsics(self, block: Block) -> None:
        for extrinsic_hash in block.extrinsic_hashes:
            number = self._watched.pop(extrinsic_hash, None)
            if number is not None:
                self._push("author_extrinsicUpdate", number, {"inBlock": to_hex(block.hash)})
                self._push("author_extrinsicUpdate", number, {"finalized": to_hex(block.hash)})
        for extrinsic_hash in self._chain.last_dropped:
            number = self._watched.pop(extrinsic_hash, None)
            if number is not None:
                self._push("author_extrinsicUpdate", number, "invalid")


def _error(number: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": error.body()}


def error_text(number: Any, error: RpcError) -> str:
    """A whole answer that refuses; ``number`` is the id of the request, None when it has none."""
    return json.dumps(_error(number, error))


def _heads(notification: str) -> Callable[[Session, Params], Any]:
    return lambda session, params: session.subscribe_heads(notification)


SUBSCRIPTIONS: dict[str, Callable[[Session, Params], Any]] = {
    "chain_subscribeNewHeads": _heads("chain_newHead"),
    "chain_subscribeNewHead": _heads("chain_newHead"),
    "chain_subscribeAllHeads": _heads("chain_allHead"),
    "chain_subscribeFinalizedHeads": _heads("chain_finalizedHead"),
    "state_subscribeRuntimeVersion": Session.subscribe_runtime_version,
    "state_subscribeStorage": Session.subscribe_storage,
    "author_submitAndWatchExtrinsic": Session.submit_and_watch,
    "dev_advance": Session.advance,
    **{
        name: Session.unsubscribe
        for name in (
            "chain_unsubscribeNewHeads",
            "chain_unsubscribeNewHead",
            "chain_unsubscribeAllHeads",
            "chain_unsubscribeFinalizedHeads",
            "state_unsubscribeRuntimeVersion",
            "state_unsubscribeStorage",
            "author_unwatchExtrinsic",
        )
    },
}
