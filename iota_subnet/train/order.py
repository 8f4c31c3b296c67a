"""What an auditor is asked to compute again, and what comes of it. Records only, readable JSON on disk.

An order, with the bytes of every blob that it names, is all that anybody needs to come to the same finding.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Owed(msgspec.Struct, frozen=True):
    """A lease that was given to the miner in this epoch, by the orchestrator's books.

    `output` and `losses` are what its receipt said; `done` is False where none came in time. `blamed` is the input of
    which it said that it does not decode, instead of a receipt.
    """

    lease: int
    op: Literal["forward", "loss", "backward"]
    batch: int
    inputs: tuple[str, ...]
    output: str = ""
    losses: tuple[float, ...] = ()
    done: bool = False
    blamed: str = ""


class Order(msgspec.Struct, frozen=True):
    """One replica's epoch. `spec` is the run's specification as JSON; digests are blake3 in hex.

    `base` is the state that the epoch began with, as (lo, hi, weights, momentum), and `manifest` its name. The replica
    began at an optimiser step within `steps`, both ends included; `first_lease` is the number of the first lease that
    it was given thereafter. `transcript` and `shards` are what it committed to;
    "" and () if it did not. `depth` is how many of its first passes are looked at; 0: all, and the pseudo-gradient.
    """

    spec: str
    hotkey: str
    stage: int
    epoch: int
    manifest: str
    base: tuple[tuple[int, int, str, str], ...]
    steps: tuple[int, int]
    first_lease: int
    owed: tuple[Owed, ...]
    transcript: str
    shards: tuple[str, ...]
    depth: int = 0


class Check(msgspec.Struct, frozen=True):
    """The worst of one kind of comparison: `value` against its `limit`, at pass number `place` (-1: not a pass)."""

    what: str
    value: float
    limit: float
    place: int = -1
    bad: bool = False


class Finding(msgspec.Struct, frozen=True):
    """What an audit found. `withheld` means that bytes were missing which the miner has to keep.

    Of `passes` that were computed again `exact` gave the very same bytes. `seconds` is compute. `batches` are
    microbatches of the first passes that were found false.
    """

    verdict: Literal["sound", "failed", "withheld"]
    reason: str
    passes: int = 0
    exact: int = 0
    checks: tuple[Check, ...] = ()
    seconds: float = 0.0
    batches: tuple[int, ...] = ()
