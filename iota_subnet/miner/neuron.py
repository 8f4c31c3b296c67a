"""IotaMiner: joins the validator with most stake, installs the stage it is given, works until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from loguru import logger

from iota_subnet import SPEC_VERSION
from iota_subnet import messages as m
from iota_subnet.core.draw import commitment
from iota_subnet.core.pairs import pairs
from iota_subnet.dashboard.own import own_routes
from iota_subnet.metrics.server import LocalServer
from iota_subnet.miner.bucket import FLAG, open_bucket
from iota_subnet.miner.conduct import Conduct
from iota_subnet.miner.engine import Engine
from iota_subnet.miner.evidence import Evidence
from iota_subnet.miner.merge import PART_S, Merger
from iota_subnet.miner.outbox import Outbox
from iota_subnet.miner.record import Record
from iota_subnet.miner.reporter import Reporter
from iota_subnet.miner.uplink import Uplink
from iota_subnet.miner.work import Worker
from iota_subnet.protocol import AssignLayer, Join, Leave, MergePlan, SetPhase
from iota_subnet.settings import MinerSettings, advertised
from iota_subnet.spec import RunSpec, SpecError
from iota_subnet.statusfile import NAME, StatusFile
from iota_subnet.tasks import cancel
from iota_subnet.train.team import DevicesLost
from iota_subnet.wire.backoff import Backoff
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, Bucket, BucketFailed, CannotListen, DirStore, MemoryStore
from iota_subnet.wire.channel import PATH, ChannelClient
from template.base.miner import BaseMinerNeuron
from template.chain import Chain, NeuronView
from template.errors import BadSettings, NeuronError, PeerError, Refused, Unreachable
from template.logs import short
from template.synapse import SignedAxon, SignedDendrite
from template.wallet import sign, verify

#: Waits between two attempts: quick while the validator may be starting, patient where the answer is no.
AWAY = Backoff(first_s=0.2, max_s=2.0)
REFUSED = Backoff(first_s=1.0, max_s=30.0)

#: A connection that lasted so many seconds was a good one.
STEADY_S = 10.0

#: Between two questions whether we may go.
DRAIN_ASK_S = 0.5

#: Phases in which an epoch's pay is not settled yet.
OPEN = ("train", "commit", "reduce")

#: Bytes a second at which a blob is still worth waiting for.
THIN_BYTES_S = 64e3

#: Failures that one counts as when another process answers to the same hotkey: taking turns would help neither.
REPLACED = 16


S = TypeVar("S", AssignLayer, SetPhase, MergePlan)


class IotaMiner(BaseMinerNeuron):
    """A miner neuron: one replica of one stage. `merger_type` and `worker_type` are for tests of bad miners."""

    settings: MinerSettings
    merger_type: type[Merger] = Merger
    worker_type: type[Worker] = Worker

    def __init__(
        self,
        settings: MinerSettings,
        chain: Chain,
        wallet: Any,
        clock: Callable[[], float] = time.time,
        conduct: Conduct | None = None,
    ) -> None:
        super().__init__(settings, chain, wallet, clock)
        self.conduct = conduct or Conduct()
        self.boot = secrets.token_hex(16)
        self.validator: NeuronView | None = None
        self.spec: RunSpec | None = None
        self.doing = "starting"
        self._engine = Engine(
            settings.work.threads, settings.work.device, settings.work.tuning(), self._without_devices
        )
        self.record = Record()
        self.reporter = Reporter(self.record, self._engine.meter, self._ask, lambda: self.worker.open)
        self.status = StatusFile(settings.state_path.parent / NAME, self._document)
        self._stage = -1
        self._commitment = -1, ""
        self.bucket: Bucket | None = None
        self._channel: ChannelClient | None = None
        self._rejoin = asyncio.Event()
        self._lost = ""
        self._fatal: Exception | None = None
        self._obeying: set[asyncio.Task[None]] = set()
        self._closing = contextlib.AsyncExitStack()

    # Life

    async def run(self) -> None:
        """As BaseNeuron's; raises too what makes all further attempts to join useless."""
        await super().run()
        if self._fatal is not None:
            raise self._fatal

    async def on_start(self) -> None:
        """Open the axon and the blob server, then look for a validator."""
        axon = self.settings.axon
        self._closing.callback(self._engine.close)
        self.dendrite = SignedDendrite(self.wallet, clock=self.clock)
        self.store = MemoryStore(self.settings.blobs.max_bytes)
        folder = self.settings.state_path.parent / "evidence"
        shelf = self.conduct.shelf(DirStore(folder, self.settings.work.evidence_bytes), "evidence")
        self.evidence = Evidence(self.hotkey, shelf)
        self.server = BlobServer(
            self.conduct.shelf(self.store, "outbox"), axon.ip, self.settings.blobs.port, self.hotkey, verify,
            self.clock, archive=shelf,
        )  # fmt: skip
        # No blob is larger than what the store holds; how large those of this run are is for the validator to say.
        limit = self.settings.blobs.max_bytes
        self.fetcher = BlobFetcher(
            limit, store=self.store, connect_s=3.0, try_s=10.0, total_s=20.0, min_bytes_s=THIN_BYTES_S, tries=2
        )
        self._closing.push_async_callback(self.dendrite.close)
        self._closing.push_async_callback(self.fetcher.close)
        self._closing.push_async_callback(self.server.stop)
        self.uplink = Uplink([self.conduct.shelf(self.store, "outbox"), shelf], self.server.bytes_out)
        self._closing.push_async_callback(self.uplink.close)
        if self.settings.blobs.bucket:
            await self._open_bucket()
        elif not self._portless:
            try:
                await self.server.start()
            except CannotListen as error:
                raise BadSettings(f"--blobs.port (BLOBS_PORT): {error.strerror}") from None
            self.server.advertise = advertised(axon, self.server.url)
        self.server.auditors = self._is_validator
        outbox = Outbox(self.store, self.bucket, self.conduct.shelf(self.store, "outbox"))
        self.worker = self.worker_type(self._engine, self.fetcher, outbox, self._send, self.conduct, self.evidence)
        self.merger = self.merger_type(
            self._engine, self.fetcher, outbox, self._send, self._began, self.conduct, self.evidence,
            lambda data: sign(self.wallet, data),
        )  # fmt: skip
        self.axon = SignedAxon(
            self.wallet, axon.ip, axon.port, axon.external_ip, axon.external_port, who=self.who,
            max_body_bytes=axon.max_body_bytes, clock=self.clock,
        )  # fmt: skip
        self.axon.attach(self.assign_layer).attach(self.set_phase).attach(self.merge_plan)
        self._closing.push_async_callback(self.worker.close)
        self._closing.push_async_callback(self.merger.close)
        self._closing.push_async_callback(self.axon.stop)
        self.local = LocalServer(self.settings.local, self._metrics, own_routes(self._document))
        self._closing.push_async_callback(self.local.close)
        await self.local.start()
        if self.bucket is not None:
            logger.info("no open port, data at {}; own page {}", self.bucket.url, self.local.url)
        elif self._portless:
            logger.info("no open port, the validator relays; own page {}", self.local.url)
        else:
            await self.axon.start()
            await self.announce_axon(self.axon.port)
            logger.info("axon on port {}, data at {}, own page {}", self.axon.port, self.server.url, self.local.url)
        self._closing.push_async_callback(self._leave)
        self._closing.callback(lambda: self.status.write(ended=True, state=str(self._fatal or "stopped")))
        reporting = asyncio.create_task(self.reporter.run(self.status, lambda: self.validator is not None))
        self._closing.push_async_callback(cancel, [reporting])
        session = asyncio.create_task(self._stay_joined())
        self._closing.push_async_callback(cancel, [session])
        self._closing.push_async_callback(self._drain)
        self._closing.push_async_callback(self._finish)

    async def on_stop(self) -> None:
        """Close what was opened, the last first."""
        await self._closing.aclose()

    async def step(self) -> None:
        """Say how things stand; the work itself follows the orchestrator's messages."""
        logger.debug(
            "{}; {} leases done, open: {} {}", self.doing, self.worker.done, self.worker.open, self.merger.busy
        )

    def who(self, hotkey: str) -> str | None:
        """Only the validator that this miner works for may give it orders."""
        if self.validator is not None and hotkey == self.validator.hotkey:
            return None
        return super().who(hotkey) or "this miner works for another validator"

    def _without_devices(self, lost: DevicesLost) -> None:
        """Drain and end: a device that was lost comes back, if at all, to a new process."""
        self._fatal = self._fatal or lost
        self.stop()

    # Joining

    async def _stay_joined(self) -> None:
        """Join, work, and join again. Waits grow while nothing lasts; nothing that fails here ends it."""
        failures = 0
        while True:
            self._rejoin.clear()
            self._lost = ""
            try:
                lasted, waits = await self._session()
            except PeerError as error:
                # What was signed in vain, a wrong clock above all, is in vain a second later too.
                hopeless = isinstance(error, Refused) and error.status == 401
                self._say(f"{'the validator refused' if hopeless else 'waiting for the validator'}: {error}")
                lasted, waits = 0.0, REFUSED if hopeless else AWAY
                await self._look_again()
            except Exception as error:
                logger.opt(exception=error).error("{}: {}", self.doing, error)
                lasted, waits = 0.0, REFUSED
            failures = 1 if lasted >= STEADY_S else failures + 1
            if self._lost == "peer:replaced":
                self._say("another process uses this hotkey; stop one of the two")
                failures, waits = max(failures, REPLACED), REFUSED
            await asyncio.sleep(waits.delay_s(failures, random.random))

    async def _session(self) -> tuple[float, Backoff]:
        """From joining to the end of the work channel: how long it was open, and how to wait after it."""
        answer = await self._join()
        if answer is None:
            return 0.0, REFUSED
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._serve_channel(answer)
        return clock() - began, AWAY

    async def _look_again(self) -> None:
        """The validator may have moved since we last looked; nothing on chain changes within a block."""
        try:
            if self.view is None or await self.on_chain(self.chain.block) != self.view.block:
                await self.resync_metagraph()
        except NeuronError as error:
            # Whether it is the end is for the run loop to say, which looks at the chain too.
            self._say(f"waiting for the chain: {error}")

    async def _join(self) -> Join | None:
        """Ask for a seat; None when the answer is no."""
        self.validator = self._choose()
        if self.validator is None:
            raise Unreachable("none serves an axon on this subnet")
        ip, port, host = "", 0, self.bucket.url if self.bucket is not None else ""
        if not self._portless:
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
        self.uplink.url = answer.channel_url.removesuffix(PATH)
        self.evidence.run = "" if self.spec.swarm.overlap else self.spec.digest()
        self.merger.begin()
        self._commitment = -1, ""
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
        self._lost = reason
        self._say(f"work channel: {reason}")
        # Refused means forgotten; unreachable may mean that the validator listens elsewhere after a restart.
        self._rejoin.set()

    # What the validator says

    async def assign_layer(self, synapse: AssignLayer) -> AssignLayer:
        """Take a stage and begin to install its state."""
        if self.spec is None or synapse.spec_digest != self.spec.digest():
            return _refused(synapse, "this miner has joined another run")
        manifest = synapse.manifest
        if (manifest.stage, manifest.epoch) != (synapse.stage, synapse.epoch) or not self._is_signed(manifest):
            return _refused(synapse, "the manifest is not one of this run, stage and epoch that you signed")
        self._say(f"installing stage {synapse.stage} of epoch {synapse.epoch}")
        self._stage = synapse.stage
        self.merger.install(self.spec, manifest, synapse.inner_step or None)
        synapse.accepted = True
        return synapse

    async def set_phase(self, synapse: SetPhase) -> SetPhase:
        """Follow the run's phase."""
        self.doing = f"epoch {synapse.epoch}: {synapse.phase}, {synapse.waiting_for}"
        logger.debug("{}", self.doing)
        install = "install the new state" if synapse.manifest is not None else ""
        own = "publish the pseudo-gradient" if synapse.shards else install
        if synapse.epoch != self._commitment[0]:
            # The first word binds: pairs are drawn with what was committed to before anybody published.
            self._commitment = synapse.epoch, synapse.commitment
        self.reporter.phase(synapse.phase, synapse.epoch, synapse.waiting_for, synapse.seconds_left, own)
        if synapse.manifest is not None:
            if synapse.manifest.stage != self._stage or not self._is_signed(synapse.manifest):
                return _refused(synapse, "the manifest is not one of this run, for my stage, that you signed")
            assert self.spec is not None
            self.merger.install(self.spec, synapse.manifest)
        elif synapse.shards:
            if not self._holds(self._stage, synapse.epoch):
                return _refused(synapse, "this miner holds no work of that epoch")
            self.merger.commit(self._stage, synapse.epoch, synapse.shards)
        synapse.accepted = True
        return synapse

    async def merge_plan(self, synapse: MergePlan) -> MergePlan:
        """Take merge duties."""
        if not self._holds(synapse.stage, synapse.epoch):
            return _refused(synapse, "this miner does not hold that stage at that epoch")
        if self._commitment != (synapse.epoch, commitment(synapse.salt)):
            return _refused(synapse, "the salt is not the one that you committed to before the pseudo-gradients")
        undrawn = _undrawn(synapse, self.hotkey)
        if undrawn:
            # In the place of a reducer that is gone, if the validator is honest; from others' logs one can see it.
            logger.info("epoch {}: shards {} were drawn for others", synapse.epoch, undrawn)
        self.conduct.planned(synapse)
        # The rest of the time is for reducing, and for the validator to do what could not be done.
        part_s = min(PART_S, synapse.seconds_left / 3)
        self.merger.reduce(synapse.stage, synapse.epoch, synapse.duties, part_s)
        self.reporter.duty(f"reduce {len(synapse.duties)} of the stage's shards", synapse.seconds_left)
        synapse.accepted = True
        return synapse

    def _on_message(self, message: m.FromOrchestrator) -> None:
        match message:
            case m.Lease():
                self.record.given(message, time.monotonic())
                self.worker.give(message)
            case m.Withdrawn():
                self.record.withdrawn(message.lease, message.reason)
                self.worker.withdraw(message.lease)
            case m.Contributors():
                self.merger.fix(message)
            case m.Retired():
                self.worker.retire(message.batch)
            case m.Order() if self._portless:
                task = asyncio.get_running_loop().create_task(self._obey(message))
                self._obeying.add(task)
                task.add_done_callback(self._obeying.discard)
            case m.Wanted() if self._portless:
                self.uplink.want(message)
            case m.Refusal(what="leave"):
                pass  # The answer to `Leave` says so too.
            case m.Refusal():
                if message.what not in ("connection", "installation", "seat"):
                    self.reporter.refused(message.what, message.reason)
                else:
                    logger.warning("the validator did not accept {}: {}", message.what, message.reason)
                    # Whoever is told that it has no seat asks for one again.
                    self._rejoin.set()

    async def _obey(self, order: m.Order) -> None:
        """What would have come to the axon, if it had a port."""
        kinds: dict[str, Any] = {
            "AssignLayer": (AssignLayer, self.assign_layer),
            "SetPhase": (SetPhase, self.set_phase),
            "MergePlan": (MergePlan, self.merge_plan),
        }
        try:
            kind, handle = kinds[order.name]
            answer = await handle(kind.from_body(order.body))
            accepted, reason = answer.accepted, answer.reason
        except (KeyError, ValueError) as error:
            accepted, reason = False, f"no such order: {error}"[:200]
        if self._channel is not None:
            self._channel.send(m.Obeyed(order.call, accepted, reason))

    # Help

    @property
    def _portless(self) -> bool:
        """Without an open port: orders come over the work channel, and what is not in a bucket is relayed."""
        return self.settings.blobs.relay or bool(self.settings.blobs.bucket)

    async def _open_bucket(self) -> None:
        self.bucket = open_bucket(self.settings.blobs, self.hotkey, self.server.bytes_out)
        self._closing.push_async_callback(self.bucket.close)
        try:
            await self.bucket.prove(lambda ref: self.fetcher.fetch(ref, ""))
        except BucketFailed as error:
            raise BadSettings(f"{FLAG}: {error}") from None
        if await self.bucket.listed():
            logger.warning("{}: everybody can list this bucket; allow s3:GetObject and not s3:ListBucket", FLAG)

    def _is_validator(self, hotkey: str) -> bool:
        return self.view is not None and self.view.votes(hotkey)

    def _began(self, epoch: int) -> None:
        self.worker.sweep(epoch)
        self.evidence.sweep(epoch)

    def _holds(self, stage: int, epoch: int) -> bool:
        runner = self._engine.runner
        return runner is not None and (runner.stage, runner.epoch) == (stage, epoch)

    async def _leave(self) -> None:
        if self.validator is not None and self.spec is not None:
            with contextlib.suppress(PeerError):
                await self._ask(Leave(reason="stopped by its operator"), 2.0)

    async def _finish(self) -> None:
        """Work on until the epoch is closed: work whose transcript nobody can ask for is not paid."""
        now, patience_s = self._engine.meter, self.settings.work.finish_s
        epoch = now.epoch
        if not patience_s or self._fatal or now.phase not in OPEN:
            return
        logger.info("finishing epoch {} first; {:.0f} s at most, interrupt again to go at once", epoch, patience_s)
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience_s
        while clock() < deadline:
            if now.epoch > epoch or now.phase not in OPEN:
                return
            await asyncio.sleep(DRAIN_ASK_S)
        logger.warning("epoch {} took longer than {:.0f} s (--work.finish_s)", epoch, patience_s)

    async def _drain(self) -> None:
        """Work on until the validator lets us go: what only this process holds would have to be done again."""
        patience_s = self.settings.work.drain_s
        if self._channel is None or self.validator is None or not patience_s:
            return
        clock = asyncio.get_running_loop().time
        deadline, told = clock() + patience_s, ""
        while clock() < deadline and self._channel is not None:
            try:
                answer: Leave = await self._ask(Leave(reason="stopped by its operator", drain=True), 2.0)
            except Unreachable:
                # Busy, or going: the work channel ends soon after its validator, and with it this.
                await asyncio.sleep(DRAIN_ASK_S)
                continue
            except PeerError:
                return
            if answer.accepted:
                self.validator = None
                return
            if answer.needed_for != told:
                told = answer.needed_for
                left = deadline - clock()
                logger.info("leaving: {}; {:.0f} s at most, interrupt again to go at once", told, left)
            await asyncio.sleep(DRAIN_ASK_S)
        logger.warning(
            "leaving after {:.0f} s (--work.drain_s) although this miner is {}", patience_s, told or "needed"
        )

    def _is_signed(self, manifest: m.StageManifest) -> bool:
        validator = self.validator
        if self.spec is None or validator is None or manifest.stage >= self.spec.model.stages:
            return False
        line = m.manifest_line(self.spec.digest(), manifest.name)
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
        delivered = self._channel is not None and self._channel.send(message)
        self.record.sent(message, delivered, time.monotonic())

    def _document(self) -> dict[str, Any]:
        """The status file, but for what the file adds itself. Nothing in it is secret."""
        wallet, spec = self.settings.wallet, self.spec
        return {
            "kind": "miner",
            "hotkey": self.hotkey,
            "wallet": wallet.name,
            "wallet_hotkey": wallet.hotkey,
            "netuid": self.settings.netuid,
            "state": self.doing,
            "connected": self._channel is not None and self._channel.connected,
            "run": spec.name if spec is not None else "",
            "validator": self.validator.hotkey if self.validator is not None else "",
            "stage": self._stage,
            "epoch": self._engine.meter.epoch,
            "phase": self._engine.meter.phase,
            "axon_port": 0 if self._portless else self.axon.port,
            "data_url": self.bucket.url if self.bucket is not None else "" if self._portless else self.server.url,
            "local_url": self.local.url,
            "leases_done": self.worker.done,
            "merge_duties": self.merger.busy,
        } | self.reporter.document()

    def _metrics(self) -> Iterable[Any]:
        from iota_subnet.metrics.work import work_metrics

        yield from work_metrics(self._document(), self.server.bytes_out.by_label(), self.fetcher.bytes_in.by_label())

    def _say(self, doing: str) -> None:
        if doing != self.doing:
            self.doing = doing
            logger.info("{}", doing)


def _refused(synapse: S, reason: str) -> S:
    synapse.accepted, synapse.reason = False, reason
    return synapse


def _undrawn(plan: MergePlan, hotkey: str) -> list[int]:
    """The duties that the salt does not give to `hotkey`."""
    committed = tuple(contribution.hotkey for contribution in plan.duties[0].contributions) if plan.duties else ()
    drawn = pairs(committed, plan.shards, plan.salt, plan.stage)
    return [d.shard for d in plan.duties if d.shard >= len(drawn) or hotkey not in drawn[d.shard]]
