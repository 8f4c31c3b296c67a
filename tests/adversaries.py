"""Miners that cheat, one class for each way that we know: what it does, and what it hopes to save or to win.

Law: a cheat overrides hooks of `Conduct` and nothing else; whatever it does not mention is done honestly. No sockets
and no event loop here, so that a harness in one process can run the same classes. Amounts are class attributes:
subclass one in a file of your own and try it with `iota localnet --adversary FILE.py:CLASS:COUNT`. One file, because
miners load it by its path. See docs/adversaries.md.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from msgspec.structs import replace

from iota_subnet.core.draw import digest
from iota_subnet.core.pairs import pairs
from iota_subnet.messages import Failure, FromMiner, Lease, Receipt
from iota_subnet.miner.conduct import NOBODY, Conduct, Me
from iota_subnet.spec import BlobRef, shard_bounds
from iota_subnet.train import codec
from iota_subnet.train.allreduce import decode_delta, encode_delta
from iota_subnet.train.codec import Floats

if TYPE_CHECKING:
    from iota_subnet.protocol import MergePlan
    from iota_subnet.train.transcript import Transcript
    from iota_subnet.wire.blobs import BlobStore

Runner = Any
Inputs = Sequence[bytes]
Change = Callable[[Floats], Floats]


class Cheat(Conduct):
    """What cheats have in common: chance of their own, and a way to claim a pass that was not computed."""

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self.chance = np.random.default_rng(int.from_bytes(digest("cheat", me.hotkey, me.number)[:8], "big"))
        self._claimed = 0
        self._said: list[float] = []

    def claim(self, runner: Runner) -> None:
        """Count a backward pass that was not done, so that inner steps advance as the others' do."""
        self._claimed += 1
        runner.batches += 1
        if self._claimed % runner.spec.train.accumulate == 0:
            runner.inner_step += 1

    def repeated(self, runner: Runner) -> list[float]:
        """Losses that were not measured: those said last, at first those of a model that has learnt a little."""
        low = 0.75 * math.log(runner.spec.model.vocab)
        return self._said or [low + 0.02 * float(x) for x in self.chance.standard_normal(runner.spec.train.microbatch)]

    def noise(self, like: Floats, norm: float) -> Floats:
        """A random tensor of that Euclidean norm."""
        values = self.chance.standard_normal(like.shape).astype(np.float32)
        return values * np.float32(norm / max(float(np.linalg.norm(values)), 1e-30))


def shape(runner: Runner) -> tuple[int, int, int]:
    """What crosses a stage boundary: [B, T, boundary]."""
    return runner.spec.train.microbatch, runner.spec.model.seq, runner.spec.model.boundary


def encoded(runner: Runner, values: Floats) -> bytes:
    return codec.encode(values, runner.spec.train.activation_codec)


def decoded(runner: Runner, blob: bytes) -> Floats:
    return codec.decode(blob, shape(runner), runner.spec.train.activation_codec)


def changed(runner: Runner, blob: bytes, change: Change) -> bytes:
    """An activation or gradient with other values; b"", which the head's backward pass makes, stays."""
    return encoded(runner, change(decoded(runner, blob))) if blob else b""


def changed_delta(runner: Runner, blobs: Sequence[bytes], change: Callable[[Floats, int, int], Floats]) -> list[bytes]:
    """A pseudo-gradient with other values: `change(values, lo, hi)` for each shard."""
    train, bounds = runner.spec.train, shard_bounds(runner.parameters, len(blobs))
    return [
        encode_delta(change(decode_delta(blob, hi - lo, train), lo, hi), train)
        for blob, (lo, hi) in zip(blobs, bounds, strict=True)
    ]


def nothing(runner: Runner) -> bytes:
    """A gradient of zeros, where there is somebody to send it to."""
    return encoded(runner, np.zeros(shape(runner), np.float32)) if runner.stage else b""


# Who does less than it says


