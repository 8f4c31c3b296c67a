"""Who is audited cannot know it, what it was given is in the books, and a verdict costs what it should."""

from dataclasses import replace

import pytest

from iota_subnet.books import STRAYS, Line, disagreement
from iota_subnet.core import audits
from iota_subnet.core.actions import Action, AuditMiner, GiveLease, PublishScores
from iota_subnet.core.events import LeaseFailed, MinerAudited, RunStarted
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.receipts import CLAIMS
from iota_subnet.core.state import RunState
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.world import World

from .bench import Bench


def bench(**swarm: float) -> Bench:
    return Bench(stages=2, seats=3, epoch_batches=12, **{"audit_miners": 1.0, **swarm})  # type: ignore[arg-type]


def orders(made: Bench) -> dict[str, AuditMiner]:
    return {action.hotkey: action for action in made.history if isinstance(action, AuditMiner)}


def verdict(
    made: Bench,
    order: AuditMiner,
    word: str,
    reason: str = "the output of pass 3 differs",
    batches: tuple[int, ...] = (),
) -> list[Action]:
    return made.send(
        MinerAudited(
            at=made.now,
            hotkey=order.hotkey,
            stage=order.stage,
            epoch=order.epoch,
            verdict=word,  # type: ignore[arg-type]
            reason=reason,
            passes=len(order.leases),
            auditor=order.auditor,
            batches=batches,
        )
    )


def test_the_books_hold_every_lease_with_its_inputs_and_what_its_receipt_said() -> None:
    made = bench().train().commit_all()
    given = {action.lease: action for action in made.history if isinstance(action, GiveLease)}
    found = orders(made)
    assert set(found) == set(made.state.miners)
    for hotkey, order in found.items():
        mine = {number: action for number, action in given.items() if action.hotkey == hotkey}
        assert {entry[0] for entry in order.leases} == set(mine) and all(entry[6] for entry in order.leases)
        assert all(entry[3] == mine[entry[0]].inputs for entry in order.leases)
        assert order.base.epoch == 0 and order.base.stage == order.stage
        assert order.shards == made.state.merges[order.stage].commits[hotkey][1]


def test_who_is_audited_shows_only_after_everybody_has_committed() -> None:
    made = bench().train()
    assert not orders(made) and made.state.watched
    made.commit_all()
    assert orders(made) and not made.state.watched


def test_the_draw_depends_on_the_secret_alone_and_hits_the_asked_share() -> None:
    state = RunState(Bench(audit_miners=0.1, audit_passes=0.0).spec, secret="s")
    drawn = [bool(audits.draws(state, f"m{n}", epoch)) for n in range(100) for epoch in range(100)]
    assert 0.09 < sum(drawn) / len(drawn) < 0.11
    assert drawn == [bool(audits.draws(state, f"m{n}", epoch)) for n in range(100) for epoch in range(100)]
    state.secret = "another"
    assert drawn != [bool(audits.draws(state, f"m{n}", epoch)) for n in range(100) for epoch in range(100)]


def test_the_chance_of_a_pass_to_be_looked_at_falls_with_its_number() -> None:
    state = RunState(Bench(audit_miners=0.0, audit_passes=0.5).spec, secret="s")
    drawn = [audits.draws(state, f"m{n}", epoch) for n in range(200) for epoch in range(100)]
    for number in (1, 2, 5, 20):
        looked = sum(bool(found) and found[0][1] >= number for found in drawn) / len(drawn)
        assert looked == pytest.approx(0.5 / number, rel=0.15)


def test_a_sound_audit_costs_nothing() -> None:
    made = bench().train().commit_all().merge_all()
    before = dict(made.state.reports[0].scores)
    for order in orders(made).values():
        assert not [action for action in verdict(made, order, "sound", "") if isinstance(action, PublishScores)]
    assert made.state.reports[0].scores == before and not made.state.faults and not made.state.open_audits


def test_a_failed_audit_zeroes_the_window_writes_it_on_chain_and_takes_the_seat() -> None:
    made = bench().train().commit_all().merge_all()
    order = orders(made)["m0"]
    published = [action for action in verdict(made, order, "failed") if isinstance(action, PublishScores)]
    assert dict(published[0].scores)["m0"] == 0.0
    assert all(value > 0 for hotkey, value in published[0].scores if hotkey != "m0")
    made.wait(1.0)
    assert "m0" not in made.state.miners and "pass 3" in made.state.banned["m0"][1]
    # The same word a second time is heard once.
    assert not verdict(made, order, "failed") and len(made.state.faults) == 1


