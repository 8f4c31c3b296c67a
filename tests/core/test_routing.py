import dataclasses
from math import nan

import pytest

from iota_subnet.core import flow, lapses
from iota_subnet.core.actions import Forget, ForgetBatch, GiveLease, PublishBatch, Refuse, WithdrawLease
from iota_subnet.core.events import BatchPublished, LeaseFailed, LeaseFinished, MinerLeft
from iota_subnet.core.state import Phase

from .bench import Bench, blob


def one_batch(stages: int = 2, seats: int = 2, **swarm: float) -> tuple[Bench, GiveLease]:
    """A bench with one microbatch on its way, and its first lease."""
    bench = Bench(stages, seats, **{"live_per_replica": 1, "epoch_batches": 1, **swarm})
    first = min(bench.state.batches)
    bench.send(BatchPublished(at=bench.now, batch=first, tokens=blob("tokens")))
    return bench, next(lease for lease in bench.given() if lease.batch == first)


def step(bench: Bench, lease: GiveLease) -> GiveLease:
    bench.finish(lease)
    return next(given for given in bench.given() if given.batch == lease.batch)


def fail(bench: Bench, lease: GiveLease, digest: str = "", hotkey: str = "", kind: str = "") -> None:
    kind = kind or ("input" if digest else "work")
    who = hotkey or lease.hotkey
    bench.send(
        LeaseFailed(at=bench.now, hotkey=who, lease=lease.lease, kind=kind, digest=digest, reason="test")  # type: ignore[arg-type]
    )


def test_a_microbatch_goes_down_and_back_and_retires_once() -> None:
    bench, lease = one_batch(stages=3)
    path = []
    while lease.batch in bench.state.batches:
        path.append((lease.op, lease.stage))
        bench.finish(lease)
        lease = next((given for given in bench.given() if given.batch == lease.batch), lease)
    assert path == [("forward", 0), ("forward", 1), ("loss", 2), ("backward", 1), ("backward", 0)]
    assert bench.state.reports[-1].microbatches == 1
    assert sum(bench.state.volume.values()) == pytest.approx(3.0)
    assert bench.got(ForgetBatch)


def test_backward_goes_to_the_miner_that_holds_the_graph() -> None:
    bench, lease = one_batch(seats=4)
    head = lease.hotkey
    lease = step(bench, step(bench, lease))
    assert (lease.op, lease.hotkey) == ("backward", head)


def test_backward_fails_over_to_another_replica_when_the_keeper_dies() -> None:
    bench, lease = one_batch()
    head = lease.hotkey
    lease = step(bench, step(bench, lease))
    bench.send(MinerLeft(at=bench.now, hotkey=head))
    again = bench.got(GiveLease)[0]
    assert (again.op, again.stage) == ("backward", 0) and again.hotkey != head
    assert again.inputs == lease.inputs


def test_a_lost_input_is_made_again_by_another_replica_and_later_stages_are_kept() -> None:
    bench, lease = one_batch(stages=3)
    lease = step(bench, lease)
    maker = bench.state.batches[lease.batch].forward[0]
    assert maker is not None
    lease = step(bench, step(bench, lease))
    assert (lease.op, lease.stage) == ("backward", 1)
    kept = bench.state.batches[lease.batch].forward[1]
    fail(bench, lease, digest=lease.inputs[0].digest)
    again = bench.got(GiveLease)[0]
    fail(bench, again, digest=again.inputs[0].digest)
    bench.wait(1.0)
    redo = bench.got(GiveLease)[0]
    assert (redo.op, redo.stage) == ("forward", 0) and redo.hotkey != maker.hotkey
    back = step(bench, redo)
    assert (back.op, back.stage) == ("backward", 1)
    assert bench.state.batches[lease.batch].forward[1] == kept


@pytest.mark.parametrize("kind", ["input", "bytes"])
def test_one_readers_complaint_undoes_nobodys_work_while_there_is_another_reader(kind: str) -> None:
    bench, lease = one_batch(seats=2)
    made = bench.state.batches[lease.batch].forward
    lease = step(bench, lease)
    before = made[0]
    fail(bench, lease, digest=lease.inputs[0].digest, kind=kind)
    other = bench.got(GiveLease)[0]
    assert (other.op, other.stage, other.inputs) == (lease.op, lease.stage, lease.inputs)
    assert other.hotkey != lease.hotkey and made[0] == before
    while lease.batch in bench.state.batches:
        bench.finish(other)
        other = next((given for given in bench.given() if given.batch == lease.batch), other)
    assert before is not None and bench.state.volume[before.hotkey] == bench.state.index.shares[0]


def test_where_there_is_no_other_reader_one_complaint_is_enough() -> None:
    bench, lease = one_batch(seats=1)
    lease = step(bench, lease)
    fail(bench, lease, digest=lease.inputs[0].digest)
    assert bench.state.batches[lease.batch].forward[0] is None


