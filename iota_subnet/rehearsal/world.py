"""The clock, the network that never fails, and the way from actions to events and back.

Law: what happens depends on specification, members and seed alone; the processor's time is measured and moves nothing.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from math import fsum
from typing import Any

import torch

from iota_subnet import messages as m
from iota_subnet.core import scoring
from iota_subnet.core.actions import Action
from iota_subnet.core.events import Event, MinerConnected, MinerDisconnected, MinerJoined, Tick
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Fault, Phase
from iota_subnet.miner.conduct import Me
from iota_subnet.rehearsal.hands import Hands
from iota_subnet.rehearsal.miner import TRIP_S, Player
from iota_subnet.rehearsal.plan import DEFENDED, Defences, Member, seated
from iota_subnet.rehearsal.result import Cpu, Earned, Result, normalised
from iota_subnet.spec import BlobRef, RunSpec, TrainSpec
from iota_subnet.train.codec import digest
from iota_subnet.train.data import Feed
from iota_subnet.validator.gateway import Gateway
from iota_subnet.wire.channel import ChannelError

#: Seconds between two that join, and virtual seconds of an epoch after which a run counts as stuck.
JOIN_S = 0.05
EPOCH_S = 2_000.0


class Stuck(RuntimeError):
    """A run that does not move on; the message says what it waits for."""


class Rehearsal:
    """One run. Build it, `run` it once.

    `spec.swarm.epochs` must be set. Without CLASP in `defences` scores are counted as if every quality were 1: nothing
    else in the core looks at it. `line` is bytes per virtual second that a merge may bring to each miner; activations
    take no time in any case.
    """

    def __init__(
        self,
        spec: RunSpec,
        miners: Sequence[Member],
        seed: int = 0,
        defences: Defences = DEFENDED,
        on_phase: Callable[[Rehearsal], None] | None = None,
        line: float = math.inf,
    ) -> None:
        if not spec.swarm.epochs:
            raise ValueError("a rehearsal ends: set swarm.epochs")
        swarm = replace(spec.swarm, start_miners=len(miners), max_miners=max(spec.swarm.max_miners, len(miners)))
        self.spec = defences.applied(replace(spec, seed=seed, swarm=swarm))
        self.defences = defences
        self._on_phase = on_phase
        self.line = line
        self.now = 0.0
        self.core = Orchestrator(self.spec)
        self.hands = Hands(self, _feed(self.spec))
        self.players: dict[str, Player] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._posted = 0
        self._threads = 0
        self._machines: dict[int, float] = {}
        self._faults: dict[Fault, None] = {}
        self._bans: dict[str, tuple[int, str]] = {}
        core = self.core
        self._gateway = Gateway(
            self.spec,
            channel_url=lambda: "",
            miner_of=lambda hotkey: core.state.miners.get(hotkey),
            announced=lambda hotkey: None,
            post=self._handled,
            clock=lambda: self.now,
            state=lambda: core.state,
            verify=lambda hotkey, line, signature: True,
        )
        seats = seated(self.spec, miners)
        for number, hotkey in seats:
            kind = miners[number].conduct
            ring = [(other, name) for other, name in sorted(seats) if miners[other].conduct is kind]
            self.players[hotkey] = Player(self, number, miners[number], hotkey, _me(hotkey, [name for _, name in ring]))

    def run(self) -> Result:
        """From the first event to the end of the last epoch.

        Raises:
            Stuck: an epoch takes much longer than it can.
        """
        before = torch.get_num_threads()
        try:
            return self._run()
        finally:
            torch.set_num_threads(before)

    def _run(self) -> Result:
        began = time.thread_time()
        self.threads(1)
        self.post(self.hands.birth())
        for place, player in enumerate(self.players.values()):
            self.at(JOIN_S * (1 + place), lambda player=player: self.join(player))  # type: ignore[misc]
        self.at(1.0, self._tick)
        state = self.core.state
        limit = EPOCH_S * (1 + self.spec.swarm.epochs)
        while state.phase is not Phase.DONE or len(self.hands.held_out) <= self.spec.swarm.epochs or state.open_audits:
            self.now, _, act = heapq.heappop(self._heap)
            if self.now > limit:
                raise Stuck(f"stuck in {state.phase.value} of epoch {state.epoch}: {state.waiting_for}")
            act()
        return self._result(time.thread_time() - began)

    # -- time and network ---------------------------------------------------------------------------------------------

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at virtual time `when`; what is due at once happens in the order of posting."""
        self._posted += 1
        heapq.heappush(self._heap, (when, self._posted, act))

    def _tick(self) -> None:
        self.post(Tick(at=self.now))
        self.at(self.now + 1.0, self._tick)

    def done_at(self, machine: int | None, seconds: float) -> float:
        """When work of so many seconds that is asked for now is done, on a machine that may be shared."""
        began = self.now if machine is None else max(self.now, self._machines.get(machine, 0.0))
        if machine is not None:
            self._machines[machine] = began + seconds
        return began + seconds

    def threads(self, count: int) -> None:
        """How many threads compute from here on."""
        if count != self._threads:
            self._threads = count
            torch.set_num_threads(count)

    def fetch(self, ref: BlobRef, reader: Player | None) -> bytes | None:
        """The bytes of a blob, from the reader's own shelf, from who made it, or from the validator; None if nobody
        hands out those."""
        if reader is not None:
            own = reader.store.get(ref.digest)
            if own is not None:
                return own
        for url in ref.urls:
            maker = self.players.get(url.split("/", 1)[0])
            data = maker.serve(ref.digest) if maker is not None else None
            if data is not None and digest(data) == ref.digest:
                return data
        return self.hands.get(ref.digest)

    def send(self, hotkey: str, message: m.FromMiner) -> None:
        """A miner's message, on its way to the border."""
        self.at(self.now + TRIP_S, lambda: self._arrived(hotkey, message))

    def _arrived(self, hotkey: str, message: m.FromMiner) -> None:
        try:
            self._gateway.message(hotkey, message)
        except ChannelError as error:
            self.post(MinerDisconnected(at=self.now, hotkey=hotkey, reason=str(error)))
            player = self.players[hotkey]
            self.at(self.now + 1.0, lambda: self.join(player))

    def join(self, player: Player) -> None:
        """Ask for a seat and open the channel. A refusal comes back as any other."""
        hotkey = player.hotkey
        miner = self.core.state.miners.get(hotkey)
        if miner is None:
            self.post(MinerJoined(at=self.now, hotkey=hotkey, boot="0", data_url=hotkey))
        if hotkey in self.core.state.miners and not self.core.state.miners[hotkey].connected:
            self.post(MinerConnected(at=self.now, hotkey=hotkey))

    # -- events in, actions out ---------------------------------------------------------------------------------------

    def _handled(self, event: Event) -> list[Action]:
        self.post(event)
        return []

    def post(self, event: Event) -> None:
        """One event, and what the core makes of it."""
        state = self.core.state
        known, phase = len(state.faults), state.phase
        actions = self.core.handle(event)
        if self._on_phase is not None and state.phase is not phase:
            self._on_phase(self)
        if len(state.faults) != known:
            self._faults |= dict.fromkeys(state.faults)
        for hotkey in state.banned:
            self._bans.setdefault(hotkey, (state.epoch, state.banned[hotkey][1]))
        for action in actions:
            if not self.hands.perform(action):
                player = self.players[action.hotkey]  # type: ignore[attr-defined]
                self.at(self.now + TRIP_S, lambda player=player, action=action: player.take(action))  # type: ignore[misc]

    # -- the end ------------------------------------------------------------------------------------------------------

    def _scores(self) -> dict[str, float]:
        """As the core has them; without CLASP, with every quality 1."""
        state = self.core.state
        if self.defences.clasp:
            return scoring.scores(state)
        guilty = {fault.hotkey for fault in state.faults}
        return {
            hotkey: 0.0
            if hotkey in guilty
            else fsum((p.volume + p.merged) * p.agreement * p.standing for p in state.parts.get(hotkey, []))
            for hotkey in dict.fromkeys([*state.parts, *state.miners])
        }

    def _result(self, seconds: float) -> Result:
        state, hands = self.core.state, self.hands
        scores = self._scores()
        weights = normalised(scores)
        miners: dict[str, Earned] = {}
        for hotkey, player in sorted(self.players.items(), key=lambda item: item[1].number):
            parts = state.parts.get(hotkey, [])
            seat = state.miners.get(hotkey)
            miners[hotkey] = Earned(
                number=player.number,
                stage=seat.stage if seat is not None else -1,
                flops=player.flops,
                passes=player.passes,
                volume=fsum(part.volume for part in parts),
                merged=fsum(part.merged for part in parts),
                score=scores.get(hotkey, 0.0),
                weight=weights.get(hotkey, 0.0),
            )
        return Result(
            miners=miners,
            held_out=tuple(hands.held_out),
            train_loss=tuple(report.train_loss for report in state.reports),
            faults=tuple(self._faults),
            bans=dict(self._bans),
            verdicts=tuple(hands.verdicts),
            effects=tuple(report.effects for report in state.reports),
            digests=tuple(manifest.name for manifest in state.manifests),
            identical=all(report.replicas_identical for report in state.reports),
            audited=hands.audited,
            audit_passes=hands.audit_passes,
            seconds=self.now,
            cpu=Cpu(fsum(player.cpu for player in self.players.values()), hands.audit_cpu, seconds),
        )


def _me(hotkey: str, ring: list[str]) -> Me:
    """Who one of a ring is."""
    friends = tuple(name for name in ring if name != hotkey)
    said: dict[str, Any] = {"hotkey": hotkey, "number": ring.index(hotkey), "count": len(ring), "friends": friends}
    # Not every version of a conduct is told of friends.
    return Me(**{field.name: said[field.name] for field in fields(Me)})


@lru_cache(maxsize=2)
def _feed_of(spec: RunSpec) -> Feed:
    return Feed(spec)


def _feed(spec: RunSpec) -> Feed:
    """The feed of a run, kept for the next run like it: to read the corpus takes as long as an epoch."""
    shape = TrainSpec(microbatch=spec.train.microbatch)
    return _feed_of(RunSpec(seed=spec.seed, model=spec.model, train=shape, data=spec.data))
