"""Everything that one replica of one stage computes, bytes in and bytes out.

Law: a backward pass always uses the current weights; a kept forward graph is only a shortcut for recomputing it, so any
replica of the stage that holds the same weights gives the same bytes. A refused payload leaves weights, moments and
counters as they were. One thread calls a runner; nothing here waits.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iota_subnet.model.stage import Stage, bind_flat
from iota_subnet.spec import RunSpec, shard_bounds
from iota_subnet.train import activations, codec, feedback, optim, state
from iota_subnet.train.allreduce import Delta
from iota_subnet.train.codec import BadPayload, Floats
from iota_subnet.train.feedback import Commit
from iota_subnet.train.optim import clip_norm, learning_rate
from iota_subnet.train.pieces import Pieces
from iota_subnet.train.state import ReducedShard, Shard, initial_state

__all__ = ["BadPayload", "ReducedShard", "Shard", "StageRunner", "initial_state"]


class _Graph(NamedTuple):
    digest: str
    entry: Tensor
    exit: Tensor
    ids: Tensor | None


class StageRunner:
    """One replica of `stage`. Call `install` before anything else.

    `max_graphs` bounds the kept forward graphs, the oldest is dropped; one is 30 MB at `tiny`, and all are dropped at
    every inner step, so that more than a few seldom pay.

    Attributes:
        inner_step: optimiser steps so far, the position in the learning-rate schedule.
        batches: backward passes since `install`, or since the commit before it if it carried them over.
        epoch: epoch of the installed global state, -1 before the first.
        parameters: P, the length of the stage's flat vector.
    """

    def __init__(self, spec: RunSpec, stage: int, device: str = "cpu", max_graphs: int = 2) -> None:
        self.spec, self.stage = spec, stage
        self.inner_step = self.batches = 0
        self.epoch = -1
        self._device = torch.device(device)
        self._module = Stage(spec.model, stage).to(self._device)
        self._weights, self._fresh = bind_flat(self._module)
        self._gradient = torch.zeros_like(self._weights)
        self.parameters = self._weights.numel()
        self._optimiser = optim.make(spec.train, spec.model, stage, self._weights)
        self._clip = clip_norm(spec.train, spec.model, stage)
        self._pending = 0
        self._graphs: OrderedDict[int, _Graph] = OrderedDict()
        self._max_graphs = max_graphs
        self._global, self._momentum = Pieces([]), Pieces([])
        # New weights and momentum that were made here since the last install, by slice: all in them is finite.
        self._made: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._at_commit: Floats = np.zeros(0, np.float32)
        self._commit: Commit | None = None
        self._residual: Floats | None = None
        self._carry_digest = ""

    # Global state

    def install(self, epoch: int, shards: Sequence[Shard], inner_step: int | None = None, carry: bool = False) -> None:
        """Start `epoch` from a global state given as shards that cover [0, P) exactly, in any order.

        Without `carry`, work that was not committed is discarded, and the inner optimiser's moments start from zero, so
        that all that follows depends on the manifest, `inner_step` and the passes alone: an auditor or a joiner can do
        the same. A joiner passes the run's `inner_step` to enter the learning-rate schedule where the others are.

        With `carry`, and if this runner held epoch - 1 and committed in it, the passes since the commit stay: the local
        weights become the new global ones plus `feedback.rebase`'s carry, and moments, pending gradient and the
        `batches` since the commit stay as they are. All that follows then depends on the manifest, on what
        `carry_digest` names, and on the passes. An auditor needs either these vectors, or the passes back to the last
        state without a carry, with the place of each commit and each install among them. A carry that makes weights
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
        # Graphs of the old weights must not be used: see the law above.
        self._graphs.clear()
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
        if self._module.is_tail:
            raise RuntimeError("the tail has no forward pass of its own; call forward_backward")
        graph = self._run(input)
        passed_on = graph.ids if activations.carries_ids(self.spec, self.stage + 1) else None
        output = self._encode(graph.exit, f"activation of stage {self.stage}", passed_on)
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
        if not self._module.is_tail:
            raise RuntimeError(f"stage {self.stage} is not the tail")
        ids = self._tokens(tokens)
        targets = ids[:, 1:]
        graph = self._run(tokens if self._module.is_head else input, ids[:, :-1])
        losses = F.cross_entropy(graph.exit.float().flatten(0, 1), targets.flatten(), reduction="none")
        samples = losses.view(targets.shape).mean(dim=1)
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
        if self._module.is_tail:
            raise RuntimeError("the tail has no backward pass of its own; call forward_backward")
        outer, _ = self._decode(grad, f"gradient for stage {self.stage}")
        graph = self._graphs.pop(mb, None)
        if graph is None or graph.digest != codec.digest(input):
            graph = self._run(input)
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

    def _autocast(self) -> AbstractContextManager[object]:
        # Matrices in bfloat16 where the hardware is made for it; master weights and the boundary stay float32.
        if self._device.type == "cpu":
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

    def _run(self, input: bytes, ids: Tensor | None = None) -> _Graph:
        """The stage's forward pass. `ids` [B, T] are the tail's own; others have them from their input, if at all."""
        if self._module.is_head:
            entry = ids = self._tokens(input)[:, :-1]
        else:
            carried = activations.carries_ids(self.spec, self.stage)
            entry, found = self._decode(input, f"activation for stage {self.stage}", carried)
            entry, ids = entry.requires_grad_(), found if carried else ids
        with self._autocast():
            return _Graph(codec.digest(input), entry, self._module(entry, ids), ids)

    def _backward(self, mb: int, graph: _Graph, end: Tensor) -> bytes:
        """Add the gradient of the scalar `end` to the accumulated one, only if all of it is finite."""
        self._fresh.zero_()
        end.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(self._fresh.abs().max()):
            raise BadPayload(f"parameter gradient of microbatch {mb} on stage {self.stage} is not finite")
        inner = b""
        if graph.entry.grad is not None:
            inner = self._encode(graph.entry.grad, f"input gradient of microbatch {mb} on stage {self.stage}")
        self._gradient.add_(self._fresh)
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
        self._gradient.div_(self._pending)
        norm = float(torch.linalg.vector_norm(self._gradient, dtype=torch.float64))
        if np.isfinite(norm):
            self._gradient.mul_(min(1.0, self._clip / (norm + 1e-12)))
            self._optimiser.step(self._gradient, learning_rate(self.spec.train, self.inner_step))
        self.inner_step += 1
        self._discard_gradient()
        # Graphs of the old weights must not be used: see the law above.
        self._graphs.clear()

    def _discard_gradient(self) -> None:
        if self._pending:
            self._gradient.zero_()
        self._pending = 0
