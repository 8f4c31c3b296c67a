"""`iota status` as a user meets it: what it finds, what it prints, and its exit code."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from iota_subnet.cli import main
from iota_subnet.core.clasp import Effect
from iota_subnet.core.events import MinerJoined
from iota_subnet.core.state import Met, RunState
from iota_subnet.miner.meter import Meter
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.world import World
from iota_subnet.statusfile import write_status
from iota_subnet.validator.standing import standing
from iota_subnet.validator.status import snapshot
from tests.core.bench import Bench
from tests.status.serve import serving


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NEURON_STATE_DIR", raising=False)


def miner(folder: Path, name: str, run: RunState | None, hotkey: str = "m0", **changes: Any) -> None:
    """A status file as a miner writes it."""
    report = asdict(standing(run, hotkey, run.now)) if run is not None else None
    document: dict[str, Any] = {
        "kind": "miner", "hotkey": hotkey, "wallet": "w", "wallet_hotkey": name, "netuid": 7, "connected": True,
        "state": "working", "standing": report, "standing_age_s": 1.0, "standing_trouble": "", "leases": [],
        "receipts": [], "epochs": {}, "now": report["own"] if report else "", "now_s": report["own_s"] if report else 0,
        "time": Meter().read(),
    }  # fmt: skip
    write_status(folder / "w" / name / "netuid7" / "status.json", document | changes)


def shown(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    code = main(["status", *map(str, argv)])
    return code, " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_miner_at_work_is_shown_with_its_leases_and_is_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = {"lease": 9, "op": "backward", "batch": 4, "withdrawn": "", "seconds_left": 30.0}
    receipt = {"lease": 8, "op": "forward", "batch": 5, "epoch": 0, "seconds": 0.5, "ago_s": 3.0, "outcome": "accepted"}
    refused = {"outcome": "refused", "reason": "another replica has already done this step", "lease": 3}
    receipts = [receipt | {"reason": ""}, receipt | refused]
    counts = {"0": {"done": 2, "refused": 1}}
    miner(tmp_path, "a", Bench(1, 2).state, leases=[lease], receipts=receipts, epochs=counts)
    code, text = shown(capsys, "--state-dir", tmp_path)
    assert code == 0
    assert "stage 0, slot 0, holds epoch 1, ready" in text
    assert "epoch 1, train: miners train 10 min at most" in text
    assert "backward of microbatch 4 (lease 9, 30 s)" in text
    assert "epoch 1: 2 done, 1 refused, 0 failed last 2: 1 accepted, 1 refused" in text
    assert "refused: another replica has already done this step" in text
    assert "because no epoch has closed yet" in text


def test_a_score_is_shown_with_its_parts_and_its_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = World(Plan(3, stages=2, miners=4, epochs=3)).run().orchestrator.state
    hotkey = next(iter(state.miners))
    miner(tmp_path, "a", state, hotkey)
    code, text = shown(capsys, "--state-dir", tmp_path)
    report = standing(state, hotkey, state.now)
    assert (
        code == 0 and f"{report.score:.2f} = {100 * report.share:.0f} % of the swarm's, rank {report.rank} of 4" in text
    )
    for part in report.parts:
        adds = (part.volume + part.merged) * part.quality * part.standing
        shown_as = f"{part.volume:.2f} {part.merged:.2f} {part.quality:.3f} 1.000 {part.standing:.0f} {adds:.2f}"
        assert f"{part.epoch + 1} {shown_as}" in text
    assert "nothing: the run is complete" in text


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (Effect(40, 3.1, 0.01, 0.02, 1.0), "no significant harm, effect on loss +0.010 ± 0.020 nats per token"),
        (Effect(40, 3.9, 0.80, 0.02, 0.004), "significant harm, effect on loss +0.800 ± 0.020 nats per token"),
        (Effect(40, 3.1, 0.0, 0.0, 1.0), "nothing to compare with in its stage, 40 microbatches"),
    ],
)
def test_clasps_word_is_shown_with_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], effect: Effect, words: str
) -> None:
    bench = Bench(1, 2).train().commit_all().merge_all()
    bench.state.reports[-1].effects["m0"] = effect
    miner(tmp_path, "a", bench.state)
    _, text = shown(capsys, "--state-dir", tmp_path)
    assert f"CLASP epoch 1: {words}" in text


def test_a_fault_is_shown_as_the_reason_for_no_pay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = (
        World(Plan(5, stages=1, miners=3, epochs=2, traits={0: Trait(lies_in_reduce=True)})).run().orchestrator.state
    )
    miner(tmp_path, "liar", state, state.faults[0].hotkey)
    _, text = shown(capsys, "--state-dir", tmp_path)
    assert "0.00, because of the fault below" in text and "truth is" in text and "no pay for another 12 days" in text


def test_a_miner_without_a_seat_is_not_fine_and_reads_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(1, 2, max_miners=2, wait_s=90.0)
    bench.send(MinerJoined(at=0.0, hotkey="late", boot="0"))
    miner(tmp_path, "late", bench.state, "late", connected=False)
    code, text = shown(capsys, "--state-dir", tmp_path)
    assert code == 1 and "no seat: wait for a seat: number 1 of 1 in the line" in text
    assert "place kept for 89 s" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ended": True}, "not running: it stopped"),
        ({"pid": 0}, "its process is gone"),
        ({"written_at": 1000.0}, "it has written nothing for"),
        ({"connected": False}, "no open work channel"),
    ],
)
def test_a_miner_that_is_not_running_or_not_connected_is_not_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    miner(tmp_path, "a", Bench(1, 2).state, **changes)
    code, text = shown(capsys, "--state-dir", tmp_path)
    assert code == 1 and words in text


def test_a_miner_that_has_heard_nothing_yet_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miner(tmp_path, "a", None, state="waiting for the validator: none serves", standing_trouble="no such synapse")
    _, text = shown(capsys, "--state-dir", tmp_path)
    assert "waiting for the validator: none serves" in text and "no word from the validator (no such synapse)" in text


def test_nothing_found_is_one_line_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--state-dir", str(tmp_path), "--netuid", "3"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"under {tmp_path} for --netuid 3" in error and "--state-dir DIR" in error


def test_neurons_are_chosen_by_wallet_hotkey_and_subnet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Bench(1, 2).state
    for name in ("a", "b"):
        miner(tmp_path / "state", name, state)
    monkeypatch.setenv("NEURON_STATE_DIR", str(tmp_path))

    def chosen(*argv: str) -> list[str]:
        assert main(["status", "--json", *argv]) == 0
        return [neuron["document"]["wallet_hotkey"] for neuron in json.loads(capsys.readouterr().out)]

    assert chosen() == ["a", "b"], "a run folder's own state folder is looked into"
    assert chosen("--wallet.hotkey", "b") == ["b"] and chosen("--wallet.name", "w", "--netuid", "7") == ["a", "b"]
    assert main(["status", "--wallet.name", "x"]) == 2


def test_files_that_are_no_status_or_of_another_release_stop_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    miner(tmp_path, "a", Bench(1, 2).state)
    miner(tmp_path, "b", Bench(1, 2).state, standing={"another": "shape", "seat": {}})
    for text in ("{", "[]"):
        path = tmp_path / "w" / f"c{len(text)}{ord(text[0])}" / "netuid7" / "status.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    code, text = shown(capsys, "--state-dir", tmp_path)
    assert code == 0 and "is it of another release of iota?" in text and "stage 0, slot 0" in text


def test_what_others_wrote_gives_the_terminal_no_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = Bench(1, 2).state
    state.waiting_for = "\x1b[2Jgone [bold]"
    miner(tmp_path, "a", state, now="\x1b]0;title\x07")
    _, text = shown(capsys, "--state-dir", tmp_path)
    assert "\x1b" not in text and "\x07" not in text and "[2Jgone [bold]" in text


def test_a_validators_public_status_is_shown_from_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    state = World(Plan(3, stages=2, miners=4, epochs=2)).run().orchestrator.state
    state.reports[-1].weights_set = "block 12"
    body = json.dumps(snapshot(state, state.now) | {"validator": "5Validator"}).encode()
    with serving(body) as url:
        code, text = shown(capsys, "--url", url)
        assert main(["status", "--url", f"{url}/", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["run"]["phase"] == "done"
    assert code == 0 and "validator 5Validator" in text and "epoch 2 of 2, done: the run is complete" in text
    assert "last epoch epoch 2: 10 microbatches" in text and "merged 100 % of the parameters" in text
    assert "last set after epoch 2: block 12" in text


def test_a_validators_line_bans_and_empty_stages_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(1, 2, max_miners=2)
    for number in range(6):
        bench.send(MinerJoined(at=0.0, hotkey=f"late{number}", boot="0"))
    for hotkey in ("m0", "m1"):
        bench.disconnect(hotkey)
    bench.state.banned["bad"] = (50.0, "look at your blob port")
    bench.state.returned[0] = 3
    with serving(json.dumps(snapshot(bench.state, 2.0)).encode()) as url:
        code, text = shown(capsys, "--url", url)
    assert code == 0 and "6 miners for a seat: late0 (asked 2 s ago)" in text and "and 2 more" in text
    assert "banned bad, 48 s: look at your blob port" in text
    assert "nobody can work in stage 0" in text and "went back to that of epoch 4" in text


def test_twins_that_differed_and_each_miners_agreement_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(1, 3)
    bench.state.agreement = {("m0", "m1"): Met(7, 0), ("m0", "m2"): Met(3, 2), ("m1", "m2"): Met(1, 4)}
    with serving(json.dumps(snapshot(bench.state, 2.0)).encode()) as url:
        code, text = shown(capsys, "--url", url)
    assert code == 0 and "differed stage 0: m1 and m2 4 of 5, m0 and m2 2 of 5" in text
    assert "agreement m2 agreed 4 of 10 with 2 twins agreement m1 agreed 8 of 12 with 2 twins" in text


def test_a_validator_of_this_machine_is_asked_where_its_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w" / "v" / "netuid7" / "status.json"
    document = {"kind": "validator", "hotkey": "5V", "wallet": "w", "wallet_hotkey": "v", "netuid": 7}
    with serving(json.dumps(snapshot(Bench(1, 2).state, 0.0)).encode()) as url:
        write_status(path, document | {"url": url})
        code, text = shown(capsys, "--state-dir", tmp_path)
    assert code == 0 and "epoch 1, train: miners train" in text
    code, text = shown(capsys, "--state-dir", tmp_path)
    assert code == 1 and "its process runs, but" in text and "does not answer" in text


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"phase": 1}'])
def test_an_address_that_is_no_validators_is_one_line_with_what_to_do(
    capsys: pytest.CaptureFixture[str], body: bytes
) -> None:
    with serving(body) as url:
        assert main(["status", "--url", url]) == 2
    assert main(["status", "--url", url]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2 and "give the address of its blob server" in error


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:80", "http://"])
def test_an_address_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["status", "--url", url]) == 2
    assert "--url: " in capsys.readouterr().err


def test_watching_looks_again_until_it_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Bench(1, 2).state
    miner(tmp_path, "a", state)
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt
        miner(tmp_path, "a", state, now=f"look {len(looks)}", ended=True)

    monkeypatch.setattr(time, "sleep", pause)
    code, text = shown(capsys, "--state-dir", tmp_path, "--watch")
    assert code == 1, "what was seen last counts"
    assert "look 2" in text and os.listdir(tmp_path) == ["w"]
