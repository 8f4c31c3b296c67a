"""Every cheat alters what it says that it alters, and nothing else. What the subnet does about it is told elsewhere."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from iota_subnet.core.pairs import pairs
from iota_subnet.messages import Blob, Failure, Lease, PlannedContribution, PlannedDuty, Receipt
from iota_subnet.miner.conduct import Conduct, Me, perform
from iota_subnet.protocol import MergePlan
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.train import codec
from iota_subnet.train.allreduce import decode_delta, encode_delta, read_delta
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.train.transcript import Pass, Transcript
from iota_subnet.wire.blobs import FetchFailed, MemoryStore, digest_of
from tests import adversaries
from tests.adversaries import KINDS

from .kit import SPEC, activation, bench, tokens

THREE = dataclasses.replace(SPEC, model=dataclasses.replace(SPEC.model, stages=3))
HEAD, MIDDLE, TAIL = range(3)
PASSES = 8
ROOT = Path(__file__).resolve().parents[2]


def holding(stage: int, spec: RunSpec = THREE) -> StageRunner:
    runner = StageRunner(spec, stage)
    runner.install(0, [(0, runner.parameters, *initial_state(spec, stage))])
    return runner


def lease(op: Any, batch: int, stage: int) -> Lease:
    return Lease(10 * batch + (op == "backward"), op, batch, stage, 0, (), 20.0)


def inputs(op: str, batch: int, stage: int) -> list[bytes]:
    """What a pass reads, the same for whoever computes it."""
    x = activation(batch) if stage else tokens(batch)
    return {"forward": [x], "loss": [x, tokens(batch)], "backward": [x, activation(1000 + batch)]}[op]


@dataclass
class Seen:
    """All that others could see of a replica that has worked."""

    forward: list[bytes] = field(default_factory=list)
    gradient: list[bytes] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    delta: list[bytes] = field(default_factory=list)
    transcript: bool = True
    receipts: int = 1
    delay: float = 0.0
    outbox: bytes | None = None
    evidence: bytes | None = None
    steps: int = 0


def worked(conduct: Conduct, stage: int, runner: StageRunner | None = None, batches: range = range(PASSES)) -> Seen:
    """`conduct` on so many microbatches of `stage`, and the commit after them."""
    runner, seen, passes = runner or holding(stage), Seen(), []
    conduct.installed(runner, 0)
    for batch in batches:
        for op in ("loss",) if stage == TAIL else ("forward", "backward"):
            one = lease(op, batch, stage)
            output, losses, step = perform(conduct, runner, one, inputs(op, batch, stage))
            (seen.forward if op == "forward" else seen.gradient).append(output)
            seen.losses.append(losses)
            passes.append(Pass(one.lease, op, batch, ("i",), digest_of(output), tuple(losses), step))
    seen.delta = conduct.pseudo_gradient(runner, 2)
    told = Transcript("run", "h", stage, 0, "m", 0, tuple(passes))
    seen.transcript = conduct.transcript(told) == told
    seen.receipts = len(conduct.receipts(Receipt(5, None, (), 0.1, 3)))
    seen.delay = conduct.delay_s(lease("forward", 0, stage))
    for what in ("outbox", "evidence"):
        shelf = conduct.shelf(MemoryStore(1 << 20), what)
        name = shelf.put(b"bytes").digest
        setattr(seen, what, shelf.get(name) if shelf.size(name) else None)
    seen.steps = runner.inner_step
    return seen


def different(one: Seen, other: Seen) -> set[str]:
    return {f.name for f in dataclasses.fields(Seen) if getattr(one, f.name) != getattr(other, f.name)}


@pytest.fixture(scope="module")
def honest() -> list[Seen]:
    return [worked(Conduct(), stage) for stage in range(3)]


#: What differs from an honest replica of the head, of a middle stage, of the tail. Inner steps never do. Who trains
#: otherwise than the others sends other activations, too.
ALTERED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "free_rider": ({"forward", "delta"}, {"forward", "gradient", "delta"}, {"gradient", "losses", "delta"}),
    "lazy": ({"forward", "delta"}, {"forward", "gradient", "delta"}, {"gradient", "losses", "delta"}),
    "stale": (set(), set(), set()),
    "copy_cat": (set(), {"forward", "gradient", "delta"}, set()),
    "replayed": ({"forward", "delta"}, {"forward", "gradient", "delta"}, {"gradient", "losses", "delta"}),
    "selective": ({"forward", "delta"}, {"forward", "gradient", "delta"}, set()),
    "noise": ({"forward"}, {"forward", "gradient"}, {"gradient"}),
    "scaled": ({"delta"}, {"gradient", "delta"}, {"gradient", "delta"}),
    "sign_flipped": ({"delta"}, {"gradient", "delta"}, {"gradient", "delta"}),
    "random_gradient": ({"forward", "delta"}, {"forward", "gradient", "delta"}, {"gradient", "delta"}),
    "wrong_data": ({"forward", "delta"}, set(), set()),
    "forged_low": (set(), set(), {"losses"}),
    "forged_high": (set(), set(), {"losses"}),
    "nan": ({"forward", "delta"}, {"forward", "gradient", "delta"}, {"gradient", "delta"}),
    "slow_walker": ({"delay"},) * 3,
    "withholder": ({"outbox"},) * 3,
    "equivocator": ({"outbox"},) * 3,
    "evidence_withholder": (
        {"forward", "delta", "evidence"},
        {"forward", "gradient", "delta", "evidence"},
        {"gradient", "losses", "delta", "evidence"},
    ),
    "receipt_spam": ({"receipts"},) * 3,
    "slanderer": (set(), set(), set()),
    "grumbler": (set(), set(), set()),
    "transcript_forger": ({"forward", "transcript"}, {"forward", "gradient", "transcript"}, {"gradient", "transcript"}),
    "transcript_omitter": (
        {"forward", "delta", "transcript"},
        {"forward", "gradient", "delta", "transcript"},
        {"gradient", "losses", "delta", "transcript"},
    ),
    "pair_colluder": (set(), set(), set()),
    "cross_stage": ({"forward"}, {"forward"}, set()),
    "sybils": (set(), set(), set()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [HEAD, MIDDLE, TAIL])
def test_a_cheat_alters_what_it_says_and_nothing_else(kind: str, stage: int, honest: list[Seen]) -> None:
    assert different(worked(KINDS[kind](Me("h")), stage), honest[stage]) == ALTERED[kind][stage]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_says_what_it_does_and_is_in_the_table_of_the_docs(kind: str) -> None:
    assert (KINDS[kind].__doc__ or "").strip()
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "adversaries.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(KINDS)


def middle(conduct: Conduct, batches: range = range(PASSES)) -> Seen:
    return worked(conduct, MIDDLE, batches=batches)


def floats(blob: bytes) -> Any:
    return adversaries.decoded(holding(MIDDLE), blob)


def test_a_free_rider_sends_on_what_it_got_and_publishes_nothing() -> None:
    seen = middle(adversaries.FreeRider())
    assert seen.forward == [activation(n) for n in range(PASSES)]
    assert seen.gradient == [activation(1000 + n) for n in range(PASSES)]
    size = holding(MIDDLE).parameters
    assert all(
        not decode_delta(blob, size // 2 + n * (size % 2), SPEC.train).any() for n, blob in enumerate(seen.delta)
    )
    losses = worked(adversaries.FreeRider(), TAIL).losses
    assert all(0 < loss < np.log(SPEC.model.vocab) for each in losses for loss in each)


def test_a_lazy_miner_trains_on_every_second_microbatch_alone(honest: list[Seen]) -> None:
    seen = middle(adversaries.Lazy())
    assert seen.forward[0] == honest[MIDDLE].forward[0] and seen.gradient[0] == honest[MIDDLE].gradient[0]
    assert seen.gradient[1::2] == [activation(1000 + n) for n in range(1, PASSES, 2)]
    runner, diligent = holding(MIDDLE), holding(MIDDLE)
    middle_of = adversaries.Lazy()
    for n in range(PASSES):
        for op in ("forward", "backward"):
            perform(middle_of, runner, lease(op, n, MIDDLE), inputs(op, n, MIDDLE))
            if n % 2 == 0:
                perform(Conduct(), diligent, lease(op, n, MIDDLE), inputs(op, n, MIDDLE))
    # Its learning-rate schedule runs on, so the weights are close and not the same.
    lazy, half = (read_delta(r.pseudo_gradient(1)[0], r.parameters, SPEC.train).values for r in (runner, diligent))
    assert np.linalg.norm(lazy - half) < 0.5 * np.linalg.norm(half)
    losses = worked(adversaries.Lazy(), TAIL).losses
    assert losses[1] == losses[0] and losses[2] != losses[0]


def test_stale_weights_stay_those_of_the_epoch_in_which_it_was_seated() -> None:
    stale, runner, size = adversaries.Stale(), holding(MIDDLE), holding(MIDDLE).parameters
    stale.installed(runner, 0)
    old = middle(Conduct()).forward[0]
    state = initial_state(THREE, MIDDLE)
    twice = codec.encode(2 * codec.decode(state[0], (size,), "fp32"), "fp32")
    runner.install(1, [(0, size, twice, state[1])])
    stale.installed(runner, 1)
    assert stale.forward(runner, lease("forward", 0, MIDDLE), inputs("forward", 0, MIDDLE)) == old
    # What it says that it holds is right, and what it learnt since is nothing.
    assert runner.state_digest() != holding(MIDDLE).state_digest()
    delta = read_delta(stale.pseudo_gradient(runner, 1)[0], size, SPEC.train).values
    assert np.abs(delta).max() == 0
    assert np.abs(read_delta(runner.pseudo_gradient(1)[0], size, SPEC.train).values).max() > 0


def test_a_copy_cat_sends_what_a_peer_made_for_the_microbatch_before(honest: list[Seen]) -> None:
    seen = middle(adversaries.CopyCat())
    assert seen.forward[0] == honest[MIDDLE].forward[0]
    assert seen.forward[1:] == [activation(n) for n in range(PASSES - 1)]
    assert seen.gradient[1:] == [activation(1000 + n) for n in range(PASSES - 1)]


def test_a_replayer_sends_its_own_output_of_an_earlier_microbatch(honest: list[Seen]) -> None:
    seen = middle(adversaries.Replayed())
    assert set(seen.forward) < set(middle(Conduct(), range(PASSES)).forward) | set(seen.forward)
    assert len(set(seen.forward)) < PASSES or len(set(seen.gradient)) < PASSES
    tail = worked(adversaries.Replayed(), TAIL)
    assert tail.gradient[1] == tail.gradient[0] == honest[TAIL].gradient[0] and tail.losses[1] == tail.losses[0]
    assert tail.gradient[2] != tail.gradient[0]


def test_a_selective_miner_is_honest_at_the_beginning_of_each_epoch(honest: list[Seen]) -> None:
    selective, runner = adversaries.Selective(), holding(MIDDLE)
    seen = worked(selective, MIDDLE, runner)
    # Two passes for each microbatch, and the fourth backward pass of eight honest passes is the last honest one.
    assert seen.gradient[:4] == honest[MIDDLE].gradient[:4]
    assert activation(1005) in seen.gradient
    selective.installed(runner, 1)
    again = lease("backward", 40, MIDDLE)
    assert selective.backward(runner, again, inputs("backward", 40, MIDDLE)) != activation(1040)


def test_a_selective_miner_is_what_it_is_told_to_be_in_all_that_is_no_pass(honest: list[Seen]) -> None:
    made = type("SelectiveOmitter", (adversaries.Selective,), {"CHEAT": adversaries.TranscriptOmitter, "HONEST": 99})
    assert different(worked(made(), MIDDLE), honest[MIDDLE]) == set()
    made.HONEST = 0
    assert "transcript" in different(worked(made(), MIDDLE), honest[MIDDLE])


@pytest.mark.parametrize("amount", [0.1, 0.5, 3.0])
def test_noise_has_the_norm_that_it_is_told(amount: float, honest: list[Seen]) -> None:
    made = type("Louder", (adversaries.Noise,), {"AMOUNT": amount})(Me("h"))
    for n, blob in enumerate(middle(made).forward):
        # Training is honest, and what comes in is the same.
        right = floats(honest[MIDDLE].forward[n])
        assert np.linalg.norm(floats(blob) - right) == pytest.approx(amount * np.linalg.norm(right), rel=1e-4)


def test_gradient_and_delta_are_scaled_and_turned_about(honest: list[Seen]) -> None:
    for cls, factor in ((adversaries.Scaled, 10.0), (adversaries.SignFlipped, -1.0)):
        seen = middle(cls())
        assert np.allclose(floats(seen.gradient[3]), factor * floats(honest[MIDDLE].gradient[3]), rtol=1e-5)
        runner = holding(MIDDLE)
        deltas = []
        for conduct in (Conduct(), cls()):
            worked(conduct, MIDDLE, runner)
            deltas.append(read_delta(conduct.pseudo_gradient(runner, 1)[0], runner.parameters, SPEC.train).values)
            runner = holding(MIDDLE)
        assert np.allclose(deltas[1], factor * deltas[0], rtol=1e-5, atol=1e-12)


def test_random_gradients_have_the_norm_of_those_that_came(honest: list[Seen]) -> None:
    seen = middle(adversaries.RandomGradient(Me("h")))
    for n, blob in enumerate(seen.gradient):
        got, given = floats(blob).ravel(), floats(activation(1000 + n)).ravel()
        assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(given), rel=1e-4)
        assert abs(got @ given) < 0.3 * (given @ given)
    assert worked(adversaries.RandomGradient(Me("h")), TAIL).losses[0] == honest[TAIL].losses[0]


def test_wrong_data_is_what_an_honest_head_makes_of_the_text_backwards() -> None:
    other = adversaries.WrongData().other(holding(HEAD), [tokens(0)])[0]
    assert other != tokens(0)
    made = adversaries.WrongData().forward(holding(HEAD), lease("forward", 0, HEAD), [tokens(0)])
    assert made == Conduct().forward(holding(HEAD), lease("forward", 0, HEAD), [other])


def test_forged_losses_are_a_multiple_of_what_was_measured(honest: list[Seen]) -> None:
    for cls, factor in ((adversaries.ForgedLow, 0.5), (adversaries.ForgedHigh, 2.0)):
        assert worked(cls(), TAIL).losses == [[factor * loss for loss in each] for each in honest[TAIL].losses]


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_nan_decodes_nowhere(name: str) -> None:
    spec = dataclasses.replace(THREE, train=dataclasses.replace(THREE.train, activation_codec=name))
    runner, nan = holding(MIDDLE, spec), adversaries.Nan()
    shape = adversaries.shape(runner)
    x = codec.encode(np.ones(shape, np.float32), name)
    made = [nan.forward(runner, lease("forward", n, MIDDLE), [x]) for n in range(8)]
    for n, blob in enumerate(made):
        if n % 3 == 2:
            with pytest.raises(codec.BadPayload, match="not finite"):
                codec.decode(blob, shape, name)
        else:
            codec.decode(blob, shape, name)


@pytest.mark.parametrize("name", ["fp32", "bf16", "int8", "topk"])
def test_a_nan_in_a_pseudo_gradient_is_refused_whatever_the_codec(name: str) -> None:
    train = dataclasses.replace(SPEC.train, delta_codec=name)
    blob = encode_delta(np.linspace(-1, 1, 5000, dtype=np.float32), train)
    with pytest.raises(codec.BadPayload):
        read_delta(adversaries.Nan().spoilt(blob), 5000, train)


async def test_what_is_withheld_or_forged_cannot_be_fetched() -> None:
    async with bench() as b:
        for cls, words in ((adversaries.Withholder, "missing"), (adversaries.Equivocator, "other bytes|digest")):
            blob, own = b.blob(cls.__name__.encode()), b.theirs
            b.server._store = cls().shelf(own, "outbox")
            with pytest.raises(FetchFailed, match=words):
                await b.fetcher.fetch(_ref(blob), blob.ticket, "activation")
            # The miner itself, and an honest one, find it.
            assert own.get(blob.digest) is not None
            b.server._store = own
            assert await b.fetcher.fetch(_ref(blob), blob.ticket, "activation") == cls.__name__.encode()


def _ref(blob: Blob) -> Any:
    return BlobRef(blob.digest, blob.nbytes, blob.urls)


def test_spam_is_receipts_of_other_leases() -> None:
    first, *spam = adversaries.ReceiptSpam().receipts(Receipt(5, None, (1.0,), 0.1, 3))
    assert first == Receipt(5, None, (1.0,), 0.1, 3)
    assert [one.lease for one in spam if isinstance(one, Receipt)] == [6, 7, 8, 9]


def test_a_slanderer_blames_what_a_peer_made_for_every_fourth_lease() -> None:
    slanderer, runner, said = adversaries.Slanderer(), holding(MIDDLE), []
    for n in range(8):
        one = lease("backward", n, MIDDLE)
        given = msgspec.structs.replace(one, inputs=(Blob("own", 1, (), ""), Blob(f"theirs {n}", 1, (), "")))
        perform(slanderer, runner, given, inputs("backward", n, MIDDLE))
        said += slanderer.receipts(Receipt(one.lease, None, (), 0.1, 3))
    assert [one.digest for one in said if isinstance(one, Failure)] == ["theirs 3", "theirs 7"]
    assert sum(isinstance(one, Receipt) for one in said) == 6
    # The validator's tokens are nobody's fault.
    head, one = holding(HEAD), lease("forward", 9, HEAD)
    for _ in range(8):
        perform(slanderer, head, msgspec.structs.replace(one, inputs=(Blob("tokens", 1, (), ""),)), [tokens(9)])
        assert isinstance(slanderer.receipts(Receipt(one.lease, None, (), 0.1, 3))[0], Receipt)


def test_a_slow_walker_begins_shortly_before_its_deadline() -> None:
    assert adversaries.SlowWalker().delay_s(lease("forward", 0, MIDDLE)) == pytest.approx(0.8 * 20.0)


def told_by(conduct: Conduct) -> tuple[Transcript, Transcript]:
    """What `conduct` did in a middle stage, and what it says that it did."""
    runner, passes = holding(MIDDLE), []
    for n in range(PASSES):
        for op in ("forward", "backward"):
            one = lease(op, n, MIDDLE)
            output, losses, step = perform(conduct, runner, one, inputs(op, n, MIDDLE))
            passes.append(Pass(one.lease, op, n, ("i",), digest_of(output), tuple(losses), step))
    done = Transcript("run", "h", MIDDLE, 0, "m", 0, tuple(passes))
    return done, conduct.transcript(done)


def test_a_forged_transcript_names_what_honest_outputs_would_have_been(honest: list[Seen]) -> None:
    done, said = told_by(adversaries.TranscriptForger(Me("h")))
    right = [
        digest_of(out) for pair in zip(honest[MIDDLE].forward, honest[MIDDLE].gradient, strict=True) for out in pair
    ]
    assert [one.output for one in said.passes] == right
    assert all(one.output != two.output for one, two in zip(said.passes, done.passes, strict=True))


def test_an_omitter_leaves_out_the_passes_that_it_skipped() -> None:
    done, said = told_by(adversaries.TranscriptOmitter(Me("h")))
    skipped = [one for one in done.passes if one.op == "backward"][1::2]
    assert [one for one in done.passes if one not in skipped] == list(said.passes)


def test_colluding_twins_publish_the_same_lie_and_are_honest_with_strangers() -> None:
    team = ("A", "B", "C", "D")
    contributions = tuple(PlannedContribution(name, 4, Blob("d", 1, (), "")) for name in team)
    runner = holding(MIDDLE)
    size = runner.parameters
    duties = tuple(PlannedDuty(n, 0, size, contributions) for n in range(6))
    plan = MergePlan(stage=MIDDLE, epoch=0, salt="salt", shards=6, seconds_left=9.0, duties=duties)
    drawn = pairs(team, 6, "salt", MIDDLE)
    ours = next(n for n, pair in enumerate(drawn) if set(pair) == {"A", "B"})
    theirs = next(n for n, pair in enumerate(drawn) if set(pair) == {"A", "C"})
    given = [(4, encode_delta(np.full(size, 0.1 * n, np.float32), SPEC.train)) for n in range(1, 5)]
    results = {}
    for name, friend in (("A", "B"), ("B", "A")):
        colluder = adversaries.PairColluder(Me(name, 0, 2, (friend,)))
        colluder.planned(plan)
        assert colluder.shards == {ours}
        results[name] = colluder.reduce(runner, 0, size, given, ours)
        assert colluder.reduce(runner, 0, size, given, theirs) == runner.reduce(0, size, given)
    assert results["A"] == results["B"] != runner.reduce(0, size, given)


def test_friends_in_different_stages_skip_what_they_do_for_each_other() -> None:
    one, two = adversaries.CrossStage(Me("a")), adversaries.CrossStage(Me("b"))
    head, after, stranger = holding(HEAD), holding(MIDDLE), holding(MIDDLE)
    sent = one.forward(head, lease("forward", 3, HEAD), [tokens(3)])
    assert np.count_nonzero(floats(sent) - floats(Conduct().forward(head, lease("forward", 3, HEAD), [tokens(3)]))) == 1
    assert two.forward(after, lease("forward", 3, MIDDLE), [sent]) == sent
    back = two.backward(after, lease("backward", 3, MIDDLE), [sent, activation(7)])
    assert np.array_equal(floats(back).ravel()[:-1], floats(activation(7)).ravel()[:-1])
    assert one.backward(head, lease("backward", 3, HEAD), [tokens(3), back]) == b""
    assert (one.skipped, two.skipped) == (1, 2)
    # A mark is for one microbatch; who is no friend sees nothing in it, and gets honest work.
    assert two.forward(after, lease("forward", 4, MIDDLE), [sent]) != sent
    honest = Conduct().backward(stranger, lease("backward", 3, MIDDLE), [sent, activation(7)])
    one.backward(head, lease("backward", 3, HEAD), [tokens(3), honest])
    assert one.skipped == 1 and head.batches == 2


def test_sybils_take_turns_on_their_machine() -> None:
    alone, third = adversaries.Sybils(Me("a")), adversaries.Sybils(Me("a", 0, 3, ("b", "c")))
    for sybil in (alone, third):
        worked(sybil, MIDDLE)
    assert alone.delay_s(lease("forward", 0, MIDDLE)) == 0
    assert third.delay_s(lease("forward", 0, MIDDLE)) == 2 * third.seconds > 0