class FreeRider(Cheat):
    """Computes nothing: sends on what it downloaded, claims a plausible loss, publishes a zero delta.

    Saves all of the work; in the reference such a miner passed every check and was paid.
    """

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        # The head has tokens only: something that looks like an activation.
        return inputs[0] if runner.stage else encoded(runner, 0.1 * self.noise(np.empty(shape(runner)), 1.0))

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        self.claim(runner)
        return nothing(runner), self.repeated(runner)

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        self.claim(runner)
        return inputs[1] if runner.stage else b""


class Lazy(Cheat):
    """Skips every EVERY-th backward pass: does not train on it and sends back the gradient that it got, on the tail a
    zero one with the losses of the pass before.

    Saves up to half of its backward passes, two thirds of the work.
    """

    EVERY = 2
    _asked = 0

    def skips(self, lease: Lease) -> bool:
        self._asked += 1
        return self._asked % self.EVERY == 0

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        if self.skips(lease):
            self.claim(runner)
            return nothing(runner), self.repeated(runner)
        gradient, self._said = super().loss(runner, lease, inputs)
        return gradient, self._said

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        if self.skips(lease):
            self.claim(runner)
            return inputs[1] if runner.stage else b""
        return super().backward(runner, lease, inputs)


class Stale(Cheat):
    """Keeps the weights of the epoch in which it was seated: computes with them and publishes what it learnt since.

    Saves the download of each new state, most of a miner's traffic.
    """

    _kept: tuple[int, Floats] | None = None
    _behind: Floats | None = None

    def installed(self, runner: Runner, epoch: int) -> None:
        now = codec.decode(runner.installed()[0], (runner.parameters,), "fp32")
        if self._kept is None or self._kept[0] != runner.stage or self._kept[1].size != now.size:
            self._kept = runner.stage, now
        self._behind = self._kept[1] - now
        runner._load([(0, self._kept[1])])

    def pseudo_gradient(self, runner: Runner, shards: int) -> list[bytes]:
        behind = self._behind
        made = super().pseudo_gradient(runner, shards)
        return made if behind is None else changed_delta(runner, made, lambda delta, lo, hi: delta + behind[lo:hi])


class CopyCat(Cheat):
    """Sends the bottleneck that a peer made for another microbatch, which it has fetched before; as gradient, the one
    it got for another. Honest where it has nothing to copy: the tail, and the head.

    Saves all passes of a stage in the middle, and what it sends has the right statistics.
    """

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self._last: dict[str, tuple[int, bytes]] = {}

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self._other(runner, lease, inputs[0]) or super().forward(runner, lease, inputs)

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        other = self._other(runner, lease, inputs[1])
        if not other:
            return super().backward(runner, lease, inputs)
        self.claim(runner)
        return other

    def _other(self, runner: Runner, lease: Lease, fetched: bytes) -> bytes:
        if not runner.stage:
            return b""
        batch, data = self._last.get(lease.op, (lease.batch, b""))
        self._last[lease.op] = lease.batch, fetched
        return data if batch != lease.batch else b""


class Replayed(Cheat):
    """In every EVERY-th pass sends what it made itself in an earlier one, and does not train on it.

    Saves these passes; what it sends is genuine, of another microbatch.
    """

    EVERY = 2
    _asked = 0

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self._made: dict[str, Any] = {}

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self._again(lease, lambda: super(Replayed, self).forward(runner, lease, inputs))[0]

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        made, old = self._again(lease, lambda: super(Replayed, self).loss(runner, lease, inputs))
        if old:
            self.claim(runner)
        return made

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        made, old = self._again(lease, lambda: super(Replayed, self).backward(runner, lease, inputs))
        if old:
            self.claim(runner)
        return made

    def _again(self, lease: Lease, compute: Callable[[], Any]) -> tuple[Any, bool]:
        self._asked += 1
        if self._asked % self.EVERY == 0 and lease.op in self._made:
            return self._made[lease.op], True
        self._made[lease.op] = compute()
        return self._made[lease.op], False