def test_the_pathway_of_a_loss_stays_when_an_activation_is_made_again() -> None:
    bench, lease = one_batch(stages=3)
    head = lease.hotkey
    lease = step(bench, step(bench, step(bench, lease)))
    fail(bench, lease, digest=lease.inputs[0].digest)
    again = bench.got(GiveLease)[0]
    fail(bench, again, digest=again.inputs[0].digest)
    bench.wait(1.0)
    lease = bench.got(GiveLease)[0]
    assert (lease.op, lease.stage) == ("forward", 0) and lease.hotkey != head
    while lease.batch in bench.state.batches:
        bench.finish(lease)
        lease = next((given for given in bench.given() if given.batch == lease.batch), lease)
    assert bench.state.samples[0].pathway[0] == head


def test_a_reader_can_only_unmake_what_it_reads() -> None:
    bench, lease = one_batch(stages=3)
    lease = step(bench, step(bench, step(bench, lease)))
    batch = bench.state.batches[lease.batch]
    foreign = batch.forward[1]
    assert foreign is not None and foreign.blob is not None and lease.stage == 1
    fail(bench, lease, digest=foreign.blob.digest)
    assert batch.forward[1] == foreign


def test_lost_tokens_are_asked_of_the_feed_again() -> None:
    bench, lease = one_batch()
    fail(bench, lease, digest="tokens")
    assert PublishBatch(lease.batch) in bench.actions
    bench.send(BatchPublished(at=bench.now, batch=lease.batch, tokens=blob("tokens")))
    assert bench.got(GiveLease)[0].batch == lease.batch


def test_tokens_that_never_came_are_asked_for_again() -> None:
    bench = Bench()
    waiting = list(bench.state.batches)
    bench.wait(bench.spec.swarm.lease_s / 2)
    assert not bench.got(PublishBatch)
    bench.wait(bench.spec.swarm.lease_s)
    assert [action.batch for action in bench.got(PublishBatch)] == waiting


def test_an_expired_lease_goes_to_another_replica_and_late_work_is_still_taken() -> None:
    bench, lease = one_batch()
    bench.wait(bench.spec.swarm.lease_s)
    other = next(given for given in bench.got(GiveLease) if given.batch == lease.batch)
    assert other.hotkey != lease.hotkey
    bench.finish(lease)
    assert WithdrawLease(other.hotkey, other.lease, "a late receipt of another replica arrived first") in bench.actions
    output = bench.state.batches[lease.batch].forward[0]
    assert output is not None and output.hotkey == lease.hotkey


def test_late_work_that_is_no_longer_needed_is_refused_and_not_credited() -> None:
    bench, lease = one_batch()
    bench.wait(bench.spec.swarm.lease_s)
    bench.finish(next(given for given in bench.got(GiveLease) if given.batch == lease.batch))
    done = bench.state.miners[lease.hotkey].done
    bench.finish(lease)
    assert "already done" in bench.got(Refuse, lease.hotkey)[0].reason
    assert bench.state.miners[lease.hotkey].done == done


def test_a_receipt_counts_once() -> None:
    bench, lease = one_batch()
    bench.finish(lease)
    bench.finish(lease)
    assert bench.got(Refuse, lease.hotkey) and bench.state.miners[lease.hotkey].done == 1


def test_nobody_can_report_on_anothers_lease() -> None:
    bench, lease = one_batch()
    thief = next(hotkey for hotkey in bench.state.miners if hotkey != lease.hotkey)
    bench.finish(lease, hotkey=thief)
    assert bench.got(Refuse, thief) and lease.lease in bench.state.leases
    fail(bench, lease, hotkey=thief)
    assert bench.got(Refuse, thief) and lease.lease in bench.state.leases


GOOD = LeaseFinished(at=0.0, hotkey="", lease=0, output=blob("x"), losses=(1.0, 2.0), seconds=1.0, inner_step=0)


@pytest.mark.parametrize(
    "change",
    [
        {"losses": (1.0,)},
        {"losses": (1.0, nan)},
        {"losses": (1.0, -0.1)},
        {"losses": (1.0, 1e9)},
        {"output": None},
        {"output": blob("x", 0)},
        {"output": blob("x", 1 << 40)},
        {"seconds": nan},
        {"seconds": -1.0},
    ],
    ids=str,
)
def test_a_receipt_that_cannot_be_right_is_refused_and_the_step_goes_to_another(change: dict[str, object]) -> None:
    bench, lease = one_batch()
    lease = step(bench, lease)
    assert lease.op == "loss"
    good = dataclasses.replace(GOOD, hotkey=lease.hotkey, lease=lease.lease)
    bench.send(dataclasses.replace(good, **change))  # type: ignore[arg-type]
    assert bench.got(Refuse, lease.hotkey)
    again = next(given for given in bench.got(GiveLease) if given.batch == lease.batch)
    assert again.op == "loss" and again.hotkey != lease.hotkey


def test_a_miner_that_fails_at_once_costs_time_not_microbatches() -> None:
    bench = Bench(stages=1, seats=1)
    given = 0
    for _ in range(120):
        bench.publish()
        while bench.given():
            fail(bench, bench.given()[0])
            given += 1
            assert given < 300, "a hot loop"
        bench.wait(1.0)
    # Two minutes of nothing but failure: the seat is free, the microbatches are there, and it took few attempts.
    assert bench.state.lost == 0 and given < 40
    assert "m0" not in bench.state.miners and bench.state.waiting_for == "a miner for stage 0"
    assert any(isinstance(action, Refuse) and "in a row" in action.reason for action in bench.history)


