"""Drives a LocalChain without sockets: signs extrinsics with the chain's own codec and reads their outcome."""

from __future__ import annotations

from typing import Any

from bittensor_wallet import Keypair

from template.localnet.chain import LocalChain
from template.localnet.codec import Enum, load_codecs
from template.localnet.config import ChainConfig
from template.localnet.extrinsic import Era, SignedExtrinsic
from template.localnet.scale import encode_compact
from template.localnet.spec import load_spec

TAO = 10**9
IMMORTAL = Era(0, 0, b"\x00")


def key(uri: str) -> Any:
    return Keypair.create_from_uri(uri)


def call(name: str, args: dict[str, Any] | None = None) -> Enum:
    pallet, function = name.split(".")
    return Enum(pallet, Enum(function, args))


def mortal_era(current: int, period: int) -> Era:
    """Era of an extrinsic that lives for `period` blocks (a power of two below 4096) from block `current`."""
    phase = current % period
    value = (period.bit_length() - 2) | phase << 4
    return Era(period, phase, value.to_bytes(2, "little"))


def sign(
    chain: LocalChain,
    signer: Keypair,
    name: str,
    args: dict[str, Any] | None = None,
    *,
    nonce: int | None = None,
    tip: int = 0,
    era: Era = IMMORTAL,
    genesis: bytes | None = None,
    birth: bytes | None = None,
    tamper: bytes | None = None,
) -> bytes:
    """A signed extrinsic with its length prefix; `tamper` replaces the call after signing."""
    account = bytes(signer.public_key or b"")
    if nonce is None:
        nonce = chain.next_nonce(account)
    genesis = genesis or chain.genesis_hash
    birth = birth or (chain.block_hash(era.birth(chain.head.number)) or b"")
    body = load_codecs().encode("RuntimeCall", call(name, args))
    unsigned = SignedExtrinsic(b"", b"", account, b"", era, nonce, tip, call(name, args), body)
    signature = signer.sign(unsigned.payload(genesis, birth))
    head = b"\x84\x00" + account + b"\x01" + signature + era.raw + encode_compact(nonce) + encode_compact(tip) + b"\x00"
    raw = head + (body if tamper is None else tamper)
    return encode_compact(len(raw)) + raw


class Driver:
    """A chain and short ways to use it. Time is made up: every block is a second after the last."""

    def __init__(self, **settings: Any) -> None:
        self.chain = LocalChain(ChainConfig(**settings))
        self.alice = key("//Alice")
        self.alice_hot = key("//AliceHot")

    @property
    def state(self) -> Any:
        return self.chain.state

    def block(self, count: int = 1) -> None:
        for _ in range(count):
            self.chain.produce_block((self.chain.head.number + 1) * 1000)

    def run(self, signer: Keypair, name: str, **args: Any) -> str | None:
        """Send one call in a block of its own; None on success, else the name of the error."""
        raw = sign(self.chain, signer, name, args or None)
        self.chain.submit(raw)
        self.block()
        assert raw in self.chain.head.extrinsics, "not included"
        return self.outcome(self.chain.head.extrinsics.index(raw))

    def outcome(self, index: int) -> str | None:
        for number, event in self.state.events:
            if number == index and event.name == "System":
                if event.value.name == "ExtrinsicSuccess":
                    return None
                if event.value.name == "ExtrinsicFailed":
                    return error_name(event.value.value["dispatch_error"])
        raise AssertionError("no outcome event")

    def events(self) -> list[str]:
        """Pallet.Event of the last block."""
        return [f"{event.name}.{event.value.name}" for _, event in self.state.events]

    def subnet(self, start: bool = True) -> int:
        """Register a subnet for Alice and start it."""
        before = set(self.state.subnets)
        assert self.run(self.alice, "SubtensorModule.register_network", hotkey=self.alice_hot.public_key) is None
        (netuid,) = set(self.state.subnets) - before
        if start:
            assert self.run(self.alice, "SubtensorModule.start_call", netuid=netuid) is None
        return int(netuid)

    def member(self, uri: str, netuid: int = 1, tao: int = 0) -> Keypair:
        """Register a hotkey of Alice's and stake to it; returns the hotkey."""
        hotkey: Keypair = key(uri)
        account = hotkey.public_key
        assert self.run(self.alice, "SubtensorModule.burned_register", netuid=netuid, hotkey=account) is None
        if tao:
            staked = self.run(
                self.alice, "SubtensorModule.add_stake", hotkey=account, netuid=netuid, amount_staked=tao * TAO
            )
            assert staked is None
        return hotkey

    def to_epoch(self, netuid: int = 1) -> None:
        """Produce blocks until the epoch of a subnet has run."""
        before = self.state.subnets[netuid].epoch_index
        while self.state.subnets[netuid].epoch_index == before:
            self.block()


def error_name(error: Enum) -> str:
    """`Pallet.Error`, `Token.BelowMinimum`, `BadOrigin` ... of a native dispatch error."""
    if error.name == "Module":
        pallet = next(p for p in load_spec().pallets.values() if p.index == error.value["index"])
        return f"{pallet.name}.{pallet.errors[error.value['error'][0]]}"
    return error.name if error.value is None else f"{error.name}.{error.value.name}"
