"""IotaValidator: wires the orchestrator's shell together and keeps it running. Decides nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from typing import Any

from aiohttp import web
from loguru import logger

from iota_subnet.core.events import Event, Manifest, MetagraphChanged, RunStarted, ShardRef, Tick, ValidatorRestarted
from iota_subnet.core.events import WeightsSet as WeightsSetEvent
from iota_subnet.core.state import Miner
from iota_subnet.messages import ToMiner, ToOrchestrator
from iota_subnet.settings import ValidatorSettings, advertised
from iota_subnet.train.data import DataError, Feed
from iota_subnet.validator import compute
from iota_subnet.validator.audit import Auditor
from iota_subnet.validator.compute import Compute
from iota_subnet.validator.effects import Effects
from iota_subnet.validator.feed import Publisher
from iota_subnet.validator.gateway import Gateway
from iota_subnet.validator.ledger import Ledger, LedgerError, replay
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.validator.service import Service
from iota_subnet.validator.status import snapshot
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, CannotListen, DirStore
from iota_subnet.wire.channel import PATH, ChannelServer
from template.base.validator import BaseValidatorNeuron
from template.chain import Chain, MetagraphView, WeightsResult
from template.errors import BadSettings, PortInUse
from template.synapse import SignedAxon, SignedDendrite
from template.wallet import sign, verify

TICK_S = 0.25


class IotaValidator(BaseValidatorNeuron):
    """A validator neuron that hosts the orchestrator of one run."""

    settings: ValidatorSettings

    def __init__(self, settings: ValidatorSettings, chain: Chain, wallet: Any) -> None:
        super().__init__(settings, chain, wallet)
        self.spec = settings.run.build()
        self.scores_epoch = -1
        self._service: Service | None = None
        self._ticker: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Open the ledger, the servers and the axon; begin the run, or go on with it."""
        run_dir = self.settings.run.dir.expanduser()
        run_dir.mkdir(parents=True, exist_ok=True)
        feed = await self._open_feed()
        held_out = feed.heldout()
        # Pinning the held-out text in the specification makes it part of what every party agrees on.
        pinned = dataclasses.replace(self.spec.data, eval_digest=feed.eval_digest())
        self.spec = dataclasses.replace(self.spec, data=pinned)
        try:
            self.ledger = Ledger(run_dir / "ledger.sqlite", self.spec)
            orchestrator = replay(self.spec, self.ledger)
        except LedgerError as error:
            raise BadSettings(f"--run.dir (RUN_DIR): {error}") from None
        self.pool = Compute()
        self.store = DirStore(run_dir / "blobs", self.settings.blobs.max_bytes)
        self._wire(feed, held_out)
        self._service = Service(orchestrator, self.ledger, self.effects.perform)
        await self._serve_blobs()
        if len(self.ledger) == 0:
            await self._begin()
        else:
            logger.info("the ledger was replayed: {} events, epoch {}", len(self.ledger), orchestrator.state.epoch)
            self._post(ValidatorRestarted(at=self.clock()))
        # Only now: a miner that joined before the run began would find nothing to install.
        await self._serve_axon()
        if self.view is not None:
            await self.on_metagraph(self.view)
        self._ticker = asyncio.create_task(self._tick())

    async def _open_feed(self) -> Feed:
        try:
            return await asyncio.to_thread(Feed, self.spec)
        except DataError as error:
            raise BadSettings(f"--run.data (RUN_DATA): {error}") from None

    def _wire(self, feed: Feed, held_out: list[bytes]) -> None:
        spec, clock, post = self.spec, self.clock, self._post
        signer = self._sign
        swarm = spec.swarm
        self.dendrite = SignedDendrite(self.wallet)
        self.fetcher = BlobFetcher(swarm.max_blob_bytes, store=self.store, try_s=10.0, total_s=30.0)
        self.gateway = Gateway(spec, self._channel_url, self._miner, self._is_registered, post, clock)
        self.channel = ChannelServer(
            hotkey=self.hotkey,
            sign=signer,
            verify=verify,
            who=self.gateway.admits,
            inbound=ToOrchestrator,
            outbound=ToMiner,
            on_message=self.gateway.message,
            on_connect=self.gateway.connected,
            on_disconnect=self.gateway.disconnected,
            spec_digest=spec.digest(),
            max_frame_bytes=swarm.max_frame_bytes,
            max_greetings_per_address=64,
            heartbeat_s=5.0,
        )
        axon = self.settings.axon
        routes = [*self.channel.routes(), web.get("/v1/status", self._status)]
        self.server = BlobServer(
            self.store, axon.ip, self.settings.blobs.port, self.hotkey, verify, clock, extra_routes=routes
        )
        outgoing = Outgoing(spec.digest(), signer, clock, self.store, lambda: self.server)
        self.publisher = Publisher(feed, self.store, lambda: self.server, post, clock)
        self.auditor = Auditor(
            spec, self.hotkey, lambda: self.service.state.sizes, held_out, self.pool, self.fetcher, self.store,
            lambda: self.server, outgoing, post, clock,
        )  # fmt: skip
        self.effects = Effects(
            spec.digest(), outgoing, self.channel, self.dendrite, self.publisher, self.auditor, self._miner,
            self._take_scores, post, clock,
        )  # fmt: skip

    async def _serve_blobs(self) -> None:
        axon = self.settings.axon
        try:
            await self.server.start()
        except CannotListen as error:
            raise PortInUse(axon.ip, self.settings.blobs.port, str(error)) from None
        self.server.advertise = advertised(axon, self.server.url)

    async def _serve_axon(self) -> None:
        axon = self.settings.axon
        self.axon = SignedAxon(
            self.wallet, axon.ip, axon.port, axon.external_ip, axon.external_port, who=self.gateway.who
        )
        self.axon.attach(self.gateway.join).attach(self.gateway.leave)
        await self.axon.start()
        await self.announce_axon(self.axon.port)
        logger.info("orchestrating run {} on axon port {}, data at {}", self.spec.name, self.axon.port, self.server.url)

    async def _begin(self) -> None:
        """Draw the first weights, publish them, and open the ledger."""
        sizes: list[int] = []
        manifests: list[Manifest] = []
        for stage, (size, weights, momentum) in enumerate(
            await self.pool.run(compute.initial_states, self.spec.to_json())
        ):
            refs = [self.server.located(self.store.put(part, pin=True)) for part in (weights, momentum)]
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

    async def step(self) -> None:
        """Nothing of its own: the chain is looked after by `sync`, the run by events."""

    async def on_metagraph(self, view: MetagraphView) -> None:
        hotkeys = tuple(sorted(neuron.hotkey for neuron in view.neurons))
        if self._service is not None and hotkeys != self._service.state.registered:
            self._post(MetagraphChanged(at=self.clock(), hotkeys=hotkeys))

    async def on_weights_set(self, result: WeightsResult) -> None:
        message = result.message if not result.ok else f"block {result.block}"
        self._post(WeightsSetEvent(at=self.clock(), epoch=self.scores_epoch, ok=result.ok, message=message[:200]))

    async def on_stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._service is None:
            return
        await self.axon.stop()
        await self.effects.close()
        await self.channel.close()
        await self.server.stop()
        await self.dendrite.close()
        await self.fetcher.close()
        self.pool.close()
        self.ledger.close()

    @property
    def service(self) -> Service:
        assert self._service is not None
        return self._service

    def _post(self, event: Event) -> list[Any]:
        return self.service.post(event)

    def _miner(self, hotkey: str) -> Miner | None:
        return self.service.state.miners.get(hotkey)

    def _is_registered(self, hotkey: str) -> bool:
        return self.view is not None and hotkey in self.view

    def _channel_url(self) -> str:
        return f"{self.server.url}{PATH}"

    def _sign(self, data: bytes) -> bytes:
        return sign(self.wallet, data)

    def _take_scores(self, epoch: int, scores: dict[str, float]) -> None:
        self.scores = {hotkey: value for hotkey, value in scores.items() if hotkey != self.hotkey}
        self.scores_epoch = epoch

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._post(Tick(at=self.clock()))

    async def _status(self, request: web.Request) -> web.Response:
        document = snapshot(self.service.state, self.clock())
        document["validator"] = self.hotkey
        document["wire"] = {"out": self.server.bytes_out.total, "in": self.fetcher.bytes_in.total}
        return web.json_response(document)
