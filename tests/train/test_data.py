"""Batches are a function of (seed, n), held-out text stays out, and every unusable source is named."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from iota_subnet.spec import DataSpec, ModelSpec, RunSpec, TrainSpec
from iota_subnet.train import codec, corpus
from iota_subnet.train.data import DataError, Feed

SHAPE = (4, 33)


def spec_of(source: str, seed: int = 0, tokenizer: str = "bytes", vocab: int = 256) -> RunSpec:
    model = ModelSpec(seq=SHAPE[1] - 1, vocab=vocab)
    return RunSpec(seed=seed, model=model, train=TrainSpec(microbatch=SHAPE[0]), data=DataSpec(source, tokenizer))


def tokens(blob: bytes) -> np.ndarray:
    return codec.bytes_to_tokens(blob, SHAPE, 256)


@pytest.fixture
def texts(tmp_path: Path) -> str:
    for n in range(200):
        (tmp_path / f"{n:03}.txt").write_text(f"document {n} says: " + " ".join(str(n * k) for k in range(40)))
    return f"text:{tmp_path}/*.txt"


@pytest.fixture(scope="module")
def stdlib() -> Feed:
    return Feed(spec_of("stdlib"))


def test_stdlib_is_python(stdlib: Feed) -> None:
    text = b"".join(tokens(stdlib.batch(n)).astype(np.uint8).tobytes() for n in range(50))
    assert b"self" in text and b"def " in text
    assert len(stdlib.heldout()) * SHAPE[0] == 64
    assert stdlib.state() == {}


def test_batches_are_a_function_of_seed_and_number(stdlib: Feed) -> None:
    again = Feed(spec_of("stdlib"))
    assert [again.batch(n) for n in (7, 3, 0)] == [stdlib.batch(n) for n in (7, 3, 0)]
    assert again.eval_digest() == stdlib.eval_digest()
    other = Feed(spec_of("stdlib", seed=1))
    assert other.batch(0) != stdlib.batch(0)
    assert other.eval_digest() == stdlib.eval_digest()


def test_nothing_repeats_within_a_pass_and_all_is_used(texts: str) -> None:
    feed = Feed(spec_of(texts))
    count = len(feed._source._sequences)
    rows = np.concatenate([tokens(feed.batch(n)) for n in range(-(-2 * count // SHAPE[0]))])
    first, second = ({row.tobytes() for row in part} for part in (rows[:count], rows[count : 2 * count]))
    assert len(first) == count
    assert first == second
    assert not np.array_equal(rows[:count], rows[count : 2 * count])


def test_every_token_is_predicted_once(texts: str) -> None:
    feed = Feed(spec_of(texts))
    rows = feed._source._sequences
    stream = np.concatenate([rows[:1, 0], rows[:, 1:].ravel()])
    documents = [d for d in corpus.files_of(texts) if not corpus.is_heldout(d)]
    assert stream.astype(np.uint8).tobytes() == b"".join(d + b"\0" for d in documents)[: stream.size]


def test_heldout_documents_are_never_trained_on(texts: str) -> None:
    feed = Feed(spec_of(texts))
    documents = corpus.files_of(texts)
    held = {d[:15] for d in documents if corpus.is_heldout(d)}
    assert 3 <= len(held) <= 25
    train = feed._source._sequences
    text = np.concatenate([train[:1, 0], train[:, 1:].ravel()]).astype(np.uint8).tobytes()
    assert not any(name in text for name in held)
    seen = b"".join(tokens(blob).astype(np.uint8).tobytes() for blob in feed.heldout())
    assert any(name in seen for name in held)


def test_a_single_document_is_split_by_its_end(tmp_path: Path) -> None:
    words = " ".join(str(n) for n in range(5000))
    (tmp_path / "one.txt").write_text(words)
    feed = Feed(spec_of(f"text:{tmp_path}/one.txt"))
    train = feed._source._sequences.astype(np.uint8)
    held = np.concatenate([tokens(blob) for blob in feed.heldout()]).astype(np.uint8)
    assert bytes(train[0]) == words.encode()[: SHAPE[1]]
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in held}


def test_corpus_is_capped(texts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CORPUS_BYTES_MAX", 1000)
    assert sum(map(len, corpus.files_of(texts))) == 1000


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nonsense", "unknown data source 'nonsense'"),
        ("text:{tmp}/*.nothing", "no file matches"),
        ("text:{tmp}/empty.txt", "every file is empty"),
        ("text:{tmp}/short.txt", "too little text"),
        ("hf:", "expected hf:NAME"),
        ("hf:a:b:c:d", "expected hf:NAME"),
        ("hf:{tmp}/missing", "cannot be opened"),
    ],
)
def test_unusable_sources_are_named(source: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match=reason):
        Feed(spec_of(source.format(tmp=tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x" * 1000)
    path.chmod(0)
    with pytest.raises(DataError, match=r"secret\.txt cannot be read"):
        Feed(spec_of(f"text:{path}"))


def test_a_vanished_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("x" * 1000)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a\.txt cannot be read: Permission denied"):
        Feed(spec_of(f"text:{tmp_path}/a.txt"))


def test_vocabulary_must_hold_the_tokenizer(texts: str) -> None:
    with pytest.raises(DataError, match="needs a vocabulary of 256"):
        Feed(spec_of(texts, vocab=255))


# The streaming path, offline: a local folder is a data set to `datasets` as well.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub")
    rows = [{"text": f"row {n}: " + " ".join(str(n + k) for k in range(30))} for n in range(300)]
    (path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def test_stream_is_deterministic_and_resumable(folder: Path) -> None:
    spec = spec_of(f"hf:{folder}")
    feed = Feed(spec)
    blobs = [feed.batch(n) for n in range(6)]
    assert feed.batch(2) == blobs[2]
    state = json.loads(json.dumps(feed.state()))
    following = [feed.batch(n) for n in range(6, 9)]
    resumed = Feed(spec)
    resumed.restore(state)
    assert [resumed.batch(n) for n in range(6, 9)] == following
    assert resumed.eval_digest() == feed.eval_digest()
    assert len(set(blobs + following)) == 9
    with pytest.raises(DataError, match="stands at 9"):
        resumed.batch(20)


def test_stream_holds_documents_out_and_starts_over(folder: Path) -> None:
    feed = Feed(spec_of(f"hf:{folder}:default:train"))
    rows = [json.loads(line)["text"].encode() for line in (folder / "train.jsonl").read_text().splitlines()]
    held = [row for row in rows if corpus.is_heldout(row)]
    stream = np.concatenate([tokens(feed.batch(n))[:, 1:].ravel() for n in range(400)]).astype(np.uint8).tobytes()
    assert len(held) > 3
    assert not any(row.split(b":")[0] + b": " in stream for row in held)
    kept = next(row for row in rows[1:] if not corpus.is_heldout(row))
    assert stream.count(kept) >= 2


def test_stream_refusals(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"body": "no text column"}))
    with pytest.raises(DataError, match="column 'text'"):
        Feed(spec_of(f"hf:{tmp_path}"))
    with pytest.raises(DataError, match="cannot be opened"):
        Feed(spec_of(f"hf:{folder}:default:nosplit"))
    feed = Feed(spec_of(f"hf:{folder}"))
    with pytest.raises(DataError, match="no state of a stream"):
        feed.restore({"something": 1})


def test_hub_tokenizer(folder: Path, texts: str, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = {word: n for n, word in enumerate(["<eos>", "<unk>", "row", "document", "says", ":"])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>")
    fast.save_pretrained(tmp_path / "tokenizer")
    for source in (f"hf:{folder}", texts):
        spec = spec_of(source, tokenizer=str(tmp_path / "tokenizer"), vocab=6)
        blob = Feed(spec).batch(0)
        assert set(codec.bytes_to_tokens(blob, SHAPE, 6).ravel()) <= set(range(6))
    small = dataclasses.replace(spec, model=dataclasses.replace(spec.model, vocab=5))
    with pytest.raises(DataError, match="has 6 ids, the model only 5"):
        Feed(small)
    with pytest.raises(DataError, match="cannot be loaded"):
        Feed(spec_of(texts, tokenizer=str(tmp_path / "nowhere")))
