"""What `iota localnet` can be told, and what it says to what it cannot do."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from iota_subnet.localnet.faults import Fault
from iota_subnet.localnet.options import Options, add_arguments, parse
from iota_subnet.model.parameters import parameter_count
from iota_subnet.settings import RunSettings
from iota_subnet.spec import PRESETS, RunSpec
from iota_subnet.train.codec import encoded_size
from template.errors import BadSettings
from tests.model.llama import a_llama
from tests.product.kit import make_run
from tests.validator.kit import write_text


def options(*argv: str) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parse(parser.parse_args(argv))


def test_the_defaults_are_those_of_the_readme() -> None:
    found = options()
    assert (found.miners, found.stages, found.epochs, found.batches) == (6, 3, 4, 200)
    assert found.ui and not found.keep and found.faults == () and found.link is None and found.data == "stdlib"


def test_options_become_a_specification(tmp_path: Path) -> None:
    data = write_text(tmp_path / "text")
    spec = options(
        "--miners", "5", "--stages", "2", "--epochs", "3", "--batches", "9", "--data", data, "--seed", "4"
    ).spec()
    assert isinstance(spec, RunSpec) and RunSpec.from_json(spec.to_json()) == spec
    assert (spec.model.stages, spec.seed, spec.data.source) == (2, 4, data)
    swarm = spec.swarm
    assert (swarm.epochs, swarm.epoch_batches, swarm.start_miners) == (3, 9, 5)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_whole_stage_fits_into_a_blob_whatever_the_preset(tmp_path: Path, preset: str) -> None:
    """Else a stage of one or two replicas could never publish what it merged."""
    model = PRESETS[preset]
    needed = max(encoded_size((parameter_count(model, stage),), "fp32") for stage in range(model.stages))
    settings = RunSettings(preset=preset, stages=model.stages, data="stdlib")
    assert settings.build().swarm.max_blob_bytes >= needed
    if preset == "tiny":
        assert options().spec().swarm.max_blob_bytes >= needed


def test_faults_name_processes() -> None:
    flags = ["--kill", "40:2", "--kill", "0.5:validator", "--freeze", "3:0:9", "--freeze", "3:chain:9"]
    assert options(*flags, "--chain-away", "20:60").faults == (
        Fault("kill", 40.0, "miner-2"), Fault("kill", 0.5, "validator"), Fault("freeze", 3.0, "miner-0", 9.0),
        Fault("freeze", 3.0, "chain", 9.0), Fault("away", 20.0, "chain", 60.0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--miners", "2"], "use --miners 3"),
        (["--miners", "0", "--stages", "0"], "--miners must be at least 1"),
        (["--stages", "0"], "--stages must be at least 1"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--batches", "-1"], "--batches must be at least 1"),
        (["--block-time", "0"], "--block-time 0: use 0.01 to 60 seconds"),
        (["--block-time", "nan"], "--block-time nan"),
        (["--kill", "5"], "use SECONDS:MINER"),
        (["--kill", "5:x"], "use SECONDS:MINER"),
        (["--kill", "nan:1"], "use SECONDS:MINER"),
        (["--kill", "inf:1"], "use SECONDS:MINER"),
        (["--kill=-5:1"], "use SECONDS:MINER"),
        (["--kill", "5:6"], "the miners are 0 to 5"),
        (["--kill=5:-1"], "the miners are 0 to 5"),
        (["--kill", "5:chain"], "use SECONDS:MINER"),
        (["--kill", "5:1:3"], "use SECONDS:MINER"),
        (["--freeze", "5:1"], "use SECONDS:MINER:FOR"),
        (["--freeze", "5:1:nan"], "use SECONDS:MINER:FOR"),
        (["--freeze", "5:6:1"], "the miners are 0 to 5"),
        (["--chain-away", "5"], "use SECONDS:FOR"),
        (["--chain-away", "5:-1"], "use SECONDS:FOR"),
        (["--link", "fast"], "use RATE,ROUND_TRIP,LOSS"),
        (["--link", "1%", "--data", "hf:x/y"], "hf:x/y comes from the internet"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(argv: list[str], words: str) -> None:
    with pytest.raises(BadSettings) as caught:
        options(*argv)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "words"),
    [(["--stages", "7", "--miners", "7"], "--stages"), (["--data", "text:/nowhere/*"], "--data text:/nowhere/*")],
)
def test_a_run_that_cannot_be_is_refused_before_a_process_starts(argv: list[str], words: str) -> None:
    with pytest.raises(BadSettings) as caught:
        options(*argv).spec()
    assert words in str(caught.value)


def test_a_run_can_begin_with_a_llama(tmp_path: Path) -> None:
    data, folder = write_text(tmp_path / "text"), tmp_path / "llama"
    a_llama(folder, vocab_size=256)
    spec = options("--init", str(folder), "--stages", "2", "--data", data).spec()
    assert (spec.model.stages, spec.model.bottleneck, spec.model.dim, spec.data.tokenizer) == (2, 0, 32, "bytes")
    assert spec.init and options("--init", str(folder), "--data", data).stages == 3
    settings = RunSettings(init=folder, stages=2, data=data).build()
    assert (settings.model, settings.init) == (spec.model, spec.init)


def test_a_llama_that_does_not_fit_is_told_why(tmp_path: Path) -> None:
    data, folder = write_text(tmp_path / "text"), tmp_path / "llama"
    with pytest.raises(BadSettings, match=r"--init: .*give a folder of transformers"):
        options("--init", str(folder))
    a_llama(folder, vocab_size=200)
    with pytest.raises(BadSettings, match="needs a vocabulary of 256, the model has 200"):
        options("--init", str(folder), "--data", data).spec()
    with pytest.raises(BadSettings, match=r"--init: .*stages=6"):
        options("--init", str(folder), "--data", data, "--stages", "6").spec()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--resume", "HERE"], "no ledger.sqlite"),
        (["--resume", "RUN"], "which has validator/ in it"),
        (["--resume", "RUN", "--run-dir", "elsewhere"], "leave out --run-dir"),
        (["--resume", "RUN", "--init", "model"], "leave out --run-dir and --init"),
    ],
)
def test_what_cannot_be_resumed_is_told_why(tmp_path: Path, argv: list[str], words: str) -> None:
    make_run(tmp_path / "made")
    places = {"HERE": str(tmp_path), "RUN": str(tmp_path / "made" / "run")}
    with pytest.raises(BadSettings, match=words):
        options(*(places.get(word, word) for word in argv))


def test_a_resumed_run_is_the_one_that_was_begun(tmp_path: Path) -> None:
    spec = make_run(tmp_path)
    (tmp_path / "run").rename(tmp_path / "validator")
    (tmp_path / "spec.json").write_text(spec.to_json())
    found = options("--resume", str(tmp_path), "--miners", "7", "--stages", "1")
    assert found.spec() == spec and found.resume and found.keep
    assert (found.miners, found.stages, found.run_dir) == (7, spec.model.stages, tmp_path)
