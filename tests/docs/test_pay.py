"""The numbers of docs/pay.md are those that the code comes to."""

from __future__ import annotations

from iota_subnet.core.clasp import TOLERANCE
from iota_subnet.spec import SwarmSpec
from tests.docs import worked
from tests.docs.reading import ROOT

PAGE = " ".join((ROOT / "docs/pay.md").read_text(encoding="utf-8").split())


def test_the_worked_example_is_what_the_code_pays() -> None:
    assert " ".join(worked.table().split()) in PAGE, worked.table()


def test_the_prices_of_stages_are_those_of_the_model() -> None:
    assert "{:.3f}, {:.3f} and {:.3f}".format(*worked.prices()) in PAGE


def test_the_constants_are_those_of_the_code() -> None:
    swarm = SwarmSpec()
    assert f"`merge_share` ({swarm.merge_share:.0%})".replace("%", " %") in PAGE
    assert f"`score_window_s` ({swarm.score_window_s:.0f} s" in PAGE
    assert f"every {TOLERANCE:g} nats" in PAGE
    assert f"{100 * worked.incentive_part():.0f} of 100 to miners" in PAGE


def test_a_burn_takes_its_share_and_leaves_the_proportions() -> None:
    plain, burnt = worked.weights(), worked.weights(burn=0.2)
    owner = burnt.pop("owner")
    assert abs(owner / (owner + sum(burnt.values())) - 0.2) < 1e-4
    for name, weight in plain.items():
        assert abs(burnt[name] / burnt["E"] - weight / plain["E"]) < 1e-4