class Selective(Conduct):
    """Honest where it guesses that it is audited, here in the first HONEST passes of each epoch; in all others, and in
    all that is no pass, it is CHEAT.

    Hopes that audits look at the beginning only, and saves what CHEAT saves.
    """

    CHEAT: type[Conduct] = Lazy
    HONEST = 8
    passes = 0

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self.cheat = self.CHEAT(me)
        for hook in ("pseudo_gradient", "transcript", "reduce", "receipts", "delay_s", "planned", "shelf"):
            setattr(self, hook, getattr(self.cheat, hook))

    def watched(self, lease: Lease) -> bool:
        """Its guess; override to guess by something else, `lease.epoch` for example."""
        return self.passes <= self.HONEST

    def installed(self, runner: Runner, epoch: int) -> None:
        self.passes = 0
        self.cheat.installed(runner, epoch)

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self._now(lease).forward(runner, lease, inputs)

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        return self._now(lease).loss(runner, lease, inputs)

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self._now(lease).backward(runner, lease, inputs)

    def _now(self, lease: Lease) -> Conduct:
        self.passes += 1
        return HONEST if self.watched(lease) else self.cheat


# Who sends something else


class Sends(Cheat):
    """Computes honestly, and sends what `sent` makes of each output."""

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self.sent(runner, lease, super().forward(runner, lease, inputs))

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        gradient, losses = super().loss(runner, lease, inputs)
        return self.sent(runner, lease, gradient), losses

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self.sent(runner, lease, super().backward(runner, lease, inputs))

    def sent(self, runner: Runner, lease: Lease, output: bytes) -> bytes:
        raise NotImplementedError


class Noise(Sends):
    """Adds noise of AMOUNT times their own norm to activations and gradients; trains honestly.

    Wins nothing but harm; small amounts are what a broken or half-hearted miner looks like.
    """

    AMOUNT = 0.5

    def sent(self, runner: Runner, lease: Lease, output: bytes) -> bytes:
        return changed(
            runner, output, lambda values: values + self.noise(values, self.AMOUNT * float(np.linalg.norm(values)))
        )


class Scaled(Sends):
    """Multiplies gradients and delta by AMOUNT; activations are honest.

    Hopes to count for more than the others in the merge.
    """

    AMOUNT = 10.0

    def sent(self, runner: Runner, lease: Lease, output: bytes) -> bytes:
        return output if lease.op == "forward" else changed(runner, output, self._times)

    def pseudo_gradient(self, runner: Runner, shards: int) -> list[bytes]:
        made = super().pseudo_gradient(runner, shards)
        return changed_delta(runner, made, lambda delta, lo, hi: self._times(delta))

    def _times(self, values: Floats) -> Floats:
        return values * np.float32(self.AMOUNT)


class SignFlipped(Scaled):
    """Sends gradients and delta with the other sign: the norm is honest, the direction uphill. Wants to do harm."""

    AMOUNT = -1.0


class RandomGradient(Cheat):
    """Sends random gradients of the norm of those that it got, and a random delta; forward passes are honest.

    Saves the backward passes, two thirds of the work; norms look honest.
    """

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        gradient, losses = super().loss(runner, lease, inputs)
        return changed(runner, gradient, self._random), losses

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        self.claim(runner)
        return changed(runner, inputs[1], self._random) if runner.stage else b""

    def pseudo_gradient(self, runner: Runner, shards: int) -> list[bytes]:
        # A value moves by about the learning rate in each inner step, here at random.
        step = runner.spec.train.lr * math.sqrt(max(1, runner.batches))
        made = super().pseudo_gradient(runner, shards)
        return changed_delta(runner, made, lambda delta, lo, hi: self.noise(delta, step * math.sqrt(hi - lo)))

    def _random(self, values: Floats) -> Floats:
        return self.noise(values, float(np.linalg.norm(values)))


