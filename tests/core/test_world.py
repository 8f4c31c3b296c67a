"""Whole runs in a bad world. A seed that fails here fails again: `World(plan(seed)).run()`.

`CORE_SEEDS=2000 pytest tests/core/test_world.py` for a longer night.
"""

import os
from collections import Counter
from dataclasses import replace

import pytest

from iota_subnet.core.state import Phase
from iota_subnet.sim.conclude import conclude
from iota_subnet.sim.plans import INCIDENTS, Plan, Trait, plan
from iota_subnet.sim.world import World

SEEDS = int(os.environ.get("CORE_SEEDS", "150"))

#: Seeds are run in bundles: one test each would drown the report.
BUNDLES = 10


@pytest.mark.parametrize("bundle", range(BUNDLES))
def test_every_bad_world_ends_well(bundle: int) -> None:
    caught = 0
    for seed in range(bundle, SEEDS, BUNDLES):
        try:
            world = World(plan(seed)).run()
            conclude(world)
        except Exception as error:
            error.add_note(f"seed {seed}: {plan(seed)}") if hasattr(error, "add_note") else print("seed", seed)
            raise
        caught += world.lies_caught
    # Bundles of 15 or more hold several liars; a world in which nobody is ever caught has stopped testing.
    assert caught > 0 or SEEDS < 150


def test_the_plans_cover_what_they_promise() -> None:
    plans = [plan(seed) for seed in range(150)]
    assert {what for p in plans for _, what, *_ in p.incidents} == set(INCIDENTS)
    for flag in ("lies_in_reduce", "wrong_losses", "fails_all", "silent", "hides_peers"):
        assert any(getattr(trait, flag) for p in plans for trait in p.traits.values()), flag
    assert any(p.loss and p.twice and p.jitter for p in plans)


@pytest.mark.parametrize("seed", [3, 6, 11])
def test_the_same_seed_gives_the_same_world_twice(seed: int) -> None:
    one, two = World(plan(seed)).run(), World(plan(seed)).run()
    assert one.journal == two.journal and one.orchestrator.state == two.orchestrator.state


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_in_a_quiet_world_everything_opened_is_retired(stages: int) -> None:
    world = World(Plan(7, stages=stages, miners=2 * stages)).run()
    conclude(world)
    state = world.orchestrator.state
    assert state.opened_total == sum(report.microbatches for report in state.reports) and not state.batches
    assert all(report.contributors == [2] * stages for report in state.reports)
    assert all(report.recomputed == 0 == report.twin_disagreements for report in state.reports)
    assert all(report.coverage == [1.0] * stages for report in state.reports)
    assert all(score > 0 for score in state.reports[-1].scores.values()) and not state.faults


@pytest.mark.parametrize("when", [2.0, 5.0, 8.0, 9.5, 11.0, 12.5, 14.0])
def test_a_stage_may_lose_all_its_replicas_at_any_time(when: float) -> None:
    # Four miners sit two by two; whoever is in stage 0 dies at one blow. The operator brings another one later.
    world = World(Plan(8, stages=2, miners=4))

    def blow() -> None:
        for miner in [world.miners[m.hotkey] for m in world.orchestrator.state.members(0)]:
            miner.alive = False
            world.disconnect(miner)

    world.at(when, blow)
    conclude(world.run())


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.COMMIT, Phase.REDUCE, Phase.INSTALL])
@pytest.mark.parametrize("what", ["join", "crash", "restart_miner", "leave", "deregister", "restart_validator"])
def test_every_incident_in_every_phase(what: str, phase: Phase) -> None:
    world = World(Plan(9, stages=2, miners=4))
    done: list[float] = []

    def watch() -> None:
        if world.orchestrator.state.phase is phase and not done:
            done.append(world.now)
            world.incident(what, 0)
        elif not done:
            world.at(world.now + 0.05, watch)

    world.at(1.0, watch)
    conclude(world.run())
    assert done, "the phase never came"


def test_a_liar_is_named_in_every_epoch_it_lies_and_earns_nothing() -> None:
    world = World(Plan(10, stages=1, miners=3, traits={1: Trait(lies_in_reduce=True)})).run()
    conclude(world)
    state = world.orchestrator.state
    assert Counter(fault.epoch for fault in state.faults) == {0: 2, 1: 2, 2: 2}
    assert {hotkey for hotkey, score in state.reports[-1].scores.items() if score == 0} == {"miner-1"}


def test_a_ring_is_named_when_it_is_checked_and_nobody_else_is() -> None:
    traits = {number: Trait(colludes=True) for number in (1, 4)}
    caught = World(Plan(0, stages=1, miners=6, traits=traits, storm_s=0.0, swarm={"audit_shards": 1.0})).run()
    conclude(caught)
    assert {fault.hotkey for fault in caught.orchestrator.state.faults} == {"miner-1", "miner-4"}
    unchecked = World(Plan(0, stages=1, miners=6, traits=traits, storm_s=0.0, swarm={"audit_shards": 0.0})).run()
    conclude(unchecked)
    assert not unchecked.orchestrator.state.faults and unchecked.counts["ring_undetected"] == 3, "a shard an epoch"


def test_who_hides_its_peers_does_not_move_the_mean() -> None:
    world = World(Plan(11, stages=1, miners=3, traits={1: Trait(hides_peers=True)})).run()
    conclude(world)
    assert all(report.recomputed > 0 for report in world.orchestrator.state.reports)


def test_a_slow_lone_replica_is_late_and_yet_makes_progress() -> None:
    slow = Plan(12, stages=2, miners=2, epochs=1, traits={0: Trait(seconds=7.0), 1: Trait(seconds=0.2)})
    conclude(World(slow).run())


@pytest.mark.parametrize("latency", [0.0, 0.02])
def test_a_broken_replica_costs_neither_microbatches_nor_a_hot_loop(latency: float) -> None:
    broken = Plan(13, stages=2, miners=4, traits={0: Trait(fails_all=True)}, latency=latency)
    world = World(broken).run()
    conclude(world)
    failures = sum(type(event).__name__ == "LeaseFailed" for event in world.journal)
    assert 0 < failures < 100


def test_blobs_that_are_often_lost_cost_time_and_no_microbatch() -> None:
    conclude(World(replace(Plan(14, stages=3, miners=6), blob_loss=0.2, token_loss=0.2)).run())


@pytest.mark.parametrize("copied", [False, True])
def test_a_manifest_survives_the_death_of_those_who_made_it(copied: bool) -> None:
    # With two replicas the twins are the whole stage. They die in INSTALL, before or after the validator has its copy.
    world = World(Plan(15, stages=2, miners=4, epochs=2, copy_s=0.0 if copied else 3.0))

    def watch() -> None:
        if world.orchestrator.state.phase is not Phase.INSTALL:
            world.at(world.now + 0.02, watch)
            return
        for miner in [world.miners[m.hotkey] for m in world.orchestrator.state.members(0)]:
            miner.boot += 1
            miner.reset()
            world.disconnect(miner)
            miner.later(1.0, world.connect, miner, True)

    world.at(1.0, watch)
    conclude(world.run())
    assert (world.orchestrator.state.reports[0].recomputed > 0) is not copied
