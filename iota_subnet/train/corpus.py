"""Documents and their tokens: where text comes from, before it is packed into sequences.

Sources: `stdlib` (source code of the running interpreter's standard library; needs no network), `text:GLOB` (the
user's files), `hf:NAME[:CONFIG[:SPLIT]]` (streaming through `datasets`). Tokenizers: `bytes` (ids are UTF-8 bytes,
document separator 0) or the name of a Hugging Face one. Heavy libraries are imported by those who ask for them.
"""

from __future__ import annotations

import glob
import importlib
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blake3
import numpy as np

from iota_subnet.train.codec import Tokens

Tokenizer = Callable[[bytes], Tokens]

#: In-memory corpora stop here, so that a validator starts in seconds.
CORPUS_BYTES_MAX = 32 << 20
#: One document in so many is held out.
HELDOUT_ONE_IN = 20

_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class DataError(ValueError):
    """Text that cannot be had or used; the message names the source and the remedy."""


def is_heldout(document: bytes) -> bool:
    """Whether a document belongs to the held-out set.

    Decided by its content: it holds on any machine and in any order, and two copies never straddle the split.
    """
    return int.from_bytes(blake3.blake3(document).digest(8), "little") % HELDOUT_ONE_IN == 0


def tokenizer_of(name: str, vocab: int) -> tuple[Tokenizer, int]:
    """The function from a document to ids, and the id that separates documents.

    Raises:
        DataError: the tokenizer cannot be loaded, or has ids that the model does not.
    """
    if name == "bytes":
        if vocab < 256:
            raise DataError(f"the bytes tokenizer needs a vocabulary of 256, the model has {vocab}")
        return lambda document: np.frombuffer(document, np.uint8).astype(np.int32), 0
    try:
        tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(name)
    except (ImportError, OSError, ValueError) as error:
        raise DataError(f"tokenizer {name!r} cannot be loaded: {error}; check data.tokenizer") from None
    if len(tokenizer) > vocab:
        raise DataError(f"tokenizer {name!r} has {len(tokenizer)} ids, the model only {vocab}; choose a larger vocab")
    separator = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id

    def encode(document: bytes) -> Tokens:
        text = document.decode("utf-8", "replace")
        return np.asarray(tokenizer.encode(text, add_special_tokens=False), np.int32)

    return encode, 0 if separator is None else int(separator)


def files_of(source: str) -> list[bytes]:
    """The documents of `stdlib` or `text:GLOB`, sorted by path, up to `CORPUS_BYTES_MAX` in all.

    Raises:
        DataError: an unknown source, nothing matches, a file named by the user is unreadable, or all are empty.
    """
    documents: list[bytes] = []
    total = 0
    for path, optional in _paths(source):
        try:
            document = path.read_bytes()
        except OSError as error:
            if optional:
                continue
            raise DataError(f"{source}: {path} cannot be read: {error.strerror}") from None
        document = document[: CORPUS_BYTES_MAX - total].replace(b"\0", b" ")
        if document.strip():
            documents.append(document)
            total += len(document)
        if total >= CORPUS_BYTES_MAX:
            break
    if not documents:
        raise DataError(f"{source}: every file is empty")
    return documents


def _paths(source: str) -> list[tuple[Path, bool]]:
    """Files of a source in a fixed order, each with whether it may be skipped when unreadable."""
    if source == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        found = [p for p in root.rglob("*.py") if not _SKIPPED_FOLDERS & set(p.relative_to(root).parts)]
        if not found:
            raise DataError(f"stdlib: {root} holds no Python source; use text:GLOB or hf:NAME")
        return [(path, True) for path in sorted(found)]
    if source.startswith("text:"):
        pattern = source.removeprefix("text:")
        matches = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
        chosen = [(path, False) for path in matches if path.is_file()]
        if not chosen:
            raise DataError(f"{source}: no file matches {pattern!r}; give a glob such as text:/data/**/*.txt")
        return chosen
    raise DataError(f"unknown data source {source!r}; use stdlib, text:GLOB or hf:NAME[:CONFIG[:SPLIT]]")


class HubStream:
    """Documents of `hf:NAME[:CONFIG[:SPLIT]]`, streamed; NAME is a data set on the Hub or a local folder."""

    def __init__(self, source: str) -> None:
        """Open the stream.

        Raises:
            DataError: the name is malformed, or the data set cannot be opened.
        """
        parts = source.removeprefix("hf:").split(":")
        if not parts[0] or len(parts) > 3:
            raise DataError(f"{source}: expected hf:NAME[:CONFIG[:SPLIT]]")
        name, config, split = [*parts, "", ""][:3]
        self.source = source
        try:
            datasets: Any = importlib.import_module("datasets")
            self._data: Any = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        except (
            Exception
        ) as error:  # `datasets` raises its own, HTTP, parser and OS errors alike; all mean the same here
            raise DataError(f"{source}: cannot be opened: {type(error).__name__}: {error}") from None

    def read(self, start: int = 0) -> Iterator[bytes]:
        """Documents from number `start` on, empty ones as b"" so that the numbering holds.

        Raises:
            DataError: a row has no text, or the stream breaks.
        """
        try:
            for row in self._data.skip(start) if start else self._data:
                if not isinstance(row.get("text"), str):
                    raise DataError(f"{self.source}: rows need a column 'text' with strings, found {sorted(row)}")
                yield row["text"].encode("utf-8", "replace").replace(b"\0", b" ")
        except DataError:
            raise
        except Exception as error:  # as above
            raise DataError(f"{self.source}: the stream broke: {type(error).__name__}: {error}") from None
