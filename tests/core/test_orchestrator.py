import pytest

from iota_subnet.core import events
from iota_subnet.core.actions import (
    AssignLayer,
    Evaluate,
    GiveLease,
    PublishBatch,
    PublishScores,
    RecomputeShard,
    Refuse,
)
from iota_subnet.core.orchestrator import RESTART_S, Orchestrator
from iota_subnet.core.state import Phase

from .bench import Bench, blob


def replayed(bench: Bench) -> Orchestrator:
    fresh = Orchestrator(bench.spec)
    for event in bench.journal:
        fresh.handle(event)
    return fresh


def test_a_replay_gives_the_same_state_and_the_same_actions() -> None:
    bench = Bench(stages=2, seats=2).train().commit_all().merge_all().install_all().train()
    fresh, actions = Orchestrator(bench.spec), []
    for event in bench.journal:
        actions += fresh.handle(event)
    assert fresh.state == bench.state and actions == bench.history


def test_a_ledger_of_another_run_is_not_taken() -> None:
    bench = Bench(stages=1, seats=1)
    with pytest.raises(AssertionError, match="another run"):
        Orchestrator(Bench(stages=2, seats=1).spec).handle(bench.journal[0])


def test_time_never_runs_backwards() -> None:
    bench = Bench()
    bench.wait(100.0)
    bench.send(events.Tick(at=3.0))
    assert bench.state.now == 100.0


def test_every_kind_of_event_has_a_rule() -> None:
    made = {
        "RunStarted": None,
        "MinerJoined": {"hotkey": "x", "boot": "0"},
        "MinerDisconnected": {"hotkey": "x", "reason": ""},
        "MetagraphChanged": {"hotkeys": ("m0", "m1")},
        "StageInstalled": {"hotkey": "x", "stage": 0, "epoch": 0, "digest": "", "manifest": ""},
        "BatchPublished": {"batch": 99, "tokens": blob("t")},
        "LeaseFinished": {"hotkey": "x", "lease": 9, "output": None, "losses": (), "seconds": 0.0, "inner_step": 0},
        "LeaseFailed": {"hotkey": "x", "lease": 9, "kind": "work", "digest": "", "reason": ""},
        "ShardsCommitted": {"hotkey": "x", "stage": 0, "epoch": 0, "shards": ()},
        "ShardFetched": {"hotkey": "x", "stage": 0, "epoch": 0, "shard": 0, "have": ()},
        "ShardReduced": {
            "hotkey": "x",
            "stage": 0,
            "epoch": 0,
            "shard": 0,
            "mean": blob("d"),
            "weights": blob("w"),
            "momentum": blob("m"),
        },
        "ShardRecomputed": {
            "stage": 0,
            "epoch": 0,
            "shard": 0,
            "mean": blob("d"),
            "weights": blob("w"),
            "momentum": blob("m"),
            "contributors": (),
        },
        "MinerAudited": {"hotkey": "x", "stage": 0, "epoch": 4, "verdict": "sound", "reason": ""},
        "Evaluated": {"epoch": 4, "loss": 1.0, "manifests": ()},
        "WeightsSet": {"epoch": 4, "ok": True, "message": ""},
        "EffectFailed": {"action": "SetPhase", "hotkey": "x", "reason": ""},
        "ValidatorRestarted": {},
        "Tick": {},
    }
    bench = Bench(stages=1, seats=2)
    before = list(bench.state.miners)
    for name, kind in events.ALL.items():
        fields = made.get(name, {"hotkey": "x"})
        if fields is not None:
            bench.send(kind(at=bench.now, **fields))  # type: ignore[arg-type]
    assert set(events.ALL) >= set(made) and list(bench.state.miners) == before


def test_whatever_a_stranger_sends_is_refused_by_name() -> None:
    bench = Bench(stages=1, seats=2)
    strange: list[events.Event] = [
        events.MinerConnected(at=0.0, hotkey="x"),
        events.StageInstalled(at=0.0, hotkey="x", stage=0, epoch=0, digest="", manifest=""),
        events.LeaseFinished(at=0.0, hotkey="x", lease=0, output=None, losses=(), seconds=0.0, inner_step=0),
        events.LeaseFailed(at=0.0, hotkey="x", lease=0, kind="work", digest="", reason=""),
        events.ShardsCommitted(at=0.0, hotkey="x", stage=0, epoch=0, shards=()),
        events.ShardFetched(at=0.0, hotkey="x", stage=0, epoch=0, shard=0, have=()),
        events.ShardReduced(
            at=0.0, hotkey="x", stage=0, epoch=0, shard=0, mean=blob("d"), weights=blob("w"), momentum=blob("m")
        ),
    ]
    for event in strange:
        bench.send(event)
        assert [a.hotkey for a in bench.got(Refuse)] == ["x"] and bench.got(Refuse)[0].reason


def test_a_short_absence_keeps_seat_leases_and_passes() -> None:
    bench = Bench(stages=1, seats=1)
    bench.publish()
    bench.finish(bench.given()[0])
    held, passes = list(bench.state.miners["m0"].leases), bench.state.miners["m0"].batches
    bench.disconnect("m0")
    bench.wait(bench.spec.swarm.reconnect_s - 0.5)
    bench.join("m0")
    assert [lease.lease for lease in bench.got(GiveLease)] == held and not bench.got(AssignLayer)
    assert bench.state.miners["m0"].batches == passes == 1


