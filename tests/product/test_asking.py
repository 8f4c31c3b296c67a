"""`iota eval` and `iota generate`: one model gives the same figures and texts, from the run and from the folder."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from iota_subnet.cli import main
from iota_subnet.product.sample import Sampling, choose, pieces, tokens
from iota_subnet.product.tokens import byte_tokenizer

from .kit import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("asked")
    make_run(made)
    assert main(["export", "--run", str(made / "run"), "--out", str(made / "model")]) == 0
    return made


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_runs_loss_is_what_its_validator_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for epoch in ("0", "1"):
        found = told(capsys, "eval", "--run", str(folder / "run"), "--epoch", epoch)
        assert found["loss"] == pytest.approx(found["recorded"], rel=1e-6)
        assert found["bits_per_byte"] == pytest.approx(found["loss"] / log(2))
        assert found["tokens"] == found["bytes"] > 0


def test_the_exported_model_has_the_runs_loss(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swarm = told(capsys, "eval", "--run", str(folder / "run"))
    alone = told(capsys, "eval", "--model", str(folder / "model"))
    # Only the swarm rounds what crosses its boundaries.
    assert alone["loss"] == pytest.approx(swarm["loss"], rel=1e-3)
    assert (alone["tokens"], alone["data_digest"], alone["recorded"]) == (swarm["tokens"], swarm["data_digest"], None)


def test_another_text_is_measured_and_not_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = folder / "other"
    other.mkdir(exist_ok=True)
    (other / "a.txt").write_text("0123456789" * 4000)
    for flag, path in (("--run", "run"), ("--model", "model")):
        found = told(capsys, "eval", flag, str(folder / path), "--data", f"text:{other}/*.txt")
        assert found["recorded"] is None and found["data"] == f"text:{other}/*.txt"


def test_text_that_has_changed_since_is_not_taken_for_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path)
    for path in (tmp_path / "text").iterdir():
        path.write_text(path.read_text().upper())
    assert main(["eval", "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "held-out text" in said and "--data" in said and len(said.splitlines()) == 1


def test_run_and_folder_say_the_same_and_stream_what_they_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tokens", "40", "--seed", "3"]
    run = told(capsys, "generate", "the model", "--run", str(folder / "run"), *flags)
    alone = told(capsys, "generate", "the model", "--model", str(folder / "model"), *flags)
    assert run["text"] == alone["text"] and 0 < run["tokens"] <= 40
    assert main(["generate", "the model", "--run", str(folder / "run"), *flags]) == 0
    assert capsys.readouterr().out == f"the model{run['text']}\n"
    other = told(capsys, "generate", "the model", "--run", str(folder / "run"), "--tokens", "40", "--seed", "4")
    assert other["text"] != run["text"]


def test_an_empty_text_is_a_beginning_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "generate", "", "--model", str(folder / "model"), "--tokens", "5")["tokens"] <= 5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["generate", "x", "--run", "RUN", "--tokens", "0"], "--tokens 0"),
        (["generate", "x", "--run", "RUN", "--top-p", "0"], "--top-p"),
        (["generate", "x", "--model", "RUN"], "config.json"),
        (["generate", "x", "--model", "MODEL", "--epoch", "1"], "--epoch belongs to --run"),
        (["eval", "--model", "MODEL", "--epoch", "1"], "--epoch belongs to --run"),
        (["eval", "--run", "RUN", "--epoch", "7"], "holds 0, 1"),
        (["eval", "--run", "/nowhere"], "/nowhere"),
        (["eval", "--model", "MODEL", "--data", "text:/nowhere/*"], "/nowhere"),
    ],
)
def test_what_cannot_be_done_ends_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    places = {"RUN": str(folder / "run"), "MODEL": str(folder / "model")}
    assert main([places.get(word, word) for word in argv]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and words in said, said


def test_temperature_and_cuts_leave_what_they_say() -> None:
    logits = torch.tensor([0.0, 3.0, 2.0, 1.0])
    chance = torch.Generator().manual_seed(0)

    def seen(sampling: Sampling) -> set[int]:
        return {choose(logits, sampling, chance) for _ in range(400)}

    assert seen(Sampling(temperature=0)) == {1}
    assert seen(Sampling(temperature=5.0)) == {0, 1, 2, 3}
    assert seen(Sampling(temperature=5.0, top_k=2)) == {1, 2}
    # Their shares are 0.64, 0.24, 0.09 and 0.03.
    assert seen(Sampling(temperature=1.0, top_p=0.7)) == {1, 2}
    assert seen(Sampling(temperature=1.0, top_p=0.01)) == {1}


def test_a_full_context_goes_on_from_its_newer_half(folder: Path) -> None:
    from iota_subnet.product.loaded import from_run

    loaded = from_run(folder / "run", None)
    made = list(tokens(loaded.model, [1] * 40, 100, loaded.seq, Sampling(seed=0), None))
    assert len(made) == 100


def test_letters_of_several_bytes_come_whole() -> None:
    text = "aé日🎉\n🎉b"
    shown = list(pieces(byte_tokenizer(64), iter(text.encode())))
    assert "".join(shown) == text and shown == list(text)
    torn = list(pieces(byte_tokenizer(64), iter("é".encode()[:1])))
    assert torn == ["\ufffd"]
