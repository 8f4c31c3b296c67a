"""JSON-RPC methods of a Substrate node, over a :class:`LocalChain`. No sockets here."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from template.localnet.accounts import from_ss58
from template.localnet.chain import Block, LocalChain
from template.localnet.errors import InvalidExtrinsic, QueryError
from template.localnet.extrinsic import SPEC_VERSION, TRANSACTION_VERSION
from template.localnet.hashing import blake2_64
from template.localnet.spec import load_spec

logger = logging.getLogger(__name__)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
CLIENT_ERROR = 4003
MAX_KEYS_PAGE = 1000

CHAIN_NAME = "Bittensor embedded localnet"
NODE_NAME = "template-localnet"


class RpcError(Exception):
    """Answered to the client as a JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def body(self) -> dict[str, Any]:
        """The `error` object of a JSON-RPC reply."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


Params = list[Any]
Method = Callable[[LocalChain, Params], Any]
METHODS: dict[str, Method] = {}


def method(name: str) -> Callable[[Method], Method]:
    """Register the function that answers a JSON-RPC method."""

    def register(function: Method) -> Method:
        METHODS[name] = function
        return function

    return register


def to_hex(data: bytes) -> str:
    """Bytes as Substrate writes them: 0x and lower case."""
    return "0x" + data.hex()


def from_hex(value: Any, what: str) -> bytes:
    """Bytes of a hex string, 0x or not (the SDK leaves it out in state_call); raises RpcError invalid params."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return bytes.fromhex(value.removeprefix("0x"))
    raise RpcError(INVALID_PARAMS, f"Invalid params: {what} must be a hex string")


def _argument(params: Params, index: int) -> Any:
    return params[index] if index < len(params) else None


def _block_hash(params: Params, index: int) -> bytes | None:
    value = _argument(params, index)
    return None if value is None else from_hex(value, "block hash")


def header_json(block: Block) -> dict[str, Any]:
    """Header as clients expect it; there are no digest items."""
    return {
        "parentHash": to_hex(block.parent_hash),
        "number": hex(block.number),
        "stateRoot": to_hex(block.state_root),
        "extrinsicsRoot": to_hex(block.extrinsics_root),
        "digest": {"logs": []},
    }


def _find_block(chain: LocalChain, params: Params) -> Block | None:
    block_hash = _block_hash(params, 0)
    return chain.head if block_hash is None else chain.block(block_hash)


@method("chain_getHeader")
def chain_get_header(chain: LocalChain, params: Params) -> Any:
    """[hash] -> the header, of the head without a hash; null for a block that is not known."""
    block = _find_block(chain, params)
    return None if block is None else header_json(block)


@method("chain_getBlock")
def chain_get_block(chain: LocalChain, params: Params) -> Any:
    """[hash] -> header and extrinsics in hex, of the head without a hash; null if not known."""
    block = _find_block(chain, params)
    if block is None:
        return None
    body = {"header": header_json(block), "extrinsics": [to_hex(raw) for raw in block.extrinsics]}
    return {"block": body, "justifications": None}


def _hash_of_number(chain: LocalChain, value: Any) -> Any:
    try:
        number = int(value, 16) if isinstance(value, str) else int(value)
    except (TypeError, ValueError) as error:
        raise RpcError(INVALID_PARAMS, "Invalid params: block number must be an integer") from error
    found = chain.block_hash(number)
    return None if found is None else to_hex(found)


@method("chain_getBlockHash")
def chain_get_block_hash(chain: LocalChain, params: Params) -> Any:
    """[number, list of numbers, or nothing] -> hash or list; nothing is the head."""
    number = _argument(params, 0)
    if number is None:
        return to_hex(chain.head.hash)
    if isinstance(number, list):
        return [_hash_of_number(chain, item) for item in number]
    return _hash_of_number(chain, number)


@method("chain_getHead")
@method("chain_getFinalizedHead")
@method("chain_getFinalisedHead")
def chain_get_head(chain: LocalChain, params: Params) -> Any:
    """[] -> hash of the newest block, which is final at once."""
    return to_hex(chain.head.hash)


def runtime_version() -> dict[str, Any]:
    """Version record; the ids of runtime APIs are blake2b-64 of their names."""
    apis = [[to_hex(blake2_64(name.encode())), version] for name, (version, _) in sorted(load_spec().apis.items())]
    return {
        "specName": "node-subtensor",
        "implName": NODE_NAME,
        "authoringVersion": 1,
        "specVersion": SPEC_VERSION,
        "implVersion": 1,
        "apis": apis,
        "transactionVersion": TRANSACTION_VERSION,
        "stateVersion": 1,
    }


@method("state_getRuntimeVersion")
@method("chain_getRuntimeVersion")
def state_get_runtime_version(chain: LocalChain, params: Params) -> Any:
    """[hash] -> name, spec version and API ids of the runtime that is imitated."""
    chain.state_at(_block_hash(params, 0))
    return runtime_version()


@method("state_getMetadata")
def state_get_metadata(chain: LocalChain, params: Params) -> Any:
    """[hash] -> SCALE metadata, version 14, in hex."""
    return to_hex(chain.metadata(14))


