"""A second validator cuts the same samples from the specification alone, and notices a text that was changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from iota_subnet.cli import main
from iota_subnet.core.events import BatchPublished
from iota_subnet.spec import BlobRef, DataSpec, ModelSpec, RunSpec, TrainSpec
from iota_subnet.train.codec import bytes_to_tokens, digest
from iota_subnet.train.corpus import files_of, is_heldout
from iota_subnet.train.data import DataError, Feed
from iota_subnet.validator import provenance
from iota_subnet.validator.journal import FILE
from iota_subnet.validator.ledger import Ledger

BATCHES = 7


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(120):
        (folder / f"{n:03}.txt").write_text(f"document {n} says: " + " ".join(str(n * k) for k in range(40)))
    return folder


@pytest.fixture
def spec(texts: Path) -> RunSpec:
    bare = RunSpec(
        model=ModelSpec(seq=32, vocab=256), train=TrainSpec(microbatch=4), data=DataSpec(f"text:{texts}/*.txt")
    )
    return dataclasses.replace(bare, data=dataclasses.replace(bare.data, eval_digest=Feed(bare).eval_digest()))


@pytest.fixture
def run(tmp_path: Path, spec: RunSpec) -> Path:
    """A ledger in which one validator has published."""
    ledger, feed = Ledger(tmp_path / FILE, spec), Feed(spec)
    for n in range(BATCHES):
        blob = feed.batch(n)
        ledger.append(BatchPublished(at=1.0, batch=n, tokens=BlobRef(digest(blob), len(blob))))
    ledger.close()
    return tmp_path


def change_a_training_text(texts: Path) -> dict[str, int]:
    """A letter in each of some, none of which becomes or was held out: digests of what they were, and its place."""
    changed = {}
    for path in sorted(texts.glob("*.txt"))[20:80]:
        before = path.read_bytes()
        after = before.replace(b"says", b"sayz")
        if not is_heldout(before) and not is_heldout(after):
            path.write_bytes(after)
            changed[digest(before)] = before.index(b"says") + 3
    return changed


def test_what_a_sample_was_cut_from_gives_its_tokens(spec: RunSpec) -> None:
    by_name = {digest(text): np.frombuffer(text + b"\0", np.uint8) for text in files_of(spec.data.source)}
    feed = Feed(spec)
    for n in range(40):
        rows = bytes_to_tokens(feed.batch(n), (4, 33), 256)
        for row, cuts in zip(rows, feed.cuts(n), strict=True):
            assert np.array_equal(row, np.concatenate([by_name[cut.document][cut.lo : cut.hi] for cut in cuts]))


def test_a_stream_knows_its_texts_also_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    rows = [f"row {n}: " + " ".join(str(n + k) for k in range(30)) for n in range(300)]
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    by_name = {digest(row.encode()): np.frombuffer(row.encode() + b"\0", np.uint8) for row in rows}
    spec = RunSpec(
        model=ModelSpec(seq=32, vocab=256), train=TrainSpec(microbatch=4), data=DataSpec(f"hf:{tmp_path}/hub")
    )
    first, second = Feed(spec), Feed(spec)
    for n in range(5):
        first.batch(n)
    second.restore(json.loads(json.dumps(first.state())))
    for n in range(5, 9):
        for row, cuts in zip(bytes_to_tokens(first.batch(n), (4, 33), 256), first.cuts(n), strict=True):
            assert np.array_equal(row, np.concatenate([by_name[cut.document][cut.lo : cut.hi] for cut in cuts]))
        second.batch(n)
        assert second.cuts(n) == first.cuts(n)
    wanted = [(2, digest(first.batch(2))), (8, digest(first.batch(8)))]
    assert [sample.same for sample in provenance.make_again(Feed(spec), wanted)] == [True, True]


def test_an_auditor_cuts_the_same_microbatches(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "data", str(run)]) == 0
    assert capsys.readouterr().out == f"ok: {BATCHES} microbatches were cut from this text\n"
    assert main(["ledger", "data", str(run), "--batch", "3", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["same"] and told["published"] == told["made"] and len(told["cuts"]) == 4
    assert main(["ledger", "data", str(run), "--batch", "99"]) == 2


def test_a_changed_text_is_noticed(run: Path, texts: Path, spec: RunSpec, capsys: pytest.CaptureFixture[str]) -> None:
    cuts = {n: [cut for sample in Feed(spec).cuts(n) for cut in sample] for n in range(BATCHES)}
    changed = change_a_training_text(texts)
    touched = [n for n, of in cuts.items() if any(cut.lo <= changed.get(cut.document, -1) < cut.hi for cut in of)]
    assert provenance.feed_of(spec).eval_digest() == spec.data.eval_digest, "the held-out text is as it was"
    assert main(["ledger", "data", str(run)]) == 1
    told = [line.split(":")[1].split()[1] for line in capsys.readouterr().out.splitlines()]
    assert [int(number) for number in told] == touched and 0 < len(touched) < BATCHES


def test_another_corpus_is_named_and_one_that_moved_is_found(run: Path, texts: Path, spec: RunSpec) -> None:
    moved = texts.rename(texts.parent / "elsewhere")
    assert main(["ledger", "data", str(run)]) == 2
    assert main(["ledger", "data", str(run), "--data", f"text:{moved}/*.txt"]) == 0
    with pytest.raises(DataError, match="is not the run's"):
        provenance.feed_of(spec, f"text:{moved}/0*.txt")
