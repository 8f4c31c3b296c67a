"""What goes wrong in a world, drawn from a seed before it starts. A plan is data: printed, it tells the story.

`plan` draws the small worlds of the core's own tests, `storms.draw` those of `iota simulate`; `planfile` reads and
writes them as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

from iota_subnet.spec import ModelSpec, RunSpec, SwarmSpec, TrainSpec

#: Faults are injected in this many simulated seconds; after it, the world only has to come to an end.
STORM = 40.0

#: A run that is not over by then is stuck: the storm, and every deadline of every epoch, fit in (simulated seconds).
LATEST = 1200.0


@dataclass(frozen=True)
class Trait:
    """How one miner behaves: what its machine can do, and what is wrong with it.

    `seconds` is what one forward pass takes. `bytes_per_s` is the link (0: no limit), `latency_s` one way. `graphs` is
    how many forward passes it can keep for their backward (0: no limit); one it cannot is computed again.
    `dropout` is the chance that it vanishes after a lease; it is back `rejoin_s` later (0: never), as a new process.
    `blob_loss` is the chance that what it publishes is gone before anybody reads it. Those who `colludes` are one ring:
    they reduce wrongly, all in the same way, where both members of a pair are of it, and rightly everywhere else. The
    passes of who `cheats` are wrong, which only an audit can see.
    """

    seconds: float = 0.4
    lies_in_reduce: bool = False
    colludes: bool = False
    cheats: bool = False
    wrong_losses: bool = False
    fails_all: bool = False
    silent: bool = False
    hides_peers: bool = False
    blob_loss: float = 0.0
    bytes_per_s: float = 0.0
    latency_s: float = 0.0
    graphs: int = 0
    dropout: float = 0.0
    rejoin_s: float = 0.0


class Incident(NamedTuple):
    """Something that happens at `at` simulated seconds, or as soon after it as the run is in `phase`.

    What `seconds` and `amount` mean is in `incidents.MEANING`.
    """

    at: float
    what: str
    miner: int = 0
    seconds: float = 0.0
    amount: float = 0.0
    miners: tuple[int, ...] = ()
    phase: str = ""


@dataclass(frozen=True)
class Plan:
    """One world: its size, its network, its miners, and the incidents in it.

    Chances are per message, blob or call; times are simulated seconds. `loss`, `twice` and `jitter` hold for the whole
    run, incidents for as long as they say. `costs` are forward, loss and backward in units of `Trait.seconds`.
    `swarm` overrides fields of `SwarmSpec`.
    """

    seed: int
    stages: int = 2
    miners: int = 4
    epochs: int = 3
    traits: dict[int, Trait] = field(default_factory=dict)
    incidents: tuple[Incident, ...] = ()
    loss: float = 0.0
    twice: float = 0.0
    jitter: float = 0.0
    blob_loss: float = 0.0
    token_loss: float = 0.0
    auditor_loss: float = 0.0
    copy_s: float = 0.0
    latency: float = 0.02
    storm_s: float = STORM
    latest_s: float = LATEST
    blob_bytes: int = 64
    costs: tuple[float, float, float] = (1.0, 1.0, 1.0)
    stale_s: float = 0.0
    swarm: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "incidents", tuple(Incident(*incident) for incident in self.incidents))

    def spec(self) -> RunSpec:
        """Small and quick, with the ratios of a real run."""
        limits: dict[str, Any] = {
            "epochs": self.epochs,
            "start_miners": self.miners,
            "start_s": 10.0,
            "epoch_batches": 10,
            "min_batches": 2,
            "live_per_replica": 3,
            "lease_s": 6.0,
            "ready_s": 8.0,
            "train_s": 60.0,
            "drain_s": 15.0,
            "commit_s": 6.0,
            "reduce_s": 10.0,
            "install_s": 8.0,
            "score_window_s": 1e6,
            "audit_miners": 0.3,
            "max_miners": max(32, 2 * self.miners),
        }
        return RunSpec(
            seed=self.seed,
            # A small vocabulary: the tail costs no more than the others, as scripted miners have it.
            model=ModelSpec(stages=self.stages, blocks=max(2, self.stages), vocab=8),
            train=TrainSpec(microbatch=2),
            swarm=SwarmSpec(**{**limits, **self.swarm}),
        )

    def without(self, index: int) -> Plan:
        """The same plan with one incident less."""
        return replace(self, incidents=self.incidents[:index] + self.incidents[index + 1 :])


INCIDENTS = ("crash", "restart_miner", "blink", "away", "leave", "deregister", "join", "restart_validator")


def plan(seed: int) -> Plan:
    """A mixed bag: about a third of the worlds have a lossy network, most have a few incidents, some a bad miner."""
    rng = Random(f"plan {seed}")
    stages = rng.choice((1, 2, 2, 3, 3))
    miners = stages * rng.choice((1, 2, 2, 3)) + rng.choice((0, 0, 1))
    traits = {
        number: Trait(seconds=rng.uniform(0.1, 0.8), blob_loss=rng.choice((0.0, 0.0, 0.05))) for number in range(miners)
    }
    bad = {
        "liar": Trait(lies_in_reduce=True),
        "losses": Trait(wrong_losses=True),
        "broken": Trait(fails_all=True),
        "silent": Trait(silent=True),
        "slow": Trait(seconds=rng.uniform(5.0, 9.0)),
        "hider": Trait(hides_peers=True),
    }
    # The worst of it only where a stage has somebody else, or the run could not go on for good reason.
    if miners >= 2 * stages and rng.random() < 0.7:
        traits[rng.randrange(miners)] = bad[rng.choice(["liar", "liar", "liar", *bad])]
    incidents = [
        Incident(rng.uniform(0.0, STORM), rng.choice(INCIDENTS), rng.randrange(miners))
        for _ in range(rng.choice((0, 2, 4, 8)))
    ]
    lossy = rng.random() < 0.35
    return Plan(
        seed,
        stages,
        miners,
        traits=traits,
        incidents=tuple(sorted(incidents)),
        loss=rng.uniform(0.0, 0.05) if lossy else 0.0,
        twice=rng.uniform(0.0, 0.2) if lossy else 0.0,
        jitter=rng.uniform(0.0, 1.0) if lossy else 0.0,
        token_loss=rng.choice((0.0, 0.03)),
        auditor_loss=rng.choice((0.0, 0.3)),
        latency=rng.choice((0.0, 0.02, 0.1)),
        copy_s=rng.choice((0.0, 1.0)),
        swarm={"overlap": rng.random() < 0.5},
    )
