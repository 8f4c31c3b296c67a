"""What a verdict rests on, for the miner that it is about: order, finding and evidence of audits that were not sound.

Law: a hotkey is shown its own audits and nobody else's, and none before it is judged. A page of a dossier names blobs
and signs tickets for them; the blob server hands them out, from here and for no longer than a ticket lasts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from iota_subnet.core.state import RunState
from iota_subnet.messages import Blob
from iota_subnet.protocol import Dossier
from iota_subnet.spec import BlobRef
from iota_subnet.train.order import Finding
from iota_subnet.validator.inspector import BLOBS, FINDING, KEEP_FAILED, ORDER, folder_of
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.digests import digest_of, is_digest

#: Blobs that one reply names; a ticket is a signature.
PAGE = 64

#: Blobs that may be asked for; who was told of more has to ask again for the first ones.
MAX_TOLD = 1 << 16


class Shelf:
    """Files that somebody was told of, by digest, as a blob server reads them."""

    on_disk = True

    def __init__(self) -> None:
        self._told: OrderedDict[str, Path] = OrderedDict()

    def tell(self, digest: str, path: Path) -> None:
        """From now on `digest` may be asked for, and lies in this file."""
        self._told[digest] = path
        self._told.move_to_end(digest)
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)

    def has(self, digest: str) -> bool:
        """Whether somebody was told of it."""
        return digest in self._told

    def size(self, digest: str) -> int | None:
        """Its bytes; None when nobody was told of it, or the file is gone."""
        try:
            return self._told[digest].stat().st_size
        except (KeyError, OSError):
            return None

    def open(self, digest: str) -> BinaryIO | None:
        """The file, for reading; None as for `size`."""
        try:
            return self._told[digest].open("rb")
        except (KeyError, OSError):
            return None

    def get(self, digest: str) -> bytes | None:
        """Its content; None as for `size`."""
        try:
            return self._told[digest].read_bytes()
        except (KeyError, OSError):
            return None


class _Content(NamedTuple):
    finding: str
    order: BlobRef
    blobs: list[BlobRef]


class Dossiers:
    """Those of one validator, in the `folder` of its inspector. `url_of(digest)` is where its blob server serves it."""

    def __init__(
        self,
        folder: Path,
        shelf: Shelf,
        outgoing: Outgoing,
        url_of: Callable[[str], str],
        state: Callable[[], RunState],
    ) -> None:
        self._folder = folder
        self._shelf = shelf
        self._outgoing = outgoing
        self._url_of = url_of
        self._state = state

    async def answer(self, synapse: Dossier) -> Dossier:
        """One page for the hotkey that has signed. No event: nothing changes."""
        assert synapse.dendrite is not None and synapse.dendrite.hotkey is not None
        hotkey = synapse.dendrite.hotkey
        if synapse.epoch < 0:
            against = [v for v in self._state().verdicts.get(hotkey, []) if not v.auditor and v.verdict != "sound"]
            if not against:
                synapse.reason = "no audit of this hotkey was other than sound within the window that is paid for"
                return synapse
            synapse.epoch = against[-1].epoch
        folder = folder_of(self._folder, synapse.epoch, hotkey)
        content = await asyncio.to_thread(_read, folder)
        if content is None:
            synapse.reason = (
                f"no evidence of an audit of this hotkey in epoch {synapse.epoch} is kept; it is kept of the newest "
                f"{KEEP_FAILED} audits that were not sound"
            )
            return synapse
        synapse.finding, synapse.total = content.finding, len(content.blobs)
        self._shelf.tell(content.order.digest, folder / ORDER)
        synapse.order = self._blob(content.order, hotkey)
        page = content.blobs[synapse.after : synapse.after + PAGE]
        for ref in page:
            self._shelf.tell(ref.digest, folder / BLOBS / ref.digest)
        synapse.blobs = tuple(self._blob(ref, hotkey) for ref in page)
        return synapse

    def _blob(self, ref: BlobRef, reader: str) -> Blob:
        return self._outgoing.blob(BlobRef(ref.digest, ref.nbytes, (self._url_of(ref.digest),)), reader)


def _read(folder: Path) -> _Content | None:
    """What lies there, if it is judged, not sound, and kept. The finding is written last."""
    try:
        finding = (folder / FINDING).read_text(encoding="utf-8")
        if msgspec.json.decode(finding, type=Finding).verdict == "sound":
            return None
        order = (folder / ORDER).read_bytes()
        files = sorted(path for path in (folder / BLOBS).iterdir() if is_digest(path.name))
        blobs = [BlobRef(path.name, path.stat().st_size) for path in files]
    except (OSError, msgspec.DecodeError):
        return None
    return _Content(finding, BlobRef(digest_of(order), len(order)), blobs)