def test_a_long_absence_frees_the_seat() -> None:
    bench = Bench(stages=1, seats=2)
    bench.publish()
    bench.disconnect("m0")
    bench.wait(bench.spec.swarm.reconnect_s)
    assert "m0" not in bench.state.miners
    assert {lease.hotkey for lease in bench.state.leases.values()} == {"m1"}


def test_nothing_is_given_to_who_is_away() -> None:
    bench = Bench(stages=1, seats=2)
    bench.disconnect("m0")
    given = bench.publish()
    assert given and {lease.hotkey for lease in given} == {"m1"}


def test_a_new_process_keeps_its_stage_and_installs_again() -> None:
    bench = Bench(stages=3, seats=2)
    stage = bench.state.miners["m0"].stage
    bench.disconnect("m0")
    bench.join("m0", boot="1", install=False)
    assert bench.state.miners["m0"].stage == stage and bench.state.miners["m0"].installed == -1
    assert [offer.stage for offer in bench.got(AssignLayer)] == [stage]


def test_who_joins_and_never_connects_is_forgotten() -> None:
    bench = Bench(stages=1, seats=1)
    bench.send(events.MinerJoined(at=bench.now, hotkey="ghost", boot="0"))
    bench.wait(bench.spec.swarm.reconnect_s)
    assert "ghost" not in bench.state.miners


def test_seats_are_bounded() -> None:
    bench = Bench(stages=1, seats=2, max_miners=2)
    bench.send(events.MinerJoined(at=bench.now, hotkey="third", boot="0"))
    assert "number 1 in the line" in bench.got(Refuse, "third")[0].reason and len(bench.state.miners) == 2


def test_only_registered_hotkeys_have_seats() -> None:
    bench = Bench(stages=1, seats=2)
    bench.publish()
    bench.send(events.MetagraphChanged(at=bench.now, hotkeys=("m1",)))
    assert list(bench.state.miners) == ["m1"] and "registered" in bench.got(Refuse, "m0")[0].reason
    bench.send(events.MinerJoined(at=bench.now, hotkey="m0", boot="0"))
    assert bench.got(Refuse, "m0") and "m0" not in bench.state.miners


def test_a_restarted_validator_asks_again_for_all_it_still_waits_for() -> None:
    bench = Bench(stages=1, seats=2)
    bench.send(events.ValidatorRestarted(at=bench.now))
    assert len(bench.got(PublishBatch)) == len(bench.state.batches) > 0
    assert bench.got(Evaluate) == [Evaluate(0, tuple(bench.state.manifests))]
    assert not any(miner.connected for miner in bench.state.miners.values())
    for hotkey in ("m0", "m1"):
        bench.connect(hotkey)
    bench.train().commit_all()
    bench.wait(bench.spec.swarm.reduce_s)
    bench.send(events.ValidatorRestarted(at=bench.now))
    assert len(bench.got(RecomputeShard)) == 1 and bench.state.reports[-1].recomputed == 1
    bench.recompute(("m0", "m1"))
    bench.send(events.ValidatorRestarted(at=bench.now))
    assert [action.epoch for action in bench.got(PublishScores)] == [0]
    bench.send(events.WeightsSet(at=bench.now, epoch=0, ok=True, message="block 7"))
    bench.send(events.ValidatorRestarted(at=bench.now))
    assert not bench.got(PublishScores)


def test_a_restart_gives_time_to_who_was_there_and_no_more_to_who_was_not() -> None:
    bench = Bench(stages=1, seats=3)
    bench.send(events.MinerDisconnected(at=bench.now, hotkey="m2", reason="killed"))
    bench.wait(1.0)
    bench.now += 100.0
    bench.send(events.ValidatorRestarted(at=bench.now))
    bench.wait(bench.spec.swarm.reconnect_s)
    assert list(bench.state.miners) == ["m0", "m1"], "the one that was away before had 4 s left, and got 5"
    bench.connect("m0")
    bench.now += 100.0
    bench.send(events.ValidatorRestarted(at=bench.now))
    bench.wait(RESTART_S - bench.spec.swarm.reconnect_s - 1.0)
    assert list(bench.state.miners) == ["m0", "m1"], "a second restart takes nothing from who had not come back yet"
    bench.wait(1.0)
    assert list(bench.state.miners) == ["m0"]


def test_results_of_effects_reach_the_report_of_their_epoch() -> None:
    bench = Bench(stages=1, seats=1).train().commit_all().merge_all()
    bench.evaluated(1, 2.5)
    bench.send(events.WeightsSet(at=bench.now, epoch=0, ok=True, message="block 7"))
    assert (bench.state.reports[0].eval_loss, bench.state.reports[0].weights_set) == (2.5, "block 7")


def test_memory_is_bounded_over_many_epochs() -> None:
    bench = Bench(stages=1, seats=2, score_window_s=50.0, epoch_batches=4)
    for _ in range(30):
        bench.train().commit_all().merge_all()
        bench.now += 10.0
        bench.install_all()
    state = bench.state
    assert state.phase is Phase.TRAIN and state.epoch == 30
    assert max(len(parts) for parts in state.parts.values()) <= 6
    assert not state.samples and not state.expired and len(state.batches) <= 4
    assert replayed(bench).state == state
