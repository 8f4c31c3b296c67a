"""A question to a validator from the command line, signed by a hotkey of this machine: flags, whom to ask, the call.

The chain's SDK is imported when something is asked, so that --help is quick.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from template.errors import NeuronError, PeerError
from template.settings import SubtensorSettings, WalletSettings

if TYPE_CHECKING:
    from template.chain import NeuronView
    from template.synapse import SignedDendrite, SignedSynapse

T = TypeVar("T", bound="SignedSynapse")

#: Seconds that the validator may take.
ANSWER_S = 10.0


def add_arguments(parser: argparse.ArgumentParser, netuid: str = "the subnet") -> None:
    """The flags that say which hotkey asks whom; `netuid` is the help of that flag."""
    wallet, chain = WalletSettings(), SubtensorSettings()
    add = parser.add_argument
    add("--wallet.name", dest="name", default=wallet.name, help=f"(default {wallet.name})")
    add("--wallet.hotkey", dest="hotkey_name", default=wallet.hotkey, help=f"(default {wallet.hotkey})")
    add("--wallet.path", dest="path", default=str(wallet.path), help=f"(default {wallet.path})")
    add("--netuid", type=int, help=netuid)
    add("--subtensor.network", dest="network", default=chain.network, help=f"(default {chain.network})")
    add("--subtensor.chain_endpoint", dest="endpoint", help="ws:// address of the chain instead")
    add("--validator", metavar="HOTKEY", help="whom to ask; the serving validator with most stake if none")


@dataclass(frozen=True, slots=True)
class Caller:
    """`own` asks `validator`."""

    own: str
    validator: NeuronView
    dendrite: SignedDendrite

    async def ask(self, synapse: T) -> T:
        """Its reply. Raises NeuronError."""
        to = self.validator
        try:
            return await self.dendrite.call(to.hotkey, to.ip, to.port, synapse, timeout_s=ANSWER_S)
        except PeerError as error:
            raise NeuronError(f"the validator did not say: {error}") from None


@contextlib.asynccontextmanager
async def calling(options: argparse.Namespace) -> AsyncIterator[Caller]:
    """Whoever the flags name, found on chain. Raises NeuronError when there is nobody."""
    from template.subtensor import SubtensorChain
    from template.synapse import SignedDendrite
    from template.wallet import load

    keys = load(options.name, options.hotkey_name, options.path)
    own: str = keys.hotkey.ss58_address
    chain = SubtensorSettings(network=options.network, chain_endpoint=options.endpoint)
    view = await asyncio.to_thread(SubtensorChain(keys, chain.endpoint, chain.timeout_s).metagraph, options.netuid)
    serving = [n for n in view.neurons if n.is_serving and n.hotkey != own]
    if options.validator is not None:
        serving = [n for n in serving if n.hotkey == options.validator]
    validator = max((n for n in serving if n.validator_permit), key=lambda n: (n.stake, -n.uid), default=None)
    if validator is None:
        raise NeuronError(f"no validator serves an axon on subnet {options.netuid}")
    dendrite = SignedDendrite(keys)
    try:
        yield Caller(own, validator, dendrite)
    finally:
        await dendrite.close()
