"""The wires of a world: which copies of a message arrive when, and who can fetch whose bytes.

Messages of one direction of one channel keep their order unless something says otherwise, as on a TCP connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iota_subnet.core.draw import digest
from iota_subnet.spec import BlobRef

if TYPE_CHECKING:
    from iota_subnet.sim.miners import ScriptedMiner
    from iota_subnet.sim.world import World

#: A channel that says nothing for so many simulated seconds is given up by both ends.
HEARTBEAT_S = 4.0


class Network:
    """Delays, losses and partitions of all channels, and who holds which bytes."""

    def __init__(self, world: World) -> None:
        self.world = world
        #: What disturbs all channels now: (kind, until, amount).
        self.disturbed: list[tuple[str, float, float]] = []
        #: Hotkeys that are cut off, and their side: those of one side still reach each other.
        self.sides: dict[str, int] = {}
        self.holders: dict[str, list[str]] = {}
        self.latest: dict[tuple[str, bool], float] = {}

    # -- messages -----------------------------------------------------------------------------------------------------

    def disturb(self, kind: str, seconds: float, amount: float) -> None:
        """Disturb all channels for so many seconds: `kind` says how, `amount` how much."""
        self.disturbed.append((kind, self.world.now + seconds, amount))

    def _amount(self, kind: str) -> float:
        if not self.disturbed:
            return 0.0
        self.disturbed = [entry for entry in self.disturbed if entry[1] > self.world.now]
        return max((amount for name, _, amount in self.disturbed if name == kind), default=0.0)

    def arrivals(self, miner: ScriptedMiner, up: bool) -> list[float]:
        """When the copies of a message that is sent now arrive, in simulated seconds; none if it is lost."""
        plan, rng, counts = self.world.plan, self.world.rng, self.world.counts
        if miner.hotkey in self.sides:
            counts["partition"] += 1
            return []
        if rng.random() < max(plan.loss, self._amount("drop")):
            counts["drop"] += 1
            return []
        copies = 1
        if rng.random() < max(plan.twice, self._amount("duplicate")):
            counts["duplicate"] += 1
            copies = 2
        return [self._arrival(miner, up) for _ in range(copies)]

    def _arrival(self, miner: ScriptedMiner, up: bool) -> float:
        world = self.world
        when = world.now + world.plan.latency + miner.trait.latency_s
        late = self._amount("delay")
        if late:
            world.counts["delay"] += 1
            when += late
        jitter = max(world.plan.jitter, self._amount("reorder"))
        before = self.latest.get((miner.hotkey, up), 0.0)
        if jitter:
            when += world.rng.uniform(0.0, jitter)
            world.counts["reorder"] += when < before
        else:
            when = max(when, before)
        self.latest[miner.hotkey, up] = max(when, before)
        return when

    # -- partitions ---------------------------------------------------------------------------------------------------

    def cut(self, miners: list[ScriptedMiner], seconds: float) -> None:
        """These miners reach only each other for a while; their channels break when the heartbeat is missed."""
        world, side = self.world, world_side(self.sides)
        for miner in miners:
            self.sides[miner.hotkey] = side
            world.at(world.now + HEARTBEAT_S, lambda miner=miner: self._missed(miner, side))  # type: ignore[misc]

        def heal() -> None:
            for miner in miners:
                if self.sides.get(miner.hotkey) == side:
                    del self.sides[miner.hotkey]

        world.at(world.now + seconds, heal)

    def _missed(self, miner: ScriptedMiner, side: int) -> None:
        if self.sides.get(miner.hotkey) == side and miner.connected:
            self.world.disconnect(miner)
            miner.later(1.0, self.world.connect, miner, False)

    # -- bytes --------------------------------------------------------------------------------------------------------

    def hold(self, blob: BlobRef, holder: str) -> None:
        """Note that `holder` serves a blob."""
        holders = self.holders.setdefault(blob.digest, [])
        if holder not in holders:
            holders.append(holder)

    def drop(self, blob: BlobRef, holder: str) -> None:
        """One holder lets go of a blob."""
        if holder in self.holders.get(blob.digest, ()):
            self.holders[blob.digest].remove(holder)

    def forget(self, digest_: str) -> None:
        """Nobody holds this blob any more."""
        self.holders.pop(digest_, None)

    def can_fetch(self, blob: BlobRef, reader: str = "validator") -> bool:
        """Whether somebody who holds the bytes can be reached by `reader`, a hotkey or the validator."""
        return any(self._serves(holder, reader) for holder in self.holders.get(blob.digest, ()))

    def source(self, blob: BlobRef, reader: str) -> ScriptedMiner | None:
        """The miner that the bytes come from; None if it is the validator or the feed, or nobody."""
        for holder in self.holders.get(blob.digest, ()):
            if self._serves(holder, reader):
                return self.world.miners.get(holder.partition("/")[0])
        return None

    def _serves(self, holder: str, reader: str) -> bool:
        if holder in ("validator", "feed"):
            return reader not in self.sides
        hotkey = holder.partition("/")[0]
        miner = self.world.miners[hotkey]
        if not miner.alive or miner.process != holder or miner.frozen_until > self.world.now:
            return False
        if hotkey == reader or self.sides.get(hotkey) == self.sides.get(reader):
            return True
        self.world.counts["partition"] += 1
        return False

    def fetch_s(self, blobs: tuple[BlobRef, ...], reader: ScriptedMiner) -> float:
        """How long it takes to have all of `blobs`, fetched side by side over the slower of the two links."""
        longest = 0.0
        for blob in blobs:
            source = self.source(blob, reader.hotkey)
            if source is reader:
                continue
            traits = [reader.trait, *([source.trait] if source is not None else [])]
            rates = [trait.bytes_per_s for trait in traits if trait.bytes_per_s]
            seconds = sum(trait.latency_s for trait in traits) + (blob.nbytes / min(rates) if rates else 0.0)
            longest = max(longest, seconds)
        return longest


def world_side(sides: dict[str, int]) -> int:
    """A number that no side has yet."""
    return max(sides.values(), default=0) + 1


def tokens_of(batch: int) -> BlobRef:
    """The tokens of a microbatch, as the feed publishes them."""
    return BlobRef(digest("tokens", batch).hex(), 64, ("feed",))
