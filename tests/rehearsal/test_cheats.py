"""Three cheats among honest miners: each is caught, and nobody else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iota_subnet.miner.conduct import Conduct
from iota_subnet.rehearsal.plan import UNDEFENDED, Member, nano
from iota_subnet.rehearsal.world import Rehearsal
from tests.rehearsal.cheats import ForgedLoss, FreeRider, SignFlip

CASES = [(FreeRider, 1), (SignFlip, 0), (ForgedLoss, 2)]


def swarm(kind: type[Conduct], seat: int) -> list[Member]:
    return [Member(number % 3, conduct=kind if number == seat else Conduct) for number in range(9)]


@pytest.mark.parametrize(("kind", "seat"), CASES)
def test_an_audit_finds_it_and_nobody_else(kind: type[Conduct], seat: int) -> None:
    spec = nano(2, 24)
    spec = replace(spec, swarm=replace(spec.swarm, audit_miners=1.0))
    result = Rehearsal(spec, swarm(kind, seat)).run()
    cheat = result.hotkey(seat)
    assert {fault.hotkey for fault in result.faults} == {cheat}
    assert {audit.hotkey for audit in result.verdicts if audit.verdict != "sound"} == {cheat}
    assert result.miners[cheat].weight == 0.0
    assert all(miner.weight > 0.0 for hotkey, miner in result.miners.items() if hotkey != cheat)


@pytest.mark.parametrize(("kind", "seat"), CASES)
def test_without_defences_it_earns_as_if_it_were_honest(kind: type[Conduct], seat: int) -> None:
    result = Rehearsal(nano(2, 24), swarm(kind, seat), defences=UNDEFENDED).run()
    peers = [result.of(number).weight for number in range(9) if number % 3 == seat and number != seat]
    assert result.faults == ()
    assert result.of(seat).weight > 0.7 * min(peers)
