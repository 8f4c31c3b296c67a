"""BaseValidatorNeuron: scores by hotkey, and when and how they become weights on chain."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loguru import logger

from template.base.neuron import BaseNeuron
from template.chain import Chain, MetagraphView, WeightsResult
from template.settings import NeuronSettings
from template.weights import to_chain_weights

if TYPE_CHECKING:
    from bittensor_wallet import Wallet

WEIGHTS_TIMEOUT_S = 180.0


class BaseValidatorNeuron(BaseNeuron):
    """A neuron that scores others. `step` fills `self.scores` (hotkey -> score >= 0); `sync` sets the weights."""

    def __init__(
        self, settings: NeuronSettings, chain: Chain, wallet: Wallet, clock: Callable[[], float] = time.time
    ) -> None:
        self.scores: dict[str, float] = {}
        self.weights_block: int | None = None
        self._tried_block: int | None = None
        self._rate_limit = 0
        super().__init__(settings, chain, wallet, clock)

    async def on_weights_set(self, result: WeightsResult) -> None:
        """Called after each attempt to set weights, whatever became of it."""

    def export_state(self) -> dict[str, Any]:
        """The scores and the block of the last weights."""
        return {"scores": self.scores, "weights_block": self.weights_block}

    def import_state(self, state: dict[str, Any]) -> None:
        """Take back scores (finite ones only) and the block of the last weights."""
        scores = {str(hotkey): float(score) for hotkey, score in state["scores"].items()}
        self.scores = {hotkey: score for hotkey, score in scores.items() if math.isfinite(score)}
        self.weights_block = state["weights_block"]

    async def resync_metagraph(self) -> MetagraphView:
        """As BaseNeuron's; also refreshes the chain's rate limit for weights."""
        self._rate_limit = await self.on_chain(self.chain.weights_rate_limit, self.settings.netuid)
        return await super().resync_metagraph()

    async def sync(self) -> int:
        """Resync the metagraph and set weights, each when due; return the newest block."""
        block = await super().sync()
        if self.should_set_weights(block):
            await self.set_weights()
        return block

    def should_set_weights(self, block: int) -> bool:
        """Whether there are scores, our interval has passed, the chain would accept, and no attempt has just failed.

        The chain's rule: more than `weights_rate_limit` blocks since its `last_update` of our uid.
        """
        own = self.view.by_hotkey(self.hotkey) if self.view is not None else None
        if own is None or not any(score > 0 for score in self.scores.values()):
            return False
        interval = self.settings.neuron.epoch_length
        # A chain that began anew has a lower block than any we remember: treat that as long ago.
        ours = block if self.weights_block is None or self.weights_block > block else block - self.weights_block
        tried = block if self._tried_block is None or self._tried_block > block else block - self._tried_block
        last_update = max(own.last_update, self.weights_block or 0) if own.last_update <= block else 0
        return ours >= interval and tried >= max(1, interval // 10) and block - last_update > self._rate_limit

    async def set_weights(self) -> WeightsResult:
        """Map the scores to uids by the newest metagraph, send them, tell `on_weights_set`.

        A refusal by the chain is a result. Raises ChainUnreachable, and asyncio.TimeoutError after WEIGHTS_TIMEOUT_S.
        """
        # A fresh view: between the last sync and now a uid may have passed to another hotkey.
        view = await self.resync_metagraph()
        self._tried_block = view.block
        uids, weights = to_chain_weights(self.scores, view, burn=self.settings.neuron.burn)
        if not uids:
            result = WeightsResult(False, "none of the scored hotkeys is in the subnet any more")
        else:
            sending = self.on_chain(
                self.chain.set_weights, self.settings.netuid, uids, weights, self.settings.neuron.version_key
            )
            result = await asyncio.wait_for(sending, WEIGHTS_TIMEOUT_S)
        if result.ok:
            self.weights_block = result.block if result.block is not None else view.block
            logger.info("weights set at block {} for {} uids", self.weights_block, len(uids))
        else:
            logger.warning("weights not set: {}", result.message)
        await self.on_weights_set(result)
        return result