def test_who_withholds_once_is_not_paid_for_that_epoch_and_who_does_so_again_is_at_fault() -> None:
    made = bench().train().commit_all().merge_all()
    verdict(made, orders(made)["m0"], "withheld")
    assert not made.state.faults and made.state.reports[0].scores["m0"] == 0.0
    assert [part.standing for part in made.state.parts["m0"]] == [0.0] and "m0" in made.state.miners
    made.install_all().train().commit_all().merge_all()
    assert made.state.reports[1].scores["m0"] > 0.0
    verdict(made, orders(made)["m0"], "withheld")
    assert [fault.hotkey for fault in made.state.faults] == ["m0"] and made.state.reports[1].scores["m0"] == 0.0


def test_a_false_pass_leads_to_all_who_had_a_hand_in_its_microbatch_once_and_to_nobody_else() -> None:
    made = bench(audit_miners=0.0, audit_passes=0.5).train().commit_all()
    first = next(order for order in orders(made).values() if order.depth and order.leases)
    batch = first.leases[0][2]
    everybody = made.state.shown
    others = {h for h, w in everybody.items() if any(x.batch == batch for x in w.leases.values())} - {first.hotkey}
    pending = {hotkey for hotkey, _, _ in made.state.open_audits} - {first.hotkey}
    actions = verdict(made, first, "failed", batches=(batch,))
    asked = {action.hotkey: action for action in actions if isinstance(action, AuditMiner)}
    assert others and set(asked) == others - pending
    assert all(order.depth == 0 and order.leases and order.shards for order in asked.values())
    # Who is being looked at already is asked for all of it when that is over.
    for hotkey in sorted(pending):
        again = [a for a in verdict(made, orders(made)[hotkey], "sound") if isinstance(a, AuditMiner)]
        assert [(a.hotkey, a.depth) for a in again] == ([(hotkey, 0)] if hotkey in others else [])
    for order in [a for a in made.history if isinstance(a, AuditMiner) and not a.depth]:
        assert not [a for a in verdict(made, order, "sound") if isinstance(a, AuditMiner)]
    assert not made.state.open_audits


def test_a_verdict_that_names_no_microbatch_leads_to_nobody() -> None:
    made = bench(audit_miners=0.0, audit_passes=0.5).train().commit_all()
    first = next(iter(orders(made).values()))
    assert not [action for action in verdict(made, first, "failed") if isinstance(action, AuditMiner)]


def test_what_is_called_unfit_is_in_the_books() -> None:
    made = bench()
    lease = next(lease for lease in made.publish() if lease.op == "forward")
    made.finish(lease)
    given = next(lease for lease in made.given() if lease.stage == 1)
    blamed = given.inputs[0].digest
    made.send(
        LeaseFailed(at=0.0, hotkey=given.hotkey, lease=given.lease, kind="bytes", digest=blamed, reason="not finite")
    )
    assert [entry.blamed for entry in made.state.watched[given.hotkey].leases.values() if entry.blamed] == [blamed]


def test_receipts_for_leases_that_it_was_never_given_are_a_fault_and_its_own_are_not() -> None:
    made = bench()
    mine = made.publish()[0]
    made.finish(mine)
    liar, honest = mine.hotkey, next(hotkey for hotkey in made.state.miners if hotkey != mine.hotkey)
    for _ in range(2 * CLAIMS):
        # Its own, again and again, and of a time that nobody remembers.
        made.finish(mine)
    assert not made.state.faults
    other = next(lease for lease in made.given() if lease.hotkey != liar)
    for number in range(CLAIMS):
        assert not made.state.faults
        made.finish(other, liar) if number % 2 else made.finish(replace(other, lease=10_000), liar)
    assert [(fault.hotkey, "never given" in fault.what) for fault in made.state.faults] == [(liar, True)]
    made.wait(1.0)
    assert liar in made.state.banned and honest in made.state.miners


def test_a_few_receipts_of_a_run_that_is_gone_are_forgiven_in_every_epoch() -> None:
    made = bench()
    stranger = next(iter(made.state.miners))
    lease = made.publish()[0]
    for _ in range(CLAIMS - 1):
        made.finish(replace(lease, lease=10_000), stranger)
    made.train().commit_all().merge_all().install_all()
    made.finish(replace(lease, lease=10_000), stranger)
    assert not made.state.faults


