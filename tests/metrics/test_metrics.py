"""What Prometheus scrapes: valid, named by its conventions, the state's own figures, nothing secret."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from iota_subnet.core.state import RunState
from iota_subnet.metrics.run import run_metrics
from iota_subnet.metrics.server import exposition
from iota_subnet.metrics.work import work_metrics
from iota_subnet.sim.plans import Plan
from iota_subnet.sim.world import World
from tests.dashboard.kit import chain_of
from tests.validator.kit import small_spec

UNITS = ("_bytes", "_seconds", "_ratio", "_nats")


def scraped(state: RunState, now: float) -> tuple[str, dict[str, float]]:
    """The text, and all samples by name and labels."""
    text = exposition(lambda: run_metrics(state, chain_of("miner-0"), now))[0].decode()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return text, values


def test_the_figures_are_those_of_the_state() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=2)).run()
    state = world.orchestrator.state
    text, values = scraped(state, world.now)
    assert values["iota_phase{phase=done}"] == 1 and values["iota_phase{phase=train}"] == 0
    assert values["iota_microbatches_retired_total"] == sum(report.microbatches for report in state.reports)
    assert values["iota_loss_nats{kind=held_out}"] == state.reports[-1].eval_loss
    assert values["iota_epochs_closed_total"] == 2 and values["iota_merge_coverage_ratio"] == 1
    assert sum(value for name, value in values.items() if name.startswith("iota_miners{")) == 4
    hotkey = next(iter(state.miners))
    assert values[f"iota_miner_score{{hotkey={hotkey}}}"] == state.reports[-1].scores[hotkey]
    assert state.secret not in text


def test_a_run_that_has_not_begun_can_be_scraped() -> None:
    _, values = scraped(RunState(small_spec()), 5.0)
    assert values["iota_phase{phase=wait}"] == 1 and values["iota_weights_set_epoch"] == -1


def test_names_and_units_follow_the_conventions() -> None:
    world = World(Plan(3, stages=2, miners=4, epochs=1)).run()
    text, _ = scraped(world.orchestrator.state, world.now)
    seen = 0
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"iota_[a-z0-9_]+", family.name) and family.documentation.endswith(".")
        assert family.type in ("gauge", "counter", "info"), family.name
        assert not re.search(r"_(ms|kb|mb|percent|count)$", family.name)
        for unit in UNITS:
            assert unit not in family.name or family.name.endswith(unit), family.name
        seen += 1
    assert seen > 25


def test_a_label_that_a_stranger_chose_cannot_add_a_line() -> None:
    state = RunState(small_spec(), parts={'x"} 1\nevil_total 7\n# ': []})
    _, values = scraped(state, 0.0)
    assert not any(name.startswith("evil") for name in values)


def test_a_miner_that_has_no_standing_yet_can_be_scraped() -> None:
    document = {"connected": False, "epochs": {}, "leases_done": 0, "leases": [], "standing": None}
    text = exposition(lambda: work_metrics(document, {"blob": 5}, {}))[0].decode()
    assert "iota_connected 0.0" in text and 'iota_sent_bytes_total{kind="blob"} 5.0' in text


def test_every_metric_is_documented_and_every_panel_asks_for_one_that_exists() -> None:
    import json
    from pathlib import Path

    docs = Path(__file__).resolve().parents[2] / "docs"
    world = World(Plan(3, stages=2, miners=4, epochs=1)).run()
    text, _ = scraped(world.orchestrator.state, world.now)
    document = {"connected": True, "epochs": {}, "leases_done": 0, "leases": [], "standing_age_s": 1.0}
    standing = {"seat": None, "epoch": 0, "score": 1.0, "share": 0.5, "rank": 1, "volume": 2.0, "faults": []}
    text += exposition(lambda: work_metrics(document | {"standing": standing}, {}, {}))[0].decode()
    exported = set(re.findall(r"# TYPE (\S+) ", text)) | {"iota_sent_bytes_total", "iota_received_bytes_total"}
    written = (docs / "metrics.md").read_text(encoding="utf-8")
    for stem, names in re.findall(r"(iota_[a-z_]*)\{([a-z,]+)\}(?=[a-z_]*)", written):
        written += " ".join(stem + name + "_total" for name in names.split(","))
    assert {name for name in exported if name not in written} == set()
    panels = json.loads((docs / "grafana.json").read_text(encoding="utf-8"))["panels"]
    asked = {name for one in panels for t in one["targets"] for name in re.findall(r"iota_[a-z_]+", t["expr"])}
    assert asked and asked <= exported
