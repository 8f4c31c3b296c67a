"""What a miner does with what it is given, one method for every thing that it could do otherwise.

Law: this is the honest miner. A class that overrides some of these methods is a miner that cheats: `iota localnet
--adversary` runs such a class against the whole subnet, and `tests/adversaries.py` holds those that we know. No rule of
the subnet may depend on what stands here; the loader takes a class for a chain on this very machine only.

Methods that take a `runner` are called in the thread that computes, one at a time; the others in the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The launcher looks at conducts too, and need not wait for the SDK behind the protocol.
    from iota_subnet.messages import FromMiner, Lease, Receipt
    from iota_subnet.protocol import MergePlan
    from iota_subnet.train.allreduce import Delta
    from iota_subnet.train.runner import StageRunner
    from iota_subnet.train.state import ReducedShard
    from iota_subnet.train.transcript import Transcript
    from iota_subnet.wire.blobs import BlobStore


@dataclass(frozen=True, slots=True)
class Me:
    """Who is cheating: its hotkey, its number among the adversaries of its kind, how many of them there are, and the
    hotkeys of the others."""

    hotkey: str = ""
    number: int = 0
    count: int = 1
    friends: tuple[str, ...] = ()


NOBODY = Me()


class Conduct:
    """The honest miner. `me` says who it is; whatever else a cheat remembers it may keep in attributes."""

    def __init__(self, me: Me = NOBODY) -> None:
        self.me = me

    def installed(self, runner: StageRunner, epoch: int) -> None:
        """A global state has been installed; here stale weights would be put back."""

    def forward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
        """The activation for the next stage. `inputs` is (tokens) on the head, else (activation)."""
        return runner.forward(lease.batch, inputs[0])

    def loss(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> tuple[bytes, list[float]]:
        """The tail's pass: gradient by its input, and each sample's loss. `inputs` is (activation, tokens)."""
        x, tokens = inputs if len(inputs) == 2 else (b"", inputs[0])
        return runner.forward_backward(lease.batch, x, tokens)

    def backward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
        """The gradient for the stage before, b"" on the head. `inputs` is (activation or tokens, gradient)."""
        return runner.backward(lease.batch, inputs[0], inputs[1])

    def pseudo_gradient(self, runner: StageRunner, shards: int) -> list[bytes]:
        """What is committed, shard by shard."""
        return runner.pseudo_gradient(shards)

    def transcript(self, transcript: Transcript) -> Transcript:
        """What is said to have been done."""
        return transcript

    def reduce(
        self, runner: StageRunner, lo: int, hi: int, given: Sequence[tuple[int, bytes | Delta]], shard: int
    ) -> ReducedShard:
        """The mean of a shard and what follows from it; a cheat can see in the plan which pair was drawn for it."""
        return runner.reduce(lo, hi, given)

    def receipts(self, receipt: Receipt) -> Sequence[FromMiner]:
        """What is sent when a lease is done."""
        return (receipt,)

    def delay_s(self, lease: Lease) -> float:
        """Seconds to wait before a lease is worked off."""
        return 0.0

    def planned(self, plan: MergePlan) -> None:
        """The salt is out: who reduces what with whom is known from here on."""

    def shelf(self, store: BlobStore, what: str) -> BlobStore:
        """Where what others may fetch is kept. A cheat wraps it and keeps or hands out less, or other bytes.

        `what` is outbox, as the blob server sees it (this miner itself reads what lies behind), or evidence.
        """
        return store


def perform(
    conduct: Conduct, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]
) -> tuple[bytes, list[float], int]:
    """One pass: its output, the tail's losses, and the inner step after it."""
    if runner.stage != lease.stage:
        raise RuntimeError(f"the lease is for stage {lease.stage}, this miner holds stage {runner.stage}")
    output, losses = b"", list[float]()
    match lease.op:
        case "forward":
            output = conduct.forward(runner, lease, inputs)
        case "loss":
            output, losses = conduct.loss(runner, lease, inputs)
        case "backward":
            output = conduct.backward(runner, lease, inputs)
    return output, losses, runner.inner_step
