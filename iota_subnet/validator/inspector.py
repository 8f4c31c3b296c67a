"""Carries out an audit: gets the evidence, has it computed again in a process of its own, says what was found.

Law: nobody waits for it. The evidence is fetched at once, one audit is computed at a time, the rest wait in a bounded
line; what does not fit is void, which is held against nobody. The evidence lies in a folder with the order, so that
whoever doubts a verdict can come to it by `iota audit replay`: that of failed audits is kept, of the others only the
finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from loguru import logger

from iota_subnet.books import STRAYS
from iota_subnet.core.actions import AuditMiner
from iota_subnet.core.audits import MAX_DEPTH
from iota_subnet.core.events import Event, Manifest, MinerAudited
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.train.order import Finding, Order, Owed
from iota_subnet.train.transcript import BadTranscript, decode
from iota_subnet.validator import compute
from iota_subnet.validator.compute import Compute, Shard
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobFetcher, DirStore, FetchFailed
from iota_subnet.wire.signing import Clock
from template.logs import short

#: Audits that may wait; at the default share an epoch of 640 miners. Of more, only these are looked at.
MAX_WAITING = 64

#: Failed audits whose evidence is kept.
KEEP_FAILED = 32

#: Blobs of one miner that are asked for at the same time.
AT_ONCE = 4

#: Miners whose evidence is fetched at the same time.
MINERS_AT_ONCE = 2

#: Characters of a reason that goes into the ledger.
MAX_REASON = 200

Word = Literal["sound", "failed", "withheld", "void"]

ORDER, FINDING, BLOBS = "order.json", "finding.json", "blobs"


class Turns:
    """One at a time, the shortest first: many short audits find more than one long one that they would wait for."""

    def __init__(self) -> None:
        self._busy = False
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0

    @contextlib.asynccontextmanager
    async def of(self, length: int) -> AsyncIterator[None]:
        """Wait for the turn of something that takes so long."""
        if self._busy:
            self._number += 1
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._line, (length, self._number, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise
        self._busy = True
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        """Whoever is next has its turn from this moment on, so that nobody comes between."""
        waiting = (heapq.heappop(self._line)[2] for _ in range(len(self._line)))
        following = next((turn for turn in waiting if not turn.done()), None)
        self._busy = following is not None
        if following is not None:
            following.set_result(None)


class Inspector:
    """One validator's. `state` gives a manifest's bytes as (lo, hi, weights, momentum)."""

    def __init__(
        self,
        spec: RunSpec,
        hotkey: str,
        folder: Path,
        pool: Compute,
        fetcher: BlobFetcher,
        outgoing: Outgoing,
        state: Callable[[Manifest], Awaitable[Sequence[Shard]]],
        post: Callable[[Event], object],
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._hotkey = hotkey
        self._folder = folder
        self._pool = pool
        self._fetcher = fetcher
        self._outgoing = outgoing
        self._state = state
        self._post = post
        self._clock = clock
        self._turns = Turns()
        self._fetching = asyncio.Semaphore(MINERS_AT_ONCE)
        self._waiting: dict[tuple[str, int], None] = {}

    async def audit(self, action: AuditMiner) -> None:
        """Audit one miner's epoch and post what was found; what is asked for twice is done once."""
        key = action.hotkey, action.epoch
        if key in self._waiting:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._say(action, "void", f"{MAX_WAITING} audits are waiting already")
            return
        self._waiting[key] = None
        try:
            found: tuple[Finding | None, str] = await self._audit(action), ""
        except Exception as error:
            # Our own trouble says nothing of the miner.
            logger.opt(exception=error).error("audit of {} in epoch {}", short(action.hotkey), action.epoch)
            found = None, f"{type(error).__name__}: {error}"
        finally:
            del self._waiting[key]
        finding, trouble = found
        begun = {folder_of(self._folder, epoch, hotkey) for hotkey, epoch in self._waiting}
        kept = finding is not None and finding.verdict != "sound"
        await asyncio.to_thread(self._tidy, folder_of(self._folder, action.epoch, action.hotkey), kept, begun)
        # Last: what is said may ask for another audit of the same miner and epoch.
        if finding is None:
            self._say(action, "void", trouble)
            return
        # What was looked at is the beginning; of the tail each pass has losses.
        told = any(entry[5] for entry in action.leases)
        losses = finding.passes if told and finding.verdict == "sound" else 0
        self._say(action, finding.verdict, finding.reason, finding.passes, losses, finding.seconds, finding.batches)

    async def _audit(self, action: AuditMiner) -> Finding:
        folder = folder_of(self._folder, action.epoch, action.hotkey)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        store = DirStore(folder / BLOBS, 1 << 62)
        # At once: what is asked for when its turn has come may be gone by then.
        async with self._fetching:
            for _, _, weights, momentum in await self._state(action.base):
                for part in (weights, momentum):
                    await asyncio.to_thread(store.put, part)
            missing = await self._collect(action, store)
        (folder / ORDER).write_bytes(msgspec.json.encode(order_of(self._spec.to_json(), action)))
        async with self._turns.of(action.depth or MAX_DEPTH):
            raw = await self._pool.run(compute.audit, str(folder), "cpu", 0)
        finding = msgspec.json.decode(raw, type=Finding)
        (folder / FINDING).write_bytes(raw)
        if missing and finding.verdict == "withheld":
            logger.info("audit: {} of {}'s blobs could not be had: {}", len(missing), short(action.hotkey), missing[0])
        logger.info(
            "audit of {} in epoch {}: {}, {}; {:.1f} s",
            short(action.hotkey), action.epoch, finding.verdict, finding.reason, finding.seconds,
        )  # fmt: skip
        return finding

    async def _collect(self, action: AuditMiner, store: DirStore) -> list[str]:
        """Get what the transcript names, as far as it is looked at, and say which could not be had, and why."""
        missing: list[str] = []
        home = action.transcript.urls[0].rpartition("/")[0]
        gate = asyncio.Semaphore(AT_ONCE)

        async def get(digest: str, nbytes: int) -> None:
            async with gate:
                ref = BlobRef(digest, nbytes, (f"{home}/{digest}",))
                blob = self._outgoing.blob(ref, self._hotkey)
                try:
                    data = await self._fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, "audit")
                except FetchFailed as error:
                    missing.append(f"{digest[:12]}: {error.reason}")
                    return
                await asyncio.to_thread(store.put, data, digest=digest)

        await get(action.transcript.digest, action.transcript.nbytes)
        wanted = _named(action, store.get(action.transcript.digest))
        await asyncio.gather(*(get(digest, nbytes) for digest, nbytes in wanted.items()))
        return missing

    def _say(
        self,
        action: AuditMiner,
        verdict: Word,
        reason: str,
        passes: int = 0,
        losses: int = 0,
        seconds: float = 0.0,
        batches: tuple[int, ...] = (),
    ) -> None:
        self._post(
            MinerAudited(
                at=self._clock(),
                hotkey=action.hotkey,
                stage=action.stage,
                epoch=action.epoch,
                verdict=verdict,
                reason=reason[:MAX_REASON],
                passes=passes,
                losses=losses,
                seconds=seconds,
                auditor=action.auditor,
                batches=batches,
            )
        )

    def _tidy(self, folder: Path, kept: bool, begun: set[Path]) -> None:
        """Drop evidence, but none of an audit that has begun: what is not there when its turn comes, the miner has
        withheld."""
        if not kept:
            shutil.rmtree(folder / BLOBS, ignore_errors=True)
        there = sorted({path.parent for path in self._folder.glob(f"*/{BLOBS}")} - begun)
        for old in there[:-KEEP_FAILED]:
            shutil.rmtree(old / BLOBS, ignore_errors=True)


