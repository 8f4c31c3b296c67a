"""Metadata, AccountNonceApi, TransactionPaymentApi and SubnetRegistrationRuntimeApi."""

from __future__ import annotations

from typing import Any

from template.localnet.codec import Enum
from template.localnet.dispatch import fee_of
from template.localnet.errors import InvalidExtrinsic, QueryError
from template.localnet.extrinsic import decode_extrinsic
from template.localnet.runtime_api.registry import Query, serves

_LENGTH_BYTES = 4


@serves("Metadata_metadata_at_version")
def metadata_at_version(query: Query, version: int) -> bytes | None:
    """SCALE metadata of version 14 or 15; None of others."""
    return query.metadata(version) if version in (14, 15) else None


@serves("Metadata_metadata_versions")
def metadata_versions(query: Query) -> list[int]:
    """The versions of metadata that can be had."""
    return [14, 15]


@serves("AccountNonceApi_account_nonce")
def account_nonce(query: Query, account: bytes) -> int:
    """How many extrinsics of an account are in blocks."""
    known = query.state.accounts.get(account)
    return 0 if known is None else known.nonce


@serves("TransactionPaymentApi_query_info")
def query_info(query: Query, data: bytes) -> dict[str, Any]:
    """Fee of an extrinsic given with its length prefix and followed by its length as u32."""
    try:
        extrinsic = decode_extrinsic(data[:-_LENGTH_BYTES])
    except InvalidExtrinsic as error:
        raise QueryError(str(error)) from error
    fee = fee_of(query.state, extrinsic.call, extrinsic.tip)
    return {"weight": {"ref_time": 0, "proof_size": 0}, "class": Enum("Normal"), "partial_fee": fee}


@serves("SubnetRegistrationRuntimeApi_get_network_registration_cost")
def get_network_registration_cost(query: Query) -> int:
    """What a new subnet locks, in rao; it does not move here."""
    return query.state.config.subnet_lock_cost
