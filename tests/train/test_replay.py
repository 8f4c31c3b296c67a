"""An audit: honest replicas pass on any machine, each cheat fails by the check made for it, nothing makes it raise."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as edited

from benchmarks.audits import rehearsal
from benchmarks.audits.rehearsal import HalfRunner, Miner, Store, merged, run_epoch
from iota_subnet.spec import RunSpec, SwarmSpec
from iota_subnet.train import activations, codec, optim, transcript
from iota_subnet.train.codec import BadPayload
from iota_subnet.train.measure import Sums
from iota_subnet.train.order import Finding, Order, Owed
from iota_subnet.train.replay import LIMITS, BadOrder, replay
from iota_subnet.train.runner import StageRunner
from iota_subnet.train.state import initial_state
from iota_subnet.train.transcript import Pass, Transcript
from tests.train.conftest import small_spec, token_blob

BATCHES = 7


def rehearsed(spec: RunSpec, *kinds: Any, batches: int = BATCHES, epochs: int = 1) -> list[Miner]:
    """The last epoch of a pipeline; kinds[k] makes the miner of stage k, `Miner` where none is given."""
    text = cache(lambda n: token_blob(spec, n))
    bases = old = [initial_state(spec, stage) for stage in range(spec.model.stages)]
    for epoch in range(epochs):
        last, store = epoch == epochs - 1, Store()
        made = [
            (kinds[stage] if last and stage < len(kinds) else Miner)(spec, stage, store)
            for stage in range(spec.model.stages)
        ]
        for miner, state in zip(made, old, strict=True):
            miner.old = state
        run_epoch(made, text, range(epoch * batches, (epoch + 1) * batches), bases, epoch * batches)
        if not last:
            old, bases = bases, [merged(miner) for miner in made]
    return made


def judged(miner: Miner, **options: Any) -> Finding:
    return replay(miner.order(), miner.store.get, **options)


def bad(finding: Finding) -> set[str]:
    assert (finding.verdict == "failed") == any(check.bad for check in finding.checks)
    return {check.what for check in finding.checks if check.bad}


# Honest


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"activation_codec": "bf16", "delta_codec": "bf16", "accumulate": 1},
        {"activation_codec": "int8", "optimiser": "muon"},
    ],
)
@pytest.mark.parametrize("graphs", [0, 1, 5])
def test_on_the_same_machine_every_pass_and_the_pseudo_gradient_are_exact(train: dict[str, Any], graphs: int) -> None:
    spec = small_spec(**train)
    runner = partial(StageRunner, max_graphs=graphs)
    for miner in rehearsed(spec, *[partial(Miner, runner=runner)] * 3, epochs=2):
        finding = judged(miner)
        assert (finding.verdict, finding.exact) == ("sound", len(miner.passes))
        assert finding.passes == len(miner.passes) == (2 if miner.stage < 2 else 1) * BATCHES
        expected = {"pseudo-gradient angle": 0.0, "pseudo-gradient norm": 1.0}
        assert {c.what: c.value for c in finding.checks if c.what in expected} == expected


def test_a_model_of_one_stage_is_replayed_too() -> None:
    (miner,) = rehearsed(small_spec({"stages": 1}))
    finding = judged(miner)
    assert (finding.verdict, finding.passes, finding.exact) == ("sound", BATCHES, BATCHES)
    assert bad(judged(rehearsed(small_spec({"stages": 1}), rehearsal.forged(0.9))[0])) == {"loss", "loss, mean"}


def test_refused_payloads_between_the_passes_change_nothing_and_need_not_be_in_the_transcript() -> None:
    class Bothered(Miner):
        def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
            for wrong in ((b"", *inputs[1:]), (*inputs[:-1], inputs[-1][:-1])):
                with pytest.raises(BadPayload):
                    self.honest(op, batch, *wrong)
                names = tuple(map(self.store.put, wrong))
                self.owed.append(Owed(5000 + len(self.owed), op, batch, names))
            return super().compute(op, batch, *inputs)

    for miner in rehearsed(small_spec(), Bothered, Bothered, Bothered):
        finding = judged(miner)
        assert (finding.verdict, finding.exact) == ("sound", len(miner.passes))


def test_late_work_that_has_no_receipt_may_be_in_the_transcript() -> None:
    miner = rehearsed(small_spec())[1]
    owed = [edited(o, output="", losses=(), done=False) for o in miner.owed]
    finding = replay(miner.order(owed=tuple(owed)), miner.store.get)
    assert (finding.verdict, finding.exact) == ("sound", 2 * BATCHES)


def test_two_threads_are_sound_and_the_number_of_threads_is_put_back() -> None:
    for miner in rehearsed(small_spec()):
        assert judged(miner, threads=2).verdict == "sound"
        assert torch.get_num_threads() == 1


def test_a_replica_with_bfloat16_matrices_is_sound_but_not_exact() -> None:
    for miner in rehearsed(small_spec(activation_codec="bf16"), *[partial(Miner, runner=HalfRunner)] * 3, epochs=2):
        finding = judged(miner)
        # What the head sends back is nothing, and so the same.
        assert (finding.verdict, finding.exact) == ("sound", BATCHES if miner.stage == 0 else 0)
        assert all(check.value <= check.limit for check in finding.checks)


class HalfMuonRunner(HalfRunner):
    """Muon's products in bfloat16 too, as on a GPU."""

    def _inner_step(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            exact = optim.orthogonalise
            patch.setattr(optim, "orthogonalise", lambda matrix: exact(matrix.bfloat16()))
            super()._inner_step()


def test_a_replica_with_muon_in_bfloat16_is_sound() -> None:
    spec = small_spec(activation_codec="bf16", optimiser="muon")
    for miner in rehearsed(spec, *[partial(Miner, runner=HalfMuonRunner)] * 3, epochs=2):
        finding = judged(miner)
        assert finding.verdict == "sound", finding.reason
        (angle,) = (check for check in finding.checks if check.what == "pseudo-gradient angle")
        assert 0 < angle.value < angle.limit


@pytest.mark.parametrize("design", ["resbm+tokens", "subspace"])
def test_a_boundary_with_token_ids_is_replayed_and_false_ids_are_found(design: str) -> None:
    spec = small_spec({"boundary_codec": design}, activation_codec="bf16")
    for miner in rehearsed(spec, *[partial(Miner, runner=HalfRunner)] * 3):
        assert judged(miner).verdict == "sound"
    for miner in rehearsed(spec):
        assert judged(miner).exact == len(miner.passes)

    class FalseIds(Miner):
        def compute(self, op: str, batch: int, *inputs: bytes) -> tuple[bytes, list[float], int]:
            output, losses, step = super().compute(op, batch, *inputs)
            if op == "forward":
                values, ids = activations.decode(self.spec, output, "it", True)
                assert ids is not None
                output = activations.encode(self.spec, values, "it", (ids + 1) % self.spec.model.vocab)
            return output, losses, step

    finding = judged(rehearsed(spec, FalseIds)[0])
    assert (finding.verdict, "other token ids" in finding.reason) == ("failed", True)


def test_a_prefix_leaves_the_rest_alone() -> None:
    miner = rehearsed(small_spec(), Miner, rehearsal.merging(lambda values, chance: -values))[1]
    finding = judged(miner, max_passes=5)
    assert (finding.verdict, finding.passes) == ("sound", 5)
    assert "9 passes and the pseudo-gradient were not looked at" in finding.reason
    assert bad(judged(miner)) == {"pseudo-gradient angle"}


@pytest.mark.parametrize("delta_codec", ["int8", "topk"])
def test_what_a_residual_makes_incomparable_is_left_out_and_said(delta_codec: str) -> None:
    miner = rehearsed(small_spec(delta_codec=delta_codec))[0]
    finding = judged(miner)
    assert (finding.verdict, finding.exact) == ("sound", 2 * BATCHES)
    assert f"the pseudo-gradient was not compared: codec {delta_codec}" in finding.reason


def test_with_overlap_only_the_books_are_compared_and_that_is_said() -> None:
    spec = dataclasses.replace(small_spec(), swarm=SwarmSpec(overlap=True))
    miner = rehearsed(spec)[0]
    finding = judged(miner)
    assert (finding.verdict, finding.passes) == ("sound", 0) and "nothing was computed again" in finding.reason
    assert bad(replay(miner.order(owed=()), miner.store.get)) == {"books"}


# Complaints


def complained(data: bytes, kept: bool = True) -> Finding:
    """A middle replica that calls an input unfit, of a lease that it did not do."""
    miner = rehearsed(small_spec())[1]
    name = miner.store.put(data)
    if not kept:
        del miner.store[name]
    wrong = Owed(9000, "forward", 99, (name,), blamed=name)
    return replay(miner.order(owed=(*miner.owed, wrong)), miner.store.get)


def test_who_calls_bytes_unfit_that_decode_fails_and_who_is_right_does_not() -> None:
    spec = small_spec()
    fine = np.ones((spec.train.microbatch, spec.model.seq, spec.model.boundary), np.float32)
    lie = complained(codec.encode(fine, spec.train.activation_codec))
    assert bad(lie) == {"complaint"} and "decodes, and it said that it does not" in lie.reason
    spoiled = bytearray(codec.encode(fine, spec.train.activation_codec))
    spoiled[-4:] = b"\xc0\x7f\xc0\x7f"
    assert complained(bytes(spoiled)).verdict == "sound"
    assert complained(b"garbage").verdict == "sound"
    assert complained(b"garbage", kept=False).verdict == "withheld"


# Cheats

EVERY = (0, 1, 2)
OUTPUT, GRADIENT = {"output error"}, {"gradient error"}
CHEATS: list[tuple[str, Any, tuple[int, ...], set[str]]] = [
    ("noise of 30 %", rehearsal.noisy(0.3), EVERY, {"output error, median", "gradient error, median"}),
    ("noise of 100 %", rehearsal.noisy(1.0), EVERY, {"output norm", "gradient norm"}),
    ("all x 0.5", rehearsal.scaled(0.5), EVERY, {"output norm", "gradient norm"}),
    ("gradient x 2", rehearsal.scaled(2.0, "backward", "loss"), (1, 2), {"gradient norm"}),
    ("sign flipped", rehearsal.scaled(-1.0), EVERY, OUTPUT | GRADIENT),
    ("random gradient", rehearsal.random_gradients(), (1, 2), GRADIENT),
    ("pass-through", rehearsal.PassThrough, (1,), {"pseudo-gradient norm"}),
    ("replayed output", rehearsal.Replaying, EVERY, OUTPUT | GRADIENT),
    ("other text", rehearsal.OtherText, (0,), OUTPUT),
    ("loss -5 %", rehearsal.forged(0.95), (2,), {"loss, mean"}),
    ("loss +50 %", rehearsal.forged(1.5), (2,), {"loss", "loss, mean"}),
    ("stale weights", rehearsal.Stale, EVERY, {"pseudo-gradient angle"}),
    ("every 2nd backward pass", rehearsal.lazy(2), EVERY, {"pseudo-gradient norm", "pseudo-gradient angle"}),
    ("learns nothing", rehearsal.Idle, EVERY, {"pseudo-gradient norm"}),
    ("zero", rehearsal.merging(lambda values, chance: values * 0), EVERY, {"pseudo-gradient norm"}),
    ("flipped", rehearsal.merging(lambda values, chance: -values), EVERY, {"pseudo-gradient angle"}),
    ("doubled", rehearsal.merging(lambda values, chance: 2 * values), EVERY, {"pseudo-gradient norm"}),
]


@pytest.mark.parametrize(("kind", "stages", "named"), [c[1:] for c in CHEATS], ids=[c[0] for c in CHEATS])
def test_a_cheat_fails_by_the_check_that_is_made_for_it_and_its_neighbours_stay_sound(
    kind: Callable[..., Miner], stages: tuple[int, ...], named: set[str]
) -> None:
    for stage in stages:
        kinds = [Miner] * stage + [kind]
        miners = rehearsed(small_spec(accumulate=1), *kinds, epochs=2)
        finding = judged(miners[stage])
        assert finding.verdict == "failed" and bad(finding) & named, finding
        assert finding.reason
        for neighbour in miners:
            if neighbour.stage != stage:
                assert judged(neighbour).exact == len(neighbour.passes)


def test_the_reason_says_what_how_much_where_and_the_limit() -> None:
    finding = judged(rehearsed(small_spec(), Miner, rehearsal.scaled(-1.0))[1])
    assert finding.reason == "output of pass 0 (forward, batch 0) differs by 2 relative; limit 0.2"
    assert finding.checks[0] == edited(finding.checks[0], place=0, limit=LIMITS.output_worst, bad=True)
    # Microbatches of the first false passes, in whose order others will be looked at.
    assert finding.batches == (0, 1, 2, 3)


# Contradictions


def retold(miner: Miner, change: Callable[[list[Pass]], object], **header: Any) -> Finding:
    """The verdict on a transcript that was changed before it was committed to."""
    order = miner.order()
    said = transcript.decode(miner.store[order.transcript])
    passes = list(said.passes)
    change(passes)
    said = edited(said, passes=tuple(passes), **header)
    digest = miner.store.put(transcript.encode(said))
    return replay(edited(order, transcript=digest), miner.store.get)


def invent(passes: list[Pass]) -> None:
    passes.insert(3, edited(passes[2], lease=9999))


def edit(**changes: Any) -> Callable[[list[Pass]], None]:
    def change(passes: list[Pass]) -> None:
        passes[3] = edited(passes[3], **changes)

    return change


@pytest.mark.parametrize(
    ("change", "header", "check", "reason"),
    [
        (lambda passes: passes.pop(3), {}, "books", "lease 103 .* has a receipt but is not in the transcript"),
        (invent, {}, "books", "lease 9999 was not given to this miner"),
        (lambda passes: passes.append(passes[0]), {}, "books", "twice"),
        (edit(inputs=("0" * 64, "0" * 64)), {}, "books", "inputs .* by what it was given"),
        (edit(output="0" * 64), {}, "books", "output .* by its receipt"),
        (edit(losses=(1.0, 2.0)), {}, "books", "losses .* by its receipt"),
        (edit(op="forward"), {}, "books", "operation forward, by what it was given backward"),
        (edit(batch=7), {}, "books", "batch 7, by what it was given 0"),
        (edit(step=77), {}, "passes", "ends at inner step 1, not 77"),
        (lambda passes: None, {"inner_step": 4}, "transcript", "begins at inner step 4, not 0..0"),
        (lambda passes: None, {"epoch": 4}, "transcript", "of epoch 4, not 0"),
        (lambda passes: None, {"hotkey": "another"}, "transcript", "of hotkey another"),
        (lambda passes: None, {"run": "x" * 500}, "transcript", "of run xxxxxxxxxxxx"),
        (lambda passes: None, {"manifest": "\x1b[2J"}, "transcript", "of manifest '.x1b"),
        (lambda passes: None, {"stage": 2}, "transcript", "of stage 2, not 1"),
    ],
)
def test_a_forged_transcript_fails_by_name(
    change: Callable[[list[Pass]], object], header: dict[str, Any], check: str, reason: str
) -> None:
    miner = rehearsed(small_spec(accumulate=1))[1]
    assert miner.passes[3].op == "backward"
    finding = retold(miner, change, **header)
    assert bad(finding) == {check}
    assert re.search(reason, finding.reason), finding.reason


def test_passes_in_another_order_have_other_steps_and_other_outputs() -> None:
    miner = rehearsed(small_spec(accumulate=1), epochs=2)[1]

    def later(passes: list[Pass]) -> None:
        # All backward passes first, so that every forward pass would have been done with the last weights.
        passes.sort(key=lambda done: done.op)

    assert bad(retold(miner, later)) >= {"passes"}

    def renumbered(passes: list[Pass]) -> None:
        later(passes)
        step = BATCHES
        for place, done in enumerate(passes):
            step += done.op == "backward"
            passes[place] = edited(done, step=step)

    assert bad(retold(miner, renumbered)) & {"output error", "gradient error", "output error, median"}


def test_a_pass_that_no_honest_replica_can_do_fails() -> None:
    miner = rehearsed(small_spec())[1]
    name = miner.store.put(b"no activation")
    miner.owed[0] = edited(miner.owed[0], inputs=(name,))
    miner.passes[0] = edited(miner.passes[0], inputs=(name,))
    finding = judged(miner)
    assert bad(finding) == {"passes"} and "pass 0 (forward, batch 0) cannot be computed" in finding.reason


@pytest.mark.parametrize("forged", [b"", b"not a tensor", "nan", "size"])
def test_an_output_or_shard_that_does_not_decode_fails(forged: bytes | str) -> None:
    miner = rehearsed(small_spec())[1]
    order = miner.order()
    first = miner.passes[0]

    def wrong(blob: bytes) -> bytes:
        if forged == "nan":
            return blob[:-4] + np.float32(np.nan).tobytes()
        return blob + b"\0" if forged == "size" else forged

    shards = (*order.shards[:1], miner.store.put(wrong(miner.store[order.shards[1]])), *order.shards[2:])
    finding = replay(edited(order, shards=shards), miner.store.get)
    assert bad(finding) == {"pseudo-gradient"} and "shard 1 of the pseudo-gradient" in finding.reason
    output = miner.store.put(wrong(miner.store[first.output]))
    miner.passes[0] = edited(first, output=output)
    miner.owed[0] = edited(miner.owed[0], output=output)
    finding = judged(miner)
    assert bad(finding) == {"passes"} and "output of pass 0 (forward, batch 0)" in finding.reason


# Missing bytes


def without(miner: Miner, *digests: str) -> Callable[[str], bytes | None]:
    return lambda digest: None if digest in digests else miner.store.get(digest)


def test_bytes_that_are_not_there_or_not_those_are_withheld_and_named() -> None:
    miner = rehearsed(small_spec(), Miner, partial(Miner, runner=HalfRunner))[1]
    order = miner.order()
    # This replica's bytes differ, so that they are looked at.
    named = {
        order.transcript: "the transcript",
        miner.passes[3].inputs[0]: "an input of pass 3",
        miner.passes[2].output: "output of pass 2",
        order.shards[1]: "shard 1 of the pseudo-gradient",
    }
    assert miner.passes[3].op == "backward"
    for digest, name in named.items():
        finding = replay(order, without(miner, digest))
        assert finding.verdict == "withheld"
        assert digest[:12] in finding.reason
        assert name in finding.reason or "input of pass" in finding.reason
        other = replay(order, lambda asked, digest=digest: b"else" if asked == digest else miner.store.get(asked))
        assert edited(other, seconds=0) == edited(finding, seconds=0)
    assert replay(edited(order, transcript=""), miner.store.get).verdict == "withheld"


def test_outputs_that_are_exact_by_their_digest_need_not_be_there() -> None:
    miner = rehearsed(small_spec())[1]
    order = miner.order()
    assert replay(order, without(miner, *(done.output for done in miner.passes), *order.shards)).verdict == "sound"


def test_who_withholds_one_thing_still_fails_by_another() -> None:
    miner = rehearsed(small_spec(), Miner, rehearsal.scaled(2.0))[1]
    finding = replay(miner.order(), without(miner, miner.passes[0].output))
    assert finding.verdict == "failed" and "batch 1" in finding.reason


# Orders


def test_an_order_that_cannot_be_used_says_so_and_nothing_about_the_miner() -> None:
    miner = rehearsed(small_spec())[1]
    order = miner.order()
    lo, hi, weights, momentum = order.base[0]
    double = miner.owed[:1] * 2
    tail = edited(miner.owed[0], op="loss")
    for changes, reason in [
        ({"spec": "{}"}, "spec version"),
        ({"stage": 3}, "stage 3 is not one of"),
        ({"base": ()}, "ends at 0 of"),
        ({"base": ((lo, hi - 1, weights, momentum),)}, "ends at"),
        ({"base": ((lo, hi, weights, momentum), (hi, hi - 5, weights, momentum))}, "continues at"),
        ({"base": ((lo + 1, hi, weights, momentum),)}, "continues at 0"),
        ({"epoch": -1}, "epoch -1"),
        ({"base": ((lo, hi, "0" * 64, momentum),)}, "is not to be had"),
        ({"base": ((lo, hi, miner.store.put(b"x"), momentum),)}, "base state"),
        ({"owed": tuple(double)}, "twice"),
        ({"owed": (tail,)}, "is none of stage 1"),
    ]:
        with pytest.raises(BadOrder, match=reason):
            replay(edited(order, **changes), miner.store.get)


# Strangers


@cache
def open_case(stage: int) -> tuple[Miner, Order]:
    """A case whose books have no receipts, so that all that the transcript says is looked at."""
    miner = rehearsed(small_spec(accumulate=1), batches=3)[stage]
    owed = tuple(edited(o, output="", losses=(), done=False) for o in miner.owed)
    return miner, miner.order(owed=owed)


def holds(finding: Finding) -> None:
    assert msgspec.json.decode(msgspec.json.encode(finding), type=Finding) == finding
    assert finding.verdict in ("sound", "failed", "withheld") and "\n" not in finding.reason


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY), st.binary(max_size=40), st.integers(0, 3000), st.booleans())
def test_bytes_in_place_of_a_transcript_never_raise(stage: int, data: bytes, at: int, insert: bool) -> None:
    miner, order = open_case(stage)
    torch.set_num_threads(1)
    said = miner.store[order.transcript]
    at %= len(said)
    digest = miner.store.put(said[:at] + data + said[at + (0 if insert else len(data)) :])
    holds(replay(edited(order, transcript=digest), miner.store.get))