def folder_of(audits: Path, epoch: int, hotkey: str) -> Path:
    """Where the audit of a hotkey's epoch lies."""
    return audits / f"{epoch:06d}-{hotkey}"


def order_of(spec: str, action: AuditMiner) -> Order:
    """What the core asks for, as it is written down; `spec` is the run's specification as JSON."""
    owed = tuple(
        Owed(number, op, batch, tuple(b.digest for b in inputs), output.digest if output else "", losses, done, blamed)
        for number, op, batch, inputs, output, losses, done, blamed in action.leases
    )
    return Order(
        spec=spec,
        hotkey=action.hotkey,
        stage=action.stage,
        epoch=action.epoch,
        manifest=action.base.name,
        base=tuple((s.lo, s.hi, s.weights.digest, s.momentum.digest) for s in action.base.shards),
        steps=action.steps,
        first_lease=action.first_lease,
        owed=owed,
        transcript=action.transcript.digest,
        shards=tuple(shard.digest for shard in action.shards),
        depth=action.depth,
    )


def _named(action: AuditMiner, said: bytes | None) -> dict[str, int]:
    """Sizes of the blobs that an audit reads, by digest: inputs, also those that were called unfit, and outputs with a
    receipt.

    Inputs that the books do not know are as large as their like: all have one shape.
    """
    if said is None:
        return {}
    try:
        passes = decode(said).passes[: action.depth or None]
    except BadTranscript:
        return {}
    known: dict[str, int] = {}
    sizes: dict[tuple[str, int], int] = {}
    for _, op, _, inputs, output, _, _, _ in action.leases:
        known |= {blob.digest: blob.nbytes for blob in inputs}
        sizes |= {(op, place): blob.nbytes for place, blob in enumerate(inputs)}
        if output is not None:
            known[output.digest] = output.nbytes
    wanted = {} if action.depth else {shard.digest: shard.nbytes for shard in action.shards}
    wanted |= {entry[7]: known[entry[7]] for entry in action.leases if entry[7]}
    strays = 0
    for done in passes:
        for place, digest in enumerate(done.inputs):
            nbytes = known.get(digest)
            if nbytes is None and strays < 2 * STRAYS:
                strays += 1
                nbytes = sizes.get((done.op, place))
            if nbytes is not None:
                wanted[digest] = nbytes
        if done.output in known:
            wanted[done.output] = known[done.output]
    return wanted
