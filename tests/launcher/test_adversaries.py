"""`--adversary`: who cheats in a run, what these miners are told, and what is said of them at the end."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from iota_subnet.localnet import adversaries
from iota_subnet.localnet.adversaries import KNOWN, Adversary, placed
from iota_subnet.localnet.findings import Finding
from iota_subnet.localnet.launch import Launcher
from iota_subnet.localnet.options import Options, add_arguments, parse
from iota_subnet.localnet.summary import sentences, summarise
from iota_subnet.miner import rogue
from iota_subnet.miner.conduct import Me
from iota_subnet.settings import MinerSettings
from template.errors import BadSettings
from template.settings import parse as parse_settings

from .recorded import hotkey, picture

OWN = "from iota_subnet.miner.conduct import Conduct\nclass Mine(Conduct):\n    pass\nclass Other:\n    pass\n"


def options(*argv: str) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parse(parser.parse_args(argv))


def test_a_run_is_honest_and_audited_as_its_specification_says() -> None:
    found = options()
    assert found.adversaries == () and found.spec().swarm.audit_miners == 0.1
    assert options("--audit-miners", "0.5").spec().swarm.audit_miners == 0.5


def test_the_last_miners_cheat_in_the_order_of_the_flags() -> None:
    (Path.cwd() / "own.py").write_text(OWN)
    chosen = options("--adversary", "lazy:1", "--adversary", "own.py:Mine:2", "--adversary", "lazy:1").adversaries
    assert [(one.kind, one.count) for one in chosen] == [("lazy", 1), ("Mine", 2), ("lazy", 1)]
    places = placed(chosen, 6)
    assert {index: one.kind for index, one in places.items()} == {2: "lazy", 3: "Mine", 4: "Mine", 5: "lazy"}
    hotkeys = [f"h{index}" for index in range(6)]
    told = [adversaries.flags(places, index, hotkeys) for index in range(6)]
    assert told[0] == told[1] == []
    # Of one flag, not of one kind: and a relative path means the same in every process.
    assert told[2] == ["--work.conduct", f"{KNOWN}:Lazy", "--work.conduct_friends", "h2"]
    assert told[3] == told[4] == ["--work.conduct", f"{Path.cwd() / 'own.py'}:Mine", "--work.conduct_friends", "h3,h4"]


def test_what_the_launcher_says_is_what_a_miner_understands() -> None:
    places = placed(options("--adversary", "pair_colluder:2").adversaries, 3)
    told = adversaries.flags(places, 2, ["a", "b", "c"])
    settings = parse_settings(MinerSettings, ["--netuid", "1", "--subtensor.network", "local", *told])
    conduct = rogue.chosen(settings, "c")
    assert type(conduct).__name__ == "PairColluder" and conduct.me == Me("c", 1, 2, ("b",))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--adversary", "lazy"], "use KIND:COUNT or FILE.py:CLASS:COUNT"),
        (["--adversary", "lazy:0"], "use KIND:COUNT"),
        (["--adversary", "lazy:-1"], "use KIND:COUNT"),
        (["--adversary", "lazy:many"], "use KIND:COUNT"),
        (["--adversary", "kind:1"], "no such kind; the kinds are copy_cat, cross_stage,"),
        (["--adversary", "gone.py:Mine:1"], "--adversary gone.py:Mine:1: there is no file /"),
        (["--adversary", "own.py:Other:1"], "Other of"),
        (["--adversary", "own.py:Gone:1"], "has no class Gone"),
        (["--adversary", "lazy:4", "--adversary", "nan:3"], "7 adversaries among 6 miners; use --miners 7"),
        (["--adversary", "lazy:1", "--link", "1%"], "leave out --adversary"),
        (["--audit-miners", "1.5"], "--audit-miners 1.5: use a share from 0 to 1"),
        (["--audit-miners", "nan"], "--audit-miners nan"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(argv: list[str], words: str) -> None:
    (Path.cwd() / "own.py").write_text(OWN)
    with pytest.raises(BadSettings) as caught:
        options(*argv)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_kinds_need_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversaries, "KNOWN", Path("/nowhere/adversaries.py"))
    with pytest.raises(BadSettings, match="there is no /nowhere/adversaries"):
        Adversary.parse("lazy:1")


def test_the_launcher_names_its_adversaries(tmp_path: Path) -> None:
    chosen = options("--adversary", "lazy:1", "--adversary", "nan:1", "--run-dir", str(tmp_path / "run"))
    assert Launcher(chosen, Console()).kinds == {"miner-4": "lazy", "miner-5": "nan"}


def fault(number: int, epoch: int, what: str) -> dict[str, Any]:
    return {"at": 1.0, "epoch": epoch, "hotkey": hotkey(number), "what": what}


def test_a_finding_is_kept_with_the_epoch_in_which_it_came_to_light() -> None:
    seen, _ = picture()
    assert seen.status is not None and seen.findings == []
    base = seen.status | {"reports": []}
    audit, ban = fault(4, 0, "audit: output of pass 3"), {"hotkey": hotkey(5), "seconds_left": 9.0, "reason": "unfit"}
    seen.take(base | {"epoch": 1, "faults": [audit]})
    seen.take(base | {"epoch": 2, "faults": [audit], "banned": [ban]})
    # The same ban later, and a fault that was forgotten since.
    seen.take(base | {"epoch": 3, "faults": [], "banned": [ban | {"seconds_left": 3.0}]})
    assert seen.findings == [
        Finding(hotkey(4), "audit: output of pass 3", 0, 1),
        Finding(hotkey(5), "banned: unfit", None, 2),
    ]


def test_the_summary_compares_with_the_honest_median_and_the_sentences_say_who_was_found() -> None:
    seen, names = picture()
    seen.weights = {hotkey(n): w for n, w in enumerate((0.2, 0.3, 0.1, 0.0, 0.1, 0.3))}
    seen.findings = [
        Finding(hotkey(4), "audit: output of pass 3", 0, 1),
        Finding(hotkey(4), "banned: an audit failed", None, 1),
    ]
    found = summarise(seen, names, ["miner-3"], 12.3, 4.0, {"miner-4": "lazy", "miner-5": "nan"})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [found["kinds"][hotkey(n)] for n in range(6)] == ["honest"] * 4 + ["lazy", "nan"]
    # Who was killed is not in the median of 0.2, 0.3 and 0.1.
    assert [found["honest_share"][hotkey(n)] for n in (0, 4, 5)] == [1.0, 0.5, 1.5]
    assert found["found_in_epoch"][hotkey(4)] == 1 and found["found_in_epoch"][hotkey(5)] is None
    assert found["findings"][hotkey(4)][0] == {"what": "audit: output of pass 3", "epoch": 0, "seen": 1}
    lines = sentences(found)
    assert lines[-3:] == [
        "adversaries: lazy miner-4 weight 0.50 of the honest median, found in epoch 2 "
        "(epoch 1, audit: output of pass 3; 1 more)",
        "adversaries: nan miner-5 weight 1.50 of the honest median, not found",
        "honest: nobody was found to cheat",
    ]
    rows = {line.split()[0]: line for line in lines if line.startswith("miner-")}
    assert rows["miner-4"].endswith("lazy, 0.50 of the honest median")
    assert rows["miner-3"].endswith("honest, 0.00 of the honest median   (killed)")


def test_an_honest_miner_that_was_named_is_told() -> None:
    seen, names = picture()
    seen.findings = [Finding(hotkey(1), "shard 3: published a, truth is b", 0, 0)]
    lines = sentences(summarise(seen, names, [], 12.3, 4.0, {"miner-5": "nan"}))
    assert lines[-1] == "honest: miner-1 was found in epoch 1 (epoch 1, shard 3: published a, truth is b)"


def test_a_run_in_which_all_cheat_has_nobody_to_compare_with() -> None:
    seen, names = picture()
    found = summarise(seen, names, [], 12.3, 4.0, {name: "lazy" for name in names.values()})
    assert set(found["honest_share"].values()) == {None}
    assert "weight ? of the honest median" in sentences(found)[-2]


def test_an_honest_run_has_no_such_lines() -> None:
    seen, names = picture()
    lines = sentences(summarise(seen, names, [], 12.3, 4.0))
    assert not any("honest" in line or "adversaries" in line for line in lines)
