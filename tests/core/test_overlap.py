"""Work goes on while an epoch is merged; nothing of it is lost, counted twice, or given to who could not do it."""

from __future__ import annotations

from iota_subnet.core.actions import GiveLease
from iota_subnet.core.invariants import check
from iota_subnet.core.state import Phase

from .bench import Bench


def busy(**swarm: float) -> Bench:
    """One stage of three in COMMIT, with leases open."""
    bench = Bench(1, 3, **{"overlap": True, "epochs": 3, "epoch_batches": 12, **swarm})
    bench.train()
    return bench


def finish_some(bench: Bench, count: int) -> int:
    """Do some of what is given; how many passes were done."""
    done = 0
    todo = [*bench.given(), *bench.publish()]
    while todo and done < count:
        lease = todo.pop(0)
        if lease.lease in bench.state.leases:
            todo += [a for a in bench.finish(lease) if isinstance(a, GiveLease)]
            done += 1
        todo += bench.publish()
        check(bench.state)
    return done


def test_nothing_is_waited_for_before_the_commit() -> None:
    bench = busy()
    assert bench.state.phase is Phase.COMMIT and not bench.state.draining
    assert bench.state.batches, "microbatches are on their way"


def test_leases_are_given_in_every_phase_of_a_merge() -> None:
    bench = busy()
    assert finish_some(bench, 2) == 2 and bench.state.phase is Phase.COMMIT
    bench.commit_all()
    assert finish_some(bench, 2) == 2 and bench.state.phase is Phase.REDUCE
    bench.merge_all()
    assert finish_some(bench, 2) == 2 and bench.state.phase is Phase.INSTALL
    bench.install("m0", 1)
    given = [lease.hotkey for lease in (*bench.given(), *bench.publish())]
    assert finish_some(bench, 2) == 2 and "m0" in given, "who has installed works on"


def test_what_is_done_in_a_merge_counts_in_the_next_one() -> None:
    bench = busy()
    bench.commit_all()
    before = dict.fromkeys(bench.state.miners, 0)
    assert {h: m.batches for h, m in bench.state.miners.items()} == before
    done = finish_some(bench, 4)
    bench.merge_all()
    bench.install_all()
    assert bench.state.epoch == 1 and bench.state.phase is Phase.TRAIN
    assert sum(miner.batches for miner in bench.state.miners.values()) == done


def test_who_did_not_commit_starts_anew() -> None:
    bench = busy(commit_s=5.0)
    bench.commit("m0")
    bench.commit("m1")
    finish_some(bench, 6)
    bench.wait(6.0)
    assert bench.state.phase is Phase.REDUCE and bench.state.miners["m2"].batches > 0
    bench.merge_all()
    bench.install_all()
    assert bench.state.epoch == 1 and bench.state.miners["m2"].batches == 0


def test_a_state_that_is_replaced_takes_with_it_what_was_done_on_it() -> None:
    bench = busy(audit_shards=1.0)
    bench.commit_all()
    shard = bench.state.merges[0].shards[0]
    for other in bench.state.merges[0].shards:
        for hotkey in other.reducers:
            bench.fetch(hotkey, ("m0", "m1", "m2"), 0, other.index)
        for hotkey in other.reducers:
            bench.reduce(hotkey, "lie" if other is shard else "good", 0, other.index)
    bench.install("m0", 1)
    finish_some(bench, 6)
    assert bench.state.miners["m0"].batches > 0
    bench.recompute(("m0", "m1", "m2"), "good")
    assert (bench.state.miners["m0"].installed, bench.state.miners["m0"].batches) == (0, 0)


def test_an_epoch_opens_as_much_as_was_asked_for_however_long_the_merge_takes() -> None:
    bench = busy()
    first = bench.state.opened_total
    bench.commit_all()
    finish_some(bench, 100)
    assert bench.state.phase is Phase.REDUCE
    assert bench.state.opened == bench.state.opened_total - first >= 12
    least = bench.state.opened_total
    assert finish_some(bench, 100) == 0 and bench.state.opened_total == least, "the next epoch's share is done"


def test_the_last_epoch_ends_with_its_last_microbatch() -> None:
    bench = busy(epochs=1)
    assert bench.state.phase is Phase.COMMIT and not bench.state.batches and not bench.publish()


def test_microbatches_that_retire_while_replicas_install_are_the_next_epochs() -> None:
    bench = busy()
    bench.commit_all().merge_all()
    closed = bench.state.reports[0].microbatches
    done = finish_some(bench, 3)
    assert bench.state.reports[0].microbatches == closed and bench.state.early == done
    bench.install_all()
    assert bench.state.reports[1].microbatches == done and bench.state.early == 0
    check(bench.state)
