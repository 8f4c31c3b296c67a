"""CLASP's credit against exact values: every pathway of a small swarm, measured on the model as it is.

The value of a miner is what the mean loss over all pathways loses when those through it are left out. Miners differ by
the noise that they add to what crosses the boundary of the two stages, on its way out or in.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import replace
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

#: Noise of each replica of a stage, against the activation's own size.
NOISE = (0.0, 0.4, 0.8)
STAGES = 2

#: Held-out microbatches on which every pathway is measured.
PROBES = 12


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


def shapley(options: Any) -> list[Row]:
    """Rank correlation of credit and exact value, epoch by epoch and over the whole run."""
    work = [(seed, options.epochs, 2 * options.batches) for seed in range(options.seeds)]
    if options.jobs < 2:
        found = [_told(one(*args)) for args in work]
    else:
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            found = [_told(run) for run in pool.imap(_one, work)]
    return [
        row("CLASP against exact leave-one-out, rank correlation in one epoch", "rho",
            [rho for _, epochs, _ in found for rho in epochs], "goal, at least", [0.9]),
        row("CLASP against exact leave-one-out, rank correlation over the run", "rho",
            [whole for whole, _, _ in found], "goal, at least", [0.9]),
        row("CLASP against exact, correlation of values over the run", "r",
            [line for _, _, line in found], "goal, at least", [0.9]),
    ]  # fmt: skip


def _one(args: tuple[int, int, int]) -> tuple[int, float, list[float], float]:
    return one(*args)


def one(seed: int, epochs: int, batches: int) -> tuple[int, float, list[float], float]:
    """Seed, rank correlation over the run, epoch by epoch, and the correlation of values over the run."""
    members = [Member(number % STAGES, conduct=noisy(NOISE[number // STAGES])) for number in range(STAGES * len(NOISE))]
    spec = spec_of(epochs, batches, 0.0, STAGES)
    # An audit would find who adds noise, and nobody would be left to give credit to.
    spec = replace(spec, swarm=replace(spec.swarm, audit_passes=0.0))
    exact: list[dict[str, float]] = []

    def look(world: Rehearsal) -> None:
        if world.core.state.phase is Phase.COMMIT:
            exact.append(values(world))

    result = Rehearsal(spec, members, seed, on_phase=look).run()
    rhos = []
    for truth, effects in zip(exact, result.effects, strict=True):
        seen = [hotkey for hotkey in truth if hotkey in effects]
        rhos.append(spearman([effects[hotkey].effect for hotkey in seen], [truth[hotkey] for hotkey in seen]))
    hotkeys = list(result.miners)
    credit = [mean(effects[hotkey].effect for effects in result.effects if hotkey in effects) for hotkey in hotkeys]
    worth = [mean(truth[hotkey] for truth in exact if hotkey in truth) for hotkey in hotkeys]
    return seed, spearman(credit, worth), rhos, float(np.corrcoef(credit, worth)[0, 1])


def values(world: Rehearsal) -> dict[str, float]:
    """Harm of each miner, nats: mean loss over all pathways, less that over those without it. No state changes."""
    players = [player for player in world.players.values() if player.runner is not None]
    heads, tails = ([p for p in players if p.runner is not None and p.runner.stage == stage] for stage in range(2))
    blobs = world.hands.feed.heldout()[:PROBES]
    table = {
        (head.hotkey, tail.hotkey): mean(_loss(head, tail, blob, number) for number, blob in enumerate(blobs))
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
        sent = blurred(runner, sent, _strength(player), number)
    x = codec.decode(sent, (train.microbatch, model.seq, model.boundary), train.activation_codec)
    return float(F.cross_entropy(last._module(torch.from_numpy(x)).flatten(0, 1), tokens[:, 1:].flatten()))


def _strength(player: Player) -> float:
    return NOISE[player.number // STAGES]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of ranks; values of a measurement do not tie."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def _told(run: tuple[int, float, list[float], float]) -> tuple[float, list[float], float]:
    seed, whole, epochs, line = run
    print(f"seed {seed}: rank correlation {whole:.3f}, by epoch {median(epochs):.3f}", file=sys.stderr)
    return whole, epochs, line
