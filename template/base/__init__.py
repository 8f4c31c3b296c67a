"""The run loop of a neuron and its two kinds. Importing these never imports the Bittensor SDK."""

from template.base.miner import BaseMinerNeuron
from template.base.neuron import BaseNeuron
from template.base.validator import BaseValidatorNeuron

__all__ = ["BaseMinerNeuron", "BaseNeuron", "BaseValidatorNeuron"]
