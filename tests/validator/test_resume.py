"""The manifest is the checkpoint: a run goes on from its validator's disk alone, on miners that never saw it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from iota_subnet.core import orchestrator
from iota_subnet.core.events import Evaluated
from iota_subnet.core.state import Phase
from iota_subnet.model.importing import weights_digest, weights_of
from iota_subnet.train.state import unpack_state
from iota_subnet.validator.checkpoints import Checkpoints
from template.errors import BadSettings
from tests.model.llama import a_llama

from .kit import small_spec, write_text
from .swarm import Swarm, conserved, swarm

PATIENT = {"commit_s": 60.0, "reduce_s": 60.0, "install_s": 60.0, "lease_s": 60.0, "ready_s": 60.0}


def losses(s: Swarm, epoch: int) -> list[float]:
    return [e.loss for e in s.validator.ledger.events() if isinstance(e, Evaluated) and e.epoch == epoch]


async def test_a_run_goes_on_from_its_checkpoint_on_new_miners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "RESTART_S", 1.0)  # nobody who was there before comes back
    async with swarm(tmp_path, epochs=3, epoch_batches=10, reconnect_s=0.5, **PATIENT) as s:
        await s.phase(Phase.TRAIN, epoch=1)
        for name in list(s.miners):  # first, so that the run stands still while it is measured
            await s.crash(s.miners.pop(name))
        await s.until(lambda: losses(s, s.state.epoch), what="the checkpoint")
        made = Checkpoints(tmp_path / "run").load(s.state.epoch)
        manifests = [manifest.name for manifest in s.state.manifests]
        assert [manifest.name for manifest in made.manifests] == manifests
        await s.crash(s.validator)
        shutil.rmtree(tmp_path / "state")

        up = s.add_validator()
        await s.until(lambda: up._service is not None and up.gateway.opened, what="the restart")
        for number in range(3):
            s.add_miner(f"stranger-{number}")
        strangers = {miner.hotkey for miner in s.miners.values()}
        await s.until(lambda: len(losses(s, made.epoch)) >= 2, what="that it is measured again")
        assert set(losses(s, made.epoch)) == {made.loss}
        state = await s.finished(within_s=60.0)
        assert conserved(state) and not state.faults
        later = [report for report in state.reports if report.epoch >= made.epoch]
        assert later
        for report in later:
            assert report.replicas_identical and report.coverage == [1.0, 1.0], (report, state.faults)
        assert {hotkey for report in later[1:] for hotkey, score in report.scores.items() if score > 0} >= strangers
        assert later[-1].eval_loss is not None and later[-1].eval_loss < made.loss


async def test_a_run_begins_with_a_llamas_weights(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    a_llama(folder, vocab_size=256, num_hidden_layers=3, max_position_embeddings=32)

    class Begun(Swarm):
        def flags(self, name: str) -> list[str]:
            return [*super().flags(name), *(["--run.init", str(folder)] if name == "validator" else [])]

    spec = small_spec(write_text(tmp_path / "text"))
    spec = replace(spec, model=replace(spec.model, bottleneck=0))
    weights = weights_of(folder, spec.model, spec.seed)
    spec = replace(spec, init=weights_digest(weights))
    s = Begun(tmp_path, spec)
    up = s.add_validator()
    try:
        await s.until(lambda: up._service is not None and up.gateway.opened, what="the start")
        for manifest, vector in zip(s.state.manifests, weights, strict=True):
            shards = [
                (x.lo, x.hi, up.store.get(x.weights.digest), up.store.get(x.momentum.digest)) for x in manifest.shards
            ]
            held, momentum = unpack_state(shards, vector.size)  # type: ignore[arg-type]
            assert np.array_equal(held, vector) and not momentum.any()
        assert up.spec.init == spec.init
    finally:
        await s.leave(up)


@pytest.mark.parametrize("flags", [[], ["--run.init", "OTHER"]])
async def test_other_weights_than_the_specification_names_are_refused(tmp_path: Path, flags: list[str]) -> None:
    a_llama(tmp_path / "llama", vocab_size=256, num_hidden_layers=3, max_position_embeddings=32)

    class Begun(Swarm):
        def flags(self, name: str) -> list[str]:
            return [*super().flags(name), *(flag.replace("OTHER", str(tmp_path / "llama")) for flag in flags)]

    spec = small_spec(write_text(tmp_path / "text"))
    spec = replace(spec, init="0" * 64, model=replace(spec.model, bottleneck=0))
    s = Begun(tmp_path, spec)
    with pytest.raises(BadSettings, match=r"--run\.init"):
        await s.tasks[s.add_validator()]
