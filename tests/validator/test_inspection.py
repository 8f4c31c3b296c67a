"""Audits of a living swarm: the honest are found sound to the bit, a cheat is found, by more than one validator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.cli import main
from iota_subnet.core.state import RunState
from iota_subnet.messages import Lease
from iota_subnet.miner.conduct import Conduct
from iota_subnet.miner.neuron import IotaMiner
from iota_subnet.protocol import Dossier
from iota_subnet.settings import ValidatorSettings
from iota_subnet.train import codec
from iota_subnet.train.order import Finding
from iota_subnet.train.runner import StageRunner
from iota_subnet.validator import audit_fetch, dossiers
from iota_subnet.validator.follower import IotaFollower
from iota_subnet.wire.blobs import BlobFetcher
from template.errors import NeuronError
from template.memory import MemoryChain
from template.settings import parse
from template.synapse import SignedDendrite

from .swarm import NETUID, Swarm, ThreadCompute, swarm

#: Seconds in which all ends on the slowest machine, and deadlines that no honest miner misses there. Nobody waits for
#: them on a quick one.
PATIENCE_S = 300.0
CALM = {name: 60.0 for name in ("lease_s", "ready_s", "train_s", "drain_s", "commit_s", "reduce_s", "install_s")}


class Louder(Conduct):
    """Sends back twice the gradient: the loss shows it late, an audit at once."""

    def backward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
        return twice(runner, super().backward(runner, lease, inputs))

    def loss(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> tuple[bytes, list[float]]:
        gradient, losses = super().loss(runner, lease, inputs)
        return twice(runner, gradient), losses

    def forward(self, runner: StageRunner, lease: Lease, inputs: Sequence[bytes]) -> bytes:
        return twice(runner, super().forward(runner, lease, inputs))


def twice(runner: StageRunner, blob: bytes) -> bytes:
    train, model = runner.spec.train, runner.spec.model
    if not blob:
        return blob
    values = codec.decode(blob, (train.microbatch, model.seq, model.boundary), train.activation_codec)
    return codec.encode(2 * values, train.activation_codec, "twice")


class LoudMiner(IotaMiner):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more, conduct=Louder())


def follow(s: Swarm) -> IotaFollower:
    """A second validator, with stake and a permit."""
    s.chain.register(NETUID, s.hotkey("second"), stake=500.0, validator_permit=True)
    flags = ["--run.dir", str(s.folder / "second"), "--run.follow", "auto"]
    settings = parse(ValidatorSettings, [*s.flags("second"), *flags])
    chain = MemoryChain(s.hotkey("second"), s.chain)
    follower = IotaFollower(settings, chain, s.wallet("second"), pool=ThreadCompute())
    s.tasks[follower] = asyncio.create_task(follower.run())
    return follower


def weights(s: Swarm, validator: str) -> dict[str, int]:
    found = s.chain.weights_of(NETUID, s.hotkey(validator))
    return {name: found.get(s.chain.register(NETUID, s.hotkey(name)), 0) for name in s.miners}


async def dossier(s: Swarm, name: str, out: Path) -> tuple[int, Finding]:
    """What a miner gets who asks the validator for what the newest verdict against it rests on."""
    dendrite = SignedDendrite(s.wallet(name))

    async def ask(synapse: Dossier) -> Dossier:
        axon = s.validator.axon
        return await dendrite.call(s.validator.hotkey, "127.0.0.1", axon.port, synapse, timeout_s=PATIENCE_S)

    try:
        async with BlobFetcher(1 << 24) as fetcher:
            return await audit_fetch.fetch(ask, -1, out, fetcher)
    finally:
        await dendrite.close()


async def test_honest_miners_are_found_sound_to_the_bit(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=4, epochs=2, audit_miners=1.0, **CALM) as s:
        state = await s.finished(within_s=PATIENCE_S)
        await s.until(lambda: not state.open_audits, PATIENCE_S, "the audits")
        verdicts = [verdict for found in state.verdicts.values() for verdict in found]
        assert len(verdicts) == sum(report.audits for report in state.reports) >= 4
        assert {verdict.verdict for verdict in verdicts} == {"sound"} and not state.faults
        assert all(verdict.passes > 0 for verdict in verdicts)
        findings = [json.loads(path.read_text()) for path in (tmp_path / "run" / "audits").glob("*/finding.json")]
        assert len(findings) == len(verdicts)
        assert all(found["exact"] == found["passes"] > 0 for found in findings)


async def found(s: Swarm, state: RunState) -> None:
    loud = s.hotkey("loud")
    await s.until(lambda: any(fault.hotkey == loud for fault in state.faults), PATIENCE_S, "the cheat to be found")
    await s.until(lambda: loud not in state.miners, PATIENCE_S, "the cheat to lose its seat")


async def test_a_cheat_is_found_loses_its_seat_and_its_weight_and_is_shown_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dossiers, "PAGE", 5)
    async with swarm(tmp_path, miners=4, epochs=3, audit_miners=1.0, **CALM) as s:
        s.add_miner("loud", LoudMiner)
        await s.until(lambda: s.validator._service is not None, PATIENCE_S, "the validator")
        await found(s, s.state)
        with pytest.raises(NeuronError, match="no audit of this hotkey was other than sound"):
            await dossier(s, "miner-0", tmp_path / "theirs")
        _, finding = await dossier(s, "loud", tmp_path / "mine")
        assert finding.verdict == "failed" and any(finding.reason in fault.what for fault in s.state.faults)
        assert await asyncio.to_thread(main, ["audit", "replay", str(tmp_path / "mine"), "--json"]) == 1
        again = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (again["reason"], again["passes"]) == (finding.reason, finding.passes)
        assert len(list((tmp_path / "mine" / "blobs").iterdir())) > 5
        state = await s.finished(within_s=PATIENCE_S)
        assert {fault.hotkey for fault in state.faults} == {s.hotkey("loud")}
        assert "loud" not in {name for name, weight in weights(s, "validator").items() if weight}
        assert all(weight > 0 for name, weight in weights(s, "validator").items() if name != "loud")


async def test_a_second_validator_comes_to_its_own_verdicts_and_weights(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=4, epochs=3, audit_miners=0.6, **CALM) as s:
        s.add_miner("loud", LoudMiner)
        await s.until(lambda: s.validator._service is not None, PATIENCE_S, "the validator")
        second = follow(s)
        await s.finished(within_s=PATIENCE_S)
        end = len(s.validator.ledger)
        await s.until(lambda: second.core is not None and second.head.seq >= end, PATIENCE_S, "the end")
        assert second.core is not None
        told, heard = s.state, second.core.state
        assert told.volume == heard.volume and told.manifests == heard.manifests and told.miners == heard.miners
        own = [v for found in heard.verdicts.values() for v in found if v.auditor == second.hotkey]
        assert own and {v.verdict for v in own} <= {"sound", "failed"}
        await s.until(lambda: any(weights(s, "second").values()), PATIENCE_S, "weights of the second validator")
        judged = {hotkey: v.verdict for hotkey, found in heard.verdicts.items() for v in found if v.auditor}
        for hotkey, word in judged.items():
            assert (word == "failed") == (hotkey == s.hotkey("loud"))
