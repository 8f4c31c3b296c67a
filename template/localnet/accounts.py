"""Well-known development accounts and their addresses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bittensor_wallet import Keypair

from template.localnet.state import AccountId

DEV_URIS = ("//Alice", "//Bob", "//Charlie", "//Dave", "//Eve", "//Ferdie")
SS58_FORMAT = 42


def _public_key(keypair: Any) -> AccountId:
    return bytes(keypair.public_key)


@lru_cache(maxsize=64)
def account_from_uri(uri: str) -> AccountId:
    """Public key of an sr25519 development account such as ``//Alice``."""
    return _public_key(Keypair.create_from_uri(uri))


def ss58(account: AccountId) -> str:
    """Address of a public key with prefix 42."""
    return str(Keypair(public_key=account.hex(), ss58_format=SS58_FORMAT).ss58_address)


def from_ss58(address: str) -> AccountId:
    """Public key of an address; raises ValueError for a malformed one."""
    try:
        return _public_key(Keypair(ss58_address=address))
    except Exception as error:
        raise ValueError(f"not an ss58 address: {address!r}") from error
