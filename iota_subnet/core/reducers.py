"""Who reduces a shard whose reducers are gone.

Law: living replicas do, as long as two can be found to compare; only then the validator. Whoever has least to reduce
is taken first, so that nobody inherits all. Among equals the run's secret decides: the salt is known by then, and who
could tell its twin's successor from it might drive the twin away.
"""

from __future__ import annotations

from collections import Counter

from iota_subnet.core.draw import shuffled
from iota_subnet.core.state import RunState, Shard, StageMerge


def is_alive(state: RunState, merge: StageMerge, hotkey: str) -> bool:
    """Whether the process that committed is still there, be it briefly away."""
    return hotkey in state.miners and hotkey not in merge.gone


def replaced(state: RunState, merge: StageMerge, shards: list[Shard]) -> dict[str, list[Shard]]:
    """Draw living replicas in the place of reducers that are gone; says who has got what."""
    taken: dict[str, list[Shard]] = {}
    short = [shard for shard in shards if _is_short(state, merge, shard)]
    if not short:
        return taken
    load = Counter(hotkey for shard in merge.shards for hotkey in shard.reducers)
    here = [h for h in sorted(merge.commits) if is_alive(state, merge, h) and state.miners[h].connected]
    for shard in short:
        # What was agreed on cannot be had any more: bytes of the one who is gone are in it. Who has been told of it
        # is bound to it, so that two others begin anew.
        anew = shard.contributors is not None
        stay = [] if anew else [hotkey for hotkey in shard.reducers if is_alive(state, merge, hotkey)]
        drawn = shuffled(
            [hotkey for hotkey in here if hotkey not in stay and hotkey not in shard.told],
            *(state.secret, "replace", state.epoch, merge.stage, shard.index),
        )
        takers = sorted(drawn, key=load.__getitem__)[: 2 - len(stay)]
        if len(stay) + len(takers) < 2:
            # One alone could only say what the validator has to compute all the same.
            continue
        if anew:
            shard.contributors = None
            shard.results.clear()
        shard.reducers = [*stay, *takers]
        for hotkey in takers:
            load[hotkey] += 1
            taken.setdefault(hotkey, []).append(shard)
    return taken


def _is_short(state: RunState, merge: StageMerge, shard: Shard) -> bool:
    """Whether it cannot have twins any more. Who has published before it went counts as one."""
    if shard.accepted is not None or shard.recomputing:
        return False
    alive = [hotkey for hotkey in shard.reducers if is_alive(state, merge, hotkey)]
    return len({*alive, *shard.results}) < 2
