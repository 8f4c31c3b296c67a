"""`iota audit fetch`: a miner gets what a verdict against it rests on, as a folder for `iota audit replay`.

Law: what is written are the bytes that their digests name, the order last, so that a folder which has one is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from iota_subnet.messages import Blob
from iota_subnet.protocol import Dossier
from iota_subnet.spec import BlobRef
from iota_subnet.train.order import Finding
from iota_subnet.validator.inspector import BLOBS, FINDING, ORDER
from iota_subnet.wire.blobs import BlobFetcher, FetchFailed
from iota_subnet.wire.digests import digest_of, is_digest
from template.errors import NeuronError

#: Bytes of a dossier. Whoever trains a model this large has them to spare.
MAX_BYTES = 1 << 36

#: Bytes of one blob, and how many are held in memory at once: a stage of two billion parameters, in one piece.
MAX_BLOB_BYTES = 1 << 33
AT_ONCE = 2

#: Blobs of a dossier: three a pass of the longest epoch, and to spare.
MAX_BLOBS = 1 << 17


async def fetch(
    ask: Callable[[Dossier], Awaitable[Dossier]], epoch: int, out: Path, fetcher: BlobFetcher
) -> tuple[int, Finding]:
    """Ask page by page for the dossier of `epoch` (-1: the newest) and write it to `out`; its epoch and the finding.

    Raises:
        NeuronError: there is none, or not all of it could be had; one line says which.
        OSError: it could not be written.
    """
    (out / BLOBS).mkdir(parents=True, exist_ok=True)
    said: Dossier | None = None
    after = taken = 0
    while said is None or after < said.total:
        said = await ask(Dossier(epoch=epoch, after=after))
        if said.reason or said.order is None:
            raise NeuronError(said.reason or "the validator tells of no order; is it of another release of iota?")
        if not said.blobs and after < said.total:
            raise NeuronError(f"the validator told of {after} blobs and has {said.total}; ask again")
        # The first reply says which is the newest; from then on it is that one.
        epoch, after = said.epoch, after + len(said.blobs)
        taken += sum(blob.nbytes for blob in said.blobs)
        if taken > MAX_BYTES or after > MAX_BLOBS:
            raise NeuronError(f"the evidence is larger than {MAX_BYTES} bytes or {MAX_BLOBS} blobs; it is not fetched")
        await asyncio.gather(*(_keep(fetcher, blob, out / BLOBS) for blob in said.blobs))
    try:
        finding = msgspec.json.decode(said.finding, type=Finding)
    except msgspec.DecodeError as error:
        raise NeuronError(f"the validator's finding cannot be read: {error}") from None
    (out / FINDING).write_text(said.finding, encoding="utf-8")
    assert said.order is not None
    (out / ORDER).write_bytes(await _had(fetcher, said.order))
    return epoch, finding


async def _keep(fetcher: BlobFetcher, blob: Blob, folder: Path) -> None:
    if not is_digest(blob.digest):
        raise NeuronError(f"the validator calls a blob {blob.digest[:80]!r}, which is no digest")
    path = folder / blob.digest
    if not path.is_file() or digest_of(path.read_bytes()) != blob.digest:
        path.write_bytes(await _had(fetcher, blob))


async def _had(fetcher: BlobFetcher, blob: Blob) -> bytes:
    try:
        return await fetcher.fetch(BlobRef(blob.digest, blob.nbytes, blob.urls), blob.ticket, "dossier")
    except FetchFailed as error:
        raise NeuronError(f"{error}; ask again, what is there is kept") from None
