"""Calls to miners that have no port: the synapse goes down the work channel, its answer comes up.

Law: as a call over HTTP, it ends with an answer or a PeerError within its time. The channel has signed and numbered
both; an answer counts only for the hotkey that was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from iota_subnet.messages import FromOrchestrator, Obeyed, Order
from iota_subnet.protocol import AssignLayer, MergePlan, SetPhase
from template.errors import Unreachable

S = TypeVar("S", AssignLayer, SetPhase, MergePlan)

#: Seconds between two looks whether a miner has opened its channel.
LOOK_S = 0.05


class Orders:
    """One validator's. `send(hotkey, message)` is the channel's: False when the miner is not connected."""

    def __init__(self, send: Callable[[str, FromOrchestrator], bool]) -> None:
        self._send = send
        self._number = 0
        self._open: dict[int, tuple[str, asyncio.Future[Obeyed]]] = {}

    async def call(self, hotkey: str, synapse: S, timeout_s: float) -> S:
        """`synapse` with its answer. A miner that has just joined is given the time to open its channel.

        Raises:
            Unreachable: no answer within `timeout_s` seconds, or its channel has ended.
        """
        self._number += 1
        number, answer = self._number, asyncio.get_running_loop().create_future()
        self._open[number] = hotkey, answer
        order = Order(number, type(synapse).__name__, synapse.body())
        try:
            said = await asyncio.wait_for(self._ask(hotkey, order, answer), timeout_s)
        except asyncio.TimeoutError:
            raise Unreachable(f"no answer over the work channel within {timeout_s:g} s") from None
        finally:
            del self._open[number]
        synapse.accepted, synapse.reason = said.accepted, said.reason
        return synapse

    def answered(self, hotkey: str, message: Obeyed) -> None:
        """A miner has answered; what nobody waits for is dropped."""
        asked, answer = self._open.get(message.call, ("", None))
        if answer is not None and asked == hotkey and not answer.done():
            answer.set_result(message)

    def lost(self, hotkey: str) -> None:
        """Its channel has ended: whatever it was asked, it will not answer."""
        for asked, answer in self._open.values():
            if asked == hotkey and not answer.done():
                answer.set_exception(Unreachable("its work channel has ended"))

    async def _ask(self, hotkey: str, order: Order, answer: asyncio.Future[Obeyed]) -> Obeyed:
        while not answer.done() and not self._send(hotkey, order):
            await asyncio.sleep(LOOK_S)
        return await answer
