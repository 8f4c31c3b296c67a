"""Who agreed with whom: one count for every two miners that have reduced the same shard (arXiv 2507.17766, figure 4).

Law: nobody is judged by one twin. Who differs from one other has met a liar or is one, and the recomputed shard says
which; who differs from several, and from most of those it met, is the one that they have in common.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from iota_subnet.core.state import Met

if TYPE_CHECKING:
    from iota_subnet.core.events import ShardRef
    from iota_subnet.core.state import RunState

#: Pairs that are remembered; the one that met longest ago goes first. All pairs of 362 miners.
MAX_PAIRS = 1 << 16

#: So many different twins must have got other results than somebody before that counts against it.
TWINS = 3


def compare(state: RunState, results: dict[str, ShardRef]) -> bool:
    """Whether all who have reduced a shard got the same bits; every two of them are counted."""
    for one, other in combinations(sorted(results), 2):
        met = state.agreement.pop((one, other), None) or Met()
        same = results[one].digests == results[other].digests
        state.agreement[one, other] = Met(met.agreed + same, met.differed + (not same), state.now)
    while len(state.agreement) > MAX_PAIRS:
        del state.agreement[next(iter(state.agreement))]
    return len({result.digests for result in results.values()}) == 1


def forget(state: RunState) -> None:
    """Drop what has left the window of the scores."""
    oldest = state.now - state.spec.swarm.score_window_s
    state.agreement = {pair: met for pair, met in state.agreement.items() if met.at > oldest}


def shares(state: RunState) -> dict[str, float]:
    """For everybody who has met somebody: 1, or the share of comparisons in which it agreed, where it stands out.

    It stands out by differing from at least `TWINS` others and from more than half of those it has met.
    """
    agreed: dict[str, int] = {}
    differed: dict[str, int] = {}
    met: dict[str, int] = {}
    against: dict[str, int] = {}
    for pair, count in state.agreement.items():
        for hotkey in pair:
            agreed[hotkey] = agreed.get(hotkey, 0) + count.agreed
            differed[hotkey] = differed.get(hotkey, 0) + count.differed
            met[hotkey] = met.get(hotkey, 0) + 1
            against[hotkey] = against.get(hotkey, 0) + (count.differed > 0)
    return {
        hotkey: agreed[hotkey] / (agreed[hotkey] + differed[hotkey])
        if against[hotkey] >= TWINS and 2 * against[hotkey] > met[hotkey]
        else 1.0
        for hotkey in met
    }
