"""The worlds of `iota simulate`: which faults a seed gets, and when they strike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from iota_subnet.sim.plans import Incident, Plan, Trait

#: Everything that `--faults` knows, with what it does. Names of the left column are those of the command line.
FAULTS: dict[str, str] = {
    "drop": "messages are lost, both ways",
    "delay": "messages take longer, in order",
    "duplicate": "messages arrive twice",
    "reorder": "messages overtake each other",
    "crash": "a miner dies for good",
    "rejoin": "a miner dies and comes back as a new process",
    "blackout": "several miners die at one blow and come back as new processes",
    "freeze": "a miner stops (SIGSTOP) and goes on later",
    "blink": "a miner's channel breaks and comes back",
    "partition": "some miners reach neither the validator nor the others",
    "skew": "the validator's clock jumps, forward or back",
    "slow-disk": "the ledger takes long to commit, events wait",
    "validator": "the validator dies, its successor replays the ledger",
    "join": "a miner comes late",
    "leave": "a miner says goodbye",
    "drain": "a miner finishes what it holds, goes, and comes back as a new process",
    "deregister": "a hotkey is deregistered for a while",
    "liar": "a miner publishes wrong reductions",
    "ring": "miners that know each other publish the same wrong reduction wherever two of them are a pair",
    "cheat": "a miner's passes are not what they should be",
    "hider": "a miner says that it cannot fetch its peers' bytes",
    "broken": "a miner fails all its leases",
    "silent": "a miner takes leases and never answers",
    "losses": "a miner reports losses that cannot be",
    "slow": "a miner misses its deadlines",
    "blobs": "published bytes are gone before they are read",
    "tokens": "the feed loses tokens or forgets to say that they are there",
    "auditor": "the auditor does not answer",
}

_BAD: dict[str, Trait] = {
    "liar": Trait(lies_in_reduce=True),
    "cheat": Trait(cheats=True),
    "hider": Trait(hides_peers=True),
    "broken": Trait(fails_all=True),
    "silent": Trait(silent=True),
    "losses": Trait(wrong_losses=True),
    "slow": Trait(seconds=7.0),
}

_Draw = Callable[[Random, float, int], Incident]

_EVENTS: dict[str, _Draw] = {
    "drop": lambda r, at, n: Incident(at, "drop", seconds=r.uniform(2, 15), amount=r.uniform(0.02, 0.3)),
    "delay": lambda r, at, n: Incident(at, "delay", seconds=r.uniform(2, 15), amount=r.uniform(0.2, 2.0)),
    "duplicate": lambda r, at, n: Incident(at, "duplicate", seconds=r.uniform(2, 15), amount=r.uniform(0.05, 0.5)),
    "reorder": lambda r, at, n: Incident(at, "reorder", seconds=r.uniform(2, 15), amount=r.uniform(0.2, 2.0)),
    "crash": lambda r, at, n: Incident(at, "crash", r.randrange(n)),
    "rejoin": lambda r, at, n: Incident(at, "restart_miner", r.randrange(n), seconds=r.uniform(0.1, 12.0)),
    "blackout": lambda r, at, n: Incident(at, "blackout", seconds=r.uniform(0.1, 12.0), miners=_some(r, n)),
    "freeze": lambda r, at, n: Incident(at, "freeze", r.randrange(n), seconds=r.uniform(0.5, 15.0)),
    "blink": lambda r, at, n: Incident(at, r.choice(("blink", "away")), r.randrange(n)),
    "partition": lambda r, at, n: Incident(at, "partition", seconds=r.uniform(1, 12), miners=_some(r, n)),
    "skew": lambda r, at, n: Incident(at, "skew", amount=r.choice((-20.0, -3.0, 3.0, 20.0)) * r.uniform(0.5, 1.5)),
    "slow-disk": lambda r, at, n: Incident(at, "slow_disk", seconds=r.uniform(2, 10), amount=r.uniform(0.1, 1.5)),
    "validator": lambda r, at, n: Incident(
        at, "restart_validator", seconds=r.choice((1.0, 4.0, 30.0)), amount=r.choice((0.0, 1.0))
    ),
    "join": lambda r, at, n: Incident(at, "join", amount=r.uniform(0.1, 0.8)),
    "leave": lambda r, at, n: Incident(at, "leave", r.randrange(n)),
    "drain": lambda r, at, n: Incident(at, "drain", r.randrange(n), seconds=r.uniform(0.1, 5.0)),
    "deregister": lambda r, at, n: Incident(at, "deregister", r.randrange(n)),
}


_DELICATE = ("commit", "reduce", "install")


def _some(rng: Random, miners: int) -> tuple[int, ...]:
    """One miner, or up to half of them."""
    return tuple(sorted(rng.sample(range(miners), rng.randint(1, max(1, miners // 2)))))


def _ring(rng: Random, traits: dict[int, Trait]) -> dict[int, Trait]:
    """In a quarter of the worlds, up to half of the miners know each other."""
    if rng.random() >= 0.25:
        return traits
    ring = rng.sample(sorted(traits), rng.randint(2, max(2, len(traits) // 2)))
    return {number: replace(trait, colludes=number in ring) for number, trait in traits.items()}


def draw(seed: int, miners: int, stages: int, epochs: int, batches: int, faults: tuple[str, ...]) -> Plan:
    """The plan of one seed. A seed gets a share of what is allowed, so that faults meet alone and in company."""
    rng = Random(f"storm {seed}")
    chosen = [name for name in faults if name in _EVENTS]
    count = rng.choice((3, 6, 9, 12)) if chosen else 0
    storm_s = 14.0 * epochs
    incidents = [_EVENTS[rng.choice(chosen)](rng, rng.uniform(0.0, storm_s), miners) for _ in range(count)]
    # The merge is short and delicate: left to the clock, it would hardly ever be hit.
    incidents = [i._replace(phase=rng.choice(_DELICATE)) if rng.random() < 0.3 else i for i in incidents]
    traits = {number: Trait(seconds=round(rng.uniform(0.1, 0.8), 3)) for number in range(miners)}
    bad = [name for name in faults if name in _BAD]
    # A lone replica that is bad is the operator's to replace; with two and more per stage the swarm has to cope.
    for _ in range(rng.choice((0, 1, 2, 3)) if bad and miners >= 2 * stages else 0):
        traits[rng.randrange(miners)] = _BAD[rng.choice(bad)]
    if "ring" in faults and miners >= 2 * stages:
        traits = _ring(Random(f"ring {seed}"), traits)
    return Plan(
        seed,
        stages,
        miners,
        epochs,
        traits,
        tuple(sorted(incidents)),
        blob_loss=rng.choice((0.0, 0.05, 0.15)) if "blobs" in faults else 0.0,
        token_loss=rng.choice((0.0, 0.05)) if "tokens" in faults else 0.0,
        auditor_loss=rng.choice((0.0, 0.3)) if "auditor" in faults else 0.0,
        copy_s=rng.choice((0.0, 1.0)),
        latency=rng.choice((0.0, 0.02, 0.1)),
        storm_s=storm_s if faults else 0.0,
        # Half of the worlds go on training while they merge.
        swarm={"epoch_batches": batches, "overlap": rng.random() < 0.5},
    )
