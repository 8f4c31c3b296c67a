"""CLASP's credit against exact values: every pathway of a small swarm, measured on the model as it is.

The value of a miner is what the mean loss over all pathways loses when those through it are left out. Miners differ by
the noise that they add to what crosses the boundary of the two stages, on its way out or in; no two by the same, else
there is no order to find. What can be asked of ranks is what two exact measurements on different text agree on: the
ceiling.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from credit.common import Row, row, spec_of
from iota_subnet.core.state import Phase
from iota_subnet.messages import Lease
from iota_subnet.miner.conduct import Conduct
from iota_subnet.rehearsal.miner import Player
from iota_subnet.rehearsal.plan import Member
from iota_subnet.rehearsal.world import Rehearsal
from iota_subnet.train import codec
from iota_subnet.train.runner import StageRunner
from iota_subnet.validator.feed import difficulty

#: Noise of each replica of the head and of the tail, against the activation's own size. Harm grows with its square.
NOISE = ((0.0, 0.6, 1.6), (0.0, 0.8, 1.1))
STAGES = 2
MINERS = STAGES * len(NOISE[0])

#: Microbatches on which every pathway is measured in each epoch; half of them make one of the two measurements.
PROBES = 24

#: The first of them: far from what a run reads.
FAR = 100_000

#: One miner's harm on the one half of the text and on the other.
Twice = tuple[float, float]


def noisy(strength: float) -> type[Conduct]:
    """Adds noise to the activation: the head to what it sends, the tail to what it reads."""

    class Noisy(Conduct):
        def forward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
            return blurred(runner, super().forward(runner, lease, inputs), strength, lease.batch)

        def loss(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> tuple[bytes, list[float]]:
            x = blurred(runner, inputs[0], strength, lease.batch)
            return super().loss(runner, lease, (x, inputs[1]))

    return Noisy


def blurred(runner: StageRunner, blob: bytes, strength: float, seed: int) -> bytes:
    """An activation with noise of so much of its own root mean square."""
    model, train = runner.spec.model, runner.spec.train
    values = codec.decode(blob, (train.microbatch, model.seq, model.boundary), train.activation_codec)
    noise = np.random.default_rng([seed, runner.stage]).standard_normal(values.shape, np.float32)
    scale = strength * float(np.sqrt(np.mean(values**2)))
    return codec.encode(values + np.float32(scale) * noise, train.activation_codec)


@dataclass(frozen=True, slots=True)
class Found:
    """Of one run: rank correlation of credit and exact values epoch by epoch and over the run, correlation of values
    over the run, and how far two exact measurements on different text agree in rank: the ceiling of the first two."""

    seed: int
    epochs: list[float]
    ceilings: list[float]
    whole: float
    ceiling: float
    values: float


def shapley(options: Any) -> list[Row]:
    """Rank correlation of credit and exact value, epoch by epoch and over the whole run."""
    work = [(seed, options.epochs, 2 * options.batches) for seed in range(options.seeds)]
    if options.jobs < 2:
        found = [_told(one(*args)) for args in work]
    else:
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            found = [_told(run) for run in pool.imap(_one, work)]
    what, ceiling = "CLASP against exact leave-one-out", "two exact measurements"
    return [
        row(f"{what}, rank correlation in one epoch", "rho",
            [rho for run in found for rho in run.epochs], ceiling, [rho for run in found for rho in run.ceilings]),
        row(f"{what}, rank correlation over the run", "rho",
            [run.whole for run in found], ceiling, [run.ceiling for run in found]),
        row(f"{what}, correlation of values over the run", "r", [run.values for run in found]),
    ]  # fmt: skip


def _one(args: tuple[int, int, int]) -> Found:
    return one(*args)


def one(seed: int, epochs: int, batches: int) -> Found:
    """One run of so many epochs of so many microbatches."""
    members = [Member(number % STAGES, conduct=noisy(_strength(number))) for number in range(MINERS)]
    spec = spec_of(epochs, batches, 0.0, STAGES)
    # An audit would find who adds noise, and nobody would be left to give credit to.
    spec = replace(spec, swarm=replace(spec.swarm, audit_passes=0.0))
    exact: list[dict[str, Twice]] = []

    def look(world: Rehearsal) -> None:
        if world.core.state.phase is Phase.COMMIT:
            exact.append(values(world, len(exact)))

    rehearsal = Rehearsal(spec, members, seed, on_phase=look)
    rehearsal.hands.difficulty = difficulty
    result = rehearsal.run()
    hotkeys = list(result.miners)
    credit = [[effects[hotkey].effect for hotkey in hotkeys] for effects in result.effects]
    first, second = ([[truth[hotkey][half] for hotkey in hotkeys] for truth in exact] for half in range(2))
    both = (np.array(first) + np.array(second)) / 2
    over = [list(np.mean(rows, axis=0)) for rows in (credit, both, first, second)]
    return Found(
        seed,
        [spearman(seen, truth) for seen, truth in zip(credit, both, strict=True)],
        [spearman(one, other) for one, other in zip(first, second, strict=True)],
        spearman(over[0], over[1]),
        spearman(over[2], over[3]),
        float(np.corrcoef(over[0], over[1])[0, 1]),
    )


def values(world: Rehearsal, epoch: int) -> dict[str, Twice]:
    """Harm of each miner, nats, on each half of text that the run does not read: mean loss over all pathways, less that
    over those without it. No state changes."""
    first = FAR + epoch * PROBES
    blobs = [world.hands.feed.batch(number) for number in range(first, first + PROBES)]
    half = PROBES // 2
    one, other = (_harm(world, blobs[lo : lo + half], first + lo) for lo in (0, half))
    return {hotkey: (one[hotkey], other[hotkey]) for hotkey in one}


def _harm(world: Rehearsal, blobs: Sequence[bytes], first: int) -> dict[str, float]:
    players = [player for player in world.players.values() if player.runner is not None]
    heads, tails = ([p for p in players if p.runner is not None and p.runner.stage == stage] for stage in range(2))
    table = {
        (head.hotkey, tail.hotkey): mean(_loss(head, tail, blob, first + place) for place, blob in enumerate(blobs))
        for head, tail in product(heads, tails)
    }
    whole = mean(table.values())
    return {
        player.hotkey: whole - mean(loss for path, loss in table.items() if player.hotkey not in path)
        for player in [*heads, *tails]
    }


@torch.no_grad()
def _loss(head: Player, tail: Player, blob: bytes, number: int) -> float:
    """The loss of one pathway on one microbatch, with the weights that both hold now and the noise that both add."""
    first, last = head.runner, tail.runner
    assert first is not None and last is not None
    model, train = first.spec.model, first.spec.train
    tokens = torch.from_numpy(codec.bytes_to_tokens(blob, (train.microbatch, model.seq + 1), model.vocab)).long()
    sent = codec.encode(first._module(tokens[:, :-1]).numpy(), train.activation_codec)
    for player, runner in ((head, first), (tail, last)):
        sent = blurred(runner, sent, _strength(player.number), number)
    x = codec.decode(sent, (train.microbatch, model.seq, model.boundary), train.activation_codec)
    return float(F.cross_entropy(last._module(torch.from_numpy(x)).flatten(0, 1), tokens[:, 1:].flatten()))


def _strength(number: int) -> float:
    return NOISE[number % STAGES][number // STAGES]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of ranks; values of a measurement do not tie."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def _told(run: Found) -> Found:
    print(
        f"seed {run.seed}: rank correlation {run.whole:.3f} (ceiling {run.ceiling:.3f}), by epoch "
        f"{median(run.epochs):.3f} ({median(run.ceilings):.3f}), of values {run.values:.3f}",
        file=sys.stderr,
    )
    return run
