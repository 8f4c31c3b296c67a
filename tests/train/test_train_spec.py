"""Codecs and merge settings that make no sense are refused with the remedy, from a stranger's JSON too."""

from __future__ import annotations

import json

import pytest

from iota_subnet.spec import RunSpec, SpecError, TrainSpec


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("delta_codec", "fp8", "choose one of fp32, bf16, int8, topk"),
        ("mean_codec", "topk", "choose one of fp32, bf16, int8$"),
        ("activation_codec", "topk", "choose one of fp32, bf16, int8$"),
        ("optimiser", "sgd", "choose one of adamw, muon$"),
        ("muon_momentum", 1.0, r"must lie in \[0, 1\)"),
        ("muon_rms", 0.0, "more than 0"),
        ("topk", 0.0, "more than 0 and at most 1"),
        ("topk", 1.01, "more than 0 and at most 1"),
        ("topk", float("nan"), "more than 0 and at most 1"),
        ("delta_clip", 0.5, "choose 1 or more, or 0 for off"),
        ("delta_clip", -1.0, "choose 1 or more"),
        ("delta_clip", float("inf"), "0 for off"),
        ("delta_clip", float("nan"), "0 for off"),
        ("delta_trim", 0.5, "below 0.5"),
        ("delta_trim", -0.1, r"0 \(off\) or more"),
        ("delta_trim", float("nan"), "below 0.5"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_remedy(field: str, value: object, remedy: str) -> None:
    with pytest.raises(SpecError, match=f"^{field}=.*{remedy}"):
        TrainSpec(**{field: value})
    raw = json.loads(RunSpec().to_json())
    raw["train"][field] = value
    with pytest.raises(SpecError, match=remedy):
        RunSpec.from_json(json.dumps(raw))


def test_settings_survive_the_journey() -> None:
    spec = RunSpec(train=TrainSpec(delta_codec="topk", mean_codec="int8", topk=0.01, delta_clip=1.0, delta_trim=0.49))
    assert RunSpec.from_json(spec.to_json()) == spec
