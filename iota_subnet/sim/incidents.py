"""What can befall a world, one function for each incident of a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from iota_subnet.core.events import MetagraphChanged, MinerLeft
from iota_subnet.sim.network import HEARTBEAT_S
from iota_subnet.sim.plans import Incident, Trait

if TYPE_CHECKING:
    from iota_subnet.sim.miners import ScriptedMiner
    from iota_subnet.sim.world import World

#: Every kind of incident, with what its `seconds`, `amount` and `miner` mean. 0 seconds where one is needed: drawn.
MEANING: dict[str, str] = {
    "drop": "for `seconds`, a message is lost with chance `amount`",
    "delay": "for `seconds`, messages take `amount` seconds longer and keep their order",
    "duplicate": "for `seconds`, a message arrives twice with chance `amount`",
    "reorder": "for `seconds`, messages take up to `amount` seconds longer and overtake each other",
    "crash": "`miner` dies for good",
    "restart_miner": "`miner` dies and comes back after `seconds` as a new process",
    "freeze": "`miner` stops for `seconds` and goes on as if nothing had been",
    "blink": "the channel of `miner` breaks and is back after `seconds`",
    "away": "the channel of `miner` breaks; after `seconds` the same process joins again",
    "partition": "for `seconds`, `miners` reach only each other",
    "skew": "the validator's clock jumps by `amount` seconds, forward or back",
    "slow_disk": "for `seconds`, the ledger commits every `amount` seconds, and events wait for it",
    "restart_validator": "the validator dies, its successor starts after `seconds`; with `amount` 1 it dies between "
    "writing an event down and acting on it",
    "join": "one more miner joins, whose passes take `amount` seconds",
    "leave": "`miner` says goodbye and goes",
    "drain": "`miner` says goodbye and goes when it is not needed any more, after 20 s all the same; with `seconds`, a "
    "new process is there so long after it: an upgrade",
    "deregister": "the hotkey of `miner` is not registered for `seconds`",
    "lie": "from now on `miner` publishes wrong reductions",
    "blackout": "`miners` die at one blow and come back after `seconds` as new processes (0: never)",
}

#: Incidents that are nothing without a number of seconds, and those without an amount.
TIMED = ("drop", "delay", "duplicate", "reorder", "freeze", "partition", "slow_disk")
SIZED = ("drop", "delay", "duplicate", "reorder", "skew", "slow_disk")


def strike(world: World, incident: Incident) -> None:
    """Let it happen now."""
    kind = incident.what
    if kind in ("drop", "delay", "duplicate", "reorder"):
        world.network.disturb(kind, incident.seconds, incident.amount)
        return
    world.counts[kind] += _EVERYWHERE[kind](world, incident) if kind in _EVERYWHERE else _one(world, incident)


def _one(world: World, incident: Incident) -> int:
    """An incident of one miner: nothing happens to the dead, or to a number that nobody has."""
    miner = world.miners.get(f"miner-{incident.miner}")
    if miner is None or not miner.alive:
        return 0
    _OF_ONE[incident.what](world, miner, incident)
    return 1


def _crash(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    miner.alive = False
    world.disconnect(miner)


def _restart(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    miner.boot += 1
    miner.frozen_until = 0.0
    miner.reset()
    world.disconnect(miner)
    miner.later(incident.seconds or world.rng.uniform(0.0, 8.0), world.connect, miner, True)


def _away(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    world.disconnect(miner)
    bounds = (0.5, 4.0) if incident.what == "blink" else (7.0, 15.0)
    seconds = incident.seconds or world.rng.uniform(*bounds)
    miner.later(seconds, world.connect, miner, incident.what == "away")


def _freeze(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    """Its channel is given up when the heartbeat is missed; when it goes on, it finds that out and connects again."""
    miner.frozen_until = until = max(miner.frozen_until, world.now + incident.seconds)
    boot = miner.boot

    def missed() -> None:
        if miner.boot == boot and miner.frozen_until >= until > world.now and miner.connected:
            world.disconnect(miner)
            miner.later(0.5, world.connect, miner, False)

    world.at(world.now + HEARTBEAT_S, missed)


def _leave(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    miner.alive = miner.connected = False
    world.post(MinerLeft(at=world.clock, hotkey=miner.hotkey))


def _drain(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    """Ask to leave until nobody needs it, for so long as an operator would wait."""
    deadline = world.now + 20.0

    def gone() -> None:
        if incident.seconds:
            _restart(world, miner, incident)
        else:
            _crash(world, miner, incident)

    def ask() -> None:
        if miner.connected:
            world.post(MinerLeft(at=world.clock, hotkey=miner.hotkey, drain=True))
        if world.up and miner.hotkey not in world.orchestrator.state.miners:
            world.counts["drained"] += 1
            gone()
        elif world.now >= deadline:
            world.post(MinerLeft(at=world.clock, hotkey=miner.hotkey))
            gone()
        else:
            miner.later(0.5, ask)

    ask()


def _deregister(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    def metagraph() -> None:
        everybody = (f"miner-{number}" for number in range(4 * world.plan.miners + 64))
        known = tuple(hotkey for hotkey in everybody if hotkey not in world.deregistered)
        world.post(MetagraphChanged(at=world.clock, hotkeys=known))

    def back() -> None:
        world.deregistered.pop(miner.hotkey, None)
        metagraph()

    world.deregistered[miner.hotkey] = None
    metagraph()
    world.at(world.now + (incident.seconds or 15.0), back)


def _lie(world: World, miner: ScriptedMiner, incident: Incident) -> None:
    miner.trait = Trait(seconds=miner.trait.seconds, lies_in_reduce=True)


def _join(world: World, incident: Incident) -> int:
    seconds = incident.amount or world.rng.uniform(0.1, 0.8)
    world.connect(world.add_miner(Trait(seconds=seconds)), True)
    return 1


def _restart_validator(world: World, incident: Incident) -> int:
    seconds = incident.seconds or world.rng.choice((1.0, 4.0, 30.0))
    if incident.amount:
        world.dies_after_next = seconds
        return int(world.up)
    return world.restart_validator(seconds)


def _skew(world: World, incident: Incident) -> int:
    world.skew += incident.amount
    return 1


def _slow_disk(world: World, incident: Incident) -> int:
    world.disk_until, world.disk_s = world.now + incident.seconds, incident.amount
    return 1


def _partition(world: World, incident: Incident) -> int:
    world.network.cut(_alive(world, incident.miners), incident.seconds)
    return 1


def _blackout(world: World, incident: Incident) -> int:
    for miner in _alive(world, incident.miners):
        (_restart if incident.seconds else _crash)(world, miner, incident)
    return 1


def _alive(world: World, numbers: tuple[int, ...]) -> list[ScriptedMiner]:
    named = [world.miners[f"miner-{number}"] for number in numbers if f"miner-{number}" in world.miners]
    return [miner for miner in named if miner.alive]


_EVERYWHERE: dict[str, Callable[[World, Incident], int]] = {
    "join": _join,
    "restart_validator": _restart_validator,
    "skew": _skew,
    "slow_disk": _slow_disk,
    "partition": _partition,
    "blackout": _blackout,
}

_OF_ONE: dict[str, Callable[[World, ScriptedMiner, Incident], None]] = {
    "crash": _crash,
    "restart_miner": _restart,
    "freeze": _freeze,
    "blink": _away,
    "away": _away,
    "leave": _leave,
    "drain": _drain,
    "deregister": _deregister,
    "lie": _lie,
}
