"""The chain as a pure synchronous state machine: no sockets, no clock, no threads.

Time enters only as the ``now_ms`` argument of :meth:`LocalChain.produce_block`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import template.localnet.calls  # noqa: F401  (registers the call handlers)
from template.localnet.accounts import DEV_URIS, account_from_uri
from template.localnet.calls.shield import shielded_by
from template.localnet.config import ChainConfig
from template.localnet.dispatch import Context, apply_signed, dispatch_info, fee_of
from template.localnet.epoch import mint, run_due_epochs
from template.localnet.errors import InvalidExtrinsic, QueryError
from template.localnet.extrinsic import SignedExtrinsic, decode_extrinsic, signature_ok, timestamp_inherent
from template.localnet.hashing import blake2_256
from template.localnet.metadata import build_metadata
from template.localnet.pool import Pool
from template.localnet.registration import adjust_burn, create_root
from template.localnet.runtime_api import call_runtime_api
from template.localnet.runtime_api.registry import Query
from template.localnet.scale import encode_compact
from template.localnet.shield import CannotOpen, open_shielded
from template.localnet.state import AccountId, ChainState
from template.localnet.storage import keys_with_prefix, read

logger = logging.getLogger(__name__)

HASHES_KEPT = 4096  # blocks whose hash is remembered, the longest era
_NO_BLOCK = bytes(32)


@dataclass(frozen=True)
class Block:
    """A produced block. ``extrinsics`` are raw with length prefix; the first one is the timestamp."""

    number: int
    hash: bytes
    parent_hash: bytes
    state_root: bytes
    extrinsics_root: bytes
    extrinsics: tuple[bytes, ...]
    extrinsic_hashes: tuple[bytes, ...]


class LocalChain:
    """One chain from genesis; see the package README for what agrees with the real runtime.

    ``genesis_ms`` (Unix milliseconds) and ``seed`` go into the genesis hash, so that every run can be a chain of its
    own.
    """

    def __init__(self, config: ChainConfig, genesis_ms: int = 0, seed: bytes = b"") -> None:
        self._begin(self._genesis(config, genesis_ms, seed))
        self.head = self._seal(self.state, _NO_BLOCK, ())
        self.genesis_hash = self.head.hash

    def _begin(self, state: ChainState) -> None:
        self.config = state.config
        self.state = state
        self.pool = Pool(state.config.max_pool)
        self._blocks: dict[bytes, Block] = {}
        self._states: dict[bytes, ChainState] = {}
        self._last_dropped: list[SignedExtrinsic] = []

    @classmethod
    def resume(cls, state: ChainState, head: Block | None, hashes: dict[int, bytes], seed: bytes = b"") -> LocalChain:
        """A chain that goes on from ``state`` after the block ``head``, knowing the ``hashes`` of earlier blocks.

        Without a head it is a copy: the same state and block number under a new genesis hash, made from ``seed``.
        """
        chain = cls.__new__(cls)
        chain._begin(state)
        if head is None:
            state.seed = seed
            state.events = []
            state.block_hashes = {0: blake2_256(b"copy" + seed)}
            chain.head = chain._seal(state, state.block_hashes[0], ())
        else:
            state.block_hashes = {**hashes, head.number: head.hash}
            chain.head = head
            chain._blocks[head.hash] = head
            chain._states[head.hash] = state
        chain.genesis_hash = state.block_hashes[0]
        return chain

    @staticmethod
    def _genesis(config: ChainConfig, genesis_ms: int, seed: bytes) -> ChainState:
        state = ChainState(config, seed, now_ms=genesis_ms, sudo_key=account_from_uri(DEV_URIS[0]))
        for uri in DEV_URIS:
            state.deposit(account_from_uri(uri), config.endowment)
            state.total_issuance += config.endowment
        create_root(state, state.sudo_key)
        return state

    @property
    def constants(self) -> tuple[tuple[str, int], ...]:
        """Runtime constants that depend on the configuration."""
        config = self.config
        milliseconds = max(int(config.block_time * 1000), 1)
        return (
            ("Aura.SlotDuration", milliseconds),
            ("Timestamp.MinimumPeriod", max(milliseconds // 2, 1)),
            ("Balances.ExistentialDeposit", config.existential_deposit),
            ("SubtensorModule.InitialStartCallDelay", config.start_call_delay),
            ("SubtensorModule.InitialTempo", config.tempo),
            ("SubtensorModule.MinTempo", 1),
        )

    def metadata(self, version: int = 15) -> bytes:
        """Runtime metadata, version 14 or 15 (ValueError otherwise)."""
        return build_metadata(version, self.constants)

    def submit(self, raw: bytes) -> bytes:
        """Check an extrinsic and put it into the pool; returns its hash, raises InvalidExtrinsic."""
        extrinsic = decode_extrinsic(raw)
        self._check(extrinsic, self.state)
        self.pool.add(extrinsic, self.state.nonce(extrinsic.signer))
        return extrinsic.hash

    def _check(self, extrinsic: SignedExtrinsic, state: ChainState) -> None:
        """Signature, mortality and fee against ``state`` (the pool checks the nonce)."""
        birth = extrinsic.era.birth(self.head.number)
        birth_hash = state.block_hashes.get(birth)
        if birth_hash is None:
            raise InvalidExtrinsic(1010, "Invalid Transaction", "Transaction has an ancient birth block")
        if not signature_ok(extrinsic, self.genesis_hash, birth_hash):
            raise InvalidExtrinsic(1010, "Invalid Transaction", "Transaction has a bad signature")
        fee = fee_of(state, extrinsic.call, extrinsic.tip)
        if state.free(extrinsic.signer) < fee:
            raise InvalidExtrinsic(
                1010, "Invalid Transaction", "Inability to pay some fees (e.g. account balance too low)"
            )

    def produce_block(self, now_ms: int) -> Block:
        """Build the next block at ``now_ms`` (Unix ms, moved forward if not later than the last one)."""
        return self._extend(now_ms, None)

    def replay(self, now_ms: int, extrinsics: list[bytes]) -> Block:
        """Build the next block as it was built before: ``extrinsics`` are those of the block, timestamp included."""
        return self._extend(now_ms, [decode_extrinsic(raw) for raw in extrinsics[1:]])

    def _extend(self, now_ms: int, recorded: list[SignedExtrinsic] | None) -> Block:
        state = self.state.clone()
        state.block += 1
        state.events = []
        for subnet in state.subnets.values():
            adjust_burn(subnet, state.block)
        mint(state)
        run_due_epochs(state)
        now_ms = max(now_ms, state.now_ms + 1)
        state.now_ms = now_ms
        Context(state, None, 0).emit("System", "ExtrinsicSuccess", {"dispatch_info": dispatch_info(False, True)})
        extrinsics = [timestamp_inherent(now_ms)]
        self._last_dropped = []
        shielded: list[bytes] = []
        for extrinsic in self.pool.take_ready(state) if recorded is None else recorded:
            if self._still_payable(extrinsic, state):
                state = apply_signed(state, extrinsic.signer, extrinsic.call, extrinsic.tip, len(extrinsics))
                extrinsics.append(extrinsic.raw)
                shielded.extend(shielded_by(extrinsic.call))
            else:
                self._last_dropped.append(extrinsic)
        self.state = state
        self.head = self._seal(state, self.head.hash, tuple(extrinsics))
        self._last_dropped.extend(self.pool.drop_stale(state))
        self._forget()
        if recorded is None:
            self._unshield(shielded)
        return self.head

    def _unshield(self, ciphertexts: list[bytes]) -> None:
        """Put what clients encrypted to this chain into the pool, for the next block; the rest is dropped."""
        for ciphertext in ciphertexts:
            try:
                self.submit(open_shielded(self.state.seed, ciphertext))
            except (CannotOpen, InvalidExtrinsic) as error:
                logger.warning("a shielded extrinsic was dropped: %s", error)

    @staticmethod
    def _still_payable(extrinsic: SignedExtrinsic, state: ChainState) -> bool:
        """An earlier extrinsic of the block may have used up the balance, or one before it may have been dropped."""
        if state.nonce(extrinsic.signer) != extrinsic.nonce:
            return False
        return state.free(extrinsic.signer) >= fee_of(state, extrinsic.call, extrinsic.tip)

    @property
    def last_dropped(self) -> list[bytes]:
        """Hashes of pool extrinsics that the last block found invalid."""
        return [extrinsic.hash for extrinsic in self._last_dropped]

    def _seal(self, state: ChainState, parent: bytes, extrinsics: tuple[bytes, ...]) -> Block:
        """Hash the header and keep block and state. The roots are digests, not trie roots."""
        hashes = tuple(blake2_256(raw) for raw in extrinsics)
        extrinsics_root = blake2_256(b"".join(hashes))
        digest = f"{state.block}:{state.now_ms}:{state.total_issuance}:{len(state.events)}".encode() + state.seed
        state_root = blake2_256(parent + extrinsics_root + digest)
        header = parent + encode_compact(state.block) + state_root + extrinsics_root + b"\x00"
        block = Block(state.block, blake2_256(header), parent, state_root, extrinsics_root, extrinsics, hashes)
        state.block_hashes[block.number] = block.hash
        self._blocks[block.hash] = block
        self._states[block.hash] = state
        return block

    def _forget(self) -> None:
        old = self.state.block_hashes.get(self.head.number - self.config.history_blocks)
        if old is not None and old != self.genesis_hash:
            self._blocks.pop(old, None)
            self._states.pop(old, None)
        gone = self.head.number - HASHES_KEPT
        if gone > 0:
            self.state.block_hashes.pop(gone, None)

    def block_hash(self, number: int) -> bytes | None:
        """Hash of a block by number, None if it does not exist (yet) or is too old."""
        return self.state.block_hashes.get(number)

    def block(self, block_hash: bytes) -> Block | None:
        """A block by hash, None if unknown or forgotten."""
        return self._blocks.get(block_hash)

    def state_at(self, block_hash: bytes | None = None) -> ChainState:
        """State after a block (default: the head); raises QueryError for a discarded or unknown one."""
        if block_hash is None:
            return self.state
        state = self._states.get(block_hash)
        if state is None:
            raise QueryError(f"State already discarded for 0x{block_hash.hex()}")
        return state

    def storage(self, key: bytes, block_hash: bytes | None = None) -> bytes | None:
        """Encoded storage value, None where nothing is stored; raises QueryError."""
        return read(self.state_at(block_hash), key)

    def storage_keys(self, prefix: bytes, block_hash: bytes | None = None) -> list[bytes]:
        """Sorted keys below ``prefix``; raises QueryError."""
        return list(keys_with_prefix(self.state_at(block_hash), prefix))

    def runtime_call(self, method: str, data: bytes, block_hash: bytes | None = None) -> bytes:
        """Answer ``state_call``: encoded result of a runtime API; raises QueryError."""
        state = self.state_at(block_hash)
        return call_runtime_api(Query(state, self.metadata), method, data)

    @property
    def has_ready(self) -> bool:
        """Whether an extrinsic waits that the next block would take."""
        return self.pool.has_ready(self.state)

    def next_nonce(self, account: AccountId) -> int:
        """Next nonce of an account, waiting extrinsics included."""
        return self.pool.next_nonce(account, self.state.nonce(account))
