import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.core import recompute, scoring
from iota_subnet.core.actions import FixContributors, RecomputeShard, Refuse, SendMergePlan
from iota_subnet.core.draw import commitment, salt
from iota_subnet.core.events import MetagraphChanged, MinerLeft, ShardFetched, ShardRecomputed, ShardsCommitted
from iota_subnet.core.merge import manifests
from iota_subnet.core.recompute import EMPTY_HANDED
from iota_subnet.core.state import Phase, Shard, StageMerge
from iota_subnet.spec import shard_bounds

from .bench import Bench, blob


def committed(seats: int = 3, **swarm: float) -> Bench:
    """One stage in REDUCE: everybody has trained and committed."""
    epoch_batches = 4 * seats
    return Bench(1, seats, **{"epoch_batches": epoch_batches, **swarm}).train().commit_all()


def shard_of(bench: Bench, index: int = 0) -> Shard:
    return bench.state.merges[0].shards[index]


@given(st.integers(0, 500), st.integers(1, 50))
def test_slices_cover_the_vector_exactly(size: int, shards: int) -> None:
    bounds = shard_bounds(size, shards)
    assert [lo for lo, _ in bounds] == [0, *(hi for _, hi in bounds[:-1])] and bounds[-1][1] == size
    assert max(hi - lo for lo, hi in bounds) - min(hi - lo for lo, hi in bounds) <= 1


def test_the_salt_is_shown_only_after_the_commits_and_fits_its_commitment() -> None:
    bench = Bench(1, 2).train()
    promised = {action.commitment for action in bench.history if getattr(action, "commitment", "")}
    assert not any(isinstance(action, SendMergePlan) for action in bench.history)
    bench.commit_all()
    shown = {action.salt for action in bench.history if isinstance(action, SendMergePlan)}
    assert shown == {salt("s", 0)} and {commitment(value) for value in shown} == promised


def test_twins_that_agree_settle_their_shard_without_the_validator() -> None:
    bench = committed(audit_shards=0.0).merge_all()
    assert bench.state.phase is Phase.INSTALL
    assert bench.state.reports[-1].twins_compared == 3 and bench.state.reports[-1].recomputed == 0
    assert not any(isinstance(action, RecomputeShard) for action in bench.history)
    assert bench.state.reports[-1].coverage == [1.0]
    urls = bench.state.manifests[0].shards[0].weights.urls
    assert len(urls) == 2, "both twins serve what both have made"


def test_twins_that_differ_are_recomputed_and_the_liar_is_named() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    honest, liar = shard_of(bench).reducers
    for hotkey in (honest, liar):
        bench.fetch(hotkey, everybody)
    bench.reduce(honest)
    bench.reduce(liar, "lie")
    assert bench.got(RecomputeShard) and shard_of(bench).accepted is None
    bench.recompute(everybody)
    assert [fault.hotkey for fault in bench.state.faults] == [liar]
    accepted = shard_of(bench).accepted
    assert accepted is not None and accepted.weights.digest == "w-good"


def test_a_clock_that_was_set_back_does_not_make_a_fault_old() -> None:
    bench = committed(score_window_s=50.0)
    bench.wait(3.0)
    everybody = tuple(sorted(bench.state.miners))
    honest, liar = shard_of(bench).reducers
    for hotkey in (honest, liar):
        bench.fetch(hotkey, everybody)
    bench.reduce(honest)
    bench.reduce(liar, "lie")
    bench.now -= 100.0
    bench.recompute(everybody)
    scoring.close_epoch(bench.state)
    assert bench.state.reports[-1].scores[liar] == 0.0 < bench.state.reports[-1].scores[honest]


def test_nobody_is_named_when_the_auditor_had_other_inputs() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    for hotkey in list(shard_of(bench).reducers):
        bench.fetch(hotkey, everybody)
    for hotkey, name in zip(shard_of(bench).reducers, ("good", "lie"), strict=True):
        bench.reduce(hotkey, name)
    bench.recompute(everybody[:-1], "third")
    accepted = shard_of(bench).accepted
    assert not bench.state.faults and accepted is not None and accepted.weights.digest == "w-third"


