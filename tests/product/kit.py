"""The folder of a run that was never run: ledger, blobs and checkpoints as a validator leaves them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from iota_subnet.core.events import Evaluated, Manifest, RunStarted, ShardRef
from iota_subnet.model.parameters import initial_vector
from iota_subnet.spec import DataSpec, ModelSpec, RunSpec, TrainSpec, shard_bounds
from iota_subnet.train.codec import Floats
from iota_subnet.train.data import Feed
from iota_subnet.train.evaluate import evaluate
from iota_subnet.train.state import pack_state
from iota_subnet.validator.checkpoints import BLOBS, Checkpoints, checkpoint
from iota_subnet.validator.journal import FILE
from iota_subnet.validator.ledger import Ledger
from iota_subnet.wire.blobs import DirStore

NOW = 1_000_000.0
MODEL = ModelSpec("small", 256, 32, 4, 4, 2, 48, 32, stages=2, bottleneck=8)


def write_text(folder: Path) -> str:
    """Some text; the source that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = "the model and its miners learn what a text may say next ".split()
    rng = np.random.default_rng(0)
    for number in range(40):
        (folder / f"{number}.txt").write_text(" ".join(rng.choice(words, 200)) + "\n")
    return f"text:{folder}/*.txt"


def spec_of(folder: Path, **model: object) -> RunSpec:
    data = DataSpec(write_text(folder / "text"))
    spec = RunSpec("made", model=replace(MODEL, **model), train=TrainSpec(microbatch=4), data=data)
    return replace(spec, data=replace(data, eval_digest=Feed(spec).eval_digest()))


def weights_of(spec: RunSpec, epoch: int) -> list[Floats]:
    """The first weights, and others for each epoch after that."""
    rng = np.random.default_rng(epoch)
    first = [initial_vector(spec.model, stage, spec.seed) for stage in range(spec.model.stages)]
    return [w + np.float32(0.05) * rng.standard_normal(w.size, np.float32) if epoch else w for w in first]


def make_run(folder: Path, epochs: int = 2, **model: object) -> RunSpec:
    """A run directory with checkpoints of the epochs 0, 1, ..., all of whose blobs are there."""
    run_dir = folder / "run"
    run_dir.mkdir(parents=True)
    spec = spec_of(folder, **model)
    store = DirStore(run_dir / BLOBS, 1 << 28)
    checkpoints = Checkpoints(run_dir)
    held_out = Feed(spec).heldout()
    events: list[RunStarted | Evaluated] = []
    for epoch in range(epochs):
        weights = weights_of(spec, epoch)
        manifests = tuple(_manifest(store, stage, epoch, vector) for stage, vector in enumerate(weights))
        if not epoch:
            sizes = tuple(vector.size for vector in weights)
            events.append(RunStarted(at=NOW, spec_digest=spec.digest(), secret="s", sizes=sizes, manifests=manifests))
        made = checkpoint(epoch, evaluate(spec, weights, held_out), NOW + epoch, spec.digest(), manifests)
        checkpoints.save(made)
        names = tuple(manifest.name for manifest in manifests)
        events.append(Evaluated(at=NOW + epoch, epoch=epoch, loss=made.loss, manifests=names))
    ledger = Ledger(run_dir / FILE, spec)
    ledger.append(*events)
    ledger.close()
    return spec


def _manifest(store: DirStore, stage: int, epoch: int, weights: Floats) -> Manifest:
    momentum = np.full_like(weights, 0.01 * epoch)
    shards = []
    for lo, hi in shard_bounds(weights.size, 1 + 2 * epoch):
        blobs = pack_state(weights[lo:hi], momentum[lo:hi])
        shards.append(ShardRef(lo, hi, *(store.put(blob, pin=True) for blob in blobs)))
    return Manifest(stage, epoch, tuple(shards))
