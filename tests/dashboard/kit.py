"""What the tests of the page share: worlds at work, and a reader that follows the stream as the page does."""

from __future__ import annotations

import json
from typing import Any

from iota_subnet.core.events import MinerAudited
from iota_subnet.core.state import RunState
from iota_subnet.dashboard.hub import Hub
from iota_subnet.sim.plans import Incident, Plan, Trait
from iota_subnet.sim.world import World
from template.chain import MetagraphView, NeuronView


def stormy(seed: int = 3) -> World:
    """Two stages of three, with a liar, a crash and a miner that leaves."""
    traits = {1: Trait(lies_in_reduce=True), 4: Trait(cheats=True)}
    incidents = (Incident(6.0, "crash", 2), Incident(9.0, "join"), Incident(14.0, "leave", 0))
    return World(Plan(seed, stages=2, miners=6, epochs=3, traits=traits, incidents=incidents))


def steps(world: World, every: int = 1) -> Any:
    """Play a world; its state after every so many happenings."""
    world.start()
    number = 0
    while not world.over():
        world.step()
        number += 1
        if number % every == 0:
            yield world.orchestrator.state


def chain_of(*hotkeys: str, block: int = 7, incentive: float = 0.25) -> MetagraphView:
    neurons = tuple(
        NeuronView(uid, hotkey, "cold", 1.0, False, True, 0, incentive, 0.0, 3.5, "127.0.0.1", 1)
        for uid, hotkey in enumerate(hotkeys)
    )
    return MetagraphView(1, block, neurons, "owner")


def hub_of(world: World, chain: MetagraphView | None = None) -> Hub:
    return Hub(lambda: world.orchestrator.state, lambda: chain, lambda: world.now, "validator", 1)


def heard(message: bytes) -> dict[str, Any]:
    """What one server-sent event says."""
    assert message.startswith(b"data: ") and message.endswith(b"\n\n") and message.count(b"\n") == 2
    document: dict[str, Any] = json.loads(message[6:], parse_constant=_never)
    return document


def _never(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


class Reader:
    """The page's own rules (`take` in dashboard.js), again."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def take(self, document: dict[str, Any]) -> None:
        seen = self.seen
        if document.get("full"):
            seen.clear()
            seen |= {"columns": document["columns"], "head": {}, "rows": {}, "epochs": {}, "events": []}
        seen["head"] |= document.get("head", {})
        for part in ("run", "stages"):
            if part in document:
                seen[part] = document[part]
        for number, *values in document.get("rows", []):
            if isinstance(values[0], str):
                seen["rows"][number] = list(values)
            else:
                for column, value in zip(values[::2], values[1::2], strict=True):
                    seen["rows"][number][column] = value
        for number in document.get("gone", []):
            del seen["rows"][number]
        for epoch in document.get("epochs", []):
            seen["epochs"][epoch[0]] = epoch
        seen["events"] = (seen["events"] + document.get("events", []))[-200:]
        for name in ("all", "recent"):
            if name in document:
                news = document[name]
                kept = [] if news["whole"] else seen[name]["points"]
                first = news["points"][0][0] if news["points"] else float("inf")
                points = [point for point in kept if point[0] < first] + news["points"]
                if name == "recent" and points:
                    points = [point for point in points if point[0] >= points[-1][0] - 900]
                seen[name] = {"width": news["width"], "points": points}


def audited(state: RunState, hotkey: str, verdict: str, epoch: int = 0) -> MinerAudited:
    """An audit's answer that was asked for."""
    return MinerAudited(at=state.now, hotkey=hotkey, stage=0, epoch=epoch, verdict=verdict, reason="why")  # type: ignore[arg-type]
