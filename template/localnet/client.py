"""A small client for the embedded chain itself: what the operator's commands need, without the SDK."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from bittensor_wallet import Keypair
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from template.localnet.codec import Enum, load_codecs
from template.localnet.extrinsic import Era, SignedExtrinsic
from template.localnet.hashing import blake2_128_concat, twox_128
from template.localnet.rpc import NODE_NAME
from template.localnet.scale import encode_compact

_IMMORTAL = Era(0, 0, b"\x00")
_TIMEOUT_S = 30.0


class ClientError(Exception):
    """The chain cannot be asked, or refused; one line for the user."""


def signed_extrinsic(signer: Any, pallet: str, call: str, args: dict[str, Any], nonce: int, genesis: bytes) -> bytes:
    """An immortal extrinsic with its length prefix; ``signer`` is a keypair."""
    native = Enum(pallet, Enum(call, args))
    body = load_codecs().encode("RuntimeCall", native)
    account = bytes(signer.public_key)
    unsigned = SignedExtrinsic(b"", b"", account, b"", _IMMORTAL, nonce, 0, native, body)
    head = b"\x84\x00" + account + b"\x01" + signer.sign(unsigned.payload(genesis, genesis))
    raw: bytes = head + _IMMORTAL.raw + encode_compact(nonce) + encode_compact(0) + b"\x00" + body
    return encode_compact(len(raw)) + raw


class LocalClient:
    """One connection to an embedded chain; refuses every other node. Raises ClientError."""

    def __init__(self, endpoint: str) -> None:
        self._closing = contextlib.ExitStack()
        try:
            # no pings: a chain that stands still for a while is not gone
            connecting = connect(
                endpoint, open_timeout=_TIMEOUT_S, ping_interval=None, compression=None, max_size=None, proxy=None
            )
            self._connection = self._closing.enter_context(connecting)
        except (OSError, ValueError, WebSocketException, TimeoutError) as error:
            raise ClientError(
                f"no chain answers at {endpoint}: {error}; start one with: python -m template.localnet"
            ) from error
        self._number = 0
        self._pushed: list[dict[str, Any]] = []
        if self.ask("system_name") != NODE_NAME:
            raise ClientError(f"{endpoint} is not an embedded chain: this command is only for that")

    def close(self) -> None:
        """Hang up. Safe to call twice."""
        self._closing.close()

    def __enter__(self) -> LocalClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=timeout_s))
        except (OSError, WebSocketException, TimeoutError) as error:
            raise ClientError(f"the chain went away: {type(error).__name__}") from error
        return message

    def ask(self, method: str, *params: Any) -> Any:
        """Result of one call."""
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": list(params)}
        try:
            self._connection.send(json.dumps(request))
        except (OSError, WebSocketException) as error:
            raise ClientError(f"the chain went away: {type(error).__name__}") from error
        while (answer := self._receive(_TIMEOUT_S)).get("id") != self._number:
            self._pushed.append(answer)
        if "error" in answer:
            refusal = answer["error"]
            raise ClientError(f"{method}: {refusal['message']} {refusal.get('data', '')}".strip())
        return answer["result"]

    def head(self) -> int:
        """Number of the last block."""
        return int(self.ask("chain_getHeader")["number"], 16)

    def free_balance(self, account: bytes) -> int:
        """In rao."""
        key = twox_128(b"System") + twox_128(b"Account") + blake2_128_concat(account)
        value = self.ask("state_getStorage", "0x" + key.hex())
        if value is None:
            return 0
        return int(load_codecs().decode("AccountInfo", bytes.fromhex(value[2:]))["data"]["free"])

    def submit(self, signer: Any, pallet: str, call: str, args: dict[str, Any]) -> str:
        """Sign and send a call and wait until it is final; returns the hash of its block."""
        genesis = bytes.fromhex(self.ask("chain_getBlockHash", 0)[2:])
        nonce = self.ask("account_nextIndex", signer.ss58_address)
        raw = signed_extrinsic(signer, pallet, call, args, nonce, genesis)
        number = self.ask("author_submitAndWatchExtrinsic", "0x" + raw.hex())
        deadline = time.monotonic() + 4 * _TIMEOUT_S
        while time.monotonic() < deadline:
            message = self._pushed.pop(0) if self._pushed else self._receive(_TIMEOUT_S)
            if message.get("params", {}).get("subscription") != number:
                continue
            status = message["params"]["result"]
            if status == "invalid":
                raise ClientError("the extrinsic became invalid before it was included")
            if isinstance(status, dict) and "finalized" in status:
                return str(status["finalized"])
        raise ClientError("the extrinsic was not included in time")

    def advance(self, count: int) -> int:
        """Make ``count`` blocks now; returns the number of the last one."""
        target = 0
        while count > 0:
            step = min(count, 100)
            target = self.ask("dev_advance", step)
            while self.head() < target:
                time.sleep(0.01)
            count -= step
        return target


def keypair(uri: str) -> Any:
    """Keypair of a development account or a mnemonic; raises ClientError."""
    try:
        return Keypair.create_from_uri(uri)
    except Exception as error:
        raise ClientError(f"not a key: {error}") from error
