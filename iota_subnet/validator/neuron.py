"""IotaValidator: wires the orchestrator's shell together and keeps it running. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiohttp import web
from loguru import logger

from iota_subnet import SPEC_VERSION
from iota_subnet.core.events import Event, Manifest, MetagraphChanged, RunStarted, ShardRef, Tick, ValidatorRestarted
from iota_subnet.core.events import WeightsSet as WeightsSetEvent
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Miner, RunState
from iota_subnet.dashboard.server import Dashboard
from iota_subnet.messages import ToMiner, ToOrchestrator, Wanted
from iota_subnet.metrics.server import LocalServer
from iota_subnet.protocol import History
from iota_subnet.settings import ValidatorSettings, advertised
from iota_subnet.spec import SpecError
from iota_subnet.statusfile import NAME, StatusFile
from iota_subnet.train.data import DataError, Feed
from iota_subnet.validator import compute, history
from iota_subnet.validator.audit import Auditor
from iota_subnet.validator.checkpoints import BLOBS, Checkpoints
from iota_subnet.validator.collector import Rounds, calm
from iota_subnet.validator.compute import Compute
from iota_subnet.validator.dossiers import Dossiers, Shelf
from iota_subnet.validator.effects import Effects
from iota_subnet.validator.feed import Publisher
from iota_subnet.validator.gateway import Gateway
from iota_subnet.validator.inspector import Inspector
from iota_subnet.validator.journal import FILE
from iota_subnet.validator.ledger import Ledger, LedgerError, replay
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.validator.service import Service
from iota_subnet.validator.standing import standing
from iota_subnet.validator.status import pointer, snapshot
from iota_subnet.wire.blobs import THIN_BYTES_S, BlobFetcher, BlobServer, CannotListen, DirStore, StoreFull
from iota_subnet.wire.channel import PATH, ChannelServer
from iota_subnet.wire.relay import PREFIX, Relay
from template.base.validator import BaseValidatorNeuron
from template.chain import Chain, MetagraphView, WeightsResult
from template.errors import BadSettings, NeuronError
from template.synapse import SignedAxon, SignedDendrite
from template.wallet import sign, verify

TICK_S = 0.25

#: Seconds without a tick after which this process, or its clock, must have stood still.
STALL_S = 3.0


class IotaValidator(BaseValidatorNeuron):
    """A validator neuron that hosts the orchestrator of one run.

    `check` tests the core's invariants after every event. `pool` computes what others wait
    for, `replays` what audits need; a process each if none is given.
    """

    settings: ValidatorSettings

    def __init__(
        self,
        settings: ValidatorSettings,
        chain: Chain,
        wallet: Any,
        *,
        pool: Compute | None = None,
        replays: Compute | None = None,
        tick_s: float = TICK_S,
        check: bool = False,
    ) -> None:
        super().__init__(settings, chain, wallet)
        self.spec = settings.run.build()
        self.scores_epoch = -1
        self.pool = pool or Compute()
        # Audits wait for nobody and nobody for them: what others wait for has a process of its own.
        self.replays = replays or pool or Compute(nice=5)
        self._tick_s = tick_s
        self._check = check
        self._service: Service | None = None
        self._defect: Exception | None = None
        self._posted_at = math.inf
        self._closing = contextlib.AsyncExitStack()

    async def on_start(self) -> None:
        """Open the ledger, the servers and the axon; begin the run, or go on with it; then let miners in."""
        self._closing.callback(self.pool.close)
        self._closing.callback(self.replays.close)
        run_dir = self.settings.run.dir.expanduser()
        run_dir.mkdir(parents=True, exist_ok=True)
        feed = await self._open_feed()
        held_out = feed.heldout()
        # Pinning the held-out text in the specification makes it part of what every party agrees on.
        pinned = dataclasses.replace(self.spec.data, eval_digest=feed.eval_digest())
        self.spec = dataclasses.replace(self.spec, data=pinned)
        orchestrator = self._open_ledger(run_dir)
        self.store = DirStore(run_dir / BLOBS, self.settings.blobs.max_bytes)
        self.checkpoints = Checkpoints(run_dir)
        self._wire(feed, held_out, run_dir)
        self._service = Service(orchestrator, self.ledger, self.effects.perform, self._check)
        await self._serve()
        if len(self.ledger) == 0:
            await self._begin()
        else:
            logger.info("the ledger was replayed: {} events, epoch {}", len(self.ledger), orchestrator.state.epoch)
            self._recall(orchestrator.state)
            self._post(ValidatorRestarted(at=self.clock()))
        if self.view is not None:
            await self.on_metagraph(self.view)
        self.dashboard.hub.start()
        # Only now: a miner that joined before the run began would find nothing to install, and the seconds in which
        # the chain heard of a new port would be taken from the time that miners have to come back.
        self.gateway.opened = True
        ticker = asyncio.create_task(self._tick())
        self._closing.callback(ticker.cancel)
        file = StatusFile(
            self.settings.state_path.parent / NAME, lambda: pointer(self.settings, self.hotkey, self.server)
        )
        self._closing.callback(lambda: file.write(ended=True, state="stopped"))
        writer = asyncio.create_task(file.keep())
        self._closing.callback(writer.cancel)
        self._closing.enter_context(calm())

    def _open_ledger(self, run_dir: Path) -> Orchestrator:
        try:
            self.ledger = Ledger(run_dir / FILE, self.spec, self.settings.run.keep_events)
            self._closing.callback(self.ledger.close)
            return replay(self.spec, self.ledger)
        except LedgerError as error:
            raise BadSettings(f"--run.dir (RUN_DIR): {error}") from None

    async def _open_feed(self) -> Feed:
        try:
            return await asyncio.to_thread(Feed, self.spec)
        except DataError as error:
            raise BadSettings(f"--run.data (RUN_DATA): {error}") from None

    def _wire(self, feed: Feed, held_out: list[bytes], run_dir: Path) -> None:
        spec, clock, post = self.spec, self.clock, self._post
        signer = self._sign
        swarm = spec.swarm
        axon = self.settings.axon
        self.dendrite = SignedDendrite(self.wallet, max_body_bytes=axon.max_body_bytes)
        self.fetcher = BlobFetcher(
            swarm.max_blob_bytes, store=self.store, try_s=10.0, total_s=30.0, min_bytes_s=THIN_BYTES_S
        )
        self.gateway = Gateway(
            spec,
            self._channel_url,
            self._miner,
            self._announced,
            post,
            clock,
            lambda: self.service.state,
            verify,
            self._relayed,
            lambda hotkey, message: self.effects.orders.answered(hotkey, message),
        )
        self.channel = ChannelServer(
            hotkey=self.hotkey,
            sign=signer,
            verify=verify,
            who=self.gateway.admits,
            inbound=ToOrchestrator,
            outbound=ToMiner,
            on_message=self.gateway.message,
            on_connect=self.gateway.connected,
            on_disconnect=self._disconnected,
            spec_digest=spec.digest(),
            max_frame_bytes=swarm.max_frame_bytes,
            max_greetings_per_address=64,
            heartbeat_s=5.0,
        )
        self.dashboard = Dashboard(
            lambda: self.service.state, lambda: self.view, clock,
            lambda hotkey: standing(self.service.state, hotkey, clock()),
            self.hotkey, self.settings.netuid, self.settings.neuron.burn,
        )  # fmt: skip
        self.relay = Relay(
            lambda hotkey, digest, token: self.channel.send(hotkey, Wanted(digest, token)),
            lambda digest, ticket: self.server.admit(digest, ticket),
            self.settings.blobs.relay_bytes, swarm.max_blob_bytes,
        )  # fmt: skip
        routes = [
            *self.channel.routes(),
            *self.relay.routes(),
            *self.dashboard.routes(),
            web.get("/v1/status", self._status),
        ]
        shelf = Shelf()
        self.server = BlobServer(
            self.store, axon.ip, self.settings.blobs.port, self.hotkey, verify, clock, extra_routes=routes,
            archive=shelf,
        )  # fmt: skip
        outgoing = Outgoing(spec.digest(), signer, clock, self.store, lambda: self.server, self._all_miners)
        try:
            self.publisher = Publisher(feed, self.store, run_dir / "feed.json", post, clock)
        except DataError as error:
            raise BadSettings(f"--run.dir (RUN_DIR): {error}") from None
        self.auditor = Auditor(
            spec, self.hotkey, lambda: self.service.state.sizes, held_out, self.pool, self.fetcher, self.store,
            outgoing, post, clock, self.checkpoints, self.settings.run.keep_checkpoints,
        )  # fmt: skip
        self.inspector = Inspector(
            spec, self.hotkey, run_dir / "audits", self.replays, self.fetcher, outgoing, self.auditor.state, post, clock
        )
        self.dossiers = Dossiers(
            run_dir / "audits", shelf, outgoing, lambda digest: self.server.url_of(digest), lambda: self.service.state
        )
        self.effects = Effects(
            spec.digest(), outgoing, self.channel, self.dendrite, self.publisher, self.auditor, self.inspector,
            self._miner, self._take_scores, post, clock,
        )  # fmt: skip

    async def _serve(self) -> None:
        """Listen, and put the address on chain. Nobody is let in yet."""
        axon = self.settings.axon
        self.local = LocalServer(self.settings.local, self._metrics)
        for close in (
            self.fetcher.close, self.dendrite.close, self.local.close, self.server.stop, self.channel.close,
            self.dashboard.hub.close,
        ):  # fmt: skip
            self._closing.push_async_callback(close)
        try:
            await self.server.start()
        except CannotListen as error:
            raise BadSettings(f"--blobs.port (BLOBS_PORT): {error.strerror}") from None
        await self.local.start()
        self.server.advertise = advertised(axon, self.server.url)
        self.server.auditors = self._is_validator
        self.axon = SignedAxon(
            self.wallet, axon.ip, axon.port, axon.external_ip, axon.external_port, who=self.gateway.who,
            max_body_bytes=axon.max_body_bytes,
        )  # fmt: skip
        for handler in (self.gateway.join, self.gateway.leave, self.gateway.standing, self.dossiers.answer):
            self.axon.attach(handler)
        self.axon.attach(self._history)
        self._closing.push_async_callback(self.effects.close)
        self._closing.push_async_callback(self.axon.stop)
        await self.axon.start()
        await self.announce_axon(self.axon.port)
        logger.info("orchestrating run {} on axon port {}, data at {}", self.spec.name, self.axon.port, self.server.url)
        logger.info("the dashboard: {}/   metrics: {}metrics", self.server.url, self.local.url)

    async def _begin(self) -> None:
        """Draw the first weights, publish them, and open the ledger."""
        sizes: list[int] = []
        manifests: list[Manifest] = []
        for stage, (size, weights, momentum) in enumerate(await self._first_states()):
            try:
                refs = [self.store.put(part, pin=True) for part in (weights, momentum)]
            except StoreFull as error:
                raise BadSettings(f"--blobs.max_bytes (BLOBS_MAX_BYTES): {error}") from None
            sizes.append(size)
            manifests.append(Manifest(stage, 0, (ShardRef(0, size, refs[0], refs[1]),)))
        self._post(
            RunStarted(
                at=self.clock(),
                spec_digest=self.spec.digest(),
                secret=secrets.token_hex(32),
                sizes=tuple(sizes),
                manifests=tuple(manifests),
            )
        )

    async def _first_states(self) -> list[tuple[int, bytes, bytes]]:
        """Size, weights and momentum of each stage before the first epoch."""
        if not self.spec.init:
            return await self.pool.run(compute.initial_states, self.spec.to_json())
        folder = self.settings.run.init
        if folder is None:
            raise BadSettings(
                "--run.init (RUN_INIT): this run begins with a model's weights; say in which folder they are"
            )
        try:
            return await self.pool.run(compute.imported_states, self.spec.to_json(), str(folder))
        except SpecError as error:
            raise BadSettings(f"--run.init (RUN_INIT): {error}") from None

    def _recall(self, state: RunState) -> None:
        """What the process before this one had in mind: the scores it was to publish, the blobs it was to keep."""
        for report in [report for report in state.reports if report.scores][-1:]:
            self._take_scores(report.epoch, report.scores)
        kept = [*state.former, *state.safe, *state.manifests]
        kept += [manifest for made in self.checkpoints.readable() for manifest in made.manifests]
        self.auditor.remember(kept)
        refs = [ref for manifest in kept for s in manifest.shards for ref in (s.weights, s.momentum)]
        refs += [batch.tokens for batch in state.batches.values() if batch.tokens is not None]
        accepted = [shard.accepted for merge in state.merges for shard in merge.shards if shard.accepted is not None]
        refs += [ref for shard in accepted for ref in (shard.weights, shard.momentum)]
        needed = {ref.digest for ref in refs}
        # Without this, what a crash left pinned would stay for ever.
        self.store.unpin([digest for digest in self.store.digests() if digest not in needed])

    async def step(self) -> None:
        """Nothing of its own: the chain is looked after by `sync`, the run by events. Raises what stopped the clock."""
        defect, self._defect = self._defect, None
        if isinstance(defect, LedgerError):
            raise NeuronError(f"--run.dir (RUN_DIR): {defect}")
        if defect is not None:
            raise defect

    async def on_metagraph(self, view: MetagraphView) -> None:
        hotkeys = tuple(sorted(neuron.hotkey for neuron in view.neurons))
        if self._service is not None and hotkeys != self._service.state.registered:
            self._post(MetagraphChanged(at=self.clock(), hotkeys=hotkeys))

    async def on_weights_set(self, result: WeightsResult) -> None:
        message = result.message if not result.ok else f"block {result.block}"
        self._post(WeightsSetEvent(at=self.clock(), epoch=self.scores_epoch, ok=result.ok, message=message[:200]))

    async def on_stop(self) -> None:
        """Close what was opened, the last first; first of all nothing is taken down any more."""
        if self._service is not None:
            self._service.close()
            self._service.save()
        await self._closing.aclose()

    @property
    def service(self) -> Service:
        """The shell of the core. AssertionError before `on_start`."""
        assert self._service is not None
        return self._service

    def _post(self, event: Event) -> list[Any]:
        self._notice_stall()
        return self.service.post(event)

    def _notice_stall(self) -> None:
        """A validator that stood still is one that was away: nobody could keep a deadline, and no event that comes
        first thereafter, whichever it is, may find them passed."""
        now = self.clock()
        gap, self._posted_at = now - self._posted_at, now
        if gap > STALL_S:
            logger.warning("this process or its clock stood still for {:.0f} s; deadlines are moved by as much", gap)
            for hotkey in self.channel.connected():
                # Whoever is still there comes back at once and is asked again for what is open.
                self.channel.disconnect(hotkey, "stalled")
            self.service.post(ValidatorRestarted(at=now))

    def _miner(self, hotkey: str) -> Miner | None:
        return self.service.state.miners.get(hotkey)

    def _all_miners(self) -> Iterable[Miner]:
        return self.service.state.miners.values()

    def _announced(self, hotkey: str) -> str | None:
        neuron = self.view.by_hotkey(hotkey) if self.view is not None else None
        return None if neuron is None else neuron.ip

    def _relayed(self, hotkey: str) -> str:
        return f"{self.server.url}{PREFIX}/{hotkey}" if self.relay.max_bytes else ""

    def _disconnected(self, hotkey: str, reason: str) -> None:
        self.relay.lost(hotkey)
        self.effects.orders.lost(hotkey)
        self.gateway.disconnected(hotkey, reason)

    def _channel_url(self) -> str:
        return f"{self.server.url}{PATH}"

    def _sign(self, data: bytes) -> bytes:
        return sign(self.wallet, data)

    def _take_scores(self, epoch: int, scores: dict[str, float]) -> None:
        self.scores = {hotkey: value for hotkey, value in scores.items() if hotkey != self.hotkey}
        self.scores_epoch = epoch

    async def _tick(self) -> None:
        """Time passes. A failure does not stop it; `step` tells of it, and too many in a row end the neuron."""
        self._posted_at = self.clock()
        rounds = Rounds(self._posted_at)
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                self._post(Tick(at=self.clock()))
                rounds.look(self.service.state.phase, self.clock())
            except Exception as error:
                self._defect = error

    async def _history(self, synapse: History) -> History:
        """Another validator follows the run. Only those who hold a permit: the ledger names the run's secret."""
        assert synapse.dendrite is not None and synapse.dendrite.hotkey is not None
        if not self._is_validator(synapse.dendrite.hotkey):
            synapse.reason = "the ledger is shown to validators: a permit, and a tenth of the largest stake"
            return synapse
        if synapse.after < self.ledger.base().seq:
            synapse.reason = (
                "the oldest events are gone (--run.keep_events); who follows from the beginning comes too late"
            )
            return synapse
        head = self.ledger.head()
        synapse.spec, synapse.data_url = self.spec.to_json(), advertised(self.settings.axon, self.server.url)
        synapse.lines = history.page(self.ledger.rows(synapse.after))
        synapse.head, synapse.digest = head.seq, head.digest.hex()
        return synapse

    def _is_validator(self, hotkey: str) -> bool:
        return self.view is not None and self.view.votes(hotkey)

    def _metrics(self) -> Iterable[Any]:
        from iota_subnet.metrics.run import run_metrics, served_metrics

        yield from run_metrics(self.service.state, self.view, self.clock())
        yield from served_metrics(
            self.server.bytes_out.by_label() | self.relay.bytes_out.by_label(),
            self.fetcher.bytes_in.by_label() | self.relay.bytes_in.by_label(),
            len(self.ledger),
            self.dashboard.hub,
        )

    async def _status(self, request: web.Request) -> web.Response:
        """The run as JSON, for everybody."""
        document = snapshot(self.service.state, self.clock())
        document["validator"] = self.hotkey
        document["spec_version"], document["time"] = SPEC_VERSION, round(self.clock(), 3)
        document["wire"] = {"out": self.server.bytes_out.total, "in": self.fetcher.bytes_in.total}
        return web.json_response(document)
