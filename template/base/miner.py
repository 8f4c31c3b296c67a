"""BaseMinerNeuron: whom a miner serves."""

from __future__ import annotations

from template.base.neuron import BaseNeuron


class BaseMinerNeuron(BaseNeuron):
    """A neuron that serves the validators of its subnet. Give `who` to the axon: `SignedAxon(..., who=self.who)`."""

    def who(self, hotkey: str) -> str | None:
        """None to serve `hotkey`, else the reason for refusing it. One lookup in the last metagraph."""
        if self.view is None:
            return "this neuron is starting, try again in a moment"
        neuron = self.view.by_hotkey(hotkey)
        if neuron is None:
            return f"{hotkey} is not registered in subnet {self.view.netuid} as of block {self.view.block}"
        rules = self.settings.blacklist
        if rules.force_validator_permit and not neuron.validator_permit:
            return f"{hotkey} holds no validator permit in subnet {self.view.netuid} as of block {self.view.block}"
        if neuron.stake < rules.min_stake:
            return f"stake {neuron.stake:g} is below the {rules.min_stake:g} that this miner asks for"
        return None
