"""The scripted miners live in `iota_subnet.sim`; the core's tests know them by this name."""

from iota_subnet.sim.miners import ScriptedMiner, reduced_digests

__all__ = ["ScriptedMiner", "reduced_digests"]
