"""A checkpoint is a manifest per stage: the digests of weights and outer momentum, whose bytes lie in the blob store.

Law: a file `checkpoints/<epoch>.json` is written after the validator holds all bytes that it names and has measured
their held-out loss, and removed before the first of these bytes. Nothing in it is needed to go on with a run, which the
ledger does; it says which of the blobs in a run's folder make a model, without a replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from iota_subnet.core.events import Manifest, ShardRef
from iota_subnet.spec import BlobRef

FOLDER, BLOBS = "checkpoints", "blobs"


class BadCheckpoint(Exception):
    """A checkpoint that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The whole model after `epoch` merges. `loss` is held-out, in nats per token; `at` is seconds since 1970.

    `manifests` are those of all stages in order, without the places where the bytes once lay.
    """

    epoch: int
    loss: float
    at: float
    spec_digest: str
    manifests: tuple[Manifest, ...]

    def blobs(self) -> Iterator[BlobRef]:
        """What it is made of; a blob that is named twice comes twice."""
        for manifest in self.manifests:
            for shard in manifest.shards:
                yield from (shard.weights, shard.momentum)

    @property
    def nbytes(self) -> int:
        """Bytes of its different blobs."""
        return sum({ref.digest: ref.nbytes for ref in self.blobs()}.values())


def checkpoint(epoch: int, loss: float, at: float, spec_digest: str, manifests: tuple[Manifest, ...]) -> Checkpoint:
    """A checkpoint of these manifests, of which only what counts is kept."""
    return Checkpoint(epoch, loss, at, spec_digest, tuple(_bare(manifest) for manifest in manifests))


class Checkpoints:
    """The files of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / FOLDER

    def save(self, made: Checkpoint) -> None:
        """Write one; of two for one epoch the later counts. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{made.epoch}.tmp"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
        draft.replace(self._path(made.epoch))

    def drop(self, epoch: int) -> None:
        """Forget one, if it is there; its bytes are not touched."""
        self._path(epoch).unlink(missing_ok=True)

    def epochs(self) -> list[int]:
        """Which there are, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit())

    def load(self, epoch: int) -> Checkpoint:
        """Raises BadCheckpoint: there is none of that epoch, or it cannot be read."""
        path = self._path(epoch)
        try:
            made = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
        except OSError as error:
            raise BadCheckpoint(f"{path} cannot be read: {error.strerror}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise BadCheckpoint(f"{path} is no checkpoint: {error}") from None
        if made.epoch != epoch:
            raise BadCheckpoint(f"{path} says that it is of epoch {made.epoch}")
        return made

    def readable(self) -> list[Checkpoint]:
        """All that can be read, the oldest first."""
        found = []
        for epoch in self.epochs():
            try:
                found.append(self.load(epoch))
            except BadCheckpoint:
                continue
        return found

    def _path(self, epoch: int) -> Path:
        return self.folder / f"{epoch:06}.json"


def _bare(manifest: Manifest) -> Manifest:
    shards = (
        ShardRef(s.lo, s.hi, BlobRef(s.weights.digest, s.weights.nbytes), BlobRef(s.momentum.digest, s.momentum.nbytes))
        for s in manifest.shards
    )
    return replace(manifest, shards=tuple(shards), base="")
