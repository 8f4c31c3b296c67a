"""`iota track` draws what a validator tells everybody, on an axis that does not depend on when it looked."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from iota_subnet.cli import main
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from iota_subnet.status.track_command import follow
from iota_subnet.validator.status import snapshot
from tests.core.bench import Bench
from tests.status.serve import serving


class Tracker(ModuleType):
    """What trackio and wandb have in common, and their rule about steps."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.begun: dict[str, Any] = {}
        self.points: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def init(self, **given: Any) -> None:
        self.begun = given

    def log(self, points: dict[str, float], step: int) -> None:
        assert not self.points or step > self.points[-1][0], "a step that goes back is dropped by wandb"
        self.points.append((step, points))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    made = Tracker()
    monkeypatch.setitem(sys.modules, "trackio", made)
    return made


def told() -> list[dict[str, Any]]:
    """Statuses of a whole run, one after each event that changed the number of finished microbatches or the phase."""
    found: list[dict[str, Any]] = []
    world = World(Plan(3, stages=2, miners=4, epochs=3))
    world.run()
    state = world.orchestrator.state
    last = json.loads(json.dumps(snapshot(state, state.now)))
    for number in range(len(last["reports"])):
        reports = [dict(report) for report in last["reports"][: number + 1]]
        # As it is between an epoch's end and the measuring of its loss.
        reports[-1]["eval_loss"] = None
        done = sum(report["microbatches"] for report in reports)
        found.append(
            last | {"reports": reports, "phase": "train", "microbatches": last["microbatches"] | {"retired": done}}
        )
    return [*found, last]


def test_a_run_is_drawn_once_whenever_one_begins_to_look(tracker: Tracker, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = told()
    bodies = [json.dumps(status).encode() for status in statuses]
    with serving(bodies[0], bodies[0], bodies[1], b"", bodies[1], bodies[-1]) as url:
        assert main(["track", "--url", url, "--every", "0.01"]) == 0
    reports = statuses[-1]["reports"]
    assert tracker.finished and tracker.begun["resume"] == "allow" and tracker.begun["project"] == "iota"
    held_out = [(step, point["loss/held_out"]) for step, point in tracker.points if "loss/held_out" in point]
    assert [loss for _, loss in held_out] == [report["eval_loss"] for report in reports]
    trained = [step for step, point in tracker.points if "tokens" in point]
    assert trained[0] == reports[0]["microbatches"] and len(trained) >= 2
    out = capsys.readouterr().out
    assert out.count("does not answer") == 1 and out.count("held-out loss") == len(reports)
    # Who looks at the end only has the same epochs where they were.
    tracker.points.clear()
    with serving(bodies[-1]) as url:
        assert main(["track", "--url", url]) == 0
    ends = [sum(report["microbatches"] for report in reports[: n + 1]) for n in range(len(reports))]
    assert [step for step, point in tracker.points if "loss/held_out" in point] == ends


def test_a_run_that_has_not_begun_is_drawn_as_nothing(tracker: Tracker) -> None:
    def enough() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow("http://127.0.0.1:9", snapshot(Bench(1, 2).state, 0.0), tracker.log, enough)
    assert [set(point) & {"loss/train", "loss/held_out"} for _, point in tracker.points] == [set()]


def test_what_is_missing_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["track", "--url", "http://127.0.0.1:9", "--to", "wandb"]) == 2
    assert "pip install -e '.[wandb]'" in capsys.readouterr().err
    assert main(["track", "--url", "http://127.0.0.1:9", "--every", "0"]) == 2
    assert "--every 0: give a number of seconds above 0" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", Tracker())
    assert main(["track", "--url", "http://127.0.0.1:9", "--to", "wandb"]) == 2
    assert "no validator's status at" in capsys.readouterr().err
