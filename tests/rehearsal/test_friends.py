"""Cheats that take more than one, or that speak ill of others, among honest miners."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iota_subnet.core import audits
from iota_subnet.miner.conduct import Conduct
from iota_subnet.rehearsal.miner import Player
from iota_subnet.rehearsal.plan import Member, nano
from iota_subnet.rehearsal.result import Result
from iota_subnet.rehearsal.world import Rehearsal
from iota_subnet.spec import BlobRef
from tests.adversaries import CrossStage, Grumbler, Nan, ReceiptSpam, Slanderer, Sybils


def played(kind: type[Conduct], seats: tuple[int, ...], passes: float = 0.5, machine: int | None = None) -> Result:
    """3 stages of 4. Audits look at first passes only: what one of them shows is what leads to others."""
    spec = nano(3, 24)
    spec = replace(spec, swarm=replace(spec.swarm, audit_miners=0.0, audit_passes=passes))
    members = [
        Member(number % 3, conduct=kind, machine=machine) if number in seats else Member(number % 3)
        for number in range(12)
    ]
    return Rehearsal(spec, members, 1).run()


def guilty(result: Result) -> set[int]:
    return {result.miners[fault.hotkey].number for fault in result.faults}


def test_one_false_pass_leads_to_the_friend_whose_share_of_it_no_short_audit_can_see() -> None:
    assert guilty(played(CrossStage, (0, 1, 2), passes=2.0)) == {0, 1, 2}


def test_without_following_it_the_head_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "_follow", lambda state, event: [])
    assert 0 not in guilty(played(CrossStage, (0, 1, 2), passes=2.0))


def test_a_slanderer_is_at_fault_and_those_of_whom_it_complains_lose_nothing() -> None:
    result = played(Slanderer, (1,), passes=1.0)
    assert guilty(result) == {1} and not [h for h in result.bans if result.miners[h].number != 1]


def test_who_says_that_it_could_not_fetch_is_not_punished_and_no_peers_work_is_lost() -> None:
    result = played(Grumbler, (1,))
    assert not result.faults and not result.bans
    peers = [miner for miner in result.miners.values() if miner.number != 1]
    assert all(miner.volume == pytest.approx(3 * miner.flops, rel=0.02) for miner in peers)
    assert result.of(1).volume < 0.9 * 3 * result.of(1).flops


def test_an_honest_miner_on_a_bad_line_is_not_punished(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, honest = 0, Rehearsal.fetch

    def bad(world: Rehearsal, ref: BlobRef, reader: Player | None) -> bytes | None:
        nonlocal asked
        asked += reader is not None and reader.number == 1
        lost = reader is not None and reader.number == 1 and asked % 5 == 0
        return None if lost else honest(world, ref, reader)

    monkeypatch.setattr(Rehearsal, "fetch", bad)
    result = played(Conduct, (), passes=1.0)
    assert not result.faults and not result.bans and asked > 20
    assert {audit.verdict for audit in result.verdicts} == {"sound"}
    assert result.of(1).score > 0.0


def test_who_rightly_calls_bytes_unfit_is_not_punished_and_who_made_them_is() -> None:
    result = played(Nan, (1,), passes=4.0)
    assert guilty(result) == {1} and not [h for h in result.bans if result.miners[h].number != 1]


def test_receipts_for_others_leases_are_a_fault_in_every_stage() -> None:
    assert guilty(played(ReceiptSpam, (0, 1, 2))) == {0, 1, 2}


def test_hotkeys_that_share_a_machine_are_paid_for_what_it_computes_and_no_more() -> None:
    result = played(Sybils, (0, 1, 2), machine=0)
    per_flop = {miner.number: miner.volume / miner.flops for miner in result.miners.values()}
    assert max(per_flop.values()) < 1.05 * min(per_flop.values())
    assert sum(result.of(n).flops for n in range(3)) < 2 * max(result.of(n).flops for n in range(3, 12))