@method("state_getStorage")
@method("state_getStorageAt")
def state_get_storage(chain: LocalChain, params: Params) -> Any:
    """[key, hash] -> the value in hex, or null."""
    value = chain.storage(from_hex(_argument(params, 0), "storage key"), _block_hash(params, 1))
    return None if value is None else to_hex(value)


@method("state_getKeysPaged")
@method("state_getKeysPagedAt")
def state_get_keys_paged(chain: LocalChain, params: Params) -> Any:
    """[prefix, count, start, hash] -> at most `count` keys after `start`."""
    prefix = from_hex(_argument(params, 0), "key prefix")
    count = _argument(params, 1)
    if not isinstance(count, int) or not 0 < count <= MAX_KEYS_PAGE:
        raise RpcError(INVALID_PARAMS, f"Invalid params: page size must be within 1..{MAX_KEYS_PAGE}")
    start = _argument(params, 2)
    after = None if start is None else from_hex(start, "start key")
    keys = chain.storage_keys(prefix, _block_hash(params, 3))
    return [to_hex(key) for key in keys if after is None or key > after][:count]


@method("state_getKeys")
def state_get_keys(chain: LocalChain, params: Params) -> Any:
    """[prefix, hash] -> all keys that begin with it."""
    keys = chain.storage_keys(from_hex(_argument(params, 0), "key prefix"), _block_hash(params, 1))
    return [to_hex(key) for key in keys]


@method("state_queryStorageAt")
def state_query_storage_at(chain: LocalChain, params: Params) -> Any:
    """[keys, hash] -> one change set with the values of these keys at a block."""
    wanted = _argument(params, 0)
    if not isinstance(wanted, list):
        raise RpcError(INVALID_PARAMS, "Invalid params: keys must be a list")
    block_hash = _block_hash(params, 1)
    changes = []
    for item in wanted:
        value = chain.storage(from_hex(item, "storage key"), block_hash)
        changes.append([item, None if value is None else to_hex(value)])
    return [{"block": to_hex(block_hash or chain.head.hash), "changes": changes}]


@method("state_call")
def state_call(chain: LocalChain, params: Params) -> Any:
    """[API_method, SCALE arguments, hash] -> SCALE result in hex."""
    name = _argument(params, 0)
    if not isinstance(name, str):
        raise RpcError(INVALID_PARAMS, "Invalid params: method must be a string")
    data = from_hex(_argument(params, 1) or "0x", "call data")
    return to_hex(chain.runtime_call(name, data, _block_hash(params, 2)))


@method("author_submitExtrinsic")
def author_submit_extrinsic(chain: LocalChain, params: Params) -> Any:
    """[extrinsic] -> its hash. Raises RpcError with the transaction error."""
    return to_hex(chain.submit(from_hex(_argument(params, 0), "extrinsic")))


@method("author_pendingExtrinsics")
def author_pending_extrinsics(chain: LocalChain, params: Params) -> Any:
    """[] -> what waits for the next block, in hex."""
    return [to_hex(raw) for raw in chain.pool.raw()]


@method("account_nextIndex")
@method("system_accountNextIndex")
def account_next_index(chain: LocalChain, params: Params) -> Any:
    """[ss58] -> the next nonce, those in the pool counted."""
    try:
        account = from_ss58(str(_argument(params, 0)))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"Invalid params: {error}") from error
    return chain.next_nonce(account)


@method("system_chain")
def system_chain(chain: LocalChain, params: Params) -> Any:
    """[] -> the chain's name."""
    return CHAIN_NAME


@method("system_chainType")
def system_chain_type(chain: LocalChain, params: Params) -> Any:
    """[] -> "Local": no SDK takes it for a public chain."""
    return "Local"


@method("system_name")
def system_name(chain: LocalChain, params: Params) -> Any:
    """[] -> the node's name."""
    return NODE_NAME


@method("system_version")
def system_version(chain: LocalChain, params: Params) -> Any:
    """[] -> a version made of the runtime's."""
    return f"{SPEC_VERSION}.0.0"


@method("system_properties")
def system_properties(chain: LocalChain, params: Params) -> Any:
    """[] -> ss58 format, decimals and symbol of the token."""
    return {"isEthereum": False, "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO"}


@method("system_health")
def system_health(chain: LocalChain, params: Params) -> Any:
    """[] -> a node without peers that is not syncing."""
    return {"peers": 0, "isSyncing": False, "shouldHavePeers": False}


def call_method(chain: LocalChain, name: str, params: Params) -> Any:
    """Result of one plain method; raises RpcError for everything that goes wrong, bugs included."""
    function = METHODS.get(name)
    if function is None:
        raise RpcError(METHOD_NOT_FOUND, "Method not found", f"{name} is not served by this chain")
    return guarded(lambda: function(chain, params), name)


def guarded(action: Callable[[], Any], name: str) -> Any:
    """Run ``action`` and turn the errors of the chain into RpcError; a bug is logged and answered as internal."""
    try:
        return action()
    except RpcError:
        raise
    except InvalidExtrinsic as error:
        raise RpcError(error.code, error.message, error.data or None) from error
    except QueryError as error:
        raise RpcError(CLIENT_ERROR, f"Client error: {error}") from error
    except Exception as error:
        logger.exception("%s failed", name)
        raise RpcError(INTERNAL_ERROR, f"Internal error: {type(error).__name__}: {error}") from error
