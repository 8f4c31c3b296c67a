"""Plans as files, and smaller plans from larger ones."""

from iota_subnet.core import lapses
from iota_subnet.sim import planfile
from iota_subnet.sim.plans import Incident, Plan, Trait
from iota_subnet.sim.planted import planted
from iota_subnet.sim.runs import play
from iota_subnet.sim.shrink import shrink
from iota_subnet.sim.storms import FAULTS, draw


def test_a_plan_survives_being_written_and_read() -> None:
    for seed in range(30):
        plan = draw(seed, 12, 3, 2, 8, tuple(FAULTS))
        assert planfile.from_json(planfile.to_json(plan)) == plan
    odd = Plan(3, costs=(1.0, 3.0, 2.0), stale_s=60.0, swarm={"lease_s": 9.0}, traits={2: Trait(graphs=5)})
    assert planfile.from_json(planfile.to_json(odd)) == odd


def test_a_plan_from_a_file_plays_as_the_one_that_was_written() -> None:
    plan = draw(4, 6, 2, 2, 8, tuple(FAULTS))
    assert play(planfile.from_json(planfile.to_json(plan))).ledger_hash == play(plan).ledger_hash


def test_only_what_makes_it_fail_is_left() -> None:
    plan = draw(11, 12, 3, 3, 12, tuple(FAULTS))
    guilty = Incident(9.0, "freeze", 3, seconds=5.0)
    plan = Plan(**{**vars(plan), "incidents": (*plan.incidents, guilty)})
    smallest, _ = shrink(plan, lambda p: any(i.what == "freeze" and i.seconds == 5.0 for i in p.incidents))
    assert [incident.what for incident in smallest.incidents] == ["freeze"]
    assert (smallest.miners, smallest.stages, smallest.epochs) == (1, 1, 1)
    assert not smallest.traits and not smallest.blob_loss


def test_a_planted_bug_shrinks_to_the_fault_that_shows_it() -> None:
    incidents = (
        Incident(3.0, "duplicate", seconds=5.0, amount=0.2),
        Incident(4.0, "blink", 2, seconds=1.0),
        Incident(4.5, "crash", 0),
        Incident(6.0, "delay", seconds=3.0, amount=0.5),
    )
    # Its work is not taken back in time by anything else than its release.
    swarm = {"reconnect_s": 2.0, "lease_min_s": 6.0}
    plan = Plan(26, stages=2, miners=6, storm_s=20.0, incidents=incidents, swarm=swarm)
    assert not play(plan).violation
    with planted(lambda patch: patch.setattr(lapses, "release", lambda state, miner: [])):
        smallest, tries = shrink(plan, lambda p: bool(play(p).violation), most=120)
        assert play(smallest).violation
    assert {incident.what for incident in smallest.incidents} <= {"crash"} and tries <= 120
    assert smallest.miners < 6 and smallest.epochs == 1
    assert not play(smallest).violation