def test_both_twins_reduce_the_same_contributors() -> None:
    bench = committed(5)
    everybody = tuple(sorted(bench.state.miners))
    one, two = shard_of(bench).reducers
    bench.fetch(one, everybody)
    assert not bench.got(FixContributors)
    bench.fetch(two, everybody[1:])
    fixed = bench.got(FixContributors)
    assert {action.hotkey for action in fixed} == {one, two}
    assert {action.contributors for action in fixed} == {everybody[1:]}


def test_one_reducer_alone_cannot_keep_the_others_out_of_the_mean() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    honest, censor = shard_of(bench).reducers
    bench.fetch(honest, everybody)
    bench.fetch(censor, (censor,))
    asked = bench.got(RecomputeShard)
    assert asked and {c.hotkey for c in asked[0].contributions} == set(everybody)


def test_a_reducer_that_dies_is_replaced_and_the_pair_starts_again() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    stays, dies = shard_of(bench).reducers
    bench.fetch(stays, everybody)
    bench.send(MinerLeft(at=bench.now, hotkey=dies))
    spare = next(hotkey for hotkey in everybody if hotkey not in (stays, dies))
    assert shard_of(bench).reducers == [stays, spare]
    assert any(duty.shard == 0 for plan in bench.got(SendMergePlan, spare) for duty in plan.duties)
    bench.fetch(spare, everybody)
    bench.reduce(stays)
    bench.reduce(spare)
    assert shard_of(bench).accepted is not None


def test_a_result_stands_as_twin_when_its_maker_has_died_since() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    stays, dies = shard_of(bench).reducers
    for hotkey in (stays, dies):
        bench.fetch(hotkey, everybody)
    bench.reduce(dies)
    bench.send(MinerLeft(at=bench.now, hotkey=dies))
    for hotkey in list(shard_of(bench).reducers):
        bench.fetch(hotkey, everybody)
        bench.reduce(hotkey)
    assert shard_of(bench).accepted is not None and not shard_of(bench).recomputing


def test_a_new_process_has_no_duties_and_nothing_to_commit() -> None:
    bench = committed(2)
    everybody = tuple(sorted(bench.state.miners))
    stays, restarts = shard_of(bench).reducers
    bench.fetch(stays, everybody)
    bench.disconnect(restarts)
    bench.join(restarts, boot="1", install=False)
    assert not bench.got(SendMergePlan, restarts)
    bench.reduce(stays)
    assert bench.got(RecomputeShard), "nobody waits for a process that has forgotten everything"


def test_a_restart_in_commit_is_not_waited_for_and_adds_no_empty_contribution() -> None:
    bench = Bench(1, 2).train()
    bench.disconnect("m1")
    bench.join("m1", boot="1")
    bench.send(_commit_event(bench, "m1"))
    assert bench.got(Refuse, "m1")
    bench.commit("m0")
    assert bench.state.phase is Phase.REDUCE and list(bench.state.merges[0].commits) == ["m0"]


def _commit_event(bench: Bench, hotkey: str) -> ShardsCommitted:
    return ShardsCommitted(at=bench.now, hotkey=hotkey, stage=0, epoch=0, shards=(blob("zero", 8),))


def test_all_reducers_gone_leaves_the_shard_to_the_validator_at_once() -> None:
    bench = committed(2)
    for hotkey in list(shard_of(bench).reducers):
        bench.send(MinerLeft(at=bench.now, hotkey=hotkey))
    asked = [action for action in bench.history if isinstance(action, RecomputeShard)]
    assert len(asked) == 1
    bench.recompute(("m0", "m1"))
    assert bench.state.reports[-1].coverage == [1.0]


def test_deregistration_in_the_middle_of_a_merge_does_not_stop_it() -> None:
    bench = committed()
    bench.send(MetagraphChanged(at=bench.now, hotkeys=("m0", "m2")))
    assert "m1" not in bench.state.miners and bench.got(Refuse, "m1")
    bench.merge_all()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].coverage == [1.0]


def test_the_validator_does_what_is_left_at_the_deadline_and_asks_again_until_it_is_done() -> None:
    bench = committed(reduce_s=30.0)
    bench.wait(30.0)
    assert len(bench.got(RecomputeShard)) == 3
    bench.wait(29.0)
    assert not bench.got(RecomputeShard)
    bench.wait(1.0)
    assert len(bench.got(RecomputeShard)) == 3
    assert bench.state.reports[-1].recomputed == 3


