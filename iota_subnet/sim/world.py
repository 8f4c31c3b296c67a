"""A whole network in one thread and in virtual time: scripted miners, feed, auditor and chain around the real core.

Everything is drawn from the plan's seed, so a failing seed fails again. After every event the invariants are checked,
and what an outsider can see is checked too: nobody is given work it cannot do, no lease outlives its deadline, nothing
spins without time passing, no lie is accepted, only liars are named.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random

from iota_subnet.books import Line
from iota_subnet.core.actions import Action, GiveLease
from iota_subnet.core.events import (
    Event,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    Tick,
    ValidatorRestarted,
)
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase
from iota_subnet.sim.backstage import OWNER_S, Backstage
from iota_subnet.sim.canonical import state_hash
from iota_subnet.sim.incidents import strike
from iota_subnet.sim.miners import ScriptedMiner
from iota_subnet.sim.network import Network
from iota_subnet.sim.plans import Incident, Plan, Trait
from iota_subnet.sim.watch import Watch, Wrong, need

__all__ = ["World", "Wrong", "need"]

#: More happenings than this in one instant are a hot loop: some, so many per miner, and so many per shard of a merge.
MOST_AT_ONCE = 400
MOST_PER_MINER = 40
MOST_PER_SHARD = 8

#: How often an incident that waits for a phase looks whether it has come (simulated seconds).
LOOK_S = 0.05


class World:
    """One plan, played. `counts` says how often each fault really struck; `journal` is the ledger."""

    def __init__(self, plan: Plan, check: int = 1) -> None:
        self.plan = plan
        self.spec = plan.spec()
        self.rng = Random(f"world {plan.seed}")
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.posted = 0
        self.at_once = 0
        shards = plan.miners * plan.miners // (2 * plan.stages)
        self.most_at_once = MOST_AT_ONCE + MOST_PER_MINER * plan.miners + MOST_PER_SHARD * shards
        self.counts: Counter[str] = Counter()
        #: What transcripts say, by digest.
        self.shown: dict[str, tuple[Line, ...]] = {}
        self.miners: dict[str, ScriptedMiner] = {}
        self.deregistered: dict[str, None] = {}
        self.orchestrator = Orchestrator(self.spec)
        self.journal: list[Event] = []
        self.network = Network(self)
        self.backstage = Backstage(self)
        self.watch = Watch(self, check)
        # The validator's process, its clock and its disk.
        self.up = True
        self.boot = 0
        self.dies_after_next = 0.0
        self.skew = 0.0
        self.disk_until = 0.0
        self.disk_s = 0.0
        self.unwritten: list[Event] = []

    @property
    def lies_caught(self) -> int:
        """Lies that the auditor saw, and that were named."""
        return self.watch.lies_caught

    @property
    def clock(self) -> float:
        """What the validator's clock shows: the simulated time, and the jumps it made."""
        return max(0.0, self.now + self.skew)

    # -- time ---------------------------------------------------------------------------------------------------------

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at simulated time `when`; what is due at once happens in the order of posting."""
        self.posted += 1
        heapq.heappush(self.heap, (when, self.posted, act))

    def run(self) -> World:
        """From the first event to DONE."""
        self.start()
        while not self.over():
            self.step()
        return self

    def step(self) -> None:
        """The next thing that happens."""
        when, _, act = heapq.heappop(self.heap)
        state = self.orchestrator.state
        need(when < self.plan.latest_s, f"stuck in {state.phase.value}: {state.waiting_for}")
        self.at_once = self.at_once + 1 if when == self.now else 0
        need(self.at_once < self.most_at_once, f"a hot loop at {when:.2f}")
        self.now = when
        act()

    def over(self) -> bool:
        """Whether the run is done, the storm is past, and the validator is up."""
        return self.orchestrator.state.phase is Phase.DONE and self.now >= self.plan.storm_s and self.up

    def start(self) -> None:
        """Post the first event, and what the plan says will happen."""
        self.post(self.backstage.birth())
        for number in range(self.plan.miners):
            miner = self.add_miner(self.plan.traits.get(number, Trait()))
            self.at(self.rng.uniform(0.0, 3.0), lambda miner=miner: self.connect(miner, True))  # type: ignore[misc]
        for incident in self.plan.incidents:
            self.at(incident.at, lambda incident=incident: self.befall(incident))  # type: ignore[misc]
        self.at(1.0, self.tick)
        self.at(OWNER_S, self.backstage.owner)

    def tick(self) -> None:
        """Let the core look at its deadlines, once a simulated second."""
        self.post(Tick(at=self.clock))
        self.at(self.now + 1.0, self.tick)

    def befall(self, incident: Incident) -> None:
        """Strike, as soon as the run is in the incident's phase."""
        phase = self.orchestrator.state.phase
        if not incident.phase or incident.phase == phase.value:
            strike(self, incident)
        elif phase is not Phase.DONE:
            self.at(self.now + LOOK_S, lambda: self.befall(incident))

    def incident(self, what: str, number: int) -> None:
        """Let something happen now, outside the plan."""
        strike(self, Incident(self.now, what, number))

    # -- events in, actions out ---------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Hand an event to the validator; a slow disk makes it wait, in order, for the next commit."""
        if not self.up:
            return
        if self.now < self.disk_until or self.unwritten:
            if not self.unwritten:
                boot = self.boot
                self.at(self.now + self.disk_s, lambda: self._written(boot))
            self.unwritten.append(event)
            self.counts["waited_for_disk"] += 1
            return
        self.handle(event)

    def _written(self, boot: int) -> None:
        if boot != self.boot or not self.up:
            return
        events, self.unwritten = self.unwritten, []
        for event in events:
            # It may die between two of them: the rest was never acted on, and is lost as messages are.
            if self.up:
                self.handle(event)

    def handle(self, event: Event) -> None:
        """Journal an event, handle it, check the state, and perform what follows. Raises Wrong."""
        audited = self.watch.before(event)
        self.journal.append(event)
        actions = self.orchestrator.handle(event)
        self.watch.after(event, audited)
        if self.dies_after_next:
            seconds, self.dies_after_next = self.dies_after_next, 0.0
            self.restart_validator(seconds)
            return
        for action in actions:
            self.perform(action)
        if isinstance(event, Tick):
            self.watch.settled()

    def perform(self, action: Action) -> None:
        """Carry out an action, backstage or by sending it to its miner."""
        if self.backstage.perform(action):
            return
        if isinstance(action, GiveLease):
            self.watch.lease(action)
        self.send_down(action)

    def send_down(self, action: Action) -> None:
        """Bring an action to its miner, as late and as often as the network says."""
        miner = self.miners[action.hotkey]  # type: ignore[attr-defined]
        boot = miner.boot

        def deliver() -> None:
            if not miner.alive or miner.boot != boot:
                return
            if miner.frozen_until > self.now:
                self.at(miner.frozen_until, deliver)
            elif miner.connected:
                miner.take(action)

        for when in self.network.arrivals(miner, up=False):
            self.at(when, deliver)

    def send_up(self, miner: ScriptedMiner, event: Event) -> None:
        """Bring a miner's event to the validator, as late and as often as the network says."""
        for when in self.network.arrivals(miner, up=True) if miner.connected else []:
            self.at(when, lambda: self.post(_at(event, self.clock)))

    # -- comings and goings -------------------------------------------------------------------------------------------

    def add_miner(self, trait: Trait) -> ScriptedMiner:
        """One more miner, alive and not connected yet."""
        miner = ScriptedMiner(self, len(self.miners), trait)
        self.miners[miner.hotkey] = miner
        miner.alive = True
        return miner

    def connect(self, miner: ScriptedMiner, join: bool) -> None:
        """Open a miner's channel, joining first if need be; tried again while the validator cannot be reached."""
        if not miner.alive:
            return
        if not self.up or miner.hotkey in self.network.sides:
            miner.later(1.0, self.connect, miner, join)
            return
        if join or miner.hotkey not in self.orchestrator.state.miners:
            self.post(MinerJoined(at=self.clock, hotkey=miner.hotkey, boot=str(miner.boot)))
        if miner.hotkey not in self.orchestrator.state.miners:
            miner.later(10.0, self.connect, miner, True)
            return
        miner.connected = True
        self.post(MinerConnected(at=self.clock, hotkey=miner.hotkey))

    def disconnect(self, miner: ScriptedMiner) -> None:
        """Close a miner's channel, and have the core told."""
        if miner.connected:
            miner.connected = False
            self.post(MinerDisconnected(at=self.clock, hotkey=miner.hotkey, reason="channel closed"))

    def drop_out(self, miner: ScriptedMiner) -> None:
        """Chance takes a miner; it is back after its `rejoin_s` as a new process, if it ever is."""
        back = miner.trait.rejoin_s
        self.counts["dropout"] += 1
        strike(self, Incident(self.now, "restart_miner" if back else "crash", miner.number, back))

    # -- the validator's death ----------------------------------------------------------------------------------------

    def restart_validator(self, seconds: float) -> int:
        """The process dies; its successor replays the ledger and must find the same state. 1 if it was alive."""
        if not self.up:
            return 0
        self.up = False
        self.boot += 1
        self.unwritten, self.disk_until = [], 0.0
        self.orchestrator = self.replay()
        for miner in self.miners.values():
            if miner.connected:
                miner.connected = False
                miner.later(seconds + self.rng.uniform(0.1, 3.0), self.connect, miner, False)
        self.at(self.now + seconds, self.come_back)
        return 1

    def come_back(self) -> None:
        """The new process of the validator is up."""
        self.up = True
        self.post(ValidatorRestarted(at=self.clock))

    def replay(self) -> Orchestrator:
        """A fresh core fed with the ledger; its state must be the one that was, to the bit."""
        fresh = Orchestrator(self.spec)
        for event in self.journal:
            fresh.handle(event)
        need(fresh.state == self.orchestrator.state, "a replay of the ledger gives another state")
        same = state_hash(fresh.state) == state_hash(self.orchestrator.state)
        need(same, "a replay of the ledger gives the same state in another order")
        self.counts["replayed"] += len(self.journal)
        return fresh


def _at(event: Event, now: float) -> Event:
    """The event, stamped by the validator's clock on arrival."""
    values = {name: getattr(event, name) for name in type(event).__dataclass_fields__}
    return type(event)(**(values | {"at": now}))
