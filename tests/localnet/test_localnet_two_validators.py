"""Two validators on the embedded chain: who agrees is trusted, and who credits a friend for nothing is not."""

from __future__ import annotations

from functools import cache

import pytest
from localnet_kit import Driver

from iota_subnet.core.actions import AuditMiner
from iota_subnet.core.events import MinerAudited
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.scoring import scores
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.world import World
from template.chain import MetagraphView, NeuronView
from template.weights import to_chain_weights

MINERS, CHEATS = 8, ("miner-0", "miner-1")
Scores = dict[str, float]


@cache
def judged(seed: int) -> tuple[Scores, Scores]:
    """One run with two cheats, in which all is audited by both: the scores of the orchestrator, and of a follower."""
    swarm = {"audit_miners": 1.0}
    traits = {number: Trait(cheats=True) for number in range(len(CHEATS))}
    world = World(Plan(seed, stages=2, miners=MINERS, epochs=3, traits=traits, swarm=swarm)).run()
    follower = Orchestrator(world.spec)
    follower.state.auditor, follower.state.audit_secret = "follower", "its own"
    for event in world.journal:
        for order in follower.handle(event):
            if isinstance(order, AuditMiner) and order.auditor == "follower":
                word = "failed" if order.hotkey in CHEATS else "sound"
                follower.judge(
                    MinerAudited(
                        at=event.at, hotkey=order.hotkey, stage=order.stage, epoch=order.epoch, verdict=word,
                        reason=word, auditor="follower",
                    )  # type: ignore[arg-type]
                )  # fmt: skip
    return scores(world.orchestrator.state), scores(follower.state)


def voted(votes: tuple[Scores, Scores], stakes: tuple[int, int]) -> tuple[list[float], dict[str, float]]:
    """vtrust of both validators and incentive by miner, after two epochs of the chain in which both have voted."""
    driver = Driver(tempo=10)
    netuid = driver.subnet()
    judges = [driver.member(f"//judge-{n}", netuid, tao=tao) for n, tao in enumerate(stakes)]
    members = {f"miner-{n}": driver.member(f"//{n}", netuid).public_key for n in range(MINERS)}
    subnet = driver.state.subnets[netuid]
    uids = {name: subnet.uids[account] for name, account in members.items()}
    driver.to_epoch(netuid)
    for _ in range(2):
        for judge, given in zip(judges, votes, strict=True):
            dests, weights = to_chain_weights(given, view(uids))
            call = {"netuid": netuid, "dests": dests, "weights": weights, "version_key": 0}
            assert driver.run(judge, "SubtensorModule.set_weights", **call) is None
        driver.to_epoch(netuid)
    subnet = driver.state.subnets[netuid]
    trust = [subnet.validator_trust[subnet.uids[judge.public_key]] / 65535 for judge in judges]
    return trust, {name: subnet.incentive[uid] / 65535 for name, uid in uids.items()}


def view(uids: dict[str, int]) -> MetagraphView:
    neurons = (
        NeuronView(uid, name, "cold", 0.0, False, True, 0, 0.0, 0.0, 0.0, "0.0.0.0", 0) for name, uid in uids.items()
    )
    return MetagraphView(1, 1, tuple(neurons), "owner")


def favouring(honest: Scores) -> Scores:
    """A cheat is credited with as much as everybody else together."""
    return honest | {"miner-0": sum(honest.values())}


@pytest.mark.parametrize("seed", range(3))
def test_both_are_trusted_where_what_they_found_agrees(seed: int) -> None:
    trust, incentive = voted(judged(seed), (1000, 1000))
    assert min(trust) >= 0.9
    assert all(incentive[name] == 0.0 for name in CHEATS)


def test_of_two_with_equal_stake_the_one_that_has_not_found_a_cheat_is_trusted_less() -> None:
    found, _ = judged(0)
    trust, incentive = voted((found, found | {"miner-0": found["miner-2"]}), (1000, 1000))
    assert trust[0] >= 0.9 > trust[1] > 0.7 and incentive["miner-0"] == 0.0


def test_a_favourite_of_an_orchestrator_without_the_majority_gets_nothing_and_costs_it_its_vtrust() -> None:
    honest, follower = judged(0)
    trust, incentive = voted((favouring(honest), follower), (1000, 1200))
    assert trust[0] < 0.6 and trust[1] >= 0.9
    assert incentive["miner-0"] == 0.0 and min(incentive[f"miner-{n}"] for n in range(2, MINERS)) > 0.05


def test_with_the_majority_of_stake_it_is_the_one_who_contradicts_that_loses_vtrust() -> None:
    """What no second validator can mend: the chain believes the stake."""
    honest, follower = judged(0)
    trust, incentive = voted((favouring(honest), follower), (1200, 1000))
    assert trust[0] >= 0.9 > trust[1] and incentive["miner-0"] > 0.3
