"""What must hold at the end of a simulated run lives in `iota_subnet.sim`; the core's tests know it by this name."""

from iota_subnet.sim.conclude import conclude

__all__ = ["conclude"]
