"""Handlers of the served calls; importing the package registers them all."""

from template.localnet.calls import (
    admin,
    balances,
    children,
    commits,
    network,
    registration,
    schedule,
    serving,
    shield,
    staking,
    utility,
    weights,
)

__all__ = [
    "admin",
    "balances",
    "children",
    "commits",
    "network",
    "registration",
    "schedule",
    "serving",
    "shield",
    "staking",
    "utility",
    "weights",
]
