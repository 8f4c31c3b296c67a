"""Minutes of real faults on real processes: `make soak`. What is drawn is drawn from a seed that the output names."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from iota_subnet.localnet import tun
from template.errors import BadSettings
from tests.e2e.drills import Drilled, assert_whole, iota

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1500)]


def links_missing() -> str:
    """Why links cannot be emulated here, or nothing."""
    try:
        tun.check()
    except BadSettings as error:
        return str(error)
    return ""


needs_links = pytest.mark.skipif(bool(links_missing()), reason=links_missing())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kills_and_freezes_at_random_moments_lose_nothing(tmp_path: Path, seed: int) -> None:
    """Nine miners of three stages; at most two are killed, so that no stage is left without a replica."""
    chance = random.Random(seed)
    moment = lambda: f"{chance.uniform(1, 40):.1f}"  # noqa: E731
    faults = [arg for miner in chance.sample(range(9), 2) for arg in ("--kill", f"{moment()}:{miner}")]
    faults += ["--kill", f"{moment()}:validator", "--freeze", f"{moment()}:validator:{chance.uniform(1, 20):.1f}"]
    for miner in chance.sample(range(9), 3):
        faults += ["--freeze", f"{moment()}:{miner}:{chance.uniform(1, 20):.1f}"]
    print(f"seed {seed}:", *faults)
    size = ["--miners", "9", "--stages", "3", "--epochs", "3", "--batches", "90", "--seed", str(seed)]
    summary = iota(tmp_path / "run", *size, *faults, timeout_s=1400)
    assert_whole(summary, tmp_path / "run", epochs=3, stages=3, batches=90)
    assert len(summary["killed"]) == 2


@needs_links
@pytest.mark.parametrize("link", ["20mbit,80ms,1%", "10mbit,20ms"])
def test_a_run_over_thin_and_lossy_links_completes(tmp_path: Path, link: str) -> None:
    size = ["--miners", "6", "--stages", "3", "--epochs", "2", "--batches", "60"]
    summary = iota(tmp_path / "run", *size, "--link", link, timeout_s=1400)
    assert_whole(summary, tmp_path / "run", epochs=2, stages=3, batches=60)
    seen = summary["link"]
    packets, lost = (sum(lane[key] for lane in seen["up"] + seen["down"]) for key in ("packets", "lost"))
    share = 0.01 if "%" in link else 0.0
    assert packets > 10_000 and 0.8 * share * packets <= lost <= 1.2 * share * packets
    # The emulation must not have been the bottleneck.
    assert seen["cpu_seconds"] < 0.5 * summary["wall_seconds"]
    assert summary["tokens_per_second"] > 0 and len(summary["cpu_share"]) >= 6


@needs_links
def test_links_kills_and_freezes_together_lose_nothing(tmp_path: Path) -> None:
    size = ["--miners", "6", "--stages", "2", "--epochs", "2", "--batches", "60"]
    faults = ["--kill", "10:1", "--kill", "20:validator", "--freeze", "5:3:12", "--freeze", "30:chain:30"]
    summary = iota(tmp_path / "run", *size, *faults, "--link", "20mbit,80ms,1%", timeout_s=1400)
    assert_whole(summary, tmp_path / "run", epochs=2, stages=2, batches=60)


@pytest.mark.parametrize("fault", [["--chain-away", "2:60"], ["--freeze", "2:chain:60"]])
def test_a_chain_that_goes_away_for_a_minute_is_only_late(tmp_path: Path, fault: list[str]) -> None:
    """It refuses connections, or takes them and does not answer. Weights and incentives come when it is back."""
    size = ["--miners", "4", "--stages", "2", "--epochs", "2", "--batches", "60"]
    summary = iota(tmp_path / "run", *size, *fault, timeout_s=600)
    assert_whole(summary, tmp_path / "run", epochs=2, stages=2, batches=60)
    assert all(value > 0 for value in summary["incentive"].values())


@pytest.mark.parametrize("seconds", [5.0, -5.0, 3600.0, -3600.0])
def test_a_miner_whose_clock_is_wrong_works_or_is_told_so(tmp_path: Path, seconds: float) -> None:
    wrong = abs(seconds) > 30
    size = ["--miners", "5", "--stages", "2", "--epochs", "2", "--batches", "40"]
    run = Drilled(tmp_path / "run", *size, clocks={4: seconds}, hopeless=int(wrong))
    summary = run.run()
    assert_whole(summary, tmp_path / "run", epochs=2, stages=2, batches=40)
    weights = {name: summary["weights"][hotkey] for hotkey, name in summary["names"].items()}
    assert (weights["miner-4"] > 0) is not wrong
    told = f"your clock is 3600 s {'ahead of' if seconds > 0 else 'behind'} mine, 30 s are allowed; set it"
    assert (told in run.log("miner-4")) is wrong
