"""What `iota export` writes is the trained model, for people who have only transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iota_subnet.cli import main
from iota_subnet.product import export as exporting
from iota_subnet.product.export import spec_in
from iota_subnet.product.tokens import byte_tokenizer
from iota_subnet.train.evaluate import chain

from .kit import make_run, weights_of

#: Nothing of this project can be imported there, and no network is asked.
STRANGER = """
import sys

class Nothing:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("iota_subnet", "template", "neurons"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokens, text = torch.from_numpy(np.load("tokens.npy")), "\\u0100 h\\u00e9llo\\0 \\u65e5\\u672c \\U0001f389\\n\\t<s>"
for folder in sys.argv[1:]:
    trust = not folder.startswith("plain")
    model = AutoModelForCausalLM.from_pretrained(folder + "/model", trust_remote_code=trust)
    tokenizer = AutoTokenizer.from_pretrained(folder + "/model", trust_remote_code=trust)
    with torch.no_grad():
        np.save(folder + "/logits.npy", model(tokens).logits.float().numpy())
    made = model.generate(**tokenizer("the model", return_tensors="pt"), max_new_tokens=12, do_sample=False)
    print(folder, type(model).__name__, made.shape[1], tokenizer.decode(tokenizer(text)["input_ids"]) == text)
"""

MODELS: dict[str, dict[str, Any]] = {
    "resbm": {},
    "cut-unevenly": {"stages": 3, "split": (2, 1, 1)},
    "tokens": {"stages": 3, "boundary_codec": "resbm+tokens"},
    "subspace": {"stages": 3, "boundary_codec": "subspace"},
    "plain": {"bottleneck": 0},
}

TOKENS = np.random.default_rng(0).integers(0, 256, (3, 32))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """Folders with a run and its exported model each, and what one process without this project said of every one; it
    has left its logits beside them."""
    out = tmp_path_factory.mktemp("strangers")
    np.save(out / "tokens.npy", TOKENS)
    for name, model in MODELS.items():
        make_run(out / name, **model)
        assert main(["export", "--run", str(out / name / "run"), "--out", str(out / name / "model")]) == 0
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(out / "modules")}
    argv = [sys.executable, "-I", "-c", STRANGER, *MODELS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, env=environment, cwd=out)
    assert done.returncode == 0, done.stderr
    return out, {name: said for name, *said in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("name", MODELS)
def test_who_has_only_transformers_gets_the_same_logits(
    strangers: tuple[Path, dict[str, list[str]]], name: str
) -> None:
    out, said = strangers
    assert said[name] == ["LlamaForCausalLM" if name == "plain" else "IotaForCausalLM", "21", "True"]
    spec = spec_in(out / name / "model")
    assert spec is not None
    x = torch.from_numpy(TOKENS)
    with torch.no_grad():
        for stage in chain(spec.model, weights_of(spec, 1)):
            x = stage(x, torch.from_numpy(TOKENS))
    assert float(np.abs(np.load(out / name / "logits.npy") - x.numpy()).max()) <= 1e-5


def test_the_folder_tells_of_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_run(tmp_path)
    out = tmp_path / "model"
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(out), "--epoch", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == sorted(path.name for path in out.iterdir())
    assert {"README.md", "config.json", "iota.json", "model.safetensors", "modeling_iota.py"} <= set(told["files"])
    assert told["facts"]["epoch"] == 0 and told["facts"]["spec_digest"] == spec.digest()
    assert exporting.spec_in(out) == spec
    card = (out / "README.md").read_text()
    assert spec.digest() in card and f"{told['facts']['loss']:.4f} nats per byte" in card
    names = [manifest["name"] for manifest in json.loads((out / "iota.json").read_text())["manifests"]]
    assert len(names) == 2 and all(len(name) == 64 for name in names)


def test_half_precision_is_half_as_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    sizes = []
    for dtype in ("fp32", "bf16"):
        out = tmp_path / dtype
        assert main(["export", "--run", str(tmp_path / "run"), "--out", str(out), "--dtype", dtype]) == 0
        sizes.append((out / "model.safetensors").stat().st_size)
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)


def test_a_folder_in_use_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    out = tmp_path / "model"
    out.mkdir()
    (out / "mine").write_text("x")
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(out)]) == 2
    assert "choose a new folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_model_that_came_out_otherwise_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the swarm's bottleneck is changed and the file that travels with the weights is not."""
    make_run(tmp_path)
    whole = exporting.to_transformers

    def other(*args: Any) -> Any:
        model = whole(*args)
        model.encoders[0].width = 4
        model.encoders[0].forward = lambda x: torch.zeros(*x.shape[:-1], 8)
        return model

    monkeypatch.setattr(exporting, "to_transformers", other)
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "model")]) == 2
    assert "logits would differ" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "text"]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda run: [path.unlink() for path in (run / "checkpoints").iterdir()], "no checkpoint"),
        (lambda run: [path.unlink() for path in (run / "blobs").iterdir()], "iota checkpoint verify"),
        (lambda run: (run / "ledger.sqlite").unlink(), "--keep"),
        (lambda run: [path.write_text("{}") for path in (run / "checkpoints").iterdir()], "iota checkpoint verify"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: Any, words: str
) -> None:
    make_run(tmp_path)
    break_it(tmp_path / "run")
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "model")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and words in said, said


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path)
    made = json.loads((tmp_path / "run/checkpoints/000001.json").read_text())
    (tmp_path / "run/blobs" / made["manifests"][0]["shards"][0]["weights"]["digest"]).unlink()
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["epoch"] == 0


def test_bytes_that_are_not_those_of_the_digest_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    made = json.loads((tmp_path / "run/checkpoints/000001.json").read_text())
    path = tmp_path / "run/blobs" / made["manifests"][0]["shards"][0]["weights"]["digest"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "model")]) == 2
    assert "damaged" in capsys.readouterr().err and not (tmp_path / "model").exists()


def test_a_name_that_is_a_path_is_no_blob(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    path = tmp_path / "run/checkpoints/000001.json"
    made = json.loads(path.read_text())
    made["manifests"][0]["shards"][0]["weights"] |= {"digest": "../ledger.sqlite"}
    path.write_text(json.dumps(made))
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "m"), "--epoch", "1"]) == 2
    assert "../ledger.sqlite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        " two  spaces ",
        "Ā ġ Ċ",
        "\0\x01\x7f\x80",
        "日本語 🎉\U0010ffff",
        "\r\n\t",
        "<s></s><|endoftext|>",
        "é é",
    ],
)
def test_the_byte_tokenizer_gives_any_text_back(text: str) -> None:
    tokenizer = byte_tokenizer(128)
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode()) and tokenizer.decode(ids) == text and len(tokenizer) == 256
