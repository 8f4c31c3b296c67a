"""A miner's part in the merge, as `miner/merge.py` does it, but for the waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from iota_subnet import messages as m
from iota_subnet.core import actions as a
from iota_subnet.miner.conduct import Conduct
from iota_subnet.protocol import MergePlan
from iota_subnet.rehearsal.runner import CountedRunner
from iota_subnet.train import transcript
from iota_subnet.train.allreduce import Delta, read_delta
from iota_subnet.wire.signing import SIGNATURE_BYTES

if TYPE_CHECKING:
    from iota_subnet.rehearsal.miner import Player

#: Stage, epoch, shard.
Place = tuple[int, int, int]


class Merging:
    """Commits, reduces, and says the same again to who asks again."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._commits: dict[tuple[int, int], m.Committed] = {}
        self._duties: dict[Place, tuple[a.Duty, dict[str, Delta]]] = {}
        self._reports: dict[Place, m.Fetched] = {}
        self._results: dict[Place, m.Reduced] = {}

    def commit(self, epoch: int, shards: int) -> None:
        """Publish the pseudo-gradient; asked again, say the same again."""

        def take() -> Callable[[], None]:
            runner = self._player.runner
            if runner is None or runner.epoch != epoch:
                return nothing
            if (runner.stage, epoch) not in self._commits:
                self._commits = {(runner.stage, epoch): self._committed(runner, epoch, shards)}
            made = self._commits[runner.stage, epoch]
            return lambda: self._player.send(made)

        self._player.do(take)

    def _committed(self, runner: CountedRunner, epoch: int, shards: int) -> m.Committed:
        topic = ("merge", epoch)
        blobs = self._player.conduct.pseudo_gradient(runner, shards)
        made = tuple(self._player.put(topic, blob) for blob in blobs)
        written = self._player.evidence.close()
        assert written is not None
        said = transcript.encode(self._player.conduct.transcript(written))
        told = self._player.put(topic, said)
        self._player.keep(epoch, [(told.digest, said), *zip((shard.digest for shard in made), blobs, strict=True)])
        # The border only looks at its length here: nobody forges another's word in one process.
        return m.Committed(runner.stage, epoch, made, told, "00" * SIGNATURE_BYTES)

    def plan(self, plan: a.SendMergePlan) -> None:
        """Take duties, and say what could be had for them."""
        if type(self._player.conduct).planned is not Conduct.planned:
            self._player.conduct.planned(_told(plan))
        for duty in plan.duties:
            place = (plan.stage, plan.epoch, duty.shard)
            if place in self._results:
                self._player.send(self._results[place])
            elif place in self._reports:
                self._player.send(self._reports[place])
            else:
                self._gather(place, duty)

    def _gather(self, place: Place, duty: a.Duty) -> None:
        have: dict[str, Delta] = {}
        missed: list[tuple[str, str]] = []
        moved = 0
        for contribution in duty.contributions:
            data = self._player.world.fetch(contribution.blob, self._player)
            moved += len(data) if data is not None and contribution.hotkey != self._player.hotkey else 0
            try:
                if data is None:
                    raise ValueError("nobody serves it")
                have[contribution.hotkey] = read_delta(data, duty.hi - duty.lo, self._player.world.spec.train)
            except ValueError as error:
                missed.append((contribution.hotkey, str(error)[:200]))
        here = tuple(contribution.hotkey for contribution in duty.contributions if contribution.hotkey in have)

        def fetched() -> None:
            self._duties[place] = duty, have
            self._reports[place] = m.Fetched(*place, here, tuple(sorted(missed)))
            self._player.send(self._reports[place])

        self._player.after_moving(moved, fetched)

    def reduce(self, place: Place, counted: Sequence[str]) -> None:
        """It is fixed whose pseudo-gradients count."""
        if place not in self._duties or place in self._results:
            return
        duty, have = self._duties[place]
        if any(hotkey not in have for hotkey in counted):
            return

        def reduce() -> Callable[[], None]:
            runner = self._player.runner
            if runner is None or (runner.stage, runner.epoch) != place[:2]:
                return nothing
            given = [(c.weight, have[c.hotkey]) for c in duty.contributions if c.hotkey in counted]
            made = self._player.conduct.reduce(runner, duty.lo, duty.hi, given, duty.shard)
            self._results[place] = m.Reduced(*place, *(self._player.put(("merge", place[1]), part) for part in made))
            return lambda: self._player.send(self._results[place])

        self._player.do(reduce)

    def sweep(self, epoch: int) -> None:
        """What belongs to merges before `epoch` may go."""
        self._duties = {place: duty for place, duty in self._duties.items() if place[1] >= epoch}
        self._reports = {place: said for place, said in self._reports.items() if place[1] >= epoch}
        self._results = {place: made for place, made in self._results.items() if place[1] >= epoch}


def nothing() -> None:
    """Nothing follows."""


def _told(plan: a.SendMergePlan) -> MergePlan:
    """The plan as a miner hears of it."""
    duties = tuple(
        m.PlannedDuty(
            duty.shard,
            duty.lo,
            duty.hi,
            tuple(
                m.PlannedContribution(c.hotkey, c.weight, m.Blob(c.blob.digest, c.blob.nbytes, c.blob.urls, ""))
                for c in duty.contributions
            ),
        )
        for duty in plan.duties
    )
    return MergePlan(
        stage=plan.stage, epoch=plan.epoch, salt=plan.salt, shards=plan.shards, seconds_left=60.0, duties=duties
    )
