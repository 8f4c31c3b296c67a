"""Everything that one replica of one stage computes, bytes in and bytes out.

Law: a backward pass uses the current weights, or those of this replica's own forward pass of the same input if the
weights have moved at most `train.stash` times since; a kept graph is only a shortcut for recomputing it. So any replica
that holds the same state and is given the same passes gives the same bytes. A refused payload leaves weights, moments
and counters as they were. One thread calls a runner; nothing here waits.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iota_subnet.model.stage import Stage, views
from iota_subnet.spec import RunSpec, shard_bounds
from iota_subnet.train import activations, codec, feedback, optim, state
from iota_subnet.train.allreduce import Delta
from iota_subnet.train.codec import BadPayload, Floats
from iota_subnet.train.feedback import Commit
from iota_subnet.train.optim import clip_norm, learning_rate
from iota_subnet.train.pieces import Pieces
from iota_subnet.train.state import ReducedShard, Shard, initial_state
from iota_subnet.train.tuning import Tuning
from iota_subnet.train.versions import Versions

__all__ = ["BadPayload", "ReducedShard", "Shard", "StageRunner", "initial_state"]


PLAIN = Tuning()


class _Graph(NamedTuple):
    """`digest` is that of the input, `version` that of the weights that made it."""

    digest: str
    version: int
    entry: Tensor
    exit: Tensor
    ids: Tensor | None


class StageRunner:
    """One replica of `stage`. Call `install` before anything else.

    `max_graphs` bounds the kept forward graphs, the oldest is dropped and computed again when its turn comes; one is
    30 MB at `tiny`. All of weights that are not kept any more are dropped, so that more than `graphs_that_pay` do not.

    Raises (constructor):
        ValueError: `tuning` asks for what the device cannot do.

    Attributes:
        inner_step: optimiser steps so far, the position in the learning-rate schedule.
        batches: backward passes since `install`, or since the commit before it if it carried them over.
        epoch: epoch of the installed global state, -1 before the first.
        parameters: P, the length of the stage's flat vector.
    """

    def __init__(
        self, spec: RunSpec, stage: int, device: str = "cpu", max_graphs: int = 2, tuning: Tuning = PLAIN
    ) -> None:
        if problem := tuning.problem(device):
            raise ValueError(problem)
        self.spec, self.stage = spec, stage
        self.inner_step = self.batches = 0
        self.epoch = -1
        self._device = torch.device(device)
        self._is_head, self._is_tail = stage == 0, stage == spec.model.stages - 1
        self._hold(tuning)
        self._clip = clip_norm(spec.train, spec.model, stage)
        self._pending = 0
        self._graphs: OrderedDict[int, _Graph] = OrderedDict()
        #: How often the weights have moved; and of forward passes whose weights are still here, by microbatch, the
        #: digest of the input and that number.
        self._version = 0
        self._made_at: dict[int, tuple[str, int]] = {}
        self._max_graphs = max_graphs
        self._global, self._momentum = Pieces([]), Pieces([])
        # New weights and momentum that were made here since the last install, by slice: all in them is finite.
        self._made: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._at_commit: Floats = np.zeros(0, np.float32)
        self._commit: Commit | None = None
        self._residual: Floats | None = None
        self._carry_digest = ""

    def close(self) -> None:
        """Give back what is not of this process; the runner is of no use afterwards."""

    # Global state

    def install(self, epoch: int, shards: Sequence[Shard], inner_step: int | None = None, carry: bool = False) -> None:
        """Start `epoch` from a global state given as shards that cover [0, P) exactly, in any order.

        Without `carry`, work that was not committed is discarded, and the inner optimiser's moments start from zero, so
        that all that follows depends on the manifest, `inner_step` and the passes alone: an auditor or a joiner can do
        the same. A joiner passes the run's `inner_step` to enter the learning-rate schedule where the others are.

        With `carry`, and if this runner held epoch - 1 and committed in it, the passes since the commit stay: the local
        weights become the new global ones plus `feedback.rebase`'s carry, and moments, pending gradient and the
        `batches` since the commit stay as they are. All that follows then depends on the manifest, on what
        `carry_digest` names, and on the passes, also those before it whose weights a backward pass still asks for. An
        auditor needs the passes back to the last state without a carry, with the place of each commit and each install
        among them. A carry that makes weights
        infinite is discarded, as is the work of a runner that did not commit.

        Raises:
            BadPayload: a gap, an overlap, or a malformed shard; the old state then stays.
        """
        weights, momentum = state.view_state(shards, self.parameters, self._made)
        self._made.clear()
        commit, self._commit = self._commit, None
        if commit is not None and epoch > self.epoch:
            self._residual = commit.residual
        rebased = None
        if carry and commit is not None and epoch == self.epoch + 1:
            rebased = feedback.rebase(weights, commit, self._weights.cpu().numpy())
        self._global, self._momentum, self.epoch = weights, momentum, epoch
        if inner_step is not None:
            self.inner_step = inner_step
        if rebased is None:
            self._forget_passes()
        else:
            self._leave_weights()
        self._load(weights if rebased is None else Pieces([rebased[0]]))
        if commit is not None and rebased is not None:
            self.batches -= commit.batches
            self._carry_digest = self._digest_carry(rebased[1])
            return
        self._carry_digest = ""
        self.batches = 0
        self._optimiser.reset()
        self._discard_gradient()

    def carry_digest(self) -> str:
        """Digest of what the last `install` carried over; "" if nothing.

        blake3 of float32 vectors and four int64, little-endian: carry [P], the optimiser's moments, pending gradient
        [P]; the optimiser's steps, passes in the pending gradient, `batches`, `inner_step`.
        """
        return self._carry_digest

    def installed(self) -> tuple[bytes, bytes]:
        """The installed global weights and momentum as fp32 blobs of the whole stage."""
        self._require_installed()
        return state.pack_state(np.array(self._global), np.array(self._momentum))

    def state_digest(self) -> str:
        """Digest of the installed state, equal on all replicas of the stage; see `state.state_digest`."""
        self._require_installed()
        return state.state_digest(self._global, self._momentum)

    # Passes

    def forward(self, mb: int, input: bytes) -> bytes:
        """The activation [B, T, boundary] of microbatch `mb`, and keep its graph for `backward`.

        Args:
            mb: number of the microbatch.
            input: on the head the token blob [B, T+1], else the previous stage's activation.

        Raises:
            BadPayload: malformed input, or an output that is not finite.
        """
        self._require_installed()
        if self._is_tail:
            raise RuntimeError("the tail has no forward pass of its own; call forward_backward")
        graph = self._run(input)
        passed_on = graph.ids if activations.carries_ids(self.spec, self.stage + 1) else None
        output = self._encode(graph.exit, f"activation of stage {self.stage}", passed_on)
        self._made_at[mb] = graph.digest, graph.version
        self._graphs[mb] = graph
        self._graphs.move_to_end(mb)
        while len(self._graphs) > self._max_graphs:
            self._graphs.popitem(last=False)
        return output

    def forward_backward(self, mb: int, input: bytes, tokens: bytes) -> tuple[bytes, list[float]]:
        """The tail's pass: forward, loss and backward in one.

        Args:
            mb: number of the microbatch.
            input: activation of the stage before; ignored when the model has one stage.
            tokens: token blob [B, T+1], the same that the head got.

        Returns:
            Gradient of the mean loss by `input` (b"" with one stage), and each sample's mean loss in nats per token.

        Raises:
            BadPayload: malformed bytes, or a loss or gradient that is not finite; the pass is then not counted.
        """
        self._require_installed()
        if not self._is_tail:
            raise RuntimeError(f"stage {self.stage} is not the tail")
        ids = self._tokens(tokens)
        targets = ids[:, 1:]
        graph = self._run(tokens if self._is_head else input, ids[:, :-1], targets)
        samples = graph.exit.mean(dim=1)
        loss = samples.mean()
        if not torch.isfinite(loss):
            raise BadPayload(f"loss of microbatch {mb} is not finite")
        return self._backward(mb, graph, loss), samples.detach().tolist()

    def backward(self, mb: int, input: bytes, grad: bytes) -> bytes:
        """Gradient by `input`, given the gradient by the output; b"" on the head.

        Any replica can do it: without a valid graph of this input, the forward pass is done again.

        Raises:
            BadPayload: malformed bytes, or a gradient that is not finite; the pass is then not counted.
        """
        self._require_installed()
        if self._is_tail:
            raise RuntimeError("the tail has no backward pass of its own; call forward_backward")
        outer, _ = self._decode(grad, f"gradient for stage {self.stage}")
        graph, (made_of, version) = self._graphs.pop(mb, None), self._made_at.get(mb, ("", 0))
        digest = codec.digest(input)
        if graph is None or graph.digest != digest:
            graph = self._run(input, version=version if made_of == digest else None)
        # The product's gradient by `exit` is `outer`, exactly. `exit.backward(outer)` would say the same but imports
        # sympy to compare the shapes: 0.35 CPU seconds and 20 MB in every miner.
        return self._backward(mb, graph, (graph.exit.float() * outer).sum())

    # Merge

    def pseudo_gradient(self, shards: int) -> list[bytes]:
        """Global minus local weights as `shards` blobs, cut by `shard_bounds`; first finishes a started inner step.

        The codecs int8 and topk add what earlier epochs left (`feedback`). What this one leaves counts from the next
        later epoch on, so that who asks again before another pass gets the same bytes. The weights are remembered for
        an `install` that carries over what is trained from here on.

        Raises:
            BadPayload: a value is not finite after rounding; all is then as it was.
        """
        self._require_installed()
        undo, earlier = self._copy() if self._pending else None, self._commit
        if self._pending:
            self._inner_step()
        weights = self._weights.cpu().numpy()
        bounds = shard_bounds(self.parameters, shards)
        try:
            blobs, residual = feedback.publish(self.spec.train, self._global, weights, self._residual, bounds)
        except BadPayload:
            if undo is not None:
                self._restore(undo)
                self._commit = earlier
            raise
        self._commit = Commit(None, self.batches, residual)
        return blobs

    def reduce(self, lo: int, hi: int, contributions: Sequence[tuple[int, bytes | Delta]]) -> ReducedShard:
        """Mean of the slice [lo, hi), and the global weights and momentum that follow from it.

        Args:
            lo: first index of the shard in the flat vector.
            hi: one past its last index.
            contributions: (verified backward passes, pseudo-gradient blob or what `allreduce.read_delta` made of it),
                sorted by hotkey; order changes the bits.

        Raises:
            BadPayload: a slice outside the stage, or as `state.reduce_blobs`.
        """
        weights, momentum = self._slice(lo, hi)
        made = state.reduce_blobs(self.spec.train, self.epoch, weights, momentum, contributions)
        self._made[lo, hi] = made.weights, made.momentum
        return made

    def step(self, lo: int, hi: int, mean: bytes) -> tuple[bytes, bytes]:
        """New global weights and momentum of the slice [lo, hi) from a published mean, as fp32 blobs.

        Raises:
            BadPayload: a slice outside the stage, or as `state.step_blobs`.
        """
        weights, momentum = self._slice(lo, hi)
        made = state.step_blobs(self.spec.train, self.epoch, weights, momentum, mean)
        self._made[lo, hi] = made
        return made

    # What holds the tensors: here one device; `sharded` has several.

    def _hold(self, tuning: Tuning) -> None:
        """Make weights, gradient and optimiser, and say how long the flat vector is."""
        self._module = Stage(self.spec.model, self.stage).to(self._device)
        self._module.recompute = tuning.recompute
        self._halves = tuning.halves(str(self._device))
        self._forward: Any = torch.compile(self._module) if tuning.compile else self._module
        self._versions = Versions(self._module, self.spec.train.stash)
        self._total = torch.zeros_like(self._weights)
        self._sums = views(self._module, self._total)
        self.parameters = self._total.numel()
        self._optimiser: optim.Optimiser = optim.make(self.spec.train, self.spec.model, self.stage, self._total)

    @property
    def _weights(self) -> Tensor:
        """The stage's weights [P]."""
        return self._versions.weights

    @property
    def _gradient(self) -> Tensor:
        """The gradient [P] that is accumulated for the next inner step."""
        return self._total

    def _apply(self, entry: Tensor, ids: Tensor | None, targets: Tensor | None) -> Tensor:
        """The stage's output, or given the tail's `targets` [B, T] the losses [B, T] of its tokens."""
        with self._autocast():
            made = self._forward(entry, ids)
        if targets is None:
            return made
        return F.cross_entropy(made.float().flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    def _take_gradient(self, back: int) -> list[Tensor] | None:
        """The parameters' gradient of the backward pass that was just done with the weights of `back` versions ago, if
        all of it is finite."""
        leaves = self._versions.leaves(back)
        # Nothing is left in `p.grad` of earlier passes, so autograd hands out what it has made and adds to no zeros.
        fresh = [p.grad if p.grad is not None else torch.zeros_like(p) for p in leaves]
        for p in leaves:
            p.grad = None
        return fresh if all(map(_is_finite, fresh)) else None

    def _add_gradient(self, fresh: list[Tensor]) -> None:
        for total, part in zip(self._sums, fresh, strict=True):
            total.add_(part)

    def _gradient_norm(self) -> float:
        return _norm(self._sums)

    def _move(self, scale: float, lr: float) -> None:
        """One step of the optimiser against `scale` times the accumulated gradient."""
        self._total.mul_(scale)
        self._optimiser.step(self._weights, self._total, lr)

    def _zero_gradient(self) -> None:
        self._total.zero_()

    def _advance(self) -> None:
        """What comes makes new weights, and leaves those of the last `train.stash` versions as they are."""
        self._versions.advance()

    def _with(self, back: int) -> AbstractContextManager[object]:
        """Passes use the weights of `back` versions ago."""
        return self._versions.of(back)

    # Inside

    def _require_installed(self) -> None:
        if self.epoch < 0:
            raise RuntimeError(f"stage {self.stage} has no state yet; call install first")

    def _slice(self, lo: int, hi: int) -> tuple[Floats, Floats]:
        self._require_installed()
        if not 0 <= lo < hi <= self.parameters:
            raise BadPayload(f"reduce: [{lo}, {hi}) is no slice of the {self.parameters} parameters")
        return self._global[lo:hi], self._momentum[lo:hi]

    def _load(self, weights: Pieces) -> None:
        if self._device.type == "cpu":
            local = self._weights.numpy()
            for lo, part in weights:
                local[lo : lo + part.size] = part
            return
        with torch.no_grad():
            self._weights.copy_(torch.from_numpy(np.array(weights)))

    def _digest_carry(self, carry: Floats) -> str:
        vectors = [carry, *(t.cpu().numpy() for t in (*self._optimiser.moments, self._gradient))]
        numbers = struct.pack("<4q", self._optimiser.steps, self._pending, self.batches, self.inner_step)
        return codec.digest(*(vector.astype("<f4", copy=False) for vector in vectors), numbers)

    def _copy(self) -> tuple[list[Tensor], tuple[int, int, int]]:
        """All that an inner step changes, in the host's memory."""
        tensors = (self._weights, self._gradient, *self._optimiser.moments)
        counters = (self._optimiser.steps, self._pending, self.inner_step)
        return [tensor.detach().to("cpu", copy=True) for tensor in tensors], counters

    @torch.no_grad()
    def _restore(self, kept: tuple[list[Tensor], tuple[int, int, int]]) -> None:
        for tensor, old in zip((self._weights, self._gradient, *self._optimiser.moments), kept[0], strict=True):
            tensor.copy_(old)
        self._optimiser.steps, self._pending, self.inner_step = kept[1]
        # The oldest weights are gone with the step that is taken back.
        self._forget_passes()

    def _autocast(self) -> AbstractContextManager[object]:
        # Matrices in bfloat16 where the hardware is made for it; master weights and the boundary stay float32.
        if not self._halves:
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _tokens(self, blob: bytes) -> Tensor:
        shape = (self.spec.train.microbatch, self.spec.model.seq + 1)
        tokens = codec.bytes_to_tokens(blob, shape, self.spec.model.vocab)
        return torch.from_numpy(tokens).to(self._device, torch.int64)

    def _decode(self, blob: bytes, what: str, with_ids: bool = False) -> tuple[Tensor, Tensor | None]:
        values, ids = activations.decode(self.spec, blob, what, with_ids)
        known = None if ids is None else torch.from_numpy(ids).to(self._device, torch.int64)
        return torch.from_numpy(values).to(self._device), known

    def _encode(self, values: Tensor, what: str, ids: Tensor | None = None) -> bytes:
        given = None if ids is None else ids.cpu().numpy()
        return activations.encode(self.spec, values.detach().float().cpu().numpy(), what, given)

    def _run(
        self, input: bytes, ids: Tensor | None = None, targets: Tensor | None = None, version: int | None = None
    ) -> _Graph:
        """The stage's forward pass, with the weights of this version, the current ones if None.

        `ids` [B, T] are the tail's own; others have them from their input, if at all.
        """
        version = self._version if version is None else version
        if self._is_head:
            entry = ids = self._tokens(input)[:, :-1]
        else:
            carried = activations.carries_ids(self.spec, self.stage)
            entry, found = self._decode(input, f"activation for stage {self.stage}", carried)
            entry, ids = entry.requires_grad_(), found if carried else ids
        with self._with(self._version - version):
            return _Graph(codec.digest(input), version, entry, self._apply(entry, ids, targets), ids)

    def _backward(self, mb: int, graph: _Graph, end: Tensor) -> bytes:
        """Add the gradient of the scalar `end` to the accumulated one, only if all of it is finite."""
        back = self._version - graph.version
        # What is recomputed inside a block reads the stage's parameters anew.
        with self._with(back):
            end.backward()  # type: ignore[no-untyped-call]
        fresh = self._take_gradient(back)
        if fresh is None:
            raise BadPayload(f"parameter gradient of microbatch {mb} on stage {self.stage} is not finite")
        inner = b""
        if graph.entry.grad is not None:
            inner = self._encode(graph.entry.grad, f"input gradient of microbatch {mb} on stage {self.stage}")
        self._add_gradient(fresh)
        self._pending += 1
        self.batches += 1
        if self._pending >= self.spec.train.accumulate:
            self._inner_step()
        return inner

    def _inner_step(self) -> None:
        """One optimiser step with the mean of the accumulated gradients; a gradient without a norm is dropped."""
        if self._commit is not None and self._commit.weights is None:
            # Kept only for whom it comes to this: who waits for the merge has nothing to carry over.
            weights = self._weights.cpu().numpy()
            if not self._at_commit.size:
                self._at_commit = np.empty_like(weights)
            np.copyto(self._at_commit, weights)
            self._commit = self._commit._replace(weights=self._at_commit)
        norm = self._gradient_norm() / self._pending
        self._leave_weights()
        if np.isfinite(norm):
            scale = min(1.0, self._clip / (norm + 1e-12)) / self._pending
            self._move(scale, learning_rate(self.spec.train, self.inner_step))
        self.inner_step += 1
        self._discard_gradient()

    def _leave_weights(self) -> None:
        """The weights are about to move; what was computed with those that are not kept any more is forgotten."""
        self._advance()
        self._version += 1
        oldest = self._version - self.spec.train.stash
        self._graphs = OrderedDict((mb, graph) for mb, graph in self._graphs.items() if graph.version >= oldest)
        self._made_at = {mb: made for mb, made in self._made_at.items() if made[1] >= oldest}

    def _forget_passes(self) -> None:
        """No backward pass uses weights of before."""
        self._graphs.clear()
        self._made_at.clear()

    def _discard_gradient(self) -> None:
        if self._pending:
            self._zero_gradient()
        self._pending = 0


def graphs_that_pay(spec: RunSpec) -> int:
    """How many kept graphs save a forward pass: those on their way, as long as no inner step drops them."""
    return max(2, min(spec.swarm.live_per_replica, spec.train.accumulate * (1 + spec.train.stash)))


def _is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite. Its product with itself says so in one reading of it, unless that overflows,
    which finite values beyond 1e19 can bring about."""
    flat = tensor.detach().reshape(-1)
    return math.isfinite(torch.dot(flat, flat)) or bool(torch.isfinite(flat).all())


def _norm(parts: Sequence[Tensor]) -> float:
    """The Euclidean norm of all parts together, added up in double precision where single would overflow or round."""
    squares = [float(torch.dot(part.reshape(-1), part.reshape(-1))) for part in parts]
    if math.isfinite(total := math.fsum(squares)):
        return math.sqrt(total)
    return math.hypot(*(float(torch.linalg.vector_norm(part, dtype=torch.float64)) for part in parts))
