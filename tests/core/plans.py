"""The fault plans live in `iota_subnet.sim`; the core's tests know them by this name."""

from iota_subnet.sim.plans import INCIDENTS, STORM, Plan, Trait, plan

__all__ = ["INCIDENTS", "STORM", "Plan", "Trait", "plan"]
