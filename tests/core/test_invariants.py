"""Each invariant must be able to fail: a state is bent by hand, and `check` must say so in its own words."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from iota_subnet.core.invariants import Broken, check
from iota_subnet.core.state import Lease, Output, Phase, RunState

from .bench import Bench, blob


def training() -> Bench:
    bench = Bench(stages=2, seats=2, live_per_replica=4, epoch_batches=8)
    bench.publish()
    bench.finish(bench.given()[0])
    return bench


def merged() -> Bench:
    return Bench(stages=1, seats=3, epoch_batches=12).train().commit_all().merge_all()


def first_lease(state: RunState) -> Lease:
    return next(iter(state.leases.values()))


def orphan(state: RunState) -> None:
    del state.batches[first_lease(state).batch]


def unknown_lease(state: RunState) -> None:
    state.batches[first_lease(state).batch].lease = None


def wrong_step(state: RunState) -> None:
    lease = first_lease(state)
    state.leases[lease.id] = replace(lease, op="loss", stage=1)


def unheld(state: RunState) -> None:
    lease = first_lease(state)
    del state.miners[lease.hotkey].leases[lease.id]


def wrong_stage(state: RunState) -> None:
    state.miners[first_lease(state).hotkey].stage ^= 1


def twice(state: RunState) -> None:
    lease = first_lease(state)
    state.expired[lease.id] = lease


def dangling(state: RunState) -> None:
    next(iter(state.miners.values())).leases[999] = None


def complete(state: RunState) -> None:
    batch = next(batch for batch in state.batches.values() if batch.lease is None)
    hotkey = next(iter(state.miners))
    batch.hands.append(hotkey)
    batch.forward = batch.gradient = [Output(hotkey, blob("x"))] * 2


def unearned(state: RunState) -> None:
    batch = next(batch for batch in state.batches.values() if batch.lease is None)
    batch.forward[0] = Output("stranger", blob("x"))


def vanished(state: RunState) -> None:
    del state.batches[next(batch.id for batch in state.batches.values() if batch.lease is None)]


def paid_twice(state: RunState) -> None:
    state.volume["m0"] = state.volume.get("m0", 0.0) + 1.0


def no_reason(state: RunState) -> None:
    state.waiting_for = ""


def no_deadline(state: RunState) -> None:
    state.deadline = float("inf")


def old_manifest(state: RunState) -> None:
    state.manifests[0] = replace(state.manifests[0], epoch=5)


TRAINING: list[tuple[Callable[[RunState], None], str]] = [
    (orphan, "which is gone"),
    (unknown_lease, "does not know its lease"),
    (wrong_step, "is not the next step"),
    (unheld, "is held by nobody"),
    (wrong_stage, "outside its miner's stage"),
    (twice, "is open and expired"),
    (dangling, "holds a lease that is not open"),
    (complete, "is complete and not retired"),
    (unearned, "worked on without a lease"),
    (vanished, "are accounted for"),
    (paid_twice, "were credited"),
    (no_reason, "nobody can say"),
    (no_deadline, "train has no deadline"),
    (old_manifest, "the manifest of stage 0 is of epoch 5"),
]


@pytest.mark.parametrize(("bend", "words"), TRAINING, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bent_state_in_training_is_noticed(bend: Callable[[RunState], None], words: str) -> None:
    bench = training()
    check(bench.state)
    bend(bench.state)
    with pytest.raises(Broken, match=re.escape(words)):
        check(bench.state)


def gap(state: RunState) -> None:
    state.merges[0].shards[1].lo += 1


def manifest_gap(state: RunState) -> None:
    shards = state.manifests[0].shards
    state.manifests[0] = replace(state.manifests[0], shards=(shards[0], shards[2]))


def manifest_short(state: RunState) -> None:
    state.manifests[0] = replace(state.manifests[0], shards=state.manifests[0].shards[:-1])


def one_word(state: RunState) -> None:
    shard = state.merges[0].shards[0]
    shard.results.pop(shard.reducers[0])


def disagreeing(state: RunState) -> None:
    shard = state.merges[0].shards[0]
    shard.results[shard.reducers[0]] = replace(shard.results[shard.reducers[1]], weights=blob("other"))


def stranger_commits(state: RunState) -> None:
    state.merges[0].commits["stranger"] = (1, ())


def stranger_reduces(state: RunState) -> None:
    state.merges[0].shards[0].reducers[0] = "stranger"


def stranger_counts(state: RunState) -> None:
    state.merges[0].shards[0].contributors = ("stranger",)


MERGED: list[tuple[Callable[[RunState], None], str]] = [
    (gap, "stage 0 has a gap"),
    (manifest_gap, "the manifest of stage 0 has a gap"),
    (manifest_short, "the manifest of stage 0 is short"),
    (one_word, "without twins that agree"),
    (disagreeing, "without twins that agree"),
    (stranger_commits, "a stranger has committed"),
    (stranger_reduces, "reduced by somebody who did not commit"),
    (stranger_counts, "averages what nobody committed"),
]


@pytest.mark.parametrize(("bend", "words"), MERGED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bent_merge_is_noticed(bend: Callable[[RunState], None], words: str) -> None:
    bench = merged()
    assert bench.state.phase is Phase.INSTALL
    check(bench.state)
    bend(bench.state)
    with pytest.raises(Broken, match=re.escape(words)):
        check(bench.state)
