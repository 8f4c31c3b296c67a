"""IotaFollower: a validator that does not orchestrate. It reads the orchestrator's ledger, plays it on a core of its
own, audits miners that it has drawn itself, and sets weights by what it has found.

Law: what has happened is one story for all, and each event of it is chained to the one before; what a miner has earned
is each validator's own word. The orchestrator's verdicts decide who keeps a seat, and nothing of these scores; its
draws and ours are independent, so a miner that one of the two spares still meets the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from iota_subnet.core.actions import Action, AuditMiner, PublishScores
from iota_subnet.core.events import Event, Manifest, MinerAudited
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.protocol import History
from iota_subnet.settings import ValidatorSettings
from iota_subnet.spec import BlobRef, RunSpec, SpecError
from iota_subnet.validator import history
from iota_subnet.validator.compute import Compute, Shard
from iota_subnet.validator.inspector import Inspector
from iota_subnet.validator.journal import LedgerError, Mark, decode, genesis
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import THIN_BYTES_S, BlobFetcher, DirStore
from template.base.validator import BaseValidatorNeuron
from template.chain import Chain, NeuronView
from template.errors import BadSettings, NeuronError, PeerError
from template.logs import short
from template.synapse import SignedDendrite
from template.wallet import sign

#: Seconds that one page may take.
PAGE_S = 10.0

#: Where a follower keeps its secret and its verdicts: one JSON document per line.
OPINIONS = "opinions.jsonl"


class Opinion(msgspec.Struct, frozen=True):
    """A verdict of ours, and the number of the event after which it was given. The first line holds the secret."""

    after: int
    verdict: MinerAudited | None = None
    secret: str = ""


class IotaFollower(BaseValidatorNeuron):
    """A validator neuron that follows another one's ledger. `pool` computes audits; a process of its own if none."""

    settings: ValidatorSettings

    def __init__(self, settings: ValidatorSettings, chain: Chain, wallet: Any, *, pool: Compute | None = None) -> None:
        super().__init__(settings, chain, wallet)
        self.pool = pool or Compute(nice=5)
        self.head = Mark(0, b"")
        self.orchestrator = ""
        self.core: Orchestrator | None = None
        self._spec: RunSpec | None = None
        self._data_url = ""
        self._folder = settings.run.dir.expanduser()
        self._opinions: list[Opinion] = []
        self._asked: dict[tuple[str, int, int], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._inspector: Inspector | None = None
        self._closing = contextlib.AsyncExitStack()

    async def on_start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._closing.callback(self.pool.close)
        self.dendrite = SignedDendrite(self.wallet)
        self._closing.push_async_callback(self.dendrite.close)
        self._opinions = _read(self._folder / OPINIONS)
        if not self._opinions:
            self._remember(Opinion(0, secret=secrets.token_hex(32)))

    async def on_stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._closing.aclose()

    async def step(self) -> None:
        """Read what is new, then look into what we have drawn."""
        source = self._source()
        if source is None:
            raise NeuronError("no validator serves a ledger on this subnet; this is tried again")
        if source.hotkey != self.orchestrator and self.core is not None:
            logger.warning("{} orchestrates now; its ledger is read from the beginning", short(source.hotkey))
            self.core, self.head = None, Mark(0, b"")
        self.orchestrator = source.hotkey
        try:
            while await self._page(source):
                pass
        except PeerError as error:
            logger.warning("the ledger of {}: {}", short(source.hotkey), error)
        except LedgerError as error:
            raise NeuronError(f"the ledger of {source.hotkey} cannot be followed: {error}") from None
        self._look()

    def _source(self) -> NeuronView | None:
        """The validator whose ledger counts: the one that was named, or the serving one with the most stake."""
        assert self.view is not None
        wanted = self.settings.run.follow
        serving = [n for n in self.view.neurons if n.is_serving and n.hotkey != self.hotkey]
        if wanted != "auto":
            serving = [n for n in serving if n.hotkey == wanted]
        return max((n for n in serving if n.validator_permit), key=lambda n: (n.stake, -n.uid), default=None)

    async def _page(self, source: NeuronView) -> bool:
        """Ask for what follows the head; whether there was anything."""
        reply: History = await self.dendrite.call(
            source.hotkey, source.ip, source.port, History(after=self.head.seq), timeout_s=PAGE_S
        )
        if reply.reason:
            raise LedgerError(reply.reason)
        if self.core is None:
            self._open(reply)
        self._data_url = reply.data_url
        for row in history.rows(self.head, reply.lines):
            self._play(decode(row))
            self.head = Mark(row.seq, row.digest)
            for opinion in [known for known in self._opinions if known.after == row.seq and known.verdict is not None]:
                assert opinion.verdict is not None
                self._judge(opinion.verdict)
        if reply.head == self.head.seq and reply.digest != self.head.digest.hex():
            raise LedgerError("its events do not add up to the digest that it has signed: it has told another story")
        return bool(reply.lines)

    def _open(self, reply: History) -> None:
        """The specification is part of what the first digest covers."""
        try:
            spec = RunSpec.from_json(reply.spec)
        except SpecError as error:
            raise LedgerError(str(error)) from None
        self._spec, self.head = spec, genesis(reply.spec)
        self.core = Orchestrator(spec)
        self.core.state.auditor, self.core.state.audit_secret = self.hotkey, self._opinions[0].secret
        limit = spec.swarm.max_blob_bytes
        fetcher = BlobFetcher(limit, try_s=10.0, total_s=30.0, min_bytes_s=THIN_BYTES_S)
        self._closing.push_async_callback(fetcher.close)
        store = DirStore(self._folder / "blobs", self.settings.blobs.max_bytes)
        outgoing = Outgoing(
            spec.digest(), lambda data: sign(self.wallet, data), self.clock, store, self._no_server, self._miners,
            elsewhere=lambda: self._data_url,
        )  # fmt: skip

        async def state(manifest: Manifest) -> list[Shard]:
            shards = outgoing.shards(manifest, self.hotkey)
            parts = [
                await fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, "manifest")
                for shard in shards
                for blob in (shard.weights, shard.momentum)
            ]
            return [(s.lo, s.hi, parts[2 * i], parts[2 * i + 1]) for i, s in enumerate(shards)]

        self._inspector = Inspector(
            spec, self.hotkey, self._folder / "audits", self.pool, fetcher, outgoing, state, self._found, self.clock
        )
        logger.info("following run {} of {}", spec.name, short(self.orchestrator))

    def _play(self, event: Event) -> None:
        assert self.core is not None
        self._take(self.core.handle(event))

    def _judge(self, verdict: MinerAudited) -> None:
        assert self.core is not None
        self._take(self.core.judge(verdict))

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, PublishScores):
                self.scores = {hotkey: value for hotkey, value in action.scores if hotkey != self.hotkey}

    def _look(self) -> None:
        """Begin the audits that are ours and not begun; those of long ago have left the core's list by now."""
        if self.core is None or self._inspector is None:
            return
        for (hotkey, epoch, auditor), found in self.core.state.open_audits.items():
            if auditor == self.hotkey and (hotkey, epoch, found.order.depth) not in self._asked:
                self._asked[hotkey, epoch, found.order.depth] = None
                self._begin(found.order)

    def _begin(self, order: AuditMiner) -> None:
        assert self._inspector is not None
        task = asyncio.get_running_loop().create_task(self._inspector.audit(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _found(self, event: Event) -> None:
        """A verdict of ours: kept, so that a restart comes to the same scores."""
        assert isinstance(event, MinerAudited)
        self._remember(Opinion(self.head.seq, event))
        self._judge(event)

    def _remember(self, opinion: Opinion) -> None:
        self._opinions.append(opinion)
        with (self._folder / OPINIONS).open("ab") as file:
            file.write(msgspec.json.encode(opinion) + b"\n")

    def _miners(self) -> Any:
        return self.core.state.miners.values() if self.core is not None else ()

    def _no_server(self) -> Any:
        raise AssertionError("a follower serves no blobs")


def _read(path: Path) -> list[Opinion]:
    if not path.is_file():
        return []
    try:
        return [msgspec.json.decode(line, type=Opinion) for line in path.read_bytes().splitlines()]
    except msgspec.DecodeError as error:
        raise BadSettings(f"--run.dir (RUN_DIR): {path} is damaged: {error}; move it away to begin anew") from None
