"""The validator's half without its neuron: real core, ledger, border, effects, auditor and blob server.

Instead of axon, dendrite and websocket there is one unix socket per replica; a replica whose socket ends is away, as
one whose work channel breaks. Training is a word to the replicas and receipts that the harness writes itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from bittensor_wallet import Keypair
from peers.group import cpu_seconds

import iota_subnet
from iota_subnet import messages as m
from iota_subnet.core.events import (
    BatchPublished,
    Event,
    LeaseFinished,
    Manifest,
    MinerJoined,
    RunStarted,
    ShardRef,
    Tick,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase
from iota_subnet.protocol import AssignLayer, MergePlan, SetPhase
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.validator import compute
from iota_subnet.validator.audit import Auditor
from iota_subnet.validator.compute import Compute
from iota_subnet.validator.effects import Effects
from iota_subnet.validator.gateway import Gateway
from iota_subnet.validator.ledger import Ledger
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.validator.service import Service
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, MemoryStore
from swarm import words
from template.errors import Unreachable
from template.wallet import verify

TICK_S = 0.25
START_S = 60.0


@dataclass
class Merge:
    """One merge. `seconds`: from the first word that asks for a commit to the last report of an installed state."""

    seconds: float = 0.0
    began: float = 0.0
    #: When each phase began, seconds after `began`.
    phases: dict[str, float] = field(default_factory=dict)
    #: Bytes of blobs that each living replica served.
    sent: list[int] = field(default_factory=list)
    #: CPU seconds of the replicas that lived, and of the validator.
    cpu: float = 0.0
    digests: set[str] = field(default_factory=set)
    coverage: float = 0.0
    recomputed: int = 0
    error: float = 0.0
    off: float = 0.0
    killed_at: float = 0.0
    contributors: list[int] = field(default_factory=list)


class _Pool(Compute):
    """The validator's arithmetic without the held-out loss, which is no part of a merge."""

    async def run(self, function: Any, *args: Any) -> Any:
        if function is compute.held_out_loss:
            return 1.0
        return await super().run(function, *args)


class _Line:
    """One replica, by its socket."""

    def __init__(self, index: int, hotkey: str, process: asyncio.subprocess.Process) -> None:
        self.index, self.hotkey, self.process = index, hotkey, process
        self.writer: asyncio.StreamWriter | None = None

    def say(self, word: msgspec.Struct) -> bool:
        if self.writer is None:
            return False
        self.writer.write(words.frame(word))
        return True


