"""The validator's own arithmetic, in a process of its own, so that the control loop never waits for a tensor.

A pool of one worker process: first states, recomputed shards, held-out loss. If the worker dies, a new one takes over.
Only plain bytes and numbers cross the pipe, and only between this program and its own child.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from iota_subnet.spec import RunSpec

T = TypeVar("T")

#: (lo, hi, weights, momentum) of one shard, fp32 blobs.
Shard = tuple[int, int, bytes, bytes]

TRIES = 3


class Compute:
    """`await run(function, *args)` in the worker. Functions are those of this module."""

    def __init__(self, threads: int = 1, nice: int = 0) -> None:
        self._threads = threads
        self._nice = nice
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            1, mp_context=context, initializer=_begin, initargs=(os.getpid(), self._threads, self._nice)
        )

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """The function's result, or the exception it raised. A worker that died is replaced and the call repeated."""
        for attempt in range(TRIES):
            pool = self._pool
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
            except BrokenProcessPool:
                if attempt == TRIES - 1:
                    raise
                if pool is self._pool:
                    self._pool = self._start()
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Take no more work; what runs is not waited for. Safe to call twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _begin(parent: int, threads: int, nice: int) -> None:
    """Set up the worker. It ends with its parent, even if that was killed: the pool's pipe alone would not tell it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    if nice:
        os.nice(nice)
    import torch

    torch.set_num_threads(threads)


def initial_states(spec_json: str) -> list[tuple[int, bytes, bytes]]:
    """For each stage: number of parameters, first weights, zero momentum."""
    from iota_subnet.model.parameters import parameter_count
    from iota_subnet.train.state import initial_state

    spec = RunSpec.from_json(spec_json)
    return [(parameter_count(spec.model, stage), *initial_state(spec, stage)) for stage in range(spec.model.stages)]


def imported_states(spec_json: str, folder: str) -> list[tuple[int, bytes, bytes]]:
    """As `initial_states`, with the weights in a folder of transformers.

    Raises:
        SpecError: they are not those that the specification names.
    """
    from pathlib import Path

    import numpy as np

    from iota_subnet.model.importing import weights_digest, weights_of
    from iota_subnet.spec import SpecError
    from iota_subnet.train.state import pack_state

    spec = RunSpec.from_json(spec_json)
    vectors = weights_of(Path(folder), spec.model, spec.seed)
    if weights_digest(vectors) != spec.init:
        raise SpecError(f"{folder} holds other weights than the run began with (init {spec.init[:12]}...)")
    return [(vector.size, *pack_state(vector, np.zeros_like(vector))) for vector in vectors]


def reduce_shard(
    spec_json: str, epoch: int, lo: int, hi: int, base: Sequence[Shard], given: Sequence[tuple[int, bytes]]
) -> tuple[bytes, bytes, bytes]:
    """Mean, new weights and new momentum of [lo, hi) from the state before and the pseudo-gradients `given`.

    `base` are the shards of the state before that [lo, hi) touches. With nothing given the mean is b"" and the rest is
    what it was.
    """
    from iota_subnet.train import state

    spec = RunSpec.from_json(spec_json)
    first = min(shard[0] for shard in base)
    moved = [(a - first, b - first, weights, momentum) for a, b, weights, momentum in base]
    whole = state.view_state(moved, max(shard[1] for shard in moved))
    weights, momentum = (vector[lo - first : hi - first] for vector in whole)
    if not given:
        return b"", *state.pack_state(weights, momentum)
    return state.reduce_blobs(spec.train, epoch, weights, momentum, given)


def held_out_loss(spec_json: str, sizes: Sequence[int], stages: Sequence[Sequence[Shard]], blobs: list[bytes]) -> float:
    """Mean held-out loss of the whole model in nats per token."""
    from iota_subnet.train.evaluate import evaluate
    from iota_subnet.train.state import unpack_state

    spec = RunSpec.from_json(spec_json)
    weights = [unpack_state(shards, size)[0] for shards, size in zip(stages, sizes, strict=True)]
    return float(evaluate(spec, weights, blobs))


def audit(folder: str, device: str, max_passes: int) -> bytes:
    """Replay the bundle in `folder` on a device; the `Finding`, as JSON. `max_passes` as in `replay`.

    Raises:
        BadOrder: the bundle cannot be used, which says nothing about the miner.
    """
    from pathlib import Path

    import msgspec

    from iota_subnet.train import bundle
    from iota_subnet.train.replay import replay

    order, blob = bundle.load(Path(folder))
    return msgspec.json.encode(replay(order, blob, device=device, max_passes=max_passes))
