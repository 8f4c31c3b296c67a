"""Who looks at a world: the core's invariants, what an outsider can see, and how each epoch went."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iota_subnet.core import invariants
from iota_subnet.core.actions import GiveLease
from iota_subnet.core.draw import digest
from iota_subnet.core.events import Event, ShardRecomputed, Tick
from iota_subnet.core.state import AUDIT, Phase, Shard
from iota_subnet.sim.miners import LIE, RING

if TYPE_CHECKING:
    from iota_subnet.sim.world import World


class Wrong(AssertionError):
    """The world saw something that must not be."""


def need(truth: bool, message: str) -> None:
    """Raise Wrong with this message unless `truth`."""
    if not truth:
        raise Wrong(message)


@dataclass
class Epoch:
    """One epoch as seen from outside. `waits` holds simulated seconds by reason, `words` a reason's last wording."""

    number: int
    began: float
    ended: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def longest(self) -> tuple[str, float]:
        """The reason that was waited for longest in all, and the seconds."""
        if not self.waits:
            return "", 0.0
        key = max(self.waits, key=lambda reason: self.waits[reason])
        return self.words[key], self.waits[key]


class Watch:
    """Checks the invariants after every `check`-th event, every tick and every change of phase; 0: only at the end.

    What an outsider sees is looked at after every event all the same.
    """

    def __init__(self, world: World, check: int) -> None:
        self.world = world
        self.check = check
        self.seen = 0
        self.lies_caught = 0
        #: Who had been named when the last scores were published; a check by chance may name more after that.
        self.scored: tuple[str, ...] = ()
        self.epochs: list[Epoch] = [Epoch(0, 0.0)]
        self._since = 0.0
        self._faults = 0
        self._where: tuple[Phase, int] | None = None
        self._agreed_lies: dict[str, None] = {}
        self._first_new = 0

    # -- before and after an event ------------------------------------------------------------------------------------

    def before(self, event: Event) -> list[str]:
        """Remember which leases are new after it; the suspects."""
        self._first_new = self.world.orchestrator.state.next_lease
        return self.suspects(event)

    def suspects(self, event: Event) -> list[str]:
        """Who has published a lie about what the auditor is about to answer for, from the very same inputs."""
        if not isinstance(event, ShardRecomputed):
            return []
        shard = self._doubted(event)
        if shard is None or shard.contributors != event.contributors:
            return []
        return [hotkey for hotkey, made in shard.results.items() if made.weights.digest.startswith(LIE)]

    def _doubted(self, event: ShardRecomputed) -> Shard | None:
        """The shard that the auditor's answer is about, if it is still waited for."""
        state = self.world.orchestrator.state
        late = state.audits.get((event.stage, event.epoch, event.shard))
        if late is not None or event.epoch != state.epoch or not state.merges or not state.merges[event.stage].shards:
            return late
        shard = state.merges[event.stage].shards[event.shard]
        settled = shard.accepted is not None and shard.recomputing != AUDIT
        return shard if shard.recomputing and not settled else None

    def after(self, event: Event, audited: list[str]) -> None:
        """Look at the state after an event; `audited` are those whose lie it showed. Raises Wrong."""
        state = self.world.orchestrator.state
        self.seen += 1
        where = (state.phase, state.epoch)
        due = self.seen % self.check == 0 or where != self._where or isinstance(event, Tick) if self.check else False
        if due:
            invariants.check(state)
        for hotkey in audited:
            self.lies_caught += 1
            named = any(fault.hotkey == hotkey for fault in state.faults)
            need(named, f"{hotkey} lied, the auditor saw it, and nobody said so")
        if len(state.faults) != self._faults:
            self._faults = len(state.faults)
            for fault in state.faults:
                who = self.world.miners[fault.hotkey]
                guilty = who.cheated or who.withheld if fault.what.startswith("audit") else who.lied
                need(guilty, f"an honest miner was named: {fault.hotkey}: {fault.what}")
        if where != self._where or isinstance(event, (Tick, ShardRecomputed)):
            if where != self._where and state.phase is Phase.INSTALL:
                self.scored = tuple(fault.hotkey for fault in state.faults)
                self._checked()
            self._where = where
            lies = [s.weights.digest for m in state.manifests for s in m.shards if s.weights.digest.startswith(LIE)]
            for lie in lies:
                need(self._agreed(lie), f"a lie has become the model: {lie}")
        self._account()

    def _checked(self) -> None:
        """Of the shards about which twins agreed, those were audited that the secret says, drawn here once more."""
        state = self.world.orchestrator.state
        drawn = 0
        for merge in state.merges:
            share = state.spec.swarm.audit_shards
            share = (1.0 if share and len(merge.commits) == 2 else share) * 2.0**64
            for shard in merge.shards:
                word = digest(state.secret, "audit", state.epoch, merge.stage, shard.index)
                drawn += shard.recomputing in ("", AUDIT) and int.from_bytes(word[:8], "big") < share
        made = state.reports[-1].audited
        need(made >= drawn, f"{made} shards were checked by chance in epoch {state.epoch}, and {drawn} were drawn")

    def _agreed(self, lie: str) -> bool:
        """Whether a lie may stand: all who reduced the shard are of the ring, and no check has seen it. Counted."""
        state = self.world.orchestrator.state
        if lie in self._agreed_lies or not lie.startswith(RING):
            return lie in self._agreed_lies
        for merge in state.merges:
            for shard in merge.shards:
                if shard.accepted is not None and shard.accepted.weights.digest == lie:
                    makers = list(shard.results)
                    self._agreed_lies[lie] = None
                    self.world.counts["ring_undetected" if not shard.recomputing else "ring_in_check"] += 1
                    return len(makers) > 1 and all(self.world.miners[hotkey].trait.colludes for hotkey in makers)
        return False

    def settled(self) -> None:
        """After a tick and its actions: nothing that should have been done by now is left."""
        state, asked = self.world.orchestrator.state, self.world.backstage.asked
        for lease in state.leases.values():
            need(lease.deadline > state.now, "a lease outlives its deadline")
        limit = state.spec.swarm.lease_s + 1.0
        for batch in state.batches.values():
            if batch.tokens is None:
                known = batch.id in asked and state.now <= asked[batch.id] + limit
                need(known, f"microbatch {batch.id} has no tokens and nobody asks for them")

    def lease(self, action: GiveLease) -> None:
        """What an outsider knows of a lease: its taker is there and may work, and it is a time for work."""
        state = self.world.orchestrator.state
        lease = state.leases.get(action.lease)
        need(lease is not None, f"lease {action.lease} is given and not open")
        assert lease is not None
        miner = state.miners[action.hotkey]
        need(miner.connected, f"{action.hotkey} is given a lease and is away")
        # By its number: after the clock was set back, time stands still, and an old lease looks like a new one.
        again = lease.id < self._first_new
        swarm, left = state.spec.swarm, state.spec.swarm.epochs - state.epoch
        overlap = swarm.overlap and left != 1 and state.phase in (Phase.COMMIT, Phase.REDUCE, Phase.INSTALL)
        held = (state.epoch, state.epoch + 1) if overlap and state.phase is Phase.INSTALL else (state.epoch,)
        need(again or miner.installed in held, f"{action.hotkey} is given a lease and holds another epoch")
        need(again or overlap or state.phase is Phase.TRAIN, f"a lease is given in {state.phase}")

    # -- the story ----------------------------------------------------------------------------------------------------

    def _account(self) -> None:
        """Book the simulated time since the last event under what was waited for."""
        state, now = self.world.orchestrator.state, self.world.now
        epoch = self.epochs[-1]
        if state.waiting_for != "miners train" and state.phase is not Phase.DONE:
            key = re.sub(r"\d+", "#", state.waiting_for) if now > self._since else ""
            if key:
                epoch.waits[key] = epoch.waits.get(key, 0.0) + now - self._since
                epoch.words[key] = state.waiting_for
        self._since = now
        if state.epoch != epoch.number:
            epoch.ended = now
            self.epochs.append(Epoch(state.epoch, now))
        elif state.phase is Phase.DONE and not epoch.ended:
            epoch.ended = now