def test_a_lone_replica_is_audited() -> None:
    bench = committed(1)
    bench.fetch("m0", ("m0",))
    bench.reduce("m0", "lie")
    bench.recompute(("m0",))
    assert [fault.hotkey for fault in bench.state.faults] == ["m0"]
    assert bench.state.manifests[0].shards[0].weights.digest == "w-good"


@pytest.mark.parametrize("shards", [0, 2, 4])
def test_a_commit_with_the_wrong_number_of_shards_is_refused(shards: int) -> None:
    bench = Bench(1, 3, epoch_batches=12).train()
    bench.commit("m0", shards)
    assert bench.got(Refuse, "m0") and not bench.state.merges[0].commits


def test_a_commit_of_impossible_size_is_refused() -> None:
    bench = Bench(1, 2).train()
    for nbytes in (0, 1 << 30):
        bench.commit("m0", nbytes=nbytes)
        assert bench.got(Refuse, "m0") and not bench.state.merges[0].commits


def test_who_has_committed_cannot_commit_to_something_else() -> None:
    bench = Bench(1, 2).train()
    bench.commit("m0")
    before = dict(bench.state.merges[0].commits)
    bench.commit("m0")
    assert not bench.got(Refuse)
    bench.commit("m0", name="other")
    assert bench.got(Refuse, "m0") and bench.state.merges[0].commits == before


def test_a_reducer_cannot_change_its_result() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    one, two = shard_of(bench).reducers
    bench.reduce(one)
    assert bench.got(Refuse, one), "before the contributors are fixed nothing can be right"
    for hotkey in (one, two):
        bench.fetch(hotkey, everybody)
    bench.reduce(one, "lie")
    bench.reduce(one, "good")
    assert bench.got(Refuse, one)
    bench.reduce(two, "good", nbytes=1 << 30)
    assert bench.got(Refuse, two)


def test_a_stranger_cannot_report_or_reduce() -> None:
    bench = committed()
    stranger = next(hotkey for hotkey in bench.state.miners if hotkey not in shard_of(bench).reducers)
    for hotkey in (stranger, "nobody"):
        bench.fetch(hotkey, ("m0",))
        assert bench.got(Refuse, hotkey)
        bench.reduce(hotkey)
        assert bench.got(Refuse, hotkey)
    assert not shard_of(bench).reports and not shard_of(bench).results


@pytest.mark.parametrize(("stage", "shard"), [(-1, 0), (1, 0), (0, -1), (0, 3)])
def test_what_does_not_exist_cannot_be_reduced(stage: int, shard: int) -> None:
    bench = committed()
    bench.fetch("m0", ("m0",), stage, shard)
    assert bench.got(Refuse, "m0")


def test_a_stage_without_commits_keeps_its_manifest() -> None:
    bench = Bench(2, 1, commit_s=5.0).train()
    before = bench.state.manifests[1].shards
    tail = bench.state.members(1)[0].hotkey
    bench.commit(bench.state.members(0)[0].hotkey)
    assert not bench.state.merges[1].commits and tail
    bench.wait(5.0)
    bench.merge_all(only=(0,))
    assert bench.state.reports[-1].coverage == [1.0, 0.0]
    assert bench.state.manifests[1].shards == before and bench.state.manifests[1].epoch == 1


