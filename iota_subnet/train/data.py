"""Microbatches of tokens: documents packed into sequences, deterministic and resumable.

Law: `Feed(spec).batch(n)` is a function of (spec.seed, n, the corpus). Held-out documents never enter a batch. For
corpora in memory, sequences come in a fresh permutation per pass, so none repeats before all were used; streams are
read in order, and `state`/`restore` continue them. `Feed(spec).cuts(n)` says which texts microbatch n was cut from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import blake3
import numpy as np
import numpy.typing as npt

from iota_subnet.spec import RunSpec
from iota_subnet.train.codec import Tokens, tokens_to_bytes
from iota_subnet.train.corpus import DataError, HubStream, files_of, is_heldout, tokenizer_of

__all__ = ["Cut", "DataError", "Feed"]

#: Held-out sequences in all, rounded down to whole microbatches (at least one).
HELDOUT_SEQUENCES = 64
#: Documents that a stream may be searched for held-out ones.
_SEARCH_MAX = 20_000
#: Recent microbatches that a stream can give again.
_RECENT_MAX = 256


class Cut(NamedTuple):
    """Tokens [lo, hi) of one document; the last of a document's tokens is the separator after it.

    `document` is blake3 of its bytes as they were packed: without zero bytes, and cut where the corpus ends.
    """

    document: str
    lo: int
    hi: int


class Feed:
    """Token blobs [microbatch, seq + 1] for training and evaluation.

    Raises (constructor):
        DataError: the source or tokenizer is unusable, or there is too little text.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._shape = (spec.train.microbatch, spec.model.seq + 1)
        self._encode, self._separator = tokenizer_of(spec.data.tokenizer, spec.model.vocab)
        self._source: _Packed | _Streamed
        if spec.data.source.startswith("hf:"):
            stream = HubStream(spec.data.source)
            heldout = self._pack(self._heldout_of(stream))
            self._source = _Streamed(stream, self, self._shape)
        else:
            train, heldout = self._split(files_of(spec.data.source))
            self._source = _Packed(train, spec.seed, self._shape)
        self._heldout = self._cut_heldout(heldout)

    def batch(self, n: int) -> bytes:
        """Token blob of microbatch `n`.

        Raises:
            DataError: for a stream, `n` is older than it remembers or skips ahead, or the stream broke.
        """
        return tokens_to_bytes(self._source.batch(n))

    def cuts(self, n: int) -> list[list[Cut]]:
        """For each sample of microbatch `n` what its seq + 1 tokens were cut from, in order.

        Raises:
            DataError: as `batch`.
        """
        return self._source.cuts(n)

    def heldout(self) -> list[bytes]:
        """The same token blobs for every seed, never trained on."""
        return list(self._heldout)

    def eval_digest(self) -> str:
        """blake3 of the held-out blobs, one after the other: pins tokenizer, corpus and split."""
        return blake3.blake3(b"".join(self._heldout)).hexdigest()

    def state(self) -> dict[str, Any]:
        """Where a stream stands, as JSON values; empty for corpora in memory, which need none."""
        return self._source.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            DataError: the state belongs to another source.
        """
        self._source.restore(state)

    def tokens_of(self, document: bytes) -> Tokens:
        """Ids of one document with the separator after it."""
        ids = self._encode(document)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self._spec.model.vocab:
            raise DataError(f"{self._spec.data.source}: the tokenizer gave ids outside 0..{self._spec.model.vocab - 1}")
        return np.append(ids, np.int32(self._separator)).astype(np.int32, copy=False)

    def _pack(self, documents: list[bytes]) -> _Text:
        return _Text.joined([_Text.of(document, self.tokens_of(document)) for document in documents])

    def _split(self, documents: list[bytes]) -> tuple[_Text, _Text]:
        """Packed training and held-out tokens; by document, or by the end of the text if there are few documents."""
        heldout = self._pack([d for d in documents if is_heldout(d)])
        train = self._pack([d for d in documents if not is_heldout(d)])
        if min(heldout.size, train.size) > self._shape[0] * self._shape[1]:
            return train, heldout
        everything = self._pack(documents)
        cut = max(everything.size - max(everything.size // 20, self._shape[0] * self._shape[1]), 0)
        return everything.part(0, cut), everything.part(cut, everything.size)

    def _heldout_of(self, stream: HubStream) -> list[bytes]:
        enough = HELDOUT_SEQUENCES * self._shape[1] * 8  # bytes; a token is seldom longer than 8
        found: list[bytes] = []
        for number, document in enumerate(stream.read()):
            if number >= _SEARCH_MAX or sum(map(len, found)) > enough:
                break
            if document and is_heldout(document):
                found.append(document)
        return found

    def _cut_heldout(self, text: _Text) -> list[bytes]:
        sequences = _sequences(text.tokens, self._shape[1])
        batches = min(len(sequences), max(HELDOUT_SEQUENCES, self._shape[0])) // self._shape[0]
        if batches < 1:
            raise DataError(
                f"{self._spec.data.source}: too little text: {len(sequences)} held-out sequences of {self._shape[1]} "
                f"tokens, {self._shape[0]} are needed; add text or shorten the sequence"
            )
        # Spread over the held-out text, so that one long document is not all of it.
        chosen = np.linspace(0, len(sequences) - 1, batches * self._shape[0]).astype(np.int64)
        return [tokens_to_bytes(part) for part in np.split(sequences[chosen], batches)]


class _Text:
    """Tokens [n], and the cuts that they are, in order; `_ends` is where each of these ends in the tokens."""

    def __init__(self, tokens: Tokens, cuts: list[Cut]) -> None:
        self.tokens, self.cuts, self.size = tokens, cuts, tokens.size
        self._ends = np.cumsum([cut.hi - cut.lo for cut in cuts], dtype=np.int64)

    @staticmethod
    def of(document: bytes, tokens: Tokens) -> _Text:
        return _Text(tokens, [Cut(blake3.blake3(document).hexdigest(), 0, tokens.size)])

    @staticmethod
    def joined(parts: list[_Text]) -> _Text:
        tokens = np.concatenate([np.zeros(0, np.int32), *(part.tokens for part in parts)])
        return _Text(tokens, [cut for part in parts for cut in part.cuts])

    def part(self, lo: int, hi: int) -> _Text:
        """Tokens [lo, hi)."""
        found: list[Cut] = []
        for i in range(int(np.searchsorted(self._ends, lo, "right")), len(self.cuts)):
            document, first, last = self.cuts[i]
            begin = int(self._ends[i]) - (last - first)
            if begin >= hi:
                break
            found.append(Cut(document, first + max(lo - begin, 0), first + min(hi - begin, last - first)))
        return _Text(self.tokens[lo:hi], found)


class _Packed:
    """A corpus in memory; microbatch n is a pure function of (seed, n)."""

    def __init__(self, text: _Text, seed: int, shape: tuple[int, int]) -> None:
        self._text, self._step = text, shape[1] - 1
        self._sequences = _sequences(text.tokens, shape[1])
        if len(self._sequences) < shape[0]:
            raise DataError(f"too little text: {len(self._sequences)} sequences of {shape[1]} tokens for training")
        self._seed, self._rows = seed, shape[0]
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def batch(self, n: int) -> Tokens:
        return self._sequences[self._rows_of(n)]

    def cuts(self, n: int) -> list[list[Cut]]:
        starts = [int(row) * self._step for row in self._rows_of(n)]
        return [self._text.part(start, start + self._step + 1).cuts for start in starts]

    def _rows_of(self, n: int) -> list[np.int64]:
        count = len(self._sequences)
        return [self._permutation(i // count)[i % count] for i in range(n * self._rows, (n + 1) * self._rows)]

    def _permutation(self, turn: int) -> npt.NDArray[np.int64]:
        if self._order[0] != turn:
            key = hashlib.blake2b(f"order:{self._seed}:{turn}".encode(), digest_size=16).digest()
            words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(len(self._sequences))
            self._order = (turn, np.argsort(words, kind="stable"))
        return self._order[1]

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            raise DataError("this state belongs to a stream; the corpus is in memory and needs none")


class _Streamed:
    """A stream read in order; it starts again at its end."""

    def __init__(self, stream: HubStream, feed: Feed, shape: tuple[int, int]) -> None:
        self._stream, self._feed, self._shape = stream, feed, shape
        self._document, self._next = 0, 0
        self._carry = _Text.joined([])
        self._documents: Iterator[bytes] | None = None
        self._recent: dict[int, _Text] = {}

    def batch(self, n: int) -> Tokens:
        return _sequences(self._text_of(n).tokens, self._shape[1])

    def cuts(self, n: int) -> list[list[Cut]]:
        rows, step = self._shape[0], self._shape[1] - 1
        return [self._text_of(n).part(row * step, (row + 1) * step + 1).cuts for row in range(rows)]

    def _text_of(self, n: int) -> _Text:
        if n in self._recent:
            return self._recent[n]
        if n != self._next:
            raise DataError(f"{self._stream.source}: microbatch {n} asked, but the stream stands at {self._next}")
        rows, length = self._shape
        need = rows * (length - 1) + 1
        parts, size = [self._carry], self._carry.size
        while size < need:
            parts.append(self._read())
            size += parts[-1].size
        text = _Text.joined(parts)
        self._carry = text.part(need - 1, text.size)
        self._recent[n] = text.part(0, need)
        self._recent.pop(n - _RECENT_MAX, None)
        self._next = n + 1
        return self._recent[n]

    def _read(self) -> _Text:
        """The next training document."""
        started_over = False
        while True:
            if self._documents is None:
                self._documents = self._stream.read(self._document)
            document = next(self._documents, None)
            if document is None:
                if started_over:
                    raise DataError(f"{self._stream.source}: no document to train on")
                self._document, self._documents, started_over = 0, None, True
                continue
            self._document += 1
            if document and not is_heldout(document):
                return _Text.of(document, self._feed.tokens_of(document))

    def state(self) -> dict[str, Any]:
        carry, cuts = self._carry.tokens.tolist(), [list(cut) for cut in self._carry.cuts]
        return {"document": self._document, "next": self._next, "carry": carry, "cuts": cuts}

    def restore(self, state: dict[str, Any]) -> None:
        try:
            self._document, self._next = int(state["document"]), int(state["next"])
            # Written by a release that kept no cuts: where its last tokens came from is not known.
            cuts = state.get("cuts", [["", 0, len(state["carry"])]])
            self._carry = _Text(np.asarray(state["carry"], np.int32), [Cut(*cut) for cut in cuts])
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{self._stream.source}: this is no state of a stream: {sorted(state)}") from None
        self._documents = None
        self._recent.clear()


def _sequences(tokens: Tokens, length: int) -> Tokens:
    """[N, length] windows that overlap by one token, so that every token but the first is predicted once."""
    count = max(0, (tokens.size - 1) // (length - 1))
    if count == 0:
        return np.zeros((0, length), np.int32)
    return np.lib.stride_tricks.sliding_window_view(tokens, length)[:: length - 1][:count]
