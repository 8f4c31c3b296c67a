"""A run as the launcher saw it: a real core's status, a metagraph, weights."""

from __future__ import annotations

from typing import Any

from iota_subnet.core.clasp import Sample
from iota_subnet.core.state import Phase
from iota_subnet.localnet.observe import Picture
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.validator.status import snapshot
from template.chain import MetagraphView, NeuronView


def picture(miners: int = 6) -> tuple[Picture, dict[str, str]]:
    """A finished run of two epochs; the names of its miners by hotkey, as long as real ones."""
    world = World(Plan(5, stages=2, miners=miners, epochs=2)).run()
    state = world.orchestrator.state
    state.samples = [Sample(("a", "b"), 3.0 - 0.01 * n) for n in range(20)]
    seen = Picture()
    seen.take(renamed(snapshot(state, state.now), miners))
    names = {hotkey(number): f"miner-{number}" for number in range(miners)}
    neurons = tuple(
        NeuronView(
            uid, hotkey(uid), "cold", 1.0, False, True, 0, 0.1 * uid, 0.0, 0.0, "127.0.0.1", 1
        )
        for uid in range(miners)
    )  # fmt: skip
    seen.view = MetagraphView(1, 123_456, neurons, "owner")
    seen.weights = {hotkey(number): 1 / miners for number in range(miners)}
    return seen, names


def hotkey(number: int) -> str:
    return f"5{'GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQ'[:-2]}{number:02}"


def renamed(status: dict[str, Any], miners: int) -> dict[str, Any]:
    """World's miners are called miner-0, ...; give them addresses of the length that a chain has."""
    table = {f"miner-{number}": hotkey(number) for number in range(miners)}
    status["miners"] = [row | {"hotkey": table[row["hotkey"]]} for row in status["miners"]]
    status["scores"] = {table[name]: score for name, score in status["scores"].items()}
    return status


def in_phase(seen: Picture, phase: Phase, waiting_for: str = "miners train") -> Picture:
    assert seen.status is not None
    seen.status |= {"phase": phase.value, "waiting_for": waiting_for, "seconds_left": 599.5}
    return seen