numbers = st.floats() | st.sampled_from([1e308, -1e308, 4.0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY), st.integers(0, 5), st.lists(numbers, max_size=3), st.integers(0, 5), st.data())
def test_a_transcript_of_any_content_never_raises(
    stage: int, place: int, losses: list[float], step: int, data: st.DataObject
) -> None:
    miner, order = open_case(stage)
    torch.set_num_threads(1)
    passes = list(miner.passes)
    place %= len(passes)
    old = passes[place]
    blob = bytearray(miner.store.get(old.output, b"x" * 64))
    for _ in range(data.draw(st.integers(0, 2))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    fields = {
        "losses": tuple(losses),
        "step": step,
        "output": data.draw(st.sampled_from([miner.store.put(bytes(blob)), "", "é" * 64, "/" * 64])),
    }
    kept = data.draw(st.sets(st.sampled_from(sorted(fields))))
    passes[place] = edited(old, **{name: fields[name] for name in kept})
    said = Transcript(miner.spec.digest(), miner.hotkey, stage, miner.epoch, "manifest", miner.first, tuple(passes))
    digest = miner.store.put(transcript.encode(said))
    holds(replay(edited(order, transcript=digest), miner.store.get))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.binary(max_size=4), st.integers(0, 10**6))
def test_bytes_in_place_of_a_shard_never_raise(index: int, data: bytes, at: int) -> None:
    miner, order = open_case(1)
    torch.set_num_threads(1)
    shard = miner.store[order.shards[index]]
    at %= len(shard)
    shards = list(order.shards)
    shards[index] = miner.store.put(shard[:at] + data + shard[at + len(data) :])
    holds(replay(edited(order, shards=tuple(shards)), miner.store.get))


def test_the_measures_see_what_a_cosine_does_not() -> None:
    ours = np.arange(1, 100_001, dtype=np.float32)
    half, zero = Sums(), Sums()
    half.add(ours[:70_000] * np.float32(0.5), ours[:70_000])
    half.add(ours[70_000:] * np.float32(0.5), ours[70_000:])
    assert half.distance() == pytest.approx((0.5, 0.0, 2.0), abs=1e-9)
    zero.add(ours * 0, ours)
    assert zero.distance().norm > LIMITS.delta_norm and zero.distance().angle == 1.0
    assert codec.is_finite(np.array(zero.distance(), np.float32))
