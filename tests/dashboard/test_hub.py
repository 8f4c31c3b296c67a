"""Who follows the changes knows what a newcomer is told; watching is bounded in number, time and memory."""

from __future__ import annotations

from typing import Any

import pytest

from iota_subnet.dashboard import hub as module
from iota_subnet.dashboard.hub import Hub, TooMany
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World

from .kit import Reader, chain_of, heard, hub_of, stormy


def drained(watcher: module.Watcher, reader: Reader) -> int:
    """Let a reader take all that waits; its bytes."""
    size = 0
    while not watcher.messages.empty():
        message = watcher.messages.get_nowait()
        assert message is not None
        size += len(message)
        reader.take(heard(message))
    return size


def test_changes_add_up_to_what_a_newcomer_is_told() -> None:
    world = stormy()
    hub = hub_of(world, chain_of("miner-0", "miner-1"))
    world.start()
    watcher, reader = hub.watch(), Reader()
    looks = 0
    while not world.over():
        for _ in range(40):
            if not world.over():
                world.step()
        hub.tick()
        looks += 1
        drained(watcher, reader)
    late, fresh = hub.watch(), Reader()
    drained(late, fresh)
    for part in ("run", "head", "stages", "rows", "epochs", "all", "columns"):
        assert reader.seen[part] == fresh.seen[part], part
    assert looks > 10 and len(reader.seen["rows"]) >= 5 and reader.seen["all"]["points"]
    assert reader.seen["events"] == fresh.seen["events"]


def test_pathways_are_told_while_somebody_watches() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=1))
    hub = hub_of(world)
    world.start()
    watcher = hub.watch()
    paths: list[Any] = []
    while not world.over():
        world.step()
        message = hub.tick()
        assert message is not None
        paths += heard(message).get("paths", [])
        while not watcher.messages.empty():
            watcher.messages.get_nowait()
    retired = sum(report.microbatches for report in world.orchestrator.state.reports)
    assert len(paths) == retired and all(len(path) == 2 for path in paths)


def test_with_nobody_there_nothing_is_built_but_losses_are_kept() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=2))
    hub = hub_of(world)
    world.start()
    while not world.over():
        for _ in range(30):
            if not world.over():
                world.step()
        assert hub.tick() is None
    reader = Reader()
    drained(hub.watch(), reader)
    counted = sum(rate * reader.seen["all"]["width"] for _, _, rate in reader.seen["all"]["points"])
    assert abs(counted - sum(r.microbatches for r in world.orchestrator.state.reports)) < 0.5


def test_no_loss_is_missed_between_two_looks() -> None:
    # A look is made every second; an epoch may close between two, and another one begin and end.
    for pause in (1, 40, 200, 400):
        world = World(Plan(3, stages=2, miners=4, epochs=4))
        hub, reader = hub_of(world), Reader()
        world.start()
        while not world.orchestrator.state.manifests:
            world.step()
        hub.tick()
        while not world.over():
            for _ in range(pause):
                if not world.over():
                    world.step()
            hub.tick()
        drained(hub.watch(), reader)
        curve = reader.seen["all"]
        retired = sum(report.microbatches for report in world.orchestrator.state.reports)
        assert abs(sum(rate * curve["width"] for _, _, rate in curve["points"]) - retired) < 0.5, pause


def test_after_a_restart_closed_epochs_are_shown_at_their_mean() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=3)).run()
    hub, reader = hub_of(world), Reader()
    hub.tick()
    drained(hub.watch(), reader)
    curve = reader.seen["all"]
    retired = sum(report.microbatches for report in world.orchestrator.state.reports)
    assert abs(sum(rate * curve["width"] for _, _, rate in curve["points"]) - retired) < 0.5
    assert {loss for _, loss, _ in curve["points"]} == {world.orchestrator.state.reports[0].train_loss}


def test_who_does_not_read_is_dropped_and_nobody_else() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=2))
    hub = hub_of(world)
    world.start()
    slow, quick, reader = hub.watch(), hub.watch(), Reader()
    for _ in range(module.WAITING + 3):
        for _ in range(20):
            world.step()
        hub.tick()
        drained(quick, reader)
    assert slow.dropped and not quick.dropped and hub.watchers == 1
    assert slow.messages.qsize() <= module.WAITING + 1


def test_there_is_room_for_so_many() -> None:
    hub = hub_of(World(Plan(3)))
    watchers = [hub.watch() for _ in range(module.WATCHERS)]
    with pytest.raises(TooMany):
        hub.watch()
    hub.leave(watchers[0])
    hub.watch()


def test_a_quiet_run_costs_its_watchers_next_to_nothing() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=1)).run()
    hub, reader = hub_of(world), Reader()
    watcher = hub.watch()
    hub.tick()
    drained(watcher, reader)
    message = hub.tick()
    assert message is not None and len(message) < 40


def test_dear_looks_are_made_less_often() -> None:
    hub: Hub = hub_of(World(Plan(3)))
    assert hub.pause() == module.EVERY_S
    hub.cost_s = 0.2
    assert hub.pause() == pytest.approx(0.2 / module.SHARE)
