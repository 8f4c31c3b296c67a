"""Each kind of fault really happens, and is survived."""

import pytest

from iota_subnet.sim.incidents import MEANING
from iota_subnet.sim.plans import Incident, Plan, Trait
from iota_subnet.sim.runs import Result, play
from iota_subnet.sim.storms import FAULTS, draw


def one(incident: Incident, **plan: object) -> Result:
    result = play(Plan(31, stages=2, miners=6, epochs=2, storm_s=20.0, incidents=(incident,), **plan))  # type: ignore[arg-type]
    assert not result.violation and result.lost == 0
    return result


INCIDENTS = [
    Incident(3.0, "drop", seconds=8.0, amount=0.3),
    Incident(3.0, "delay", seconds=8.0, amount=1.0),
    Incident(3.0, "duplicate", seconds=8.0, amount=0.5),
    Incident(3.0, "reorder", seconds=8.0, amount=1.0),
    Incident(5.0, "crash", 1),
    Incident(5.0, "restart_miner", 1, seconds=2.0),
    Incident(5.0, "freeze", 1, seconds=9.0),
    Incident(5.0, "blink", 1, seconds=1.0),
    Incident(5.0, "away", 1, seconds=8.0),
    Incident(5.0, "partition", seconds=8.0, miners=(1, 2)),
    Incident(5.0, "skew", amount=30.0),
    Incident(5.0, "skew", amount=-30.0),
    Incident(4.0, "slow_disk", seconds=6.0, amount=1.0),
    Incident(5.0, "restart_validator", seconds=4.0),
    Incident(5.0, "restart_validator", seconds=4.0, amount=1.0),
    Incident(5.0, "join", amount=0.3),
    Incident(5.0, "leave", 1),
    Incident(5.0, "drain", 1),
    Incident(5.0, "drain", 1, seconds=2.0),
    Incident(5.0, "deregister", 1, seconds=6.0),
    Incident(2.0, "lie", 1),
    Incident(5.0, "blackout", seconds=2.0, miners=(0, 1, 2)),
    Incident(0.0, "restart_validator", seconds=4.0, phase="reduce"),
]


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda i: f"{i.what} {i.seconds:g} {i.amount:g} {i.phase}".strip())
def test_an_incident_happens_and_is_survived(incident: Incident) -> None:
    assert one(incident).counts[incident.what] > 0


def test_every_kind_of_incident_is_tried_here() -> None:
    assert {incident.what for incident in INCIDENTS} == set(MEANING)


def test_a_slow_disk_makes_events_wait_and_none_is_lost() -> None:
    assert one(Incident(4.0, "slow_disk", seconds=6.0, amount=1.0)).counts["waited_for_disk"] > 10


def test_a_validator_that_dies_replays_what_it_wrote_down() -> None:
    calm = one(Incident(5.0, "blink", 1, seconds=1.0))
    died = one(Incident(5.0, "restart_validator", seconds=4.0))
    assert died.counts["replayed"] > died.events and calm.counts["replayed"] == calm.events


@pytest.mark.parametrize(
    ("trait", "count"),
    [
        (Trait(lies_in_reduce=True), "liar"),
        (Trait(hides_peers=True), "hider"),
        (Trait(fails_all=True), "broken"),
        (Trait(silent=True), "silent"),
        (Trait(wrong_losses=True), "losses"),
        (Trait(blob_loss=0.3), "blobs"),
        (Trait(dropout=0.3, rejoin_s=2.0), "dropout"),
        (Trait(graphs=1), "recomputed_graph"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_miner_is_bad_and_is_survived(trait: Trait, count: str) -> None:
    traits = {number: trait for number in ((0, 1) if count == "recomputed_graph" else (1,))}
    # Seed and size put the bad one where its kind of badness shows: a tail is needed for losses.
    results = [play(Plan(seed, stages=2, miners=6, epochs=2, storm_s=0.0, traits=traits)) for seed in range(31, 34)]
    assert not [result.violation for result in results if result.violation]
    assert sum(result.counts.get(count, 0) for result in results) > 0


def test_lost_tokens_and_lost_audits_are_asked_for_again() -> None:
    traits = {0: Trait(lies_in_reduce=True)}
    result = play(Plan(32, stages=1, miners=4, epochs=2, traits=traits, token_loss=0.2, auditor_loss=0.5))
    assert not result.violation and result.counts["tokens"] > 0 and result.counts["auditor"] > 0


def test_a_plan_of_all_faults_has_some_of_each_over_its_seeds() -> None:
    plans = [draw(seed, 24, 4, 3, 24, tuple(FAULTS)) for seed in range(150)]
    assert {incident.what for plan in plans for incident in plan.incidents} == set(MEANING) - {"lie"}
    phases = {incident.phase for plan in plans for incident in plan.incidents}
    assert phases == {"", "commit", "reduce", "install"}
    for flag in ("lies_in_reduce", "colludes", "hides_peers", "fails_all", "silent", "wrong_losses"):
        assert any(getattr(trait, flag) for plan in plans for trait in plan.traits.values()), flag


def test_no_faults_means_none() -> None:
    plan = draw(5, 8, 2, 2, 8, ())
    assert not plan.incidents and not plan.blob_loss and not plan.token_loss and not plan.auditor_loss
    result = play(plan)
    assert not result.violation and not {"drop", "crash", "blobs"} & {k for k, v in result.counts.items() if v}
