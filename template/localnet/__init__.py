"""Embedded subtensor: a chain for staging that the unmodified bittensor 10.5 SDK talks to over a websocket."""

from template.localnet.chain import LocalChain
from template.localnet.cli import main
from template.localnet.config import ChainConfig
from template.localnet.server import ChainServer

__all__ = ["ChainConfig", "ChainServer", "LocalChain", "main"]
