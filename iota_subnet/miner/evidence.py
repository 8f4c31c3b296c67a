"""What a miner keeps so that others can check it: the transcript of its passes, and the bytes that they read and made.

Law: passes are noted in the thread that computes, in the order in which they happened; a transcript is closed when the
pseudo-gradient is taken, and is for one epoch and one state. Bytes lie on disk, the oldest go first. Who cannot show
them when it is audited is not paid for that epoch, so they are kept until `KEEP_EPOCHS` later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from loguru import logger

from iota_subnet.train import transcript
from iota_subnet.train.transcript import Pass, Transcript
from iota_subnet.wire.blobs import BlobStore, StoreFull

#: Epochs whose evidence is still shown.
KEEP_EPOCHS = 3


@dataclass(slots=True)
class _Book:
    """An epoch that is being trained."""

    stage: int
    epoch: int
    manifest: str
    inner_step: int
    passes: list[Pass] = field(default_factory=list)
    closed: bool = False


class Evidence:
    """One miner's. `run` and `hotkey` are those it works under; `store` is a folder that nobody else uses.

    Without a `run` nothing is kept: one that trains while it merges is not audited, and to wait for the disk before a
    commit is sent would let receipts of later passes overtake it, which are then counted where they are not.
    """

    def __init__(self, hotkey: str, store: BlobStore) -> None:
        self.run = ""
        self._hotkey = hotkey
        self.store = store
        self._book = _Book(-1, -1, "", 0)
        self._kept: dict[int, list[str]] = {}
        self._writes: set[asyncio.Task[None]] = set()
        # What a process before this one has kept belongs to transcripts that are gone with it.
        store.forget(store.digests())

    # In the thread that computes

    def begin(self, stage: int, epoch: int, manifest: str, inner_step: int) -> None:
        """A state was installed: all that follows depends on it, and on nothing before."""
        self._book = _Book(stage, epoch, manifest, inner_step)

    def note(self, done: Pass) -> None:
        """A pass was computed."""
        if not self._book.closed and len(self._book.passes) < transcript.MAX_PASSES:
            self._book.passes.append(done)

    def close(self) -> Transcript | None:
        """The pseudo-gradient was taken: what follows is not in it. Nothing, where nothing is kept."""
        if not self.run:
            return None
        book = self._book
        book.closed = True
        return Transcript(
            self.run, self._hotkey, book.stage, book.epoch, book.manifest, book.inner_step, tuple(book.passes)
        )

    # In the event loop

    def keep(self, epoch: int, blobs: Iterable[tuple[str, bytes]]) -> None:
        """Write bytes to disk, by their digests, while others work."""
        if not self.run:
            return
        task = asyncio.get_running_loop().create_task(self._write(epoch, list(blobs)))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def settled(self) -> None:
        """All that was given to `keep` is on disk, or was given up."""
        while self._writes:
            await asyncio.wait(list(self._writes))

    def sweep(self, epoch: int) -> None:
        """`epoch` begins: what belongs to epochs long ago, or to another run, may go."""
        for old in [number for number in self._kept if not epoch - KEEP_EPOCHS <= number <= epoch]:
            gone = self._kept.pop(old)
            still = {digest for kept in self._kept.values() for digest in kept}
            self.store.forget(digest for digest in gone if digest not in still)

    async def _write(self, epoch: int, blobs: list[tuple[str, bytes]]) -> None:
        try:
            for digest, data in blobs:
                if not self.store.has(digest):
                    await asyncio.to_thread(self.store.put, data, digest=digest)
                self._kept.setdefault(epoch, []).append(digest)
        except (StoreFull, OSError) as error:
            logger.warning("evidence of epoch {} cannot be kept, an audit would find it missing: {}", epoch, error)
