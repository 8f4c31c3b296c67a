"""The simulated world lives in `iota_subnet.sim`; the core's tests know it by this name."""

from iota_subnet.sim.world import World, Wrong, need

__all__ = ["World", "Wrong", "need"]
