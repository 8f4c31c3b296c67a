"""A model to look at: from a run's folder, or from a Hugging Face one.

Law: bytes are used only if their digest is the one that the checkpoint names, and a checkpoint only if the ledger says
that the validator measured exactly these manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iota_subnet.core.events import Evaluated
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import RunState
from iota_subnet.model.parameters import parameter_count
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.train import codec
from iota_subnet.train.codec import BadPayload, Floats
from iota_subnet.train.state import unpack_state
from iota_subnet.validator.checkpoints import BLOBS, BadCheckpoint, Checkpoint, Checkpoints
from iota_subnet.validator.journal import Journal, LedgerError, decode, reading
from template.errors import BadSettings, NeuronError


class CheckpointBroken(NeuronError):
    """What a checkpoint names is missing, damaged, or not what the ledger says."""


@dataclass(frozen=True)
class Run:
    """A run's folder, for reading; its validator may be at work in it."""

    folder: Path
    journal: Journal
    spec: RunSpec

    @property
    def checkpoints(self) -> Checkpoints:
        """The models that the run's folder keeps."""
        return Checkpoints(self.folder)

    def checkpoint(self, epoch: int | None = None) -> Checkpoint:
        """That of `epoch`, or the newest that is whole. Raises BadSettings, CheckpointBroken."""
        there = self.checkpoints.epochs()
        if not there:
            raise BadSettings(
                f"{self.folder} holds no checkpoint: its validator has not measured a model yet (iota status)"
            )
        if epoch is not None:
            if epoch not in there:
                raise BadSettings(f"--epoch {epoch}: {self.folder} holds {', '.join(map(str, there))}")
            return self.load(epoch)
        for number in reversed(there):
            try:
                found = self.load(number)
            except CheckpointBroken:
                continue
            if not any(True for _ in self.lost(found)):
                return found
        raise CheckpointBroken(
            f"no checkpoint in {self.folder} is whole; see: iota checkpoint verify --run {self.folder}"
        )

    def load(self, epoch: int) -> Checkpoint:
        """A checkpoint's file, which is of this run and of this shape. Raises CheckpointBroken."""
        try:
            found = self.checkpoints.load(epoch)
        except BadCheckpoint as error:
            raise CheckpointBroken(str(error)) from None
        if found.spec_digest != self.spec.digest():
            raise CheckpointBroken(f"checkpoint {epoch} belongs to another run than the ledger beside it")
        if [manifest.stage for manifest in found.manifests] != list(range(self.spec.model.stages)):
            raise CheckpointBroken(f"checkpoint {epoch} has not one manifest for each stage")
        return found

    def lost(self, found: Checkpoint) -> Iterator[BlobRef]:
        """What the folder does not hold in full; sizes are looked at, bytes are not."""
        for ref in found.blobs():
            path = self._path(ref.digest)
            if path is None or not path.is_file() or path.stat().st_size != ref.nbytes:
                yield ref

    def blob(self, ref: BlobRef) -> bytes:
        """Its bytes, after their digest was computed. Raises CheckpointBroken."""
        path = self._path(ref.digest)
        try:
            data = path.read_bytes() if path is not None else b""
        except OSError as error:
            raise CheckpointBroken(f"blob {ref.digest} cannot be read: {error.strerror}") from None
        if len(data) != ref.nbytes or codec.digest(data) != ref.digest:
            raise CheckpointBroken(f"blob {ref.digest} is damaged; another epoch may be whole: iota checkpoint verify")
        return data

    def states(self, found: Checkpoint) -> list[tuple[Floats, Floats]]:
        """Weights and outer momentum of each stage, float32 [P]. Raises CheckpointBroken."""
        states = []
        for manifest in found.manifests:
            shards = [(s.lo, s.hi, self.blob(s.weights), self.blob(s.momentum)) for s in manifest.shards]
            try:
                states.append(unpack_state(shards, parameter_count(self.spec.model, manifest.stage)))
            except BadPayload as error:
                raise CheckpointBroken(f"checkpoint {found.epoch}, stage {manifest.stage}: {error}") from None
        return states

    def weights(self, found: Checkpoint) -> list[Floats]:
        """Each stage's flat fp32 weights. Raises CheckpointBroken."""
        return [weights for weights, _ in self.states(found)]

    def measured(self) -> dict[tuple[str, ...], float]:
        """Held-out loss by names of manifests, as the kept part of the ledger tells. Raises LedgerError."""
        rows = (row for row in self.journal.rows() if row.kind == Evaluated.__name__)
        events = (decode(row) for row in rows)
        return {event.manifests: event.loss for event in events if isinstance(event, Evaluated)}

    def _path(self, digest: str) -> Path | None:
        # A name that is no digest could be any path.
        good = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        return self.folder / BLOBS / digest if good else None


@contextmanager
def open_run(path: Path) -> Iterator[Run]:
    """The run in a validator's `--run.dir`, or in the folder of `iota localnet --keep`. Raises BadSettings."""
    try:
        with reading(path) as journal:
            yield Run(Path(journal.path).parent, journal, journal.spec())
    except LedgerError as error:
        raise BadSettings(f"--run {path}: {error}; a localnet run keeps its model with --keep") from None


def state_of(journal: Journal) -> RunState:
    """The newest state: of the newest usable snapshot, and the events after it. Raises LedgerError."""
    spec = journal.spec()
    core = Orchestrator(spec)
    after = 0
    for seq in reversed(journal.snapshot_seqs()):
        try:
            core.state = journal.load(seq, spec)
        except LedgerError:
            continue
        after = seq
        break
    if after < journal.base().seq:
        raise LedgerError(f"{journal.path} begins after event {journal.base().seq} and no snapshot in it can be used")
    for event in journal.events(after):
        core.handle(event)
    return core.state