def test_an_auditor_that_could_not_look_says_nothing_of_the_miner() -> None:
    made = bench().train().commit_all().merge_all()
    before = dict(made.state.reports[0].scores)
    verdict(made, orders(made)["m0"], "void")
    assert made.state.reports[0].scores == before and not made.state.verdicts


def test_a_verdict_that_nobody_asked_for_is_not_heard() -> None:
    made = bench(audit_miners=0.0, audit_passes=0.0).train().commit_all().merge_all()
    assert not orders(made)
    event = MinerAudited(at=made.now, hotkey="m0", stage=0, epoch=0, verdict="failed", reason="because")
    assert not made.send(event) and not made.state.faults


def test_with_overlap_nobody_is_drawn_because_nobody_could_compute_it_again() -> None:
    made = bench(overlap=True).train()
    assert not made.state.watched


@pytest.mark.parametrize("seed", range(6))
def test_a_follower_agrees_on_what_happens_and_judges_for_itself(seed: int) -> None:
    traits = {0: Trait(cheats=True), 1: Trait(cheats=True)}
    world = World(Plan(seed, stages=2, miners=8, epochs=3, traits=traits, swarm={"audit_miners": 0.5})).run()
    core, follower = Orchestrator(world.spec), Orchestrator(world.spec)
    follower.state.auditor, follower.state.audit_secret = "follower", "its own"
    own = 0
    for event in world.journal:
        told = [action for action in core.handle(event) if not isinstance(action, (AuditMiner, PublishScores))]
        heard = follower.handle(event)
        assert told == [action for action in heard if not isinstance(action, (AuditMiner, PublishScores))]
        for order in heard:
            if isinstance(order, AuditMiner) and order.auditor == "follower":
                own += 1
                cheats = world.miners[order.hotkey].trait.cheats
                # Its clock is another one, and may be far ahead.
                follower.judge(
                    MinerAudited(
                        at=event.at + 1e6,
                        hotkey=order.hotkey,
                        stage=order.stage,
                        epoch=order.epoch,
                        verdict="failed" if cheats else "sound",
                        reason="it differs" if cheats else "",
                        auditor="follower",
                    )
                )
    assert own and isinstance(world.journal[0], RunStarted)
    for state in (core.state, follower.state):
        named = {fault.hotkey for fault in state.faults}
        assert named <= {"miner-0", "miner-1"}
    # What has happened is the same, to the bit; only what is thought of it may differ.
    assert core.state.miners == follower.state.miners and core.state.volume == follower.state.volume
    assert core.state.manifests == follower.state.manifests and core.state.banned == follower.state.banned


LEASES = [Line(n, "forward", n, (f"in{n}",), f"out{n}", ()) for n in range(10, 16)]


def test_a_transcript_that_says_what_the_books_say_contradicts_nothing_in_any_order() -> None:
    assert disagreement(LEASES, reversed(LEASES), 10) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (LEASES[:-1], "not in the transcript"),
        ([*LEASES, LEASES[0]], "twice"),
        ([*LEASES, Line(99, "forward", 1, ("x",), "y", ())], "was not given"),
        ([*LEASES[:-1], LEASES[-1]._replace(inputs=("other",))], "inputs [other], by what it was given [in15]"),
        ([*LEASES[:-1], LEASES[-1]._replace(output="other")], "output other, by its receipt out15"),
        ([*LEASES[:-1], LEASES[-1]._replace(losses=(1.0,))], "losses [1], by its receipt []"),
    ],
)
def test_where_a_transcript_contradicts_the_books_is_said_in_words(said: list[Line], words: str) -> None:
    found = disagreement(LEASES, said, 10)
    assert found is not None and words in found.reason


def test_a_few_leases_from_before_the_books_are_nobodys_fault() -> None:
    old = [Line(n, "backward", n, ("a", "b"), "c", ()) for n in range(STRAYS)]
    assert disagreement(LEASES, [*old, *LEASES], 10) is None
    assert disagreement(LEASES, [*old, old[0]._replace(lease=9), *LEASES], 10) is not None


def test_a_pass_whose_receipt_came_late_may_be_there_or_not() -> None:
    late = LEASES[-1]._replace(done=False, output="")
    assert disagreement([*LEASES[:-1], late], LEASES, 10) is None
    assert disagreement([*LEASES[:-1], late], LEASES[:-1], 10) is None
