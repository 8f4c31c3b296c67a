"""What the index writes down: a card for every hotkey, a page for every stage. Holders only; `Index` fills them in.

Law: all that a lease needs to know of its miner is on one card. With 10,000 miners every look-up by hotkey reads
memory that no cache has, so there is one, and stages know the cards of those who sit there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iota_subnet.core.facts import NOBODY, Facts
from iota_subnet.core.sampler import Sampler

if TYPE_CHECKING:
    from iota_subnet.core.state import Miner


@dataclass(slots=True, eq=False)
class Card:
    """One hotkey. There is a card as long as it names a miner, a graph or a microbatch.

    `miner` is its entry in the state, None when it has left. `held` counts its graphs whose backward pass is still to
    come; `kept` are the microbatches of them that wait for that pass now, the oldest first. `stage` and `slot` are
    where it sits.
    """

    hotkey: str
    miner: Miner | None = None
    facts: Facts = NOBODY
    stage: StageIndex | None = None
    slot: int = -1
    held: int = 0
    kept: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class StageIndex:
    """One stage in numbers. `room` holds the slots of those who may take work, by how soon they would be done; `slots`
    says who sits where, `unused` which slots are free: a heap."""

    number: int = 0
    members: int = 0
    ready: int = 0
    available: int = 0
    ahead: int = 0
    room: Sampler = field(default_factory=Sampler)
    slots: list[Card | None] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)