class Swarm:
    """`replicas` processes and their validator."""

    def __init__(self, spec: RunSpec, replicas: int, folder: Path) -> None:
        self.spec, self.replicas, self.folder = spec, replicas, folder
        self._key = Keypair.create_from_uri("//Butterfly")
        self._lines: dict[str, _Line] = {}
        self._leases: deque[m.Lease] = deque()
        self._tokens: deque[int] = deque()
        self._owner: dict[int, str] = {}
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._evaluate: list[Any] = []
        self._merge: Merge | None = None
        self._plan: Any = None
        self._boots = 0
        self._kill: tuple[list[str], float] | None = None
        self._changed = asyncio.Condition()

    # Life

    async def start(self) -> None:
        """Begin a run and bring all replicas to TRAIN of epoch 0."""
        spec, hotkey = self.spec, self._key.ss58_address
        self._pool = _Pool()
        store = MemoryStore(2 << 30)
        self.server = BlobServer(store, "127.0.0.1", 0, hotkey, verify, time.time)
        self._fetcher = BlobFetcher(1 << 30, store=store, try_s=10.0, total_s=30.0, min_bytes_s=64e3)
        self.service = Service(Orchestrator(spec), Ledger(self.folder / "ledger", spec), self._perform)
        state = self.service.state
        outgoing = Outgoing(
            spec.digest(), self._sign, time.time, store, lambda: self.server, lambda: state.miners.values()
        )
        auditor = Auditor(
            spec, hotkey, lambda: state.sizes, [], self._pool, self._fetcher, store, outgoing, self._post, time.time
        )
        none: Any = None
        self.gateway = Gateway(
            spec, lambda: "", state.miners.get, lambda _: "127.0.0.1", self._post, time.time, lambda: state, verify
        )
        me: Any = self
        self._effects = Effects(
            spec.digest(), outgoing, me, me, me, auditor, none, state.miners.get, lambda *_: none, self._post, time.time
        )
        await self.server.start()
        self._listener = await asyncio.start_unix_server(self._serve, self._path)
        await self._found(store)
        await asyncio.gather(*(self._spawn(index) for index in range(self.replicas)))
        self._ticker = asyncio.create_task(self._tick())
        await self._until(self._in_train, START_S)
        await self._settle()

    async def close(self) -> None:
        """End all processes."""
        self._ticker.cancel()
        self._listener.close()
        for line in self._lines.values():
            if line.writer is not None:
                line.writer.close()
        await asyncio.gather(*(line.process.wait() for line in self._lines.values()))
        await self._effects.close()
        await self._fetcher.close()
        await self.server.stop()
        self._pool.close()

    @property
    def pids(self) -> list[int]:
        return [line.process.pid for line in self._lines.values()]

    @property
    def _path(self) -> str:
        return str(self.folder / "line")

    def _sign(self, data: bytes) -> bytes:
        return bytes(self._key.sign(data))

    async def _found(self, store: MemoryStore) -> None:
        manifests, sizes = [], []
        first = await self._pool.run(compute.initial_states, self.spec.to_json())
        for stage, (size, *state) in enumerate(first):
            refs = [store.put(part, pin=True) for part in state]
            sizes.append(size)
            manifests.append(Manifest(stage, 0, (ShardRef(0, size, refs[0], refs[1]),)))
        self._post(
            RunStarted(
                at=time.time(), spec_digest=self.spec.digest(), secret="00" * 32, sizes=tuple(sizes),
                manifests=tuple(manifests),
            )
        )  # fmt: skip

    async def _spawn(self, index: int) -> None:
        path = os.pathsep.join([str(Path(iota_subnet.__file__).parents[1]), str(Path(__file__).parents[1])])
        environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "swarm.replica",
            self._path,
            str(index),
            env=environ,
            cwd=self.folder,
            start_new_session=True,
        )
        hotkey = Keypair.create_from_uri(f"//Butterfly/{index}").ss58_address
        self._lines[hotkey] = _Line(index, hotkey, process)

    async def revive(self) -> None:
        """Start those again that were killed, and wait until all are at work."""
        dead = [line for line in self._lines.values() if line.writer is None]
        for line in dead:
            await line.process.wait()
            await self._spawn(line.index)
        await self._until(self._in_train, START_S)
        await self._settle()

    # The validator

    def _post(self, event: Event) -> list[Any]:
        return self.service.post(event)

    def _perform(self, action: Any) -> None:
        if type(action).__name__ == "Evaluate":
            # The copy of the new state follows the merge, and is not timed with it.
            self._evaluate.append(action)
            return
        self._effects.perform(action)

    async def _settle(self) -> None:
        """Let the validator copy the state, as it does during TRAIN."""
        while self._evaluate:
            await self._effects._auditor.evaluate(self._evaluate.pop())
        while self._effects._calls or self._effects._tasks:
            await asyncio.sleep(0.01)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._post(Tick(at=time.time()))
            await self._notify()

    # What `Effects` needs of channel, dendrite and feed

    def send(self, hotkey: str, message: m.FromOrchestrator) -> None:
        if isinstance(message, m.Lease):
            self._leases.append(message)
            self._owner[message.lease] = hotkey
        elif isinstance(message, m.Contributors):
            self._lines[hotkey].say(message)

    async def call(self, hotkey: str, ip: str, port: int, synapse: Any, timeout_s: float) -> Any:
        word: msgspec.Struct | None = None
        match synapse:
            case AssignLayer():
                word = words.Layer(synapse.manifest, synapse.inner_step)
            case SetPhase(manifest=None):
                if synapse.shards:
                    word = words.Commit(synapse.epoch, synapse.shards)
                    if self._merge is not None and not self._merge.began:
                        self._merge.began = time.perf_counter()
            case SetPhase():
                word = words.Layer(synapse.manifest, 0)
            case MergePlan():
                word = words.Plan(synapse.epoch, synapse.duties)
        if word is not None and not self._lines[hotkey].say(word):
            raise Unreachable("the line is cut")
        synapse.accepted = True
        return synapse

    async def publish(self, batch: int) -> None:
        self._tokens.append(batch)

    def forget(self, batch: int) -> None:
        """Nothing is kept."""

    # The lines

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = msgspec.msgpack.Decoder(words.Up)
        writer.write(words.frame(words.Setup(self.spec.to_json(), self._key.ss58_address)))
        line: _Line | None = None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                word = await words.read(reader, decoder)
                if isinstance(word, words.Hello):
                    line = self._hello(word, writer)
                elif line is not None:
                    self._hear(line, word)
                await self._notify()
        if line is not None:
            line.writer = None
            self.gateway.disconnected(line.hotkey, "the line was cut")
        writer.close()

    def _hello(self, word: words.Hello, writer: asyncio.StreamWriter) -> _Line:
        line = next(line for line in self._lines.values() if line.index == word.replica)
        line.writer = writer
        self._boots += 1
        joined = MinerJoined(
            at=time.time(), hotkey=line.hotkey, boot=f"boot-{self._boots:08}", axon="127.0.0.1:1",
            data_url=word.data_url,
        )  # fmt: skip
        self._post(joined)
        self.gateway.connected(line.hotkey)
        return line

    def _hear(self, line: _Line, word: Any) -> None:
        if isinstance(word, words.Trained | words.Checked | words.Sent):
            self._waiting.pop(line.hotkey).set_result(word)
        else:
            merge = self._merge
            if merge is not None and isinstance(word, m.Installed):
                merge.seconds = time.perf_counter() - merge.began
                merge.digests.add(word.digest)
            self.gateway.message(line.hotkey, word)
            self._look()

    def _look(self) -> None:
        """Note when phases begin; let a planned death come."""
        merge, phase = self._merge, self.service.state.phase
        if merge is None or phase.value in merge.phases:
            return
        merge.phases[phase.value] = time.perf_counter() - merge.began
        if phase is Phase.REDUCE:
            self._plan = self.service.state.merges[0]
            if self._kill is not None:
                hotkeys, delay_s = self._kill
                asyncio.get_running_loop().call_later(delay_s, self._strike, hotkeys, merge)

    def _strike(self, hotkeys: list[str], merge: Merge) -> None:
        merge.killed_at = time.perf_counter() - merge.began
        for hotkey in hotkeys:
            os.kill(self._lines[hotkey].process.pid, signal.SIGKILL)

    async def _ask(self, hotkey: str, word: msgspec.Struct) -> Any:
        future = self._waiting[hotkey] = asyncio.get_running_loop().create_future()
        self._lines[hotkey].say(word)
        return await future

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, truth: Any, seconds: float) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(truth), seconds)

    def _in_train(self) -> bool:
        state = self.service.state
        return state.phase is Phase.TRAIN and state.index.ready == self.replicas

    # One merge

    async def merge(self, kill: int = 0, random: Random | None = None, reduce_s: float = 0.0) -> Merge:
        """Train, then merge; with `kill`, so many replicas die within `reduce_s` of the beginning of REDUCE."""
        state = self.service.state
        epoch = state.epoch
        await asyncio.gather(*(self._ask(hotkey, words.Train(epoch)) for hotkey in self._lines))
        before = await self._sent()
        merge = self._merge = Merge()
        if kill and random is not None:
            self._kill = random.sample(sorted(self._lines), kill), random.uniform(0.0, reduce_s)
        cpu = self._cpu()
        await self._receipts()
        await self._until(lambda: state.epoch > epoch and state.phase is Phase.TRAIN, 180.0)
        merge.cpu = self._cpu() - cpu
        self._merge = self._kill = None
        merge.sent = [count - before[hotkey] for hotkey, count in (await self._sent()).items()]
        report = state.reports[-2]
        merge.coverage, merge.recomputed = report.coverage[0], report.recomputed
        await self._check(epoch, merge)
        await self._settle()
        return merge

    def _cpu(self) -> float:
        return cpu_seconds(self.pids) + time.process_time()

    async def _sent(self) -> dict[str, int]:
        alive = [hotkey for hotkey, line in self._lines.items() if line.writer is not None]
        counts = await asyncio.gather(*(self._ask(hotkey, words.Count()) for hotkey in alive))
        return {hotkey: count.out for hotkey, count in zip(alive, counts, strict=True)}

    async def _receipts(self) -> None:
        """Every lease is done at once; the last one opens COMMIT."""
        while self.service.state.phase is Phase.TRAIN:
            while self._tokens:
                self._post(BatchPublished(at=time.time(), batch=self._tokens.popleft(), tokens=BlobRef("0" * 64, 1)))
            if self._leases:
                lease = self._leases.popleft()
                hotkey = self._owner.pop(lease.lease)
                self._post(
                    LeaseFinished(
                        at=time.time(), hotkey=hotkey, lease=lease.lease, output=None, losses=(1.0,), seconds=0.01,
                        inner_step=0,
                    )
                )  # fmt: skip
            await asyncio.sleep(0)

    async def _check(self, epoch: int, merge: Merge) -> None:
        """Have one of the living compare its state with a reference made from who contributed to each shard."""
        plan = self._plan
        shards = []
        for shard in plan.shards:
            hotkeys = shard.contributors
            merge.contributors.append(len(hotkeys))
            given = tuple((self._lines[hotkey].index, plan.commits[hotkey][0]) for hotkey in hotkeys)
            shards.append((shard.lo, shard.hi, given))
        alive = next(hotkey for hotkey, line in sorted(self._lines.items()) if line.writer is not None)
        checked = await self._ask(alive, words.Check(epoch, tuple(shards)))
        merge.error, merge.off = checked.error, checked.off
