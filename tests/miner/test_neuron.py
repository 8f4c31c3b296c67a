"""The miner as a neuron: whom it works for, whose orders it takes, and how it ends when it cannot go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from iota_subnet import SPEC_VERSION
from iota_subnet import messages as m
from iota_subnet.core.draw import commitment
from iota_subnet.core.events import Manifest, ShardRef
from iota_subnet.miner.neuron import IotaMiner
from iota_subnet.protocol import AssignLayer, Join, Leave, MergePlan, SetPhase
from iota_subnet.settings import MinerSettings
from iota_subnet.spec import RunSpec
from iota_subnet.train.runner import StageRunner, initial_state
from iota_subnet.train.sharded import ShardedRunner
from iota_subnet.train.team import DevicesLost
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobServer, MemoryStore
from iota_subnet.wire.channel import PATH, ChannelServer
from template import cli
from template.errors import BadSettings, NeuronError
from template.memory import MemoryChain, MemoryLedger
from template.settings import parse
from template.staging import wallet_from_uri
from template.synapse import SignedAxon, SignedDendrite
from template.wallet import sign, verify
from tests.adversaries import Withholder
from tests.validator.kit import eventually, small_spec

SPEC = small_spec(reconnect_s=1.0)


class FakeValidator:
    """Keys, an axon, a channel and blobs; decides nothing, the test does."""

    def __init__(self, subnet: Subnet, name: str, stake: float) -> None:
        self.subnet, self.name = subnet, name
        self.wallet = subnet.wallet(name)
        self.hotkey: str = self.wallet.hotkey.ss58_address
        subnet.ledger.register(1, self.hotkey, stake=stake, validator_permit=True)
        self.joins: list[Join] = []
        self.leaves: list[str] = []
        self.heard: list[m.FromMiner] = []
        self.refusal = ""
        self.spec = SPEC.to_json()
        self.store = MemoryStore(1 << 26)
        self.dendrite = SignedDendrite(self.wallet)
        self.closing = contextlib.AsyncExitStack()

    def sign(self, data: bytes) -> bytes:
        return sign(self.wallet, data)

    async def start(self) -> None:
        self.channel = ChannelServer(
            hotkey=self.hotkey, sign=self.sign, verify=verify, who=lambda hotkey: None, inbound=m.ToOrchestrator,
            outbound=m.ToMiner, on_message=lambda hotkey, message: self.heard.append(message),
            spec_digest=SPEC.digest(),
        )  # fmt: skip
        self.server = BlobServer(self.store, "127.0.0.1", 0, self.hotkey, verify, extra_routes=self.channel.routes())
        self.axon = SignedAxon(self.wallet, "127.0.0.1", 0, who=lambda hotkey: None)
        self.axon.attach(self.join).attach(self.leave)
        for close in (self.dendrite.close, self.server.stop, self.channel.close, self.axon.stop):
            self.closing.push_async_callback(close)  # type: ignore[arg-type]
        await self.server.start()
        await self.axon.start()
        self.subnet.ledger.edit(1, self.hotkey, ip="127.0.0.1", port=self.axon.port)

    async def stop(self) -> None:
        await self.closing.aclose()

    async def join(self, synapse: Join) -> Join:
        self.joins.append(synapse)
        synapse.accepted, synapse.reason = not self.refusal, self.refusal
        synapse.spec, synapse.channel_url = self.spec, f"{self.server.url}{PATH}"
        return synapse

    async def leave(self, synapse: Leave) -> Leave:
        assert synapse.dendrite is not None
        self.leaves.append(str(synapse.dendrite.hotkey))
        synapse.accepted = True
        return synapse

    async def call(self, miner: IotaMiner, synapse: Any) -> Any:
        return await self.dendrite.call(miner.hotkey, "127.0.0.1", miner.axon.port, synapse)

    def manifest(self, stage: int = 0, epoch: int = 0, run: RunSpec = SPEC) -> m.StageManifest:
        size = StageRunner(SPEC, stage).parameters
        weights, momentum = (self.store.put(part) for part in initial_state(SPEC, stage))
        outgoing = Outgoing(run.digest(), self.sign, lambda: 2e9, self.store, lambda: self.server)
        return outgoing.manifest(Manifest(stage, epoch, (ShardRef(0, size, weights, momentum),)), self.hotkey)

    def assignment(self, **changes: Any) -> AssignLayer:
        given = {"spec_digest": SPEC.digest(), "stage": 0, "epoch": 0, "manifest": self.manifest()}
        return AssignLayer(**(given | {"seconds_left": 9.0} | changes))


class Subnet:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = MemoryLedger(block=100)
        self.ledger.add_subnet(1, self.wallet("owner").hotkey.ss58_address)
        self.tasks: list[asyncio.Task[None]] = []

    def wallet(self, name: str) -> Any:
        return wallet_from_uri(self.folder / "wallets", name, name, f"//{name}")

    def make(self, *flags: str, name: str = "miner") -> IotaMiner:
        wallet = self.wallet(name)
        self.ledger.register(1, wallet.hotkey.ss58_address)
        base = ["--netuid", "1", "--wallet.name", name, "--wallet.hotkey", name, "--axon.ip", "127.0.0.1"]
        base += ["--axon.port", "0", "--neuron.state_dir", str(self.folder / "state"), "--neuron.step_s", "0.05"]
        return IotaMiner(
            parse(MinerSettings, [*base, *flags]), MemoryChain(wallet.hotkey.ss58_address, self.ledger), wallet
        )

    def start(self, *flags: str) -> IotaMiner:
        miner = self.make(*flags)
        self.tasks.append(asyncio.create_task(miner.run()))
        return miner


@contextlib.asynccontextmanager
async def subnet(folder: Path, **stakes: float) -> AsyncIterator[tuple[Subnet, dict[str, FakeValidator]]]:
    """Validators that serve, by name and stake; all miners started are stopped at the end."""
    built = Subnet(folder)
    validators = {name: FakeValidator(built, name, stake) for name, stake in stakes.items()}
    for validator in validators.values():
        await validator.start()
    try:
        yield built, validators
    finally:
        for task in built.tasks:
            task.cancel()
        await asyncio.gather(*built.tasks, return_exceptions=True)
        for validator in validators.values():
            await validator.stop()


async def joined(validator: FakeValidator, miner: IotaMiner) -> None:
    await eventually(lambda: miner.hotkey in validator.channel.connected(), what="the work channel")


async def test_the_serving_validator_with_the_most_stake_is_chosen(tmp_path: Path) -> None:
    async with subnet(tmp_path, small=10.0, large=99.0) as (s, v):
        FakeValidator(s, "silent", 1e6)
        s.ledger.register(1, s.wallet("rich miner").hotkey.ss58_address, stake=1e6)
        s.ledger.edit(1, s.wallet("rich miner").hotkey.ss58_address, ip="127.0.0.1", port=1)
        miner = s.start()
        await joined(v["large"], miner)
        assert v["small"].joins == []
        (join,) = v["large"].joins
        assert join.spec_version == SPEC_VERSION and join.boot == miner.boot
        assert join.data_url == miner.server.url and join.axon_port == miner.axon.port


async def test_the_validator_that_the_operator_names_is_chosen(tmp_path: Path) -> None:
    async with subnet(tmp_path, small=10.0, large=99.0) as (s, v):
        miner = s.start("--work.validator", v["small"].hotkey)
        await joined(v["small"], miner)
        assert v["large"].joins == []


async def test_what_is_handed_out_is_for_a_conduct_to_say_and_what_is_kept_is_not(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.make()
        miner.conduct = Withholder()
        s.tasks.append(asyncio.create_task(miner.run()))
        await joined(v["boss"], miner)
        digest = miner.store.put(b"made").digest
        assert miner.store.get(digest) == b"made" and miner.server._store.get(digest) is None
        assert miner.server._archive is miner.evidence.store


async def test_a_miner_without_a_port_takes_its_orders_over_the_work_channel(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        boss, miner = v["boss"], s.start("--blobs.relay", "--axon.ip", "0.0.0.0")
        await joined(boss, miner)
        (join,) = boss.joins
        assert (join.axon_ip, join.axon_port, join.data_url) == ("", 0, "") and miner.server._listener is None
        bodies = [("AssignLayer", boss.assignment().body()), ("Join", b"{}"), ("SetPhase", b"{}")]
        for call, (name, body) in enumerate(bodies):
            boss.channel.send(miner.hotkey, m.Order(call, name, body))
        answers = lambda: [said for said in boss.heard if isinstance(said, m.Obeyed)]  # noqa: E731
        await eventually(lambda: len(answers()) == 3)
        found = {said.call: said for said in answers()}
        assert [found[call].accepted for call in range(3)] == [True, False, False]
        assert "no such order" in found[1].reason and "phase" in found[2].reason
        await eventually(lambda: any(isinstance(said, m.Installed) for said in boss.heard), 60.0)


async def test_other_validators_give_no_orders(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0, other=10.0) as (s, v):
        miner = s.start()
        await joined(v["boss"], miner)
        assert miner.who(v["boss"].hotkey) is None
        assert miner.who(v["other"].hotkey) == "this miner works for another validator"
        assert "not registered" in str(miner.who(s.wallet("stranger").hotkey.ss58_address))
        with pytest.raises(Exception, match="works for another validator"):
            await v["other"].call(miner, v["other"].assignment())


async def test_a_stage_is_installed_and_told(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        boss, miner = v["boss"], s.start()
        await joined(boss, miner)
        assert (await boss.call(miner, boss.assignment())).accepted
        await eventually(lambda: boss.heard)
        assert isinstance(boss.heard[0], m.Installed)
        assert (boss.heard[0].stage, boss.heard[0].epoch) == (0, 0)


async def test_a_miner_whose_device_is_lost_leaves_and_ends(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        boss, miner = v["boss"], s.make("--work.devices", "cpu,cpu")
        running = asyncio.create_task(miner.run())
        s.tasks.append(running)
        await joined(boss, miner)
        assert (await boss.call(miner, boss.assignment())).accepted
        await eventually(lambda: boss.heard, 60)
        runner = miner._engine.runner
        assert isinstance(runner, ShardedRunner)
        os.kill(runner._team._members[1].pid or 0, signal.SIGKILL)
        with pytest.raises(DevicesLost, match="lost: its process ended"):
            await miner._engine.call(lambda runner: runner.pseudo_gradient(2))
        with pytest.raises(DevicesLost):
            await asyncio.wait_for(running, 30)
        assert boss.leaves == [miner.hotkey]


async def test_a_manifest_that_the_validator_did_not_sign_for_this_is_refused(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0, other=10.0) as (s, v):
        boss, miner = v["boss"], s.start()
        await joined(boss, miner)
        good = boss.manifest()
        for manifest in (
            v["other"].manifest(),
            boss.manifest(run=small_spec(lease_s=1.0)),
            boss.manifest(stage=1),
            boss.manifest(epoch=3),
            m.StageManifest(0, 0, 0, good.shards, "not hex"),
            m.StageManifest(0, 0, 0, (), good.signature),
            m.StageManifest(0, 0, 1, good.shards, good.signature),
        ):
            reply = await boss.call(miner, boss.assignment(manifest=manifest))
            assert not reply.accepted and "that you signed" in reply.reason
        reply = await boss.call(miner, boss.assignment(spec_digest="another"))
        assert not reply.accepted and "another run" in reply.reason
        phase = SetPhase(phase="install", epoch=0, seconds_left=1.0, manifest=boss.manifest())
        reply = await boss.call(miner, phase)
        assert not reply.accepted and "for my stage" in reply.reason
        assert miner._engine.runner is None and boss.heard == []


async def test_what_is_asked_for_another_epoch_or_stage_is_refused(tmp_path: Path) -> None:
    """A phase that was on its way for long must not commit what belongs to the next one."""
    async with subnet(tmp_path, boss=99.0) as (s, v):
        boss, miner = v["boss"], s.start()
        await joined(boss, miner)
        await boss.call(miner, boss.assignment())
        await eventually(lambda: boss.heard)
        late = await boss.call(miner, SetPhase(phase="commit", epoch=1, seconds_left=1.0, shards=1))
        assert not late.accepted and late.reason == "this miner holds no work of that epoch"
        for stage, epoch in ((1, 0), (0, 1)):
            plan = MergePlan(stage=stage, epoch=epoch, salt="s", shards=1, seconds_left=1.0, duties=())
            assert not (await boss.call(miner, plan)).accepted
        assert (await boss.call(miner, SetPhase(phase="commit", epoch=0, seconds_left=1.0, shards=1))).accepted
        await eventually(lambda: isinstance(boss.heard[-1], m.Committed))


async def test_a_salt_that_was_not_committed_to_gives_no_duties(tmp_path: Path) -> None:
    """Else the pairs could be chosen when it is known who published what."""
    async with subnet(tmp_path, boss=99.0) as (s, v):
        boss, miner = v["boss"], s.start()
        await joined(boss, miner)
        await boss.call(miner, boss.assignment())
        await eventually(lambda: boss.heard)
        for value in (commitment("true"), commitment("false")):
            await boss.call(miner, SetPhase(phase="train", epoch=0, seconds_left=1.0, commitment=value))
        plan = MergePlan(stage=0, epoch=0, salt="false", shards=1, seconds_left=1.0, duties=())
        reply = await boss.call(miner, plan)
        assert not reply.accepted and "committed to" in reply.reason, "the first commitment binds"
        plan = MergePlan(stage=0, epoch=0, salt="true", shards=1, seconds_left=1.0, duties=())
        assert (await boss.call(miner, plan)).accepted


def test_another_spec_version_ends_with_exit_code_2_and_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(argv: Any) -> None:
        async with subnet(tmp_path, boss=99.0) as (s, v):
            v["boss"].refusal = f"spec version {SPEC_VERSION} does not match; install the same release"
            await asyncio.wait_for(s.make().run(), 10)

    assert cli.main(run, []) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and "install the same release" in line


@pytest.mark.parametrize("spec", ["{}", "rubbish", '{"version": 999}'])
async def test_a_run_this_release_cannot_read_ends_the_miner_with_advice(tmp_path: Path, spec: str) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        v["boss"].spec = spec
        with pytest.raises(NeuronError, match="run"):
            await asyncio.wait_for(s.make().run(), 10)


async def test_a_refusal_is_shown_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iota_subnet.wire.backoff import Backoff

    monkeypatch.setattr("iota_subnet.miner.neuron.REFUSED", Backoff(0.01, 0.02))
    async with subnet(tmp_path, boss=99.0) as (s, v):
        v["boss"].refusal = "all 2 seats are taken; try again later"
        miner = s.start()
        await eventually(lambda: len(v["boss"].joins) >= 3)
        assert miner.doing == "the validator refused: all 2 seats are taken; try again later"
        v["boss"].refusal = ""
        await joined(v["boss"], miner)


async def test_a_validator_that_comes_back_elsewhere_is_found_by_the_chain(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.start("--neuron.epoch_length", "100000")
        await joined(v["boss"], miner)
        await v["boss"].stop()
        s.ledger.advance()
        again = v["again"] = FakeValidator(s, "boss", 99.0)
        await again.start()
        assert again.axon.port != v["boss"].axon.port
        await joined(again, miner)
        assert again.joins[-1].boot == miner.boot


async def test_a_chain_that_is_away_while_the_validator_is_away_does_not_end_the_joining(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.start()
        await joined(v["boss"], miner)
        s.ledger.online = False
        await v["boss"].stop()
        await eventually(lambda: miner.doing.startswith("waiting for the chain"))
        s.ledger.online = True
        again = v["again"] = FakeValidator(s, "boss", 99.0)
        await again.start()
        s.ledger.advance()
        await joined(again, miner)


@pytest.mark.parametrize("what", ["seat", "connection", "installation"])
async def test_who_is_told_that_it_has_no_seat_asks_for_one(tmp_path: Path, what: str) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.start()
        await joined(v["boss"], miner)
        v["boss"].channel.send(miner.hotkey, m.Refusal(what, "join again"))
        await eventually(lambda: len(v["boss"].joins) == 2)


async def test_a_channel_that_ends_at_once_is_not_opened_in_a_hot_loop(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        await v["boss"].channel.close()
        s.start()
        await eventually(lambda: len(v["boss"].joins) >= 4)
        began, joins = asyncio.get_running_loop().time(), len(v["boss"].joins)
        await eventually(lambda: len(v["boss"].joins) > joins)
        assert asyncio.get_running_loop().time() - began > 0.3


async def test_stopping_frees_the_seat_and_an_end_before_joining_is_quiet(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.start()
        await joined(v["boss"], miner)
        miner.stop()
        await asyncio.wait_for(s.tasks[0], 10)
        assert v["boss"].leaves == [miner.hotkey]
        await v["boss"].stop()
        alone = s.start()
        await eventually(lambda: alone.doing.startswith("waiting for the validator"))
        alone.stop()
        await asyncio.wait_for(s.tasks[1], 10)


async def test_a_port_that_is_taken_names_its_flag_and_leaves_nothing_open(tmp_path: Path) -> None:
    async with subnet(tmp_path, boss=99.0) as (s, v):
        miner = s.make("--blobs.port", str(v["boss"].server.port))
        with pytest.raises(BadSettings, match=r"--blobs\.port \(BLOBS_PORT\).*in use by another program"):
            await miner.run()
        other = s.make("--axon.port", str(v["boss"].axon.port))
        with pytest.raises(NeuronError, match=r"--axon\.port"):
            await other.run()
        assert other.server.connections == 0 and other.server._listener is None
