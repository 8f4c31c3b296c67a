"""IotaMiner: joins the validator with most stake, installs the stage it is given, works until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any, TypeVar

from loguru import logger

from iota_subnet import SPEC_VERSION
from iota_subnet import messages as m
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.merge import Merger
from iota_subnet.miner.outbox import Outbox
from iota_subnet.miner.work import Worker
from iota_subnet.protocol import AssignLayer, Join, Leave, MergePlan, SetPhase
from iota_subnet.settings import MinerSettings, advertised
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, CannotListen, MemoryStore
from iota_subnet.wire.channel import ChannelClient
from template.base.miner import BaseMinerNeuron
from template.chain import Chain, NeuronView
from template.errors import BadSettings, NeuronError, PeerError, PortInUse
from template.logs import short
from template.synapse import SignedAxon, SignedDendrite
from template.wallet import sign, verify

#: Seconds between two attempts to join.
JOIN_S = 1.0


S = TypeVar("S", AssignLayer, SetPhase, MergePlan)


class IotaMiner(BaseMinerNeuron):
    """A miner neuron: one replica of one stage."""

    settings: MinerSettings

    def __init__(self, settings: MinerSettings, chain: Chain, wallet: Any) -> None:
        super().__init__(settings, chain, wallet)
        self.boot = secrets.token_hex(16)
        self.validator: NeuronView | None = None
        self.spec: RunSpec | None = None
        self.doing = "starting"
        self._engine = Engine(settings.work.threads, settings.work.device)
        self._channel: ChannelClient | None = None
        self._session: asyncio.Task[None] | None = None
        self._rejoin = asyncio.Event()
        self._fatal: NeuronError | None = None

    # Life

    async def on_start(self) -> None:
        """Open the axon and the blob server, then look for a validator."""
        axon = self.settings.axon
        self.dendrite = SignedDendrite(self.wallet)
        self.store = MemoryStore(self.settings.blobs.max_bytes)
        self.server = BlobServer(self.store, axon.ip, self.settings.blobs.port, self.hotkey, verify, self.clock)
        try:
            await self.server.start()
        except CannotListen as error:
            raise PortInUse(axon.ip, self.settings.blobs.port, str(error)) from None
        self.server.advertise = advertised(axon, self.server.url)
        self.fetcher = BlobFetcher(64 << 20, store=self.store, connect_s=3.0, try_s=10.0, total_s=20.0, tries=2)
        outbox = Outbox(self.store)
        self.worker = Worker(self._engine, self.fetcher, outbox, self._send)
        self.merger = Merger(self._engine, self.fetcher, outbox, self._send)
        self.axon = SignedAxon(self.wallet, axon.ip, axon.port, axon.external_ip, axon.external_port, who=self.who)
        self.axon.attach(self.assign_layer).attach(self.set_phase).attach(self.merge_plan)
        await self.axon.start()
        await self.announce_axon(self.axon.port)
        logger.info("axon on port {}, data at {}", self.axon.port, self.server.url)
        self._session = asyncio.create_task(self._stay_joined())

    async def on_stop(self) -> None:
        if self._session is None:
            return
        self._session.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._session
        if self.validator is not None and self.spec is not None:
            with contextlib.suppress(PeerError):
                await self._ask(Leave(reason="stopped by its operator"), 2.0)
        await self.axon.stop()
        await self.worker.close()
        await self.merger.close()
        await self.server.stop()
        await self.fetcher.close()
        await self.dendrite.close()
        self._engine.close()

    async def step(self) -> None:
        """Say how things stand; the work itself follows the orchestrator's messages."""
        if self._fatal is not None:
            raise self._fatal
        logger.debug(
            "{}; {} leases done, open: {} {}", self.doing, self.worker.done, self.worker.open, self.merger.busy
        )

    def who(self, hotkey: str) -> str | None:
        """Only the validator that this miner works for may give it orders."""
        if self.validator is not None and hotkey == self.validator.hotkey:
            return None
        return super().who(hotkey) or "this miner works for another validator"

    # Joining

    async def _stay_joined(self) -> None:
        while True:
            self._rejoin.clear()
            try:
                answer = await self._join()
            except PeerError as error:
                self._say(f"waiting for the validator: {error}")
                await asyncio.sleep(JOIN_S)
                continue
            if answer is None:
                await asyncio.sleep(JOIN_S)
                continue
            await self._serve_channel(answer)

    async def _join(self) -> Join | None:
        """Ask for a seat; None when there is nobody to ask or the answer is no."""
        self.validator = self._choose()
        if self.validator is None:
            self._say("waiting for a validator that serves an axon")
            await self.resync_metagraph()
            return None
        host = advertised(self.settings.axon, self.server.url)
        ip, port = self.settings.axon.announced(self.axon.port)
        answer: Join = await self._ask(
            Join(
                spec_version=SPEC_VERSION,
                boot=self.boot,
                axon_ip=ip,
                axon_port=port,
                data_url=host,
                threads=self.settings.work.threads,
            )
        )
        if not answer.accepted:
            if "spec version" in answer.reason:
                self._fatal = NeuronError(f"{short(self.validator.hotkey)} refused this miner: {answer.reason}")
                self.stop()
            self._say(f"the validator refused: {answer.reason}")
            return None
        try:
            self.spec = RunSpec.from_json(answer.spec)
        except SpecError as error:
            self._fatal = BadSettings(str(error))
            self.stop()
            return None
        self.server.issuer = self.validator.hotkey
        return answer

    def _choose(self) -> NeuronView | None:
        """The serving validator with the most stake, or the one that was asked for."""
        assert self.view is not None
        wanted = self.settings.work.validator
        serving = [
            neuron
            for neuron in self.view.neurons
            if neuron.is_serving
            and neuron.hotkey != self.hotkey
            and (neuron.validator_permit or neuron.hotkey == wanted)
        ]
        if wanted is not None:
            serving = [neuron for neuron in serving if neuron.hotkey == wanted]
        return max(serving, key=lambda neuron: (neuron.stake, -neuron.uid), default=None)

    async def _serve_channel(self, answer: Join) -> None:
        """Keep the work channel open until the validator has forgotten us."""
        assert self.validator is not None and self.spec is not None
        self._channel = channel = ChannelClient(
            answer.channel_url,
            hotkey=self.hotkey,
            server_hotkey=self.validator.hotkey,
            sign=lambda data: sign(self.wallet, data),
            verify=verify,
            inbound=m.ToMiner,
            outbound=m.ToOrchestrator,
            on_message=self._on_message,
            on_connect=lambda: self._say("connected, waiting for a stage"),
            on_disconnect=self._on_lost,
            on_failure=self._on_lost,
            spec_digest=self.spec.digest(),
            max_frame_bytes=self.spec.swarm.max_frame_bytes,
            heartbeat_s=5.0,
            backoff=Backoff(first_s=0.2, max_s=2.0),
        )
        running = asyncio.create_task(channel.run())
        try:
            await self._rejoin.wait()
        finally:
            channel.stop()
            await running
            self._channel = None

    def _on_lost(self, reason: str) -> None:
        self._say(f"work channel: {reason}")
        # Refused means forgotten; unreachable may mean that the validator listens elsewhere after a restart.
        self._rejoin.set()

    # What the validator says

    async def assign_layer(self, synapse: AssignLayer) -> AssignLayer:
        """Take a stage and begin to install its state."""
        if self.spec is None or synapse.spec_digest != self.spec.digest():
            return _refused(synapse, "this miner has joined another run")
        if synapse.stage >= self.spec.model.stages or not self._is_signed(synapse.manifest):
            return _refused(synapse, "the manifest is not one of this run that you signed")
        self._say(f"installing stage {synapse.stage} of epoch {synapse.epoch}")
        await self._engine.open(self.spec, synapse.stage)
        self.merger.install(synapse.manifest)
        synapse.accepted = True
        return synapse

    async def set_phase(self, synapse: SetPhase) -> SetPhase:
        """Follow the run's phase."""
        runner = self._engine.runner
        self._say(f"epoch {synapse.epoch}: {synapse.phase}, {synapse.waiting_for}")
        if synapse.manifest is not None:
            if not self._is_signed(synapse.manifest):
                return _refused(synapse, "the manifest is not one of this run that you signed")
            self.merger.install(synapse.manifest)
        elif synapse.shards and runner is not None:
            self.merger.commit(runner.stage, synapse.epoch, synapse.shards)
        synapse.accepted = True
        return synapse

    async def merge_plan(self, synapse: MergePlan) -> MergePlan:
        """Take merge duties."""
        runner = self._engine.runner
        if runner is None or runner.stage != synapse.stage or runner.epoch != synapse.epoch:
            return _refused(synapse, "this miner does not hold that stage at that epoch")
        self.merger.reduce(synapse.stage, synapse.epoch, synapse.duties)
        synapse.accepted = True
        return synapse

    def _on_message(self, message: m.FromOrchestrator) -> None:
        match message:
            case m.Lease():
                self.worker.give(message)
            case m.Withdrawn():
                self.worker.withdraw(message.lease)
            case m.Contributors():
                self.merger.fix(message)
            case m.Retired():
                self.worker.retire(message.batch)
            case m.Refusal():
                logger.warning("the validator did not accept {}: {}", message.what, message.reason)
                if message.what in ("connection", "seat"):
                    self._rejoin.set()

    # Help

    def _is_signed(self, manifest: m.StageManifest) -> bool:
        assert self.spec is not None
        validator = self.validator
        if validator is None or manifest.stage >= self.spec.model.stages:
            return False
        line = m.manifest_line(self.spec.digest(), manifest.stage, manifest.epoch, m.signed_parts(manifest))
        try:
            signature = bytes.fromhex(manifest.signature)
        except ValueError:
            return False
        return verify(validator.hotkey, line, signature)

    async def _ask(self, synapse: Any, timeout_s: float = 10.0) -> Any:
        assert self.validator is not None
        return await self.dendrite.call(
            self.validator.hotkey, self.validator.ip, self.validator.port, synapse, timeout_s=timeout_s
        )

    def _send(self, message: m.FromMiner) -> None:
        """Not connected: after a reconnect the validator asks again, and gets the kept answer."""
        if self._channel is not None:
            self._channel.send(message)

    def _say(self, doing: str) -> None:
        if doing != self.doing:
            self.doing = doing
            logger.info("{}", doing)


def _refused(synapse: S, reason: str) -> S:
    synapse.accepted, synapse.reason = False, reason
    return synapse