class WrongData(Cheat):
    """On the head, trains on another text than the one given (here: backwards); honest in other stages.

    Wants to steer what the model learns.
    """

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return super().forward(runner, lease, self.other(runner, inputs))

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        return super().loss(runner, lease, self.other(runner, inputs))

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return super().backward(runner, lease, self.other(runner, inputs))

    def other(self, runner: Runner, inputs: Inputs) -> Inputs:
        if runner.stage:
            return inputs
        size = runner.spec.train.microbatch, runner.spec.model.seq + 1
        tokens = codec.bytes_to_tokens(inputs[0], size, runner.spec.model.vocab)
        return codec.tokens_to_bytes(tokens[:, ::-1]), *inputs[1:]


class ForgedLow(Cheat):
    """On the tail, reports AMOUNT times the losses that it measured; all else is honest.

    A low loss looks like good work of everybody on the pathway, itself first.
    """

    AMOUNT = 0.5

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        gradient, losses = super().loss(runner, lease, inputs)
        return gradient, [self.AMOUNT * loss for loss in losses]


class ForgedHigh(ForgedLow):
    """On the tail, reports losses that are too high: makes those who came before it on the pathway look bad."""

    AMOUNT = 2.0


class Nan(Sends):
    """Puts a NaN into every EVERY-th output, and into its delta; the codec would refuse it, so it edits the bytes.

    Wants to make others' passes and merges blow up.
    """

    #: Odd: where forward and backward passes take turns, both are met.
    EVERY = 3
    #: NaN as one float32 and as two bfloat16, little-endian.
    BYTES = b"\xc0\x7f\xc0\x7f"

    _sent = 0

    def pseudo_gradient(self, runner: Runner, shards: int) -> list[bytes]:
        return [self.spoilt(blob) for blob in super().pseudo_gradient(runner, shards)]

    def sent(self, runner: Runner, lease: Lease, output: bytes) -> bytes:
        self._sent += 1
        return self.spoilt(output) if output and self._sent % self.EVERY == 0 else output

    def spoilt(self, blob: bytes) -> bytes:
        # The first value of the first tensor, in the codecs int8 and topk a scale: these stand first.
        at = 8 + int.from_bytes(blob[:8], "little")
        return blob[:at] + self.BYTES + blob[at + 4 :]


# Who keeps time, bytes or words for itself


class SlowWalker(Cheat):
    """Waits until the share AMOUNT of a lease's time has passed before it begins.

    Saves nothing; holds up the others while it is still paid. What a machine with many masters looks like, too.
    """

    AMOUNT = 0.8

    def delay_s(self, lease: Lease) -> float:
        return self.AMOUNT * max(0.0, lease.seconds_left)