@given(st.integers(1, 5))
def test_manifests_cover_every_parameter(seats: int) -> None:
    bench = committed(seats).merge_all()
    covered = [(shard.lo, shard.hi) for shard in bench.state.manifests[0].shards]
    assert covered == shard_bounds(bench.state.sizes[0], max(1, seats * (seats - 1) // 2))
    assert [m.epoch for m in manifests(bench.state)] == [1]


def test_the_weight_of_a_contribution_is_its_backward_passes() -> None:
    bench = Bench(1, 2, epoch_batches=9).train()
    counts = {miner.hotkey: miner.batches for miner in bench.state.miners.values()}
    bench.commit_all()
    assert {hotkey: weight for hotkey, (weight, _) in bench.state.merges[0].commits.items()} == counts
    assert sum(counts.values()) == 9


def test_a_result_whose_makers_are_all_gone_is_made_again_before_anybody_has_to_install_it() -> None:
    bench = committed()
    everybody = tuple(sorted(bench.state.miners))
    pair = list(shard_of(bench).reducers)
    for hotkey in pair:
        bench.fetch(hotkey, everybody)
    for hotkey in pair:
        bench.reduce(hotkey)
    assert shard_of(bench).accepted is not None
    for hotkey in pair:
        bench.send(MinerLeft(at=bench.now, hotkey=hotkey))
    assert shard_of(bench).accepted is None
    assert any(a.shard == 0 for a in bench.got(RecomputeShard))


def audited(share: float = 1.0) -> Bench:
    """Everything is checked by chance, and the reducers of shard 0 tell the same lie."""
    bench = committed(audit_shards=share)
    for shard in list(bench.state.merges[0].shards):
        for hotkey in shard.reducers:
            bench.fetch(hotkey, ("m0", "m1", "m2"), 0, shard.index)
        for hotkey in shard.reducers:
            bench.reduce(hotkey, "lie" if shard.index == 0 else "good", 0, shard.index)
    return bench


def liars(bench: Bench) -> list[str]:
    return sorted(fault.hotkey for fault in bench.state.faults)


def test_a_check_by_chance_delays_nobody_and_accuses_nobody_who_is_right() -> None:
    bench = audited()
    assert bench.state.phase is Phase.INSTALL and bench.state.reports[-1].audited == 3
    asked = [action.shard for action in bench.history if isinstance(action, RecomputeShard)]
    assert sorted(asked) == [0, 1, 2]
    for shard in (1, 2):
        bench.recompute(("m0", "m1", "m2"), "good", 0, shard)
    assert not bench.state.faults and bench.state.manifests[0].revision == 0
    assert not any(shard.recomputing for shard in bench.state.merges[0].shards[1:])


def test_twins_that_tell_the_same_lie_are_both_named_and_the_truth_is_installed() -> None:
    bench = audited()
    bench.install(bench.state.merges[0].shards[0].reducers[0], 1)
    pair = sorted(bench.state.merges[0].shards[0].reducers)
    bench.recompute(("m0", "m1", "m2"), "good")
    assert liars(bench) == pair
    assert bench.state.manifests[0].revision == 1
    assert bench.state.manifests[0].shards[0].weights.digest == blob("w-good").digest
    assert all(miner.installed == 0 for miner in bench.state.miners.values()), "who had the lie installs again"
    bench.recompute(("m0", "m1", "m2"), "good")
    assert liars(bench) == pair, "an answer that comes twice names nobody twice"


def test_a_lie_that_is_found_when_the_epoch_is_over_still_names_the_liars() -> None:
    bench = audited()
    pair = sorted(bench.state.merges[0].shards[0].reducers)
    bench.install_all()
    assert bench.state.epoch == 1 and (0, 0, 0) in bench.state.audits
    bench.send(
        ShardRecomputed(
            at=bench.now, stage=0, epoch=0, shard=0, mean=blob("d-good"), weights=blob("w-good"),
            momentum=blob("m-good"), contributors=("m0", "m1", "m2"),
        )
    )  # fmt: skip
    assert liars(bench) == pair and bench.state.manifests[0].revision == 0


@pytest.mark.parametrize(("replicas", "share", "audited"), [(2, 0.001, 1), (2, 0.0, 0), (3, 0.0, 0), (3, 1.0, 3)])
def test_two_replicas_that_make_a_whole_stage_are_always_checked(replicas: int, share: float, audited: int) -> None:
    bench = Bench(1, replicas, audit_shards=share).train().commit_all().merge_all()
    assert bench.state.reports[-1].twins_compared == len(bench.state.merges[0].shards)
    assert bench.state.reports[-1].audited == audited


@pytest.mark.parametrize(("replicas", "expected"), [(2, 1.0), (4, 0.5), (10, 0.2), (40, 0.1)])
def test_small_stages_are_looked_at_more_for_at_most_two_stages_of_traffic(replicas: int, expected: float) -> None:
    bench = Bench(1, 2, audit_shards=0.1).train().commit_all()
    merge = bench.state.merges[0]
    merge.commits = {f"m{number}": (1, ()) for number in range(replicas)}
    assert recompute.checked_share(bench.state, merge) == pytest.approx(expected)


def test_two_colluders_that_own_a_stage_are_named_in_the_same_epoch() -> None:
    bench = Bench(1, 2, audit_shards=0.001).train().commit_all()
    for hotkey in ("m0", "m1"):
        bench.fetch(hotkey, ("m0", "m1"))
    for hotkey in ("m0", "m1"):
        bench.reduce(hotkey, "lie")
    bench.recompute(("m0", "m1"), "good")
    assert liars(bench) == ["m0", "m1"]
    assert bench.state.manifests[0].shards[0].weights.digest == blob("w-good").digest


def test_nothing_is_checked_by_chance_when_that_is_switched_off() -> None:
    bench = audited(0.0)
    assert bench.state.reports[-1].audited == 0
    assert not any(isinstance(action, RecomputeShard) for action in bench.history)


def test_the_draw_of_a_check_cannot_be_told_from_the_salt() -> None:
    """Twins see the salt before they publish; if it showed what will be checked they would lie elsewhere."""
    one, other = committed(audit_shards=0.5), committed(audit_shards=0.5)
    other.state.secret = "t"
    for bench in (one, other):
        bench.state.merges[0].commits.clear()
    drawn = [
        [bool(recompute.by_chance(b.state, b.state.merges[0], Shard(k, 0, 1, [], contributors=()))) for k in range(60)]
        for b in (one, other)
    ]
    assert 15 < sum(drawn[0]) < 45 and drawn[0] != drawn[1]


def test_what_comes_late_counts_while_the_shard_is_open() -> None:
    bench = committed()
    one, other = shard_of(bench).reducers
    bench.fetch(one, ("m0",))
    bench.fetch(one, ("m1", "m2"))
    assert shard_of(bench).reports[one] == ("m0", "m1", "m2")
    bench.fetch(other, ("m0", "m1", "m2"))
    assert shard_of(bench).contributors == ("m0", "m1", "m2")
    bench.fetch(one, ())
    assert shard_of(bench).contributors == ("m0", "m1", "m2"), "fixed is fixed"


def test_what_is_left_out_of_a_mean_is_told_and_counted() -> None:
    bench = committed(quorum=0.5)
    for shard in list(bench.state.merges[0].shards):
        for hotkey in shard.reducers:
            missed = (("m2", "not finite"), ("nobody", "x"))
            bench.send(
                ShardFetched(
                    at=bench.now, hotkey=hotkey, stage=0, epoch=0, shard=shard.index, have=("m0", "m1"), missed=missed
                )
            )
        for hotkey in list(shard.reducers):
            bench.reduce(hotkey, "good", 0, shard.index)
    report = bench.state.reports[-1]
    weights = {hotkey: weight for hotkey, (weight, _) in bench.state.merges[0].commits.items()}
    assert report.coverage == [1.0], "every parameter is averaged"
    assert report.included == [pytest.approx((weights["m0"] + weights["m1"]) / sum(weights.values()))]
    assert len(report.missed) == 6 and all("lacks m2: not finite" in line for line in report.missed)


def test_a_shard_that_nobody_could_average_is_not_called_covered() -> None:
    bench = committed()
    bench.wait(1000.0)
    for shard in list(bench.state.merges[0].shards):
        for _ in range(EMPTY_HANDED):
            bench.recompute((), "kept", 0, shard.index)
            assert shard.accepted is None, "the validator tries again"
        bench.recompute((), "kept", 0, shard.index)
    report = bench.state.reports[-1]
    assert bench.state.phase is Phase.INSTALL and report.coverage == [0.0] and report.included == [0.0]
    assert any("nobody's bytes could be had" in line for line in report.missed)


def test_a_manifest_of_means_says_to_what_they_belong() -> None:
    bench = committed()
    base = bench.state.manifests[0].name
    bench.merge_all()
    made = bench.state.manifests[0]
    assert made.base == base and all(shard.mean is not None for shard in made.shards)


def test_a_stage_that_keeps_its_state_offers_no_means_to_it() -> None:
    bench = committed().merge_all()
    recompute.expire(bench.state)
    merge = StageMerge(0, (), 1)
    bench.state.phase, bench.state.epoch = Phase.REDUCE, 1
    kept = recompute.manifest(bench.state, merge)
    assert kept.base == "" and all(shard.mean is None for shard in kept.shards)
    assert [s.weights for s in kept.shards] == [s.weights for s in bench.state.manifests[0].shards]