def test_work_done_ends_the_rest_and_the_strikes() -> None:
    bench, lease = one_batch(seats=1)
    for _ in range(3):
        fail(bench, lease)
        bench.wait(5.0)
        lease = bench.given()[0]
    assert bench.state.miners[lease.hotkey].strikes == 3
    bench.finish(lease)
    assert bench.state.miners[lease.hotkey].strikes == 0


def test_a_missing_input_is_not_the_readers_strike() -> None:
    bench, lease = one_batch()
    lease = step(bench, lease)
    fail(bench, lease, digest=lease.inputs[0].digest)
    assert bench.state.miners[lease.hotkey].strikes == 0


def test_what_fails_for_ever_is_counted_as_lost_and_forgotten_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapses, "MAX_ATTEMPTS", 3)
    bench, lease = one_batch(stages=2, seats=1)
    head = lease.hotkey
    lease = step(bench, lease)
    for _ in range(3):
        fail(bench, lease)
        actions = bench.actions
        bench.wait(10.0)
        lease = bench.given()[0] if bench.given() else lease
    assert bench.state.lost == 1 and lease.batch not in bench.state.batches
    assert Forget(head, lease.batch) in actions and ForgetBatch(lease.batch) in actions


def test_all_who_ever_held_a_lease_are_told_to_forget() -> None:
    bench, lease = one_batch(stages=1)
    late = lease.hotkey
    bench.wait(bench.spec.swarm.lease_s)
    bench.finish(next(given for given in bench.given() if given.batch == lease.batch))
    assert Forget(late, lease.batch) in bench.actions


def test_asking_twice_gives_the_same_lease() -> None:
    bench, lease = one_batch()
    bench.disconnect(lease.hotkey)
    bench.connect(lease.hotkey)
    assert lease in bench.got(GiveLease)


def test_no_more_is_opened_than_an_epoch_needs_when_the_quorum_is_there() -> None:
    bench = Bench(stages=1, seats=1, epoch_batches=5, live_per_replica=3).train()
    assert bench.state.opened == 5 == bench.state.reports[-1].microbatches


def test_room_for_many_is_filled_by_several_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MOST_AT_ONCE", 3)
    bench = Bench(stages=1, seats=1, epoch_batches=100, live_per_replica=10)
    opened = [len(bench.state.batches)]
    for _ in range(3):
        bench.wait(1.0)
        opened.append(len(bench.state.batches))
    assert opened == [3, 6, 9, 10]


def test_more_is_opened_while_too_few_replicas_have_enough() -> None:
    bench = Bench(stages=1, seats=4, epoch_batches=2, min_batches=3).train()
    assert bench.state.opened > 2
    assert sum(miner.batches >= 3 for miner in bench.state.miners.values()) >= 0.8 * 4


def test_late_leases_are_remembered_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapses, "MAX_EXPIRED", 3)
    bench = Bench(stages=1, seats=4)
    for _ in range(4):
        bench.publish()
        bench.wait(bench.spec.swarm.lease_s)
    assert len(bench.state.expired) == 3


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_work_of_an_earlier_process_is_not_weight_of_the_new_one(seconds: float) -> None:
    # Time stands still where a clock was set back: the new process may be as old as the lease.
    bench, lease = one_batch(stages=1)
    bench.wait(seconds)
    bench.disconnect(lease.hotkey)
    bench.join(lease.hotkey, boot="1")
    bench.finish(lease)
    assert bench.state.volume[lease.hotkey] == pytest.approx(1.0)
    assert bench.state.miners[lease.hotkey].batches == 0


def test_microbatches_on_their_way_are_carried_into_the_next_epoch() -> None:
    bench = Bench(stages=1, seats=2, epoch_batches=3, drain_s=5.0, lease_s=100.0)
    bench.publish()
    stuck = bench.given()[0]
    while bench.state.phase is Phase.TRAIN and not bench.state.draining:
        others = [lease for lease in bench.given() if lease.lease != stuck.lease]
        bench.finish(others[0])
        bench.publish()
    bench.wait(5.0)
    for lease in [lease for lease in bench.given() if lease.lease != stuck.lease]:
        bench.finish(lease)
    bench.commit_all().merge_all().install_all()
    assert (bench.state.phase, bench.state.epoch) == (Phase.TRAIN, 1)
    assert stuck.batch in bench.state.batches and bench.state.opened >= 1
    bench.finish(stuck)
    assert stuck.batch not in bench.state.batches and bench.state.reports[1].microbatches == 1


def test_every_taker_gets_its_share_of_random_routing() -> None:
    bench = Bench(stages=1, seats=4, epoch_batches=400, live_per_replica=2).train()
    shares = [sum(sample.pathway == (hotkey,) for sample in bench.state.samples) for hotkey in bench.state.miners]
    assert min(shares) > 60 and sum(shares) == 400