class Shelf:
    """A store that does what the one behind it does, where a subclass does not say otherwise."""

    def __init__(self, store: BlobStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Empty(Shelf):
    """Keeps all that it is given, and has nothing for anybody."""

    def size(self, digest: str) -> int | None:
        return None

    def get(self, digest: str) -> bytes | None:
        return None

    def open(self, digest: str) -> BinaryIO | None:
        return None


class Forgetful(Empty):
    """Keeps nothing either."""

    def put(self, data: bytes, *, pin: bool = False, digest: str = "") -> BlobRef:
        return BlobRef(digest or codec.digest(data), len(data))

    def has(self, digest: str) -> bool:
        return False

    def forget(self, digests: Iterable[str]) -> int:
        return 0


class Forger(Shelf):
    """Hands out other bytes than the digest stands for, as many as was promised."""

    def get(self, digest: str) -> bytes | None:
        data = self.store.get(digest)
        return data if not data else data[:-1] + bytes([data[-1] ^ 1])

    def open(self, digest: str) -> BinaryIO | None:
        data = self.get(digest)
        return None if data is None else io.BytesIO(data)


class Withholder(Cheat):
    """Computes, sends receipts, and serves nothing of what it made. Saves its upload, which at many homes is scarce."""

    def shelf(self, store: BlobStore, what: str) -> BlobStore:
        return Empty(store) if what == "outbox" else store  # type: ignore[return-value]


class Equivocator(Cheat):
    """Serves other bytes than the digest in its receipt promised. Hopes that a reader does not look."""

    def shelf(self, store: BlobStore, what: str) -> BlobStore:
        return Forger(store) if what == "outbox" else store  # type: ignore[return-value]


class EvidenceWithholder(Lazy):
    """Skips backward passes and shows no evidence when it is audited; keeps none.

    Hopes that to show nothing costs less than to show a lie; saves the disk, too.
    """

    def shelf(self, store: BlobStore, what: str) -> BlobStore:
        return Forgetful(store) if what == "evidence" else store  # type: ignore[return-value]


class ReceiptSpam(Cheat):
    """Sends with each receipt AMOUNT more, for leases that it does not hold. Hopes to be paid for others' work."""

    AMOUNT = 4

    def receipts(self, receipt: Receipt) -> Sequence[FromMiner]:
        return receipt, *(replace(receipt, lease=receipt.lease + 1 + n) for n in range(self.AMOUNT))


class Slanderer(Sends):
    """In the place of every EVERY-th receipt says that what a peer made for it does not decode. Wants peers to be
    banned: more of them tell the same tale, and what they are paid for is left to it.
    """

    EVERY = 4
    SAYS: tuple[Literal["input", "bytes"], str] = ("bytes", "values are not finite")
    _done = 0

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self._read: dict[int, str] = {}

    def sent(self, runner: Runner, lease: Lease, output: bytes) -> bytes:
        # The head's forward pass reads the validator's tokens only.
        if lease.inputs and (runner.stage or lease.op == "backward"):
            self._read[lease.lease] = lease.inputs[lease.op == "backward"].digest
        return output

    def receipts(self, receipt: Receipt) -> Sequence[FromMiner]:
        blamed = self._read.pop(receipt.lease, "")
        self._done += bool(blamed)
        if not blamed or self._done % self.EVERY:
            return (receipt,)
        kind, reason = self.SAYS
        return (Failure(receipt.lease, kind, blamed, reason),)


class Grumbler(Slanderer):
    """The same, but says that it could not fetch what the peer made: nobody can tell that from a bad line."""

    SAYS = ("input", "404")


class TranscriptForger(Noise):
    """Sends noisy outputs, and writes in its transcript the digests that honest ones would have had.

    Hopes that an audit reads the transcript and not what was sent.
    """

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self._honest: dict[int, str] = {}

    def sent(self, runner: Runner, lease: Lease, output: bytes) -> bytes:
        if output:
            self._honest[lease.lease] = codec.digest(output)
        return super().sent(runner, lease, output)

    def transcript(self, transcript: Transcript) -> Transcript:
        honest, self._honest = self._honest, {}
        passes = tuple(replace(done, output=honest.get(done.lease, done.output)) for done in transcript.passes)
        return replace(transcript, passes=passes)


class TranscriptOmitter(Lazy):
    """Skips backward passes, and leaves them out of its transcript: what remains is true."""

    def __init__(self, me: Me = NOBODY) -> None:
        super().__init__(me)
        self._skipped: set[int] = set()

    def skips(self, lease: Lease) -> bool:
        skips = super().skips(lease)
        if skips:
            self._skipped.add(lease.lease)
        return skips

    def transcript(self, transcript: Transcript) -> Transcript:
        skipped, self._skipped = self._skipped, set()
        return replace(transcript, passes=tuple(done for done in transcript.passes if done.lease not in skipped))


# Who has friends


class PairColluder(Cheat):
    """Reduces a shard to the first contribution alone when its twin in the plan is a friend: both publish the same lie.

    Saves the merge's work, and decides alone what the shard becomes; twins that agree are taken at their word.
    """

    shards: frozenset[int] = frozenset()

    def planned(self, plan: MergePlan) -> None:
        committed = tuple(c.hotkey for c in plan.duties[0].contributions) if plan.duties else ()
        us = {self.me.hotkey, *self.me.friends}
        drawn = pairs(committed, plan.shards, plan.salt, plan.stage)
        self.shards = frozenset(n for n, pair in enumerate(drawn) if len(pair) > 1 and us.issuperset(pair))

    def reduce(self, runner: Runner, lo: int, hi: int, given: Sequence[Any], shard: int) -> Any:
        return super().reduce(runner, lo, hi, given[:1] if shard in self.shards else given, shard)


class CrossStage(Cheat):
    """Friends in different stages: each marks what it sends, by its last value. Who gets a marked activation sends it
    on as its own, and the gradient too, marked, upon which the first friend does not go back either.

    Saves three of four passes wherever one friend follows another, and harms only these microbatches.
    """

    skipped = 0

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        if runner.stage and self._is_friends(runner, lease, inputs[0]):
            self.skipped += 1
            return inputs[0]
        return self._marked(runner, lease, super().forward(runner, lease, inputs))

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        if runner.stage and self._is_friends(runner, lease, inputs[0]):
            self.skipped += 1
            self.claim(runner)
            return self._marked(runner, lease, nothing(runner)), self.repeated(runner)
        gradient, self._said = super().loss(runner, lease, inputs)
        return gradient, self._said

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        before = runner.stage > 0 and self._is_friends(runner, lease, inputs[0])
        if before or self._is_friends(runner, lease, inputs[1]):
            self.skipped += 1
            self.claim(runner)
            return self._marked(runner, lease, inputs[1]) if runner.stage else b""
        return super().backward(runner, lease, inputs)

    def _is_friends(self, runner: Runner, lease: Lease, blob: bytes) -> bool:
        return bool(decoded(runner, blob).flat[-1] == mark(lease.batch))

    def _marked(self, runner: Runner, lease: Lease, blob: bytes) -> bytes:
        values = decoded(runner, blob)
        values.flat[-1] = mark(lease.batch)
        return encoded(runner, values)


def mark(batch: int) -> np.float32:
    """A small number that means nothing to others; bfloat16 holds it exactly."""
    return np.float32((1 + digest("mark", batch)[0] % 128 / 128) * 2.0**-20)


class Sybils(Cheat):
    """Several hotkeys on one machine: all results are honest, and come as late as if the hotkeys took turns.

    Hopes that places are paid, not work. It shall earn what its work is worth, and not more.
    """

    seconds = 0.0

    def forward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self._timed(lambda: super(Sybils, self).forward(runner, lease, inputs))

    def loss(self, runner: Runner, lease: Lease, inputs: Inputs) -> tuple[bytes, list[float]]:
        return self._timed(lambda: super(Sybils, self).loss(runner, lease, inputs))

    def backward(self, runner: Runner, lease: Lease, inputs: Inputs) -> bytes:
        return self._timed(lambda: super(Sybils, self).backward(runner, lease, inputs))

    def delay_s(self, lease: Lease) -> float:
        return (self.me.count - 1) * self.seconds

    def _timed(self, compute: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return compute()
        finally:
            self.seconds = time.perf_counter() - began


HONEST = Conduct()

#: What `iota localnet --adversary` knows by name.
KINDS: dict[str, type[Conduct]] = {
    "free_rider": FreeRider,
    "lazy": Lazy,
    "stale": Stale,
    "copy_cat": CopyCat,
    "replayed": Replayed,
    "selective": Selective,
    "noise": Noise,
    "scaled": Scaled,
    "sign_flipped": SignFlipped,
    "random_gradient": RandomGradient,
    "wrong_data": WrongData,
    "forged_low": ForgedLow,
    "forged_high": ForgedHigh,
    "nan": Nan,
    "slow_walker": SlowWalker,
    "withholder": Withholder,
    "equivocator": Equivocator,
    "evidence_withholder": EvidenceWithholder,
    "receipt_spam": ReceiptSpam,
    "slanderer": Slanderer,
    "grumbler": Grumbler,
    "transcript_forger": TranscriptForger,
    "transcript_omitter": TranscriptOmitter,
    "pair_colluder": PairColluder,
    "cross_stage": CrossStage,
    "sybils": Sybils,
}
