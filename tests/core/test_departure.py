from iota_subnet.core.actions import AuditMiner, Refuse
from iota_subnet.core.events import MinerAudited, MinerJoined, MinerLeft
from iota_subnet.core.state import Phase

from .bench import Bench


def ask(bench: Bench, hotkey: str) -> str:
    """Ask to leave in good order; why not yet, or nothing when the seat is free."""
    actions = bench.send(MinerLeft(at=bench.now, hotkey=hotkey, drain=True))
    reasons = [action.reason for action in actions if isinstance(action, Refuse) and action.hotkey == hotkey]
    assert bool(reasons) == (hotkey in bench.state.miners)
    return "".join(reasons)


def test_who_leaves_finishes_what_it_holds_and_gets_nothing_new() -> None:
    bench = Bench(stages=2, seats=2)
    leases = bench.publish()
    leaver = leases[0].hotkey
    assert "open leases" in ask(bench, leaver)
    for lease in [lease for lease in leases if lease.hotkey == leaver]:
        bench.finish(lease)
    assert "graphs it holds" in ask(bench, leaver)
    known, later = {lease.lease for lease in leases}, []
    while leaver in bench.state.miners:
        (*_, lease) = bench.given()
        later += [lease.op] if lease.hotkey == leaver and lease.lease not in known else []
        bench.finish(lease)
        bench.publish()
        ask(bench, leaver)
    assert later and set(later) == {"backward"}, "only its own graphs come back to it"
    assert bench.state.phase is Phase.TRAIN and bench.state.lost == 0


def test_nobody_leaves_in_good_order_in_the_middle_of_a_merge() -> None:
    bench = Bench(stages=1, seats=3).train()
    assert bench.state.phase is Phase.COMMIT
    leaver = bench.state.members(0)[0].hotkey
    assert "merge" in ask(bench, leaver)
    bench.commit_all()
    assert "merge" in ask(bench, leaver)
    bench.merge_all()
    assert bench.state.phase is Phase.INSTALL and "merge" in ask(bench, leaver)
    bench.install_all()
    assert ask(bench, leaver) == ""


def test_the_last_holder_of_an_uncopied_stage_is_asked_to_wait_for_the_copy() -> None:
    bench = Bench(stages=1, seats=1, epochs=2).train().commit_all().merge_all().install_all()
    leaver = bench.state.members(0)[0].hotkey
    assert "copy of its stage" in ask(bench, leaver)
    bench.evaluated(1, 3.0)
    assert ask(bench, leaver) == ""


def test_who_is_being_audited_is_asked_to_stay_until_it_has_been_seen() -> None:
    bench = Bench(stages=1, seats=3, epochs=3, audit_miners=1.0).train().commit_all()
    orders = {action.hotkey: action for action in bench.history if isinstance(action, AuditMiner)}
    bench.merge_all().install_all()
    bench.evaluated(1, 3.0)
    leaver, stayer = sorted(orders)[:2]
    assert bench.state.phase is Phase.TRAIN and ask(bench, leaver) == "still needed for an audit of epoch 0"
    order = orders[leaver]
    bench.send(
        MinerAudited(
            at=bench.now, hotkey=leaver, stage=0, epoch=0, verdict="sound", reason="", auditor=order.auditor,
            passes=1,
        )
    )  # fmt: skip
    assert ask(bench, leaver) == "" and "audit" in ask(bench, stayer)


def test_who_is_being_audited_stays_although_it_was_just_given_another_seat() -> None:
    bench = Bench(stages=1, seats=3, epochs=3, audit_miners=1.0).train().commit_all().merge_all().install_all()
    bench.evaluated(1, 3.0)
    leaver = bench.state.members(0)[0]
    for leaver.stage, leaver.installed in ((0, -1), (-1, -1)):
        assert ask(bench, leaver.hotkey) == "still needed for an audit of epoch 0"


def test_who_joins_again_is_a_miner_like_any_other() -> None:
    bench = Bench(stages=1, seats=1)
    bench.publish()
    (miner,) = bench.state.members(0)
    assert ask(bench, miner.hotkey)
    bench.send(MinerJoined(at=bench.now, hotkey=miner.hotkey, boot=miner.boot))
    assert not miner.leaving
    bench.train()
    assert bench.state.reports[0].microbatches


def test_without_a_channel_there_is_nothing_to_wait_for() -> None:
    bench = Bench(stages=1, seats=2)
    leaver = bench.publish()[0].hotkey
    bench.disconnect(leaver)
    assert ask(bench, leaver) == ""
