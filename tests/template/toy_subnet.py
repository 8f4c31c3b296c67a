"""A complete subnet on `template` alone: miners say how much they work, the validator pays them for it."""

from __future__ import annotations

from template.base import BaseMinerNeuron, BaseValidatorNeuron
from template.synapse import SignedAxon, SignedDendrite, SignedSynapse


class HowMuch(SignedSynapse):
    work: float = 0.0


class Miner(BaseMinerNeuron):
    async def on_start(self) -> None:
        self.axon = SignedAxon(self.wallet, "127.0.0.1", 0, who=self.who).attach(self.how_much)
        await self.axon.start()
        await self.announce_axon(self.axon.port)

    async def how_much(self, synapse: HowMuch) -> HowMuch:
        return HowMuch(work=float(self.steps))

    async def step(self) -> None: ...

    async def on_stop(self) -> None:
        await self.axon.stop()


class Validator(BaseValidatorNeuron):
    async def on_start(self) -> None:
        self.dendrite = SignedDendrite(self.wallet)

    async def step(self) -> None:
        view = await self.resync_metagraph()
        for neuron in (n for n in view.neurons if n.is_serving):
            reply = await self.dendrite.call(neuron.hotkey, neuron.ip, neuron.port, HowMuch(), timeout_s=5.0)
            self.scores[neuron.hotkey] = reply.work

    async def on_stop(self) -> None:
        await self.dendrite.close()
